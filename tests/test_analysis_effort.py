"""Equivalent runs against counting all draws."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtofront.analysis.effort import effort, equivalent_runs

seeds = st.lists(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=1,
    max_size=3,
)


def by_counting(good: list[int], total: list[int]) -> float:
    for k in range(1, max(total) + 1):
        shares = []
        for g, n in zip(good, total, strict=True):
            draws = list(itertools.combinations(range(n), min(k, n)))
            shares.append(sum(min(draw) < g for draw in draws) / len(draws))
        if sum(shares) / len(shares) >= 0.5 - 1e-9:
            return k
    return math.inf


@given(seeds)
def test_equivalent_runs_is_the_first_number_of_draws_that_probably_holds_a_good_one(
    counts: list[tuple[int, int]],
) -> None:
    good, total = [g for g, _ in counts], [n for _, n in counts]
    assert equivalent_runs(good, total) == by_counting(good, total)


def test_a_single_good_run_among_forty_five_takes_half_of_them() -> None:
    assert equivalent_runs([1] * 5, [45] * 5) == 23


def test_no_good_run_is_never_found() -> None:
    assert equivalent_runs([0, 0], [45, 45]) == math.inf


def test_counts_out_of_range_and_no_seeds_are_refused() -> None:
    for good, total in (([], []), ([3], [2]), ([-1], [2])):
        with pytest.raises(ValueError, match="must hold"):
            equivalent_runs(good, total)


def test_nine_tenths_take_more_runs_than_one_half_and_seeds_give_an_interval() -> None:
    margins = pd.DataFrame({"arm": "x", "good": [1, 2, 4], "drawn": [10, 10, 10]})
    table = effort(margins, ["x", "absent"], 0.95).set_index(["arm", "chance"])
    half, most = table.loc[("x", 0.5)], table.loc[("x", 0.9)]
    assert half["runs"] == equivalent_runs([1, 2, 4], [10] * 3) < most["runs"]
    assert half["low"] == equivalent_runs([4], [10]) and half["high"] == equivalent_runs([1], [10])
    assert table.loc["absent"].isna().all(axis=None)
