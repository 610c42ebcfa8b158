"""The instrument on experiments whose answer is known: it finds an effect where there is one, and
none where there can be none.

Fronts come from formulas, runs are points on them with noise; nothing is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from mtofront.analysis import Settings
from mtofront.analysis.normalisation import fit
from mtofront.analysis.selection import Runs
from mtofront.analysis.verdict import judge_runs

Floats = NDArray[np.float64]
Front = Callable[[Floats], Floats]

SEEDS = 5
LEARNING_RATES = (0.0, 0.02, 0.1)
"""What a learning rate adds to each loss: one is right, one nearly, one wrong."""


def quadratic(w: Floats) -> Floats:
    """Minimisers of w x^2 + (1 - w) (x - 1)^2."""
    return np.column_stack([(1 - w) ** 2, w**2])


def circle(w: Floats) -> Floats:
    """Minimisers of a weighted sum on a quarter of a circle."""
    length = np.hypot(w, 1 - w)
    return np.column_stack([1 - w / length, 1 - (1 - w) / length])


def hyperbola(w: Floats) -> Floats:
    """Minimisers of a weighted sum on f1 f2 = 1."""
    ratio = np.sqrt((1 - w) / w)
    return np.column_stack([ratio, 1 / ratio])


def vlmop2(t: Floats) -> Floats:
    """The concave front of van Veldhuizen and Lamont's second problem in one variable."""
    return np.column_stack([1 - np.exp(-((t - 1) ** 2)), 1 - np.exp(-((t + 1) ** 2))])


def grid(points: int) -> Floats:
    """Weights even in log odds, from 0.01 to 0.99."""
    return np.asarray(1 / (1 + np.exp(-np.linspace(-np.log(99), np.log(99), points))))


def observed(true: Floats, noise: float, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Validation and test losses: what the run is really like, and a small error of measuring."""
    runs = true + random.normal(0, noise, true.shape)
    return tuple(runs + random.normal(0, noise / 2, true.shape) for _ in range(2))  # type: ignore[return-value]


def verdict_of(
    base: Floats, groups: NDArray[np.int64], arm: Floats, noise: float, random: np.random.Generator
) -> str:
    """The verdict on an arm whose runs are really at `arm` (m, 2), the baseline's at `base` (n, 2).

    Both in units of the true front; every seed has the same true losses and fresh noise.
    """
    parts = []
    for seed in range(SEEDS):
        for name, true in (("scalarization", base), ("arm", arm)):
            val, test = observed(true, noise, random)
            group = groups if name == "scalarization" else np.arange(len(true)) + len(groups)
            parts.append((name, seed, group, val, test))
    runs = Runs(
        tasks=("a", "b"),
        run=np.array([f"{name}{seed}-{i}" for name, seed, g, *_ in parts for i in range(len(g))]),
        arm=np.concatenate([np.full(len(p[2]), p[0], dtype=object) for p in parts]),
        seed=np.concatenate([np.full(len(p[2]), p[1]) for p in parts]),
        group=np.concatenate([p[2] for p in parts]).astype(object),
        step=np.zeros(sum(len(p[2]) for p in parts), dtype=np.int64),
        select=np.concatenate([p[3] for p in parts]),
        report=np.concatenate([p[4] for p in parts]),
    )
    table = pd.DataFrame({"arm": runs.arm, "seed": runs.seed, "backward_passes": 1.0})
    own = runs.arm == "scalarization"
    unit = fit(runs.tasks, runs.select[own], runs.seed[own])
    return str(judge_runs(runs, table, unit, Settings()).rows["verdict"].iloc[0])


def swept(places: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Each place once with each learning rate, and which place a row belongs to."""
    losses = np.concatenate([places + extra for extra in LEARNING_RATES])
    return losses, np.tile(np.arange(len(places)), len(LEARNING_RATES))


def verdicts(
    shape: Front, kind: str, noise: float, shift: float, repeats: int, points: int = 15
) -> Counter[str]:
    """Verdicts on arms of the baseline's own quality, moved by `shift` in both tasks."""
    random = np.random.default_rng([len(shape.__name__), len(kind), int(noise * 1e4), repeats])
    places = shape(grid(points))
    low, span = places.min(axis=0), np.ptp(places, axis=0)
    base, groups = swept((places - low) / span)
    found: Counter[str] = Counter()
    for _ in range(repeats):
        w = {
            # a method that settles in one place, tried again and again
            "settled": np.full(15, random.uniform(0.1, 0.9)),
            # a method with its own weights, off the baseline's grid
            "spread": random.uniform(0.03, 0.97, 15),
            # a method with one run a learning rate
            "single": random.uniform(0.1, 0.9, 1),
        }[kind]
        arm, _ = swept((shape(w) - low) / span + shift)
        found[verdict_of(base, groups, arm, noise, random)] += 1
    return found


SHAPES = (quadratic, circle, hyperbola)
KINDS = ("settled", "spread", "single")


def test_arms_without_any_difference_are_rarely_called_different() -> None:
    found: Counter[str] = Counter()
    for shape in SHAPES:
        for kind in KINDS:
            for noise in (0.003, 0.02):
                found += verdicts(shape, kind, noise, 0.0, 9)
    total = found.total()
    # One in twenty at 95 % confidence, and as many more as chance allows one time in a thousand.
    bound = stats.binom.ppf(0.999, total, 0.05)
    assert found["beats"] + found["worse"] <= bound


@pytest.mark.parametrize("kind", KINDS)
def test_an_arm_without_difference_matches_where_the_grid_is_fine_and_the_noise_small(
    kind: str,
) -> None:
    found = verdicts(hyperbola, kind, 0.003, 0.0, 10)
    assert found["matches"] >= stats.binom.ppf(0.001, 10, 0.9)


@pytest.mark.parametrize(("shift", "word"), [(-0.15, "beats"), (0.15, "worse")])
def test_a_real_difference_is_found(shift: float, word: str) -> None:
    found: Counter[str] = Counter()
    for shape in SHAPES:
        for kind in ("settled", "spread"):
            found += verdicts(shape, kind, 0.01, shift, 4)
    total = found.total()
    assert found[word] >= stats.binom.ppf(0.001, total, 0.8)
    assert found[word] + found["inconclusive"] == total


def weighted_sums(shape: Floats, weights: Floats) -> Floats:
    """The members of a sampled front (n, 2) that minimise each weighted sum."""
    sums = weights[:, None] * shape[:, 0] + (1 - weights)[:, None] * shape[:, 1]
    return shape[sums.argmin(axis=1)]


def weighted_maxima(shape: Floats, weights: Floats) -> Floats:
    """The members of a sampled front (n, 2) that minimise each weighted maximum."""
    worst = np.maximum(weights[:, None] * shape[:, 0], (1 - weights)[:, None] * shape[:, 1])
    return shape[worst.argmin(axis=1)]


@pytest.mark.parametrize("noise", [0.001, 0.02])
def test_the_middle_of_a_concave_front_beats_every_weighted_sum(noise: float) -> None:
    front = vlmop2(np.linspace(-1, 1, 4001))
    weights = grid(15)
    base, groups = swept(weighted_sums(front, weights))
    # No weighted sum lands in the middle third of the front.
    assert not ((base[:5] > 0.3) & (base[:5] < 0.9)).all(axis=1).any()
    arm, _ = swept(weighted_maxima(front, np.array([0.4, 0.5, 0.6])))
    for seed in range(4):
        random = np.random.default_rng(seed)
        assert verdict_of(base, groups, arm, noise, random) == "beats"


def test_weighted_maxima_do_not_beat_weighted_sums_on_a_convex_front() -> None:
    front = quadratic(np.linspace(0, 1, 4001))
    base, groups = swept(weighted_sums(front, grid(15)))
    arm, _ = swept(weighted_maxima(front, grid(15)))
    for seed in range(4):
        random = np.random.default_rng(seed)
        assert verdict_of(base, groups, arm, 0.01, random) in ("matches", "inconclusive")
