"""How to search for the unknowns that are positive: which guesses to change, many at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PATIENCE = 3
"""How many exchanges of all wrong guesses may fail to improve before they change one by one."""


class Rule(NamedTuple):
    """What a search remembers: its fewest wrong guesses so far (..., 1), and its patience left."""

    fewest: Tensor
    patience: Tensor


def first_rule(unknowns: Tensor) -> Rule:
    """The rule before the first guess at which unknowns (..., T) are positive."""
    nothing = torch.zeros_like(unknowns[..., :1], dtype=torch.int64)
    return Rule(nothing + unknowns.shape[-1] + 1, nothing + PATIENCE)


def next_rule(free: Tensor, wrong: Tensor, rule: Rule) -> tuple[Tensor, Rule]:
    """The next guess (..., T): all wrong ones are exchanged, or only the last of them.

    The last one alone is the rule that cannot cycle; it takes over where exchanging all of them has
    failed to leave fewer wrong ones too often. A guess with nothing wrong stays as it is.
    """
    count = wrong.sum(-1, keepdim=True)
    better = count < rule.fewest
    patience = torch.where(better, PATIENCE, rule.patience - 1)
    last = wrong & (wrong.flip(-1).cumsum(-1).flip(-1) == 1)
    change = torch.where(patience >= 0, wrong, last)
    return free ^ change, Rule(torch.minimum(count, rule.fewest), patience)
