"""Indicators against closed forms, numerical integrals and one another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tables import frame_of, run

from mtofront.analysis import hypervolume, judge
from mtofront.analysis.front import is_exact
from mtofront.analysis.indicators import dominated_by, indicator_means, indicator_table, r2
from mtofront.analysis.simplex import simplex_weights

RAMP = [(k / 4, 1 - k / 4) for k in range(5)]


def table_of(arm: list[tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Indicators of one seed; the baseline is a ramp, so that losses are in normalised units."""
    runs = [run(f"s{k}", "scalarization", 0, losses) for k, losses in enumerate(RAMP)]
    runs += [run(f"x{k}", "x", 0, losses) for k, losses in enumerate(arm)]
    table = indicator_table(judge(frame_of(runs)))
    return {row["arm"]: row for row in table.to_dict("records")}


def test_two_arms_worked_by_hand() -> None:
    found = table_of([(0.5, 0.25), (0.75, 0.5)])
    own, base = found["x"], found["scalarization"]
    # One box of 0.6 by 0.85; the second run lies in it.
    assert own["hypervolume"] == pytest.approx(0.6 * 0.85, abs=1e-12)
    # The pooled front: the ramp without its middle and (0.75, 0.25), with (0.5, 0.25).
    # From (0.5, 0.25) one must go 0.5 left for (0, 1), 0.25 for (0.25, 0.75), 0.25 down for (1, 0).
    assert own["igd_plus"] == pytest.approx((0.5 + 0.25 + 0.0 + 0.25) / 4, abs=1e-12)
    assert own["epsilon"] == pytest.approx(0.5, abs=1e-12)
    # Only the new box: 0.25 to the right of 0.5 and 0.25 above 0.25 was not attained before.
    assert own["contribution"] == pytest.approx(0.25 * 0.25, abs=1e-12)
    assert (own["dominated"], own["dominated_by_baseline"]) == (0.5, 0.5)
    assert (base["dominated"], base["dominated_by_baseline"]) == (0.4, 0.0)
    # The baseline must move by 0.25 in the second task for (0.5, 0.25): of 4 members, one.
    assert base["igd_plus"] == pytest.approx(0.25 / 4, abs=1e-12)
    assert base["epsilon"] == pytest.approx(0.25, abs=1e-12)


def test_rows_are_every_arm_and_seed_the_baseline_first() -> None:
    runs = [run(f"s{s}{k}", "scalarization", s, p) for s in (0, 1) for k, p in enumerate(RAMP)]
    runs += [run("a1", "a", 1, (0.5, 0.5)), run("z0", "z", 0, (2, 2)), run("z1", "z", 1, (2, 2))]
    table = indicator_table(judge(frame_of(runs)))
    assert list(zip(table["arm"], table["seed"], strict=True)) == [
        ("scalarization", 0), ("scalarization", 1), ("a", 1), ("z", 0), ("z", 1),
    ]  # fmt: skip
    means = indicator_means(table)
    assert means["seeds"].tolist() == [2, 1, 2]
    # Beyond the reference point: no volume, and everything of the ramp dominates it.
    assert means["hypervolume"].iloc[2] == 0 and means["contribution"].iloc[2] == 0
    assert means["dominated_by_baseline"].tolist()[1:] == [0, 1]


@given(arrays(np.float64, (4, 2), elements=st.floats(0, 2)))
def test_r2_of_two_tasks_is_the_integral_over_all_weights(points: np.ndarray) -> None:
    first = (np.arange(20_000) + 0.5) / 20_000
    weights = np.column_stack([first, 1 - first])
    integral = (weights[:, None] * points).max(axis=2).min(axis=1).mean()
    assert r2(points, (0, 0)) == pytest.approx(integral, abs=1e-6)


def test_r2_of_one_run_is_its_closed_form() -> None:
    # max(w a, (1 - w) b), with its kink at w = b / (a + b).
    for a, b in ((0.3, 0.7), (2.0, 0.1)):
        kink = b / (a + b)
        whole = b * (kink - kink**2 / 2) + a * (1 - kink**2) / 2
        assert r2([(a, b)], (0, 0)) == pytest.approx(whole, abs=1e-12)


@settings(max_examples=30)
@given(arrays(np.float64, (6, 2), elements=st.floats(0, 1)))
def test_indicators_are_their_definitions_to_a_billionth(arm: np.ndarray) -> None:
    ramp = np.array(RAMP)
    found = table_of([tuple(point) for point in arm])["x"]

    def nondominated(points: np.ndarray) -> np.ndarray:
        worse = [((q <= p).all() and (q < p).any()) for p in points for q in points]
        return points[~np.reshape(worse, (len(points), -1)).any(axis=1)]

    own = nondominated(arm)
    every = np.unique(nondominated(np.concatenate([ramp, arm])), axis=0)
    beyond = np.maximum(own[None, :, :] - every[:, None, :], 0.0)
    igd_plus = np.linalg.norm(beyond, axis=2).min(axis=1).mean()
    epsilon = (own[None, :, :] - every[:, None, :]).max(axis=2).min(axis=1).max()
    # Stripes between the first losses, each as high as the best second loss up to there.
    edges = np.append(np.unique(own[:, 0]), 1.1)
    depth = [1.1 - own[own[:, 0] <= edge, 1].min() for edge in edges[:-1]]
    assert found["igd_plus"] == pytest.approx(igd_plus, abs=1e-9)
    assert found["epsilon"] == pytest.approx(epsilon, abs=1e-9)
    assert found["hypervolume"] == pytest.approx((np.diff(edges) * depth).sum(), abs=1e-9)


def test_r2_of_the_corner_one_in_three_tasks_is_the_mean_largest_weight() -> None:
    # For three uniform parts of a stick the largest has the mean (1 + 1/2 + 1/3) / 3.
    assert r2(np.ones((1, 3)), np.zeros(3)) == pytest.approx(11 / 18, abs=0.02)
    assert r2(np.ones((1, 3)), np.ones(3)) == 0


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_tastes_lie_on_the_simplex_and_weigh_all_tasks_alike(tasks: int) -> None:
    weights = simplex_weights(tasks)
    assert (weights >= 0).all()
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights.mean(axis=0), 1 / tasks, atol=0.02)
    assert np.array_equal(weights, simplex_weights(tasks))


@given(arrays(np.float64, (6, 3), elements=st.integers(0, 3)))
def test_dominated_points_are_those_with_a_better_one(points: np.ndarray) -> None:
    def beats(a: np.ndarray, b: np.ndarray) -> bool:
        pairs = list(zip(a, b, strict=True))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    found = dominated_by(points[:3], points[3:])
    assert found.tolist() == [any(beats(q, p) for q in points[3:]) for p in points[:3]]


def test_large_fronts_of_many_tasks_are_approximated_closely() -> None:
    # Inclusion and exclusion of four boxes.
    tasks = 9
    points = np.random.default_rng(0).uniform(0.2, 0.6, (4, tasks))
    exact = 0.0
    for size in range(1, 5):
        for chosen in itertools.combinations(points, size):
            exact -= (-1) ** size * np.prod(1.0 - np.max(chosen, axis=0))
    assert not is_exact(4, tasks)
    assert hypervolume(points, 1.0) == pytest.approx(exact, rel=5e-3)
    assert is_exact(100, 8) and is_exact(10_000, 5) and not is_exact(101, 8)
