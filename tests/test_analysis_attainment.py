"""Attainment surfaces: the library's against a count of seeds, point by point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tables import frame_of, run

from mtofront.analysis import front, judge
from mtofront.analysis.attainment import attainment_table, surfaces
from mtofront.analysis.figure_data import median_front


def attains(points: np.ndarray, place: np.ndarray) -> bool:
    return bool((points <= place).all(axis=1).any())


@pytest.mark.parametrize("tasks", [2, 3])
@given(data=st.data())
def test_a_surface_holds_what_enough_seeds_attain(tasks: int, data: st.DataObject) -> None:
    seeds = data.draw(st.integers(1, 5))
    losses = data.draw(arrays(np.float64, (seeds, 3, tasks), elements=st.integers(0, 6)))
    fronts = [front(points) for points in losses]
    found = surfaces(fronts)
    place = data.draw(arrays(np.float64, (tasks,), elements=st.integers(0, 7)))
    count = sum(attains(points, place) for points in fronts)
    assert attains(found.best, place) == (count >= 1)
    assert attains(found.median, place) == (2 * count >= seeds)
    assert attains(found.worst, place) == (count == seeds)
    if tasks == 2:
        assert np.array_equal(found.median, median_front(fronts))


def test_four_tasks_and_no_fronts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 or 3 tasks; found 4"):
        surfaces([np.ones((1, 4))])
    with pytest.raises(ValueError, match="found no fronts"):
        surfaces([])


def test_the_table_holds_the_corners_of_every_arm_in_own_losses() -> None:
    runs = [run(f"s{s}", "scalarization", s, (1 + s, 5 - s)) for s in range(3)]
    table = attainment_table(judge(frame_of([*runs, run("x", "x", 0, (2, 2))])))
    worst = table[(table["arm"] == "scalarization") & (table["level"] == "worst")]
    assert worst[["a", "b"]].to_numpy().tolist() == [[3, 5]]
    best = table[(table["arm"] == "scalarization") & (table["level"] == "best")]
    assert best[["a", "b"]].to_numpy().tolist() == [[1, 5], [2, 4], [3, 3]]
    assert (table["arm"] == "x").sum() == 3
    one = judge(frame_of([run("s", "scalarization", 0, (1,), weights=(1,))], ("a",)))
    assert list(attainment_table(one).columns) == ["arm", "level", "a"]
