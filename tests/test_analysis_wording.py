"""Plain words: each verdict's sentence says the size, the cost and what would help."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from tables import frame_of, run

from mtofront.analysis import Comparison, judge
from mtofront.analysis.export import prices
from mtofront.analysis.wording import sentence, signed, status, summary


def comparison_of(
    places: dict[str, float], points: int = 31, seeds: int = 4, spread: float = 0.001
) -> Comparison:
    runs = [
        run(f"s{seed}-{k}", "scalarization", seed, (t, 1 - t), weights=(1 - t, t))
        for seed in range(seeds)
        for k, t in enumerate(np.linspace(0, 1, points))
    ]
    runs += [
        run(f"{arm}{seed}", arm, seed, (place + spread * seed,) * 2)
        for arm, place in places.items()
        for seed in range(seeds)
    ]
    return judge(frame_of(runs))


def words_of(comparison: Comparison, price: float = math.nan) -> str:
    return sentence(comparison.rows.iloc[0].to_dict(), comparison, price)


def test_the_summary_groups_arms_by_verdict() -> None:
    places = {"p": 0.2, "q": 0.2, "r": 0.5, "s": 0.9, "t": 0.9, "u": 0.9}
    assert summary(comparison_of(places)) == (
        "p and q beat tuned scalarization. r matches tuned scalarization. "
        "s, t and u are worse than tuned scalarization."
    )


def test_a_win_is_told_with_its_size_its_interval_and_its_price() -> None:
    text = words_of(comparison_of({"p": 0.2}), 2.0)
    assert text.startswith("Its selected runs reach 0.298 beyond what tuned scalarization attains")
    assert "(+0.296 to +0.301), which is 0.298 in a and 0.298 in b." in text
    assert "In most seeds no scalarization run is as good." in text
    assert text.endswith("A run costs 2.0 times the backward passes.")


def test_a_match_names_the_runs_that_do_the_same() -> None:
    text = words_of(comparison_of({"p": 0.5}), 1.0)
    assert "smaller than the equivalence margin of 0.05" in text
    assert "Drawing 7 scalarization runs at random probably finds one as good." in text
    assert text.endswith("A run costs the same backward passes.")


def test_a_loss_is_told_as_a_positive_distance_behind() -> None:
    text = words_of(comparison_of({"p": 0.9}))
    assert text.startswith("Even its selected runs stay 0.402 behind tuned scalarization (−0.")
    assert "Drawing 1 scalarization run at random probably finds one as good." in text
    assert "passes" not in text


def test_a_real_but_small_difference_is_said_to_be_small() -> None:
    text = words_of(comparison_of({"p": 0.44}, spread=0.01))
    assert "That is less than the 0.05 declared to matter." in text


@pytest.mark.parametrize(
    ("seeds", "spread", "cure"),
    [
        (3, 0.1, "about 4 further seeds would settle it"),
        (1, 0.0, "Only one seed can be compared and an interval needs two: run more seeds."),
    ],
)
def test_an_open_question_names_what_would_close_it(seeds: int, spread: float, cure: str) -> None:
    comparison = comparison_of({"p": 0.5}, 31, seeds, spread)
    assert comparison.rows["verdict"].tolist() == ["inconclusive"]
    assert cure in words_of(comparison)


def test_the_status_line_counts_only_what_is_there_to_count() -> None:
    counts = {"arm": ["p"], "expected": [1], "done": [1], "diverged": [0], "failed": [0]}
    table = pd.DataFrame({**counts, "missing": [0], "stopped": [0]})
    assert status(table) == "Complete: all 1 planned run finished."
    assert status(table.assign(done=0, stopped=1)) == (
        "Complete: all 1 planned run finished; 1 finished run stopped early by the scheduler."
    )


def test_prices_compare_runs_that_went_to_the_end() -> None:
    runs = [
        run("s", "scalarization", 0, (1, 1), passes=100.0),
        run("x", "x", 0, (1, 1), passes=300.0),
        run("d", "x", 0, (1, 1), passes=5.0, diverged=2),
        run("e", "x", 0, (1, 1), passes=7.0, stopped=True),
        run("y", "y", 0, (1, 1), passes=None),
    ]
    found = prices(frame_of(runs), "scalarization")
    assert (found["scalarization"], found["x"]) == (1.0, 3.0)
    assert math.isnan(found["y"])


def test_signs_are_always_shown() -> None:
    assert [signed(value) for value in (0.1, -0.1, math.nan)] == ["+0.100", "−0.100", "–"]
