"""Units: ideal and nadir as medians over seeds, and what happens without a trade-off."""

from __future__ import annotations

import numpy as np
import pytest

from mtofront.analysis import Normalisation
from mtofront.analysis.normalisation import fit, reported_on

TASKS = ("a", "b")


def test_ideal_and_nadir_are_medians_over_seeds_of_the_fronts_ends() -> None:
    losses, seeds = [], []
    for seed, shift in enumerate((0.0, 1.0, 50.0)):
        # The last point is dominated: it must not become the nadir.
        losses += [[shift, shift + 4], [shift + 2, shift + 1], [shift + 9, shift + 9]]
        seeds += [seed] * 3
    unit = fit(TASKS, losses, seeds)
    assert (unit.ideal, unit.nadir) == ((1.0, 2.0), (3.0, 5.0))
    assert unit.reference == 1.1 and unit.floored == ()
    assert unit([[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]]).tolist() == [[0, 0], [1, 1], [0.5, 0]]
    assert unit.reference_losses() == pytest.approx((3.2, 5.3))


def test_a_task_without_trade_off_is_measured_in_twentieths_of_its_ideal() -> None:
    unit = fit(TASKS, [[2.0, 5.0], [3.0, 6.0]], [0, 0])
    assert unit.floored == TASKS
    assert unit([[2.0, 5.0], [2.1, 5.25]]) == pytest.approx(np.array([[0.0, 0.0], [1.0, 1.0]]))


def test_a_front_at_zero_is_measured_in_its_own_losses() -> None:
    unit = fit(TASKS, [[0.0, 0.0]], [7])
    assert unit([[0.3, 2.0]]).tolist() == [[0.3, 2.0]]


def test_the_unit_works_over_leading_dimensions_and_writes_nothing() -> None:
    unit = Normalisation(TASKS, (0.0, 1.0), (2.0, 2.0))
    losses = np.ones((3, 4, 2))
    assert unit(losses).shape == (3, 4, 2)
    assert (losses == 1).all()


def test_nan_and_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit(TASKS, [[np.nan, 1.0]], [0])
    with pytest.raises(ValueError, match="at least one finished run"):
        fit(TASKS, np.empty((0, 2)), [])


def test_the_reporting_split_is_measured_from_where_the_baseline_lies_there() -> None:
    unit = Normalisation(TASKS, (0.0, 0.0), (1.0, 2.0))
    select = np.array([[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]])
    harder = np.array([0.3, -0.2])
    report = select + harder + np.array([[0.0], [0.0], [9.0]])  # a median: one is wild
    shifted = reported_on(unit, select, report)
    assert shifted.shift == pytest.approx((0.3, -0.2))
    assert shifted.reported(select + harder) == pytest.approx(unit(select))
    assert shifted(select) == pytest.approx(unit(select))
