"""Intervals over few seeds: coverage, reach, reproducibility."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mtofront.analysis.interval import interval, p_values


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_holds_the_true_mean_as_often_as_it_says(seeds: int, skewed: bool) -> None:
    draws = generator(seeds)
    trials = 300
    # Mild skewness; no interval for five numbers is right for every distribution.
    samples = (
        draws.gamma(6.0, size=(trials, seeds)) - 6 if skewed else draws.normal(size=(trials, seeds))
    )
    ends = [interval(sample, 0.9, draws) for sample in samples]
    covered = sum(low <= 0 <= high for low, high in ends)
    assert covered >= stats.binom.ppf(0.001, trials, 0.9)
    assert covered <= stats.binom.ppf(0.999, trials, 0.9) + 0.06 * trials


def test_three_seeds_reach_beyond_their_own_range() -> None:
    low, high = interval([0.0, 1.0, 2.0], 0.95, generator())
    # Student's t with two degrees of freedom: 4.3027 standard errors.
    assert (low, high) == pytest.approx(
        (1 - 4.3027 / math.sqrt(3), 1 + 4.3027 / math.sqrt(3)), 1e-4
    )


def test_the_bootstrap_widens_the_side_of_the_long_tail() -> None:
    sample = generator(1).exponential(size=30) ** 2
    low, high = interval(sample, 0.95, generator())
    student = stats.t.interval(0.95, 29, sample.mean(), stats.sem(sample))
    assert low == pytest.approx(student[0])
    assert high - sample.mean() > 1.1 * (student[1] - sample.mean())


def test_equal_generators_give_equal_intervals() -> None:
    sample = generator(3).gamma(1.0, size=25)
    assert interval(sample, 0.95, generator(1)) == interval(sample, 0.95, generator(1))
    assert interval(sample, 0.95, generator(1)) != interval(sample, 0.95, generator(2))


def test_seeds_that_agree_have_an_interval_without_width() -> None:
    assert interval([0.25] * 4, 0.95, generator()) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("values", [[], [0.3]])
def test_fewer_than_two_seeds_have_no_interval(values: list[float]) -> None:
    assert all(math.isnan(end) for end in interval(values, 0.95, generator()))


def test_nan_and_an_impossible_confidence_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        interval([0.0, math.nan], 0.95, generator())
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval([0.0, 1.0], 95, generator())


@pytest.mark.parametrize("systematic", [0.0, 0.2])
def test_a_p_value_is_where_the_interval_begins_to_leave_a_mean_out(systematic: float) -> None:
    sample = generator(2).gamma(2.0, size=6)
    means = (0.0, 1.0, 3.0, float(sample.mean()))
    for mean, p in zip(means, p_values(sample, means, generator(), systematic), strict=True):
        for near, holds in ((p * 0.99, True), (min(p * 1.01, 1 - 1e-9), False)):
            low, high = interval(sample, 1 - near, generator(), systematic)
            assert (low <= mean <= high) == (holds or mean == means[-1])


def test_the_last_bit_of_a_margin_does_not_move_its_p_value() -> None:
    # Every fifth resample of three values holds each once, and has their mean but for rounding.
    first = np.array([0.011347512665853718, -0.044979819267454445, 0.04232585845597331])
    second = np.array([0.01134751266585366, -0.04497981926745453, 0.042325858455973434])
    ours, theirs = (p_values(sample, (0.0,), generator(), 0.004) for sample in (first, second))
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_a_systematic_error_adds_in_quadrature_and_does_not_average_out() -> None:
    assert interval([0.25] * 4, 0.95, generator(), 0.1) == pytest.approx(
        (0.25 - 0.196, 0.25 + 0.196), abs=1e-4
    )
