"""Whether a sweep's weights reach the middle of a front, where every task is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .arms import Trial
from .config import Config
from .weights import Vector

FEW = 3
"""So many weight vectors of a grid should weigh all tasks, at least."""


def weight_notes(config: Config, trials: Mapping[str, Sequence[Trial]]) -> tuple[str, ...]:
    """A line for each grid of weights of which (nearly) every vector gives some task none.

    trials: each arm's. Arms with the same grid share a line. Weights that were listed one by one
    are meant so and get a line only where they are the baseline's.

    Why: a task of weight 0 is not trained, so such a vector shows an end of the front only. Points
    that spread evenly over a simplex lie on its boundary where tasks are many and points few: a
    lattice has no inner one with fewer than (2T - 1 choose T - 1) vectors (35 for four tasks, 126
    for five, 462 for six), and 20 of riesz for four tasks have none. A method that just trains all
    tasks then seems to beat scalarization: by half of the range and more in simulated fronts of
    three tasks where nobody was better; with three inner vectors nobody did. An equal vector is not
    added by itself: a grid would no longer be the one that its name says, and one inner vector
    alone left every verdict of that simulation undecided.
    """
    arms: dict[tuple[Vector, ...], list[str]] = {}
    for arm, found in trials.items():
        given = config.arms[arm].get("weights")
        if isinstance(given, dict) or arm == config.report.baseline:
            vectors = dict.fromkeys(trial.weights for trial in found if trial.weights)
            arms.setdefault(tuple(vectors), []).append(arm)
    return tuple(
        _note(names, len(vectors), inner)
        for vectors, names in arms.items()
        if (inner := weighing_all(vectors)) < min(FEW, len(vectors))
    )


def weighing_all(vectors: Sequence[Vector]) -> int:
    """How many of the vectors give every task a positive weight."""
    return sum(min(vector) > 0 for vector in vectors)


def _note(arms: Sequence[str], vectors: int, inner: int) -> str:
    return (
        f"{', '.join(arms)}: {inner or 'none'} of the {vectors} weight vectors "
        f"{'weighs' if inner < 2 else 'weigh'} all tasks, the others leave some task untrained, "
        "so that verdicts rest on a front without a middle; use weights: {grid: log_odds, points: "
        "N, low: 0.02}, or more points"
    )
