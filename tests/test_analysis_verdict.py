"""The verdict table on made-up results that can be followed by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import Run, frame_of, run

from mtofront.analysis import (
    ComparisonError,
    RecordsError,
    Settings,
    compare,
    compare_table,
    judge,
    judge_table,
    read_table,
    reservations,
    verdict_rows,
)
from mtofront.analysis.decision import verdict

COLUMNS = [
    "arm", "verdict", "margin", "low", "high", "hypervolume_ratio", "equivalent_runs", "runs",
    "backward_passes",
]  # fmt: skip
SEEDS = range(4)


def baseline(seeds: range | list[int] = SEEDS, points: int = 31) -> list[Run]:
    """A straight front from (0, 1) to (1, 0), the same in all seeds: units are losses."""
    return [
        run(f"s{seed}-{k}", "scalarization", seed, (t, 1 - t), weights=(1 - t, t), passes=10.0)
        for seed in seeds
        for k, t in enumerate(np.linspace(0, 1, points))
    ]


def arm(name: str, place: float, seeds: range | list[int] = SEEDS, **more: float) -> list[Run]:
    """One run a seed at (place, place), a little different from seed to seed."""
    return [
        run(f"{name}{seed}", name, seed, (place + 0.001 * seed,) * 2, passes=20.0, **more)
        for seed in seeds
    ]


def rows_of(runs: list[Run], **keywords: object) -> pd.DataFrame:
    return compare(frame_of(runs), **keywords).set_index("arm")  # type: ignore[arg-type]


def test_a_comparison_has_exactly_the_promised_columns_and_one_row_an_arm() -> None:
    table = compare(frame_of([*arm("x", 0.2), *baseline(), *arm("y", 0.5)]))
    assert list(table.columns) == COLUMNS
    assert table["arm"].tolist() == ["x", "y"]


def test_margins_and_costs_of_known_arms() -> None:
    table = rows_of([*baseline(), *arm("ahead", 0.2), *arm("level", 0.5), *arm("behind", 0.8)])
    assert table["verdict"].to_dict() == {"ahead": "beats", "level": "matches", "behind": "worse"}
    # The distance is to (0.5, 0.5); on a straight front nothing lies below its chords.
    middle = 0.5 - 0.2 - 0.0015
    assert table.loc["ahead", "margin"] == pytest.approx(middle)
    spread = 0.001 * np.std(SEEDS, ddof=1) / 2 * 3.1824
    assert table.loc["ahead", "low"] == pytest.approx(middle - spread, abs=1e-6)
    assert table.loc["ahead", "high"] == pytest.approx(middle + spread, abs=1e-6)
    assert table["runs"].tolist() == [4, 4, 4]
    assert table["backward_passes"].tolist() == [80.0] * 3


def test_a_grid_with_wide_gaps_on_a_bent_front_cannot_say_matches() -> None:
    bent = [
        run(f"s{seed}-{k}", "scalarization", seed, (t * t, (1 - t) ** 2), weights=(1 - t, t))
        for seed in SEEDS
        for k, t in enumerate((0.0, 0.25, 0.5, 0.75, 1.0))
    ]
    level = [run(f"x{seed}", "x", seed, (0.36**2, 0.64**2)) for seed in SEEDS]
    table = rows_of([*bent, *level], equivalence=0.01)
    assert table.loc["x", "verdict"] == "inconclusive"
    assert table.loc["x", "margin"] == pytest.approx(0.0, abs=0.01)


def test_wins_must_stand_after_holms_correction_for_all_arms() -> None:
    noisy = [
        run(f"{name}{seed}", name, seed, (0.43 + 0.05 * seed / 3,) * 2)
        for name in "uvwxyz"
        for seed in SEEDS
    ]
    alone = [one for one in noisy if one.arm == "u"]
    assert rows_of([*baseline(), *alone], equivalence=0.01).loc["u", "verdict"] == "beats"
    crowd = rows_of([*baseline(), *noisy], equivalence=0.01)
    assert crowd["verdict"].tolist() == ["inconclusive"] * 6
    assert (crowd["low"] > 0).all()


def test_hypervolume_ratio_has_one_reference_point_for_both() -> None:
    table = rows_of([*baseline(), *arm("ahead", 0.2)])
    own = np.mean([(1.1 - 0.2 - 0.001 * seed) ** 2 for seed in SEEDS])
    # A staircase of 31 steps below the reference (1.1, 1.1); the last one is wider.
    base = sum((0.1 + k / 30) * (0.1 if k == 30 else 1 / 30) for k in range(31))
    assert table.loc["ahead", "hypervolume_ratio"] == pytest.approx(own / base)


def test_equivalent_runs_count_baseline_runs_within_the_equivalence() -> None:
    table = rows_of([*baseline(), *arm("level", 0.5), *arm("ahead", 0.2)])
    # (0.5, 0.5) and its two neighbours are good enough.
    assert table["equivalent_runs"].to_dict() == {"level": draws(3, 31), "ahead": math.inf}


def test_diverged_baseline_runs_are_drawn_too() -> None:
    table = rows_of([*baseline(), *diverged_baseline(9), *arm("level", 0.5)])
    assert table.loc["level", "equivalent_runs"] == draws(3, 40) > draws(3, 31)


def draws(good: int, total: int) -> int:
    misses = [math.comb(total - good, k) / math.comb(total, k) for k in range(total + 1)]
    return next(k for k, miss in enumerate(misses) if miss <= 0.5)


def diverged_baseline(each: int) -> list[Run]:
    """Runs whose losses before they diverged would beat everything."""
    return [
        run(f"e{seed}-{k}", "scalarization", seed, (0, 0), diverged=3)
        for seed in SEEDS
        for k in range(each)
    ]


def test_a_diverged_run_costs_but_is_never_part_of_a_front() -> None:
    bad = [run(f"b{seed}", "x", seed, (0.0, 0.0), diverged=7, passes=5.0) for seed in SEEDS]
    table = rows_of([*baseline(), *diverged_baseline(1), *arm("x", 0.5), *bad])
    assert table.loc["x", "verdict"] == "matches"
    assert table.loc["x", "runs"] == 8
    assert table.loc["x", "backward_passes"] == 100.0


def test_an_arm_that_only_diverged_is_inconclusive_with_its_cost() -> None:
    bad = [run(f"b{seed}", "x", seed, (0.0, 0.0), diverged=7, passes=5.0) for seed in SEEDS]
    row = rows_of([*baseline(), *bad]).loc["x"]
    assert row["verdict"] == "inconclusive"
    assert row["runs"] == 4 and row["backward_passes"] == 20.0
    assert row[["margin", "low", "high", "hypervolume_ratio", "equivalent_runs"]].isna().all()


def test_only_seeds_of_both_arms_are_compared_and_the_others_are_named() -> None:
    runs = [*baseline([0, 1, 2]), *arm("x", 0.2, [1, 2, 5]), *arm("y", 0.2, [0, 1, 2])]
    comparison = judge(frame_of(runs))
    used = comparison.margins.groupby("arm")["seed"].apply(list).to_dict()
    assert used == {"x": [1, 2], "y": [0, 1, 2]}
    assert comparison.left_out == comparison.rows.attrs["left_out"] == {"x": [0, 5]}


def test_one_seed_has_a_margin_but_no_interval_and_no_verdict() -> None:
    row = rows_of([*baseline([3]), *arm("x", 0.2, [3])]).loc["x"]
    assert row["verdict"] == "inconclusive"
    assert row["margin"] == pytest.approx(0.5 - 0.203)
    assert math.isnan(row["low"]) and math.isnan(row["high"])


def test_selection_on_validation_cannot_be_bought_with_test_losses() -> None:
    # On validation the first run is ahead; on test only the second is.
    runs = baseline()
    for seed in SEEDS:
        runs.append(run(f"v{seed}", "x", seed, (0.2, 0.2), (0.9, 0.9)))
        runs.append(run(f"t{seed}", "x", seed, (0.6, 0.6), (0.1, 0.1)))
    assert rows_of(runs).loc["x", "verdict"] == "worse"
    assert rows_of(runs, select_on="test").loc["x", "verdict"] == "beats"


def test_the_result_depends_neither_on_row_order_nor_on_other_arms() -> None:
    noisy = np.random.default_rng(5)
    x = [run(f"x{seed}", "x", seed, noisy.random(2) * 0.3 + 0.3) for seed in SEEDS]
    frame = frame_of([*baseline(), *x])
    shuffled = frame.sample(frac=1, random_state=1)
    alone = compare(frame)
    pd.testing.assert_frame_equal(compare(shuffled), alone)
    crowd = rows_of([*baseline(), *arm("y", 0.2), *x]).loc["x", "low":"high"]  # type: ignore[misc]
    assert crowd.tolist() == alone.set_index("arm").loc["x", "low":"high"].tolist()  # type: ignore[misc]


def test_settings_and_normalisation_travel_with_the_table_as_plain_values() -> None:
    table = compare(frame_of([*baseline(), *arm("x", 0.2)]), equivalence=0.02, seed=3)
    attributes = json.loads(json.dumps(table.attrs))
    assert attributes["settings"]["equivalence"] == 0.02
    assert attributes["settings"]["seed"] == 3
    assert attributes["normalisation"]["nadir"] == [1.0, 1.0]
    assert attributes["normalisation"]["reference"] == 1.1


def test_without_recorded_passes_the_sum_is_unknown_not_zero() -> None:
    runs = [*baseline(), *(run(f"x{s}", "x", s, (0.5, 0.5), passes=None) for s in SEEDS)]
    assert math.isnan(rows_of(runs).loc["x", "backward_passes"])


def test_verdict_rows_are_json_with_null_for_what_is_no_number() -> None:
    rows = verdict_rows(judge(frame_of([*baseline([3]), *arm("x", 0.2, [3])])))
    text = json.dumps(rows, allow_nan=False)
    assert json.loads(text) == rows
    assert list(rows[0]) == COLUMNS
    assert rows[0]["low"] is None and rows[0]["equivalent_runs"] is None
    assert rows[0]["runs"] == 1 and rows[0]["backward_passes"] == 20


@pytest.mark.parametrize(
    ("low", "high", "p", "word"),
    [
        (-0.04, 0.04, 1.0, "matches"),
        (0.01, 0.04, 0.01, "matches"),
        (0.01, 0.06, 0.01, "beats"),
        (0.01, 0.06, 0.06, "inconclusive"),
        (-0.2, -0.1, 0.01, "worse"),
        (-0.2, -0.1, 0.06, "inconclusive"),
        (-0.04, -0.01, 0.01, "matches"),
        (-0.06, 0.01, 0.2, "inconclusive"),
        (0.0, 0.05, 0.05, "inconclusive"),
        (math.nan, math.nan, math.nan, "inconclusive"),
    ],
)
def test_the_word_follows_from_the_interval(low: float, high: float, p: float, word: str) -> None:
    assert verdict(low, high, 0.05, p, 0.05) == word


def test_a_baseline_that_is_missing_or_diverged_is_explained() -> None:
    frame = frame_of(baseline())
    with pytest.raises(ComparisonError, match=r"baseline 'linear'; found the arms \['scalari"):
        compare(frame, baseline="linear")
    lost = frame_of([run("s", "scalarization", 0, (1, 1), diverged=1), *arm("x", 0.5)])
    with pytest.raises(ComparisonError, match="found 1 diverged ones"):
        compare(lost)
    with pytest.raises(ComparisonError, match="w_<task>"):
        compare(frame.drop(columns=["w_a", "w_b"]))


@pytest.mark.parametrize(
    "wrong", [{"equivalence": 0.0}, {"confidence": 95}, {"checkpoint": "first"}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must"):
        Settings(**wrong)  # type: ignore[arg-type]


def table_of(runs: list[Run]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": [one.arm for one in runs],
            "seed": [one.seed for one in runs],
            "a": [one.evaluations[0][1][0] for one in runs],
            "b": [one.evaluations[0][1][1] for one in runs],
            "w_a": [np.nan if one.weights is None else one.weights[0] for one in runs],
            "w_b": [np.nan if one.weights is None else one.weights[1] for one in runs],
            "backward_passes": [one.passes for one in runs],
        }
    )


def test_a_table_from_elsewhere_gives_the_verdicts_of_the_same_records() -> None:
    runs = [*baseline(), *arm("x", 0.2), *arm("y", 0.52)]
    expected = compare(frame_of(runs))
    pd.testing.assert_frame_equal(compare_table(table_of(runs)), expected)
    # Each baseline run has its own weight here, so that leaving the weights out changes nothing.
    bare = table_of(runs).drop(columns=["w_a", "w_b"])
    pd.testing.assert_frame_equal(compare_table(bare), expected)


def test_a_table_can_name_its_tasks_and_mark_diverged_runs() -> None:
    table = table_of([*baseline(), *arm("x", 0.2), *arm("x2", 0.5)]).assign(note="fast", c=7.0)
    bad = table.assign(diverged=table["arm"] == "x2")
    bad.loc[bad["diverged"], "a"] = np.nan
    verdicts = compare_table(bad, tasks=["a", "b"]).set_index("arm")["verdict"]
    assert verdicts.to_dict() == {"x": "beats", "x2": "inconclusive"}
    with pytest.raises(
        ComparisonError, match=r"found 'fast' in row 0 \(arm 'scalarization', seed 0\)"
    ):
        compare_table(table)


def test_a_maximised_column_must_be_declared_and_is_flipped_once() -> None:
    losses = table_of([*baseline(), *arm("x", 0.2)])
    table = losses.rename(columns={"a": "val_accuracy", "w_a": "w_val_accuracy"})
    with pytest.raises(ComparisonError, match="--maximise val_accuracy flips the sign"):
        compare_table(table)
    flipped = table.assign(val_accuracy=-table["val_accuracy"])
    expected = compare_table(losses)
    found = compare_table(flipped, maximise=["val_accuracy"])
    pd.testing.assert_frame_equal(found, expected)
    as_loss = compare_table(table, tasks=["val_accuracy", "b"])
    pd.testing.assert_frame_equal(as_loss, expected)


def test_what_could_not_be_compared_is_said() -> None:
    runs = [*baseline([0, 1, 2]), *arm("x", 0.2, [1, 2, 5]), *arm("y", 0.2, [0])]
    assert reservations(judge(frame_of(runs))) == [
        "Partial: x is compared on 2 seeds; not on seeds 0, 5, where it or scalarization has no "
        "finished run.",
        "Partial: y is compared on 1 seed; not on seeds 1, 2, where it or scalarization has no "
        "finished run.",
        "y: 1 seed to compare, an interval needs two.",
    ]


def test_a_baseline_without_a_run_that_weighs_all_tasks_is_said_first() -> None:
    corners = [
        run(f"s{seed}-{k}", "scalarization", seed, losses, weights=weights)
        for seed in SEEDS
        for k, (losses, weights) in enumerate(
            [((0, 9), (1, 0)), ((0.1, 9), (1, 0)), ((9, 0), (0, 1))]
        )
    ]
    ahead = arm("x", 0.2)
    known = judge(frame_of([*corners, *ahead]))
    outside = judge_table(table_of([*corners, *ahead]))
    for comparison in (known, outside):
        assert comparison.rows["verdict"].tolist() == ["beats"]
        (line,) = reservations(comparison)
        assert line.startswith(
            "No run of scalarization weighs all tasks: each of its 2 weight vectors"
        )
    middle = [run(f"m{seed}", "scalarization", seed, (0.2, 0.2), weights=(1, 1)) for seed in SEEDS]
    unknown = [run(f"m{seed}", "scalarization", seed, (0.2, 0.2)) for seed in SEEDS]
    diverged = [replace(one, diverged=10) for one in middle]
    for more, lines in ((middle, 0), (unknown, 0), (diverged, 1)):
        runs = [*corners, *more, *ahead]
        assert len(reservations(judge(frame_of(runs)))) == lines
    without = table_of([*corners, *ahead]).drop(columns=["w_a", "w_b"])
    assert reservations(judge_table(without)) == []


def test_what_is_wrong_with_a_table_is_named() -> None:
    table = table_of([*baseline(), *arm("x", 0.2)])
    with pytest.raises(ComparisonError, match=r"needs the columns \['seed'\]"):
        compare_table(table.drop(columns="seed"))
    with pytest.raises(ComparisonError, match="one column a task"):
        compare_table(table[["arm", "seed"]])
    with pytest.raises(ComparisonError, match="whole numbers"):
        compare_table(table.assign(seed=table["seed"] + 0.5))
    with pytest.raises(ComparisonError, match="the run 'r' has several"):
        compare_table(table.assign(run="r"))
    with pytest.raises(ComparisonError, match=r"found inf in row 2 .* for 'b'"):
        judge_table(table.assign(b=[np.inf if i == 2 else 1.0 for i in range(len(table))]))
    with pytest.raises(ComparisonError, match="baseline 'linear'"):
        compare_table(table, baseline="linear")


def test_tables_are_read_from_csv_and_parquet(tmp_path: Path) -> None:
    table = table_of([*baseline(), *arm("x", 0.2)])
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    expected = compare_table(table)
    for name in ("t.csv", "t.parquet"):
        pd.testing.assert_frame_equal(compare_table(read_table(tmp_path / name)), expected)


@pytest.mark.parametrize("name", ["absent.csv", "torn.parquet", "empty.csv", "table.xlsx"])
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(RecordsError, match=name):
        read_table(tmp_path / name)
