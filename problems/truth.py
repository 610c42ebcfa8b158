"""What is known for certain of a problem: its true front, and what no method can exceed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import moocore
import torch
from torch import Tensor

LINE = 2001
"""Points of a front of two tasks."""
MARGIN = 1.1
"""A reference point lies this share of the front's range beyond its best values."""


@dataclass(frozen=True)
class Truth:
    """The true front of a problem, in losses on its test split.

    front: (n, T), points of it, float64. reference: (T,), where hypervolume is counted from.
    volume: the hypervolume of the whole front where it is known in closed form.
    """

    front: Tensor
    reference: Tensor
    volume: float | None = None

    @cached_property
    def hypervolume(self) -> float:
        """The best hypervolume: the closed form, or what the front's points reach together.

        Points miss the gaps between them: up to 0.1 % for two tasks, 0.5 % for three.
        """
        if self.volume is not None:
            return self.volume
        points, reference = self.front.numpy(), self.reference.numpy()
        return float(moocore.hypervolume(points, ref=reference))


def truth_of(points: Tensor, volume: Callable[[Tensor], float] | None = None) -> Truth:
    """The truth of a front of which points (n, T) are given; those that are dominated are dropped.

    The reference point is the best value of each task plus 1.1 times the front's range in it.
    volume: the closed form of the hypervolume that a reference point (T,) bounds.
    """
    kept = torch.from_numpy(moocore.filter_dominated(points.double().numpy()))
    best, worst = kept.amin(dim=0), kept.amax(dim=0)
    reference = best + MARGIN * (worst - best)
    return Truth(kept, reference, volume(reference) if volume else None)


def simplex_grid(tasks: int, least: int = 5000) -> Tensor:
    """Evenly spread vectors (n, T), non-negative with sum 1; from three tasks on, so many."""
    from pymoo.util.ref_dirs import get_reference_directions

    if tasks == 2:
        first = torch.linspace(0, 1, LINE, dtype=torch.float64)
        return torch.stack([first, 1 - first], dim=1)
    parts, count = 1, tasks
    while count < least:  # the number of ways to divide so many parts among the tasks
        parts += 1
        count = count * (parts + tasks - 1) // parts
    vectors = get_reference_directions("das-dennis", tasks, n_partitions=parts)
    return torch.from_numpy(vectors)
