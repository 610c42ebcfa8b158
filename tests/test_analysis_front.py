"""Non-dominated sets, hypervolume and distance against definitions written out."""

from __future__ import annotations

import itertools
from unittest import mock

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtofront.analysis import distance, front, hypervolume, is_nondominated, signed_distance

# Few distinct values, so that ties and duplicates are common.
points_of = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(points_of)
def test_a_point_is_nondominated_if_no_other_dominates_it(points: np.ndarray) -> None:
    expected = [not any(dominates(q, p) for q in points) for p in points]
    assert is_nondominated(points).tolist() == expected


def test_all_copies_of_a_nondominated_point_are_kept_and_the_front_has_each_once() -> None:
    points = [[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]]
    assert is_nondominated(points).tolist() == [True, True, True, False]
    assert front(points).tolist() == [[1.0, 2.0], [2.0, 1.0]]


def test_no_points_have_no_front_and_no_hypervolume() -> None:
    assert is_nondominated(np.empty((0, 2))).shape == (0,)
    assert hypervolume(np.empty((0, 2)), 1.0) == 0.0


@given(points_of)
def test_hypervolume_is_the_inclusion_exclusion_of_boxes(points: np.ndarray) -> None:
    points = points[:6]
    volume = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            sides = np.clip(1.1 - np.max(chosen, axis=0), 0, None)
            volume -= (-1) ** size * np.prod(sides)
    assert hypervolume(points, 1.1) == pytest.approx(volume, abs=1e-9)


def test_a_point_beyond_the_reference_contributes_nothing() -> None:
    inside = [[0.5, 0.5]]
    beyond = [[0.1, 1.1], [1.2, 0.0], [5.0, -3.0]]
    assert hypervolume(inside + beyond, 1.1) == hypervolume(inside, 1.1) == pytest.approx(0.36)
    assert hypervolume(beyond, (1.1, 1.1)) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_refused_with_their_place(bad: float) -> None:
    points = [[0.0, 1.0], [1.0, bad]]
    for call in (
        lambda: is_nondominated(points),
        lambda: front(points),
        lambda: hypervolume(points, 2.0),
        lambda: signed_distance([[0.0, 0.0]], points),
    ):
        with pytest.raises(ValueError, match=r"finite.*row 1, column 1"):
            call()
    with pytest.raises(ValueError, match="reference"):
        hypervolume([[0.0, 1.0]], bad)


def test_a_vector_is_not_a_set_of_points() -> None:
    with pytest.raises(ValueError, match="one row a run"):
        is_nondominated([1.0, 2.0])


@given(points_of)
def test_a_trade_off_of_nothing_would_give_the_epsilon_indicator(points: np.ndarray) -> None:
    half = max(1, len(points) // 2)
    members, seen = points[:half], points
    expected = [moocore.epsilon_additive(members, ref=p[None, :]) for p in seen]
    with mock.patch.object(distance, "TRADE_OFF", 0.0):
        assert signed_distance(seen, members).tolist() == pytest.approx(expected)


@given(points_of, st.floats(-1, 1))
def test_a_step_that_is_the_same_in_every_task_is_the_distance(
    points: np.ndarray, step: float
) -> None:
    members = front(points)
    assert signed_distance(members - step, members) == pytest.approx(
        np.full(len(members), step) + signed_distance(members, members), abs=1e-9
    )


@given(points_of)
def test_who_is_worse_in_every_task_is_behind_and_who_is_ahead_of_all_is_beyond(
    points: np.ndarray,
) -> None:
    members, seen = points[: max(1, len(points) // 2)], points
    for point, away in zip(seen, signed_distance(seen, members), strict=True):
        if any((member < point).all() for member in members):
            assert away < 0
        if all((point < member).all() for member in members):
            assert away > 0


def test_distance_counts_how_much_worse_in_every_task() -> None:
    attained = [[0.0, 1.0], [1.0, 0.0]]
    assert signed_distance([[0.5, 0.5], [0.0, 1.0]], attained) == pytest.approx([0.5 / 1.1, 0.0])
    # (0 - 0.3, 1 - 1.2): the larger, and a twentieth of their sum, over 1.1.
    assert signed_distance([[0.3, 1.2]], attained) == pytest.approx([(-0.2 - 0.025) / 1.1])


def test_a_tie_in_one_task_does_not_hide_what_the_others_cost() -> None:
    assert signed_distance([[0.0, 5.0]], [[0.0, 1.0], [1.0, 0.0]])[0] < -0.15
    assert signed_distance([[-0.01, 5.0]], [[0.0, 1.0], [1.0, 0.0]])[0] < -0.15


def test_dominated_members_do_not_move_the_distance() -> None:
    generator = np.random.default_rng(0)
    members, points = generator.random((30, 3)), generator.random((20, 3))
    assert signed_distance(points, front(members)).tolist() == pytest.approx(
        signed_distance(points, members).tolist()
    )


def test_an_empty_front_and_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        signed_distance([[0.0, 1.0]], np.empty((0, 2)))
    with pytest.raises(ValueError, match="same tasks"):
        signed_distance([[0.0, 1.0]], [[0.0, 1.0, 2.0]])
