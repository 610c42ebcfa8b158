"""How a method counts the steps whose solver missed its tolerance."""

from __future__ import annotations

from torch import Tensor

from .method import UNSOLVED, State


def count_from_zero(losses: Tensor) -> State:
    """The state (..., 1) of a method that remembers nothing but the count; losses are zero."""
    return {UNSOLVED: losses[..., :1].clone()}


def counted(state: State, solved: Tensor) -> State:
    """The state with one more for every run that is not solved, mask (..., 1)."""
    return {**state, UNSOLVED: state[UNSOLVED] + ~solved}
