"""Linear bottleneck: three regressions through a linear trunk too narrow for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .problem import Problem, Split, Task
from .truth import Truth, truth_of

TASKS = 3


class Bottleneck(nn.Module):
    """A shared linear map to `width` features and one linear head a task, all without bias.

    Heads start at zero: a task that no weight trains keeps the loss 1 of the answer 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(TASKS, width, bias=False)
        self.heads = nn.ModuleList([nn.Linear(width, 1, bias=False) for _ in range(TASKS)])
        for weights in self.heads.parameters():
            nn.init.zeros_(weights)
        self.double()

    def forward(self, rows: Tensor) -> list[Tensor]:
        features = self.trunk(rows)
        return [head(features).squeeze(-1) for head in self.heads]


def linear_bottleneck(cosines: Sequence[float] = (-0.3, -0.3, -0.3), width: int = 1) -> Problem:
    """Three linear regressions share fewer features than they need (Hu et al. 2023).

    Task t wants the unit vector y_t; on whitened inputs L_t = ‖y_t − Wᵀa_t‖² for trunk W and head
    a_t. With width 1 and the best heads L_t = 1 − (u · y_t)², u the trunk's direction. Fixed
    weights reach the whole front if and only if flipping signs of tasks makes every cosine
    non-negative. Three cosines −0.3 (a positive control) cannot be flipped so: linear
    scalarization misses half of the front, its balanced middle by 0.34; three cosines +0.3 are the
    negative control. The trunk starts at random; the data is fixed and the same in all splits.

    cosines: between tasks 1 and 2, 1 and 3, 2 and 3; of three linearly independent directions.
    width: of the trunk; from 3 on there is no bottleneck and one network serves all tasks.
    """
    if len(cosines) != TASKS or width < 1:
        raise ValueError(
            f"linear_bottleneck needs three cosines and width >= 1; found {cosines=}, {width=}"
        )
    rows = math.sqrt(TASKS) * torch.eye(TASKS, dtype=torch.float64)  # whitened: XᵀX / 3 = I
    directions = _directions(cosines)
    targets = rows @ directions.mT
    split = Split(rows, tuple(targets.mT.contiguous()))
    named = tuple(Task(f"task{t + 1}", nn.functional.mse_loss) for t in range(TASKS))
    truth = _truth(directions, width)
    model = lambda: Bottleneck(width)  # noqa: E731
    return Problem("linear_bottleneck", named, split, split, split, model, truth=truth)


def _truth(directions: Tensor, width: int) -> Truth:
    """The front, from trunks all over the sphere; one that serves all tasks loses nothing.

    A trunk of two misses what is orthogonal to both of its features.
    """
    if width >= TASKS:
        nothing = torch.zeros(1, TASKS, dtype=torch.float64)
        return Truth(nothing, torch.ones(TASKS, dtype=torch.float64), 1.0)
    angle, height = torch.meshgrid(
        torch.linspace(0, math.pi, 201, dtype=torch.float64)[:-1],  # u and −u are one trunk
        torch.linspace(-1, 1, 101, dtype=torch.float64),
        indexing="ij",
    )
    radius = (1 - height.square()).sqrt()
    units = torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=-1)
    seen = (torch.cat([units.view(-1, TASKS), directions]) @ directions.mT).square()
    return truth_of(1 - seen if width == 1 else seen)


def _directions(cosines: Sequence[float]) -> Tensor:
    """Unit vectors (3, 3), one a row, with these cosines."""
    first, second = torch.triu_indices(TASKS, TASKS, offset=1)
    gram = torch.eye(TASKS, dtype=torch.float64)
    gram[first, second] = gram[second, first] = torch.tensor(cosines, dtype=torch.float64)
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(gram)
    if failed or not torch.isfinite(gram).all():
        raise ValueError(
            f"three independent directions must have these cosines, but none do: {list(cosines)}"
        )
    return root
