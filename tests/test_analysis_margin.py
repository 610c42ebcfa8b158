"""One seed's comparison, by hand: the selected run, its distance, what the weight grid explains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mtofront.analysis.margin import allowance, attained, measure
from mtofront.analysis.selection import Runs

LINE = [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)]


def runs_at(
    select: Sequence[Sequence[float]],
    report: Sequence[Sequence[float]] | None = None,
    group: Sequence[str] | None = None,
) -> Runs:
    n = len(select)
    names = np.array([f"r{i}" for i in range(n)], dtype=object)
    return Runs(
        tasks=("a", "b", "c")[: len(select[0])],
        run=names,
        arm=np.array(["x"] * n, dtype=object),
        seed=np.zeros(n, dtype=np.int64),
        group=names if group is None else np.array(group, dtype=object),
        step=np.zeros(n, dtype=np.int64),
        select=np.array(select, dtype=np.float64),
        report=np.array(select if report is None else report, dtype=np.float64),
    )


def test_the_front_is_chosen_on_one_split_and_reported_on_the_other() -> None:
    front = attained(runs_at([(0, 1), (1, 0), (2, 2)], [(5, 6), (6, 5), (0, 0)]))
    assert front.select.tolist() == [[0, 1], [1, 0]]
    assert front.report.tolist() == [[5, 6], [6, 5]]


def test_each_inner_weight_is_held_out_once_and_the_ends_never() -> None:
    front = attained(runs_at(LINE))
    # Without its own weight each inner point lies in a gap of twice the width, a quarter deep.
    assert front.held_out.tolist() == [0.25] * 3
    assert front.position.tolist() == [list(point) for point in LINE[1:4]]


def test_a_weight_is_held_out_with_all_its_learning_rates() -> None:
    twice = [*LINE, *((a + 0.01, b + 0.01) for a, b in LINE)]
    front = attained(runs_at(twice, group=["p", "q", "r", "s", "t"] * 2))
    assert front.held_out == pytest.approx([0.25] * 3)


def test_a_weight_that_shares_the_smallest_loss_of_a_task_is_an_end() -> None:
    front = attained(runs_at([(0, 1), (0, 1), (0.5, 0.5), (1, 0)], group=["p", "q", "r", "s"]))
    assert front.position.tolist() == [[0.5, 0.5]]


def test_the_arms_run_is_chosen_on_validation_and_its_test_distance_counts() -> None:
    front = attained(runs_at([(0, 1), (1, 0)]))
    arm = runs_at([(0.4, 0.4), (0.9, 0.9), (2, 2)], [(3, 3), (0.8, 0.8), (0, 0)])
    margin = measure(arm, front)
    assert margin.run == 0
    assert margin.distance == pytest.approx(-2.0)


def test_the_allowance_is_half_the_largest_gap_nearby_but_no_less_than_the_mean() -> None:
    # Gaps: wide on the left, narrow on the right.
    points = [(0, 1), (0.3, 0.7), (0.6, 0.4), (0.7, 0.3), (0.8, 0.2), (0.9, 0.1), (1, 0)]
    front = attained(runs_at(points))
    assert front.held_out == pytest.approx([0.3, 0.1, 0.1, 0.1, 0.1])
    assert allowance(np.array([0.2, 0.75]), front) == pytest.approx(0.15)
    assert allowance(np.array([0.85, 0.1]), front) == pytest.approx(0.14)


def test_a_hole_that_no_weight_fills_is_not_explained_by_the_grid() -> None:
    # A concave part: the weights crowd at both of its ends.
    rim = [(0.0, 1.0), (0.01, 0.99), (0.02, 0.98), (0.98, 0.02), (0.99, 0.01), (1.0, 0.0)]
    margin = measure(runs_at([(0.6, 0.6)]), attained(runs_at(rim)))
    assert margin.distance == pytest.approx(0.38)
    assert margin.allowance == pytest.approx(0.01)


def test_without_inner_weights_nothing_is_allowed() -> None:
    for points in ([(0, 1), (1, 0)], [(0.5, 0.5)]):
        margin = measure(runs_at([(0.3, 0.3)]), attained(runs_at(points)))
        assert margin.allowance == 0.0
        assert margin.distance > 0


def test_an_arm_that_repeats_a_baseline_run_lies_on_the_front() -> None:
    margin = measure(runs_at(LINE[2:3]), attained(runs_at(LINE)))
    assert margin.distance == 0.0


def test_three_tasks_are_compared_like_two() -> None:
    corners = [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.6, 0.6, 0.6)]
    front = attained(runs_at(corners))
    assert front.position.tolist() == [[0.6, 0.6, 0.6]]
    assert front.held_out == pytest.approx([0.4])
    assert measure(runs_at([(0.5, 0.5, 0.5)]), front).distance == pytest.approx(0.1)
