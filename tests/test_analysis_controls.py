"""What controls explain: paired differences, the words for them, and verdicts left as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tables import Run, frame_of, run, write_folder

from mtofront.analysis import Settings, explanations, judge, load, write_report
from mtofront.analysis.controls import COLUMNS, compare_controls, finding
from mtofront.analysis.wording import summary

SEEDS = 5
CONTROLS: dict[str, Any] = {
    "p.mean_weights": {"kind": "mean_weights", "of": ["p"], "runs": SEEDS, "packs": [0]},
    "p.update_norm": {"kind": "update_norm", "of": ["p"], "runs": SEEDS, "packs": [0]},
    "scalarization.6_epochs": {"kind": "longer", "of": ["p", "q"], "runs": SEEDS, "packs": [0]},
}
PLACES = {
    "p": 0.30, "q": 0.50, "p.mean_weights": 0.42, "p.update_norm": 0.31,
    "scalarization.6_epochs": 0.50,
}  # fmt: skip


def runs_at(places: dict[str, float]) -> list[Run]:
    """Two tasks, a straight front from (0, 1) to (1, 0), and one run a seed of each other arm."""
    draws = np.random.default_rng(0)
    runs = [
        run(f"s{seed}-{k}", "scalarization", seed, (t, 1 - t), weights=(1 - t, t))
        for seed in range(SEEDS)
        for k, t in enumerate(np.linspace(0, 1, 31))
    ]
    runs += [
        run(f"{arm}{seed}", arm, seed, (place + 0.005 * draws.normal(),) * 2)
        for arm, place in places.items()
        for seed in range(SEEDS)
    ]
    return runs


def table_of(places: dict[str, float]) -> pd.DataFrame:
    comparison = judge(frame_of(runs_at(places)), Settings(controls=tuple(CONTROLS)))
    return compare_controls(comparison, CONTROLS)


def test_a_control_is_compared_with_the_arm_seed_by_seed() -> None:
    comparison = judge(frame_of(runs_at(PLACES)), Settings(controls=tuple(CONTROLS)))
    table = compare_controls(comparison, CONTROLS)
    assert tuple(table.columns) == COLUMNS
    assert list(table["arm"]) == ["p", "p", "p", "q"]
    assert list(table["finding"]) == ["falls short", "as good", "falls short", "as good"]
    wide = comparison.margins.pivot(index="seed", columns="arm", values="margin")
    for row in table.to_dict("records"):
        values = wide[row["arm"]] - wide[row["control"]]
        assert row["seeds"] == SEEDS
        np.testing.assert_allclose(row["difference"], values.mean(), atol=1e-12)
        np.testing.assert_allclose(row["difference"], row["arm_margin"] - row["control_margin"])
        reach = stats.t.ppf(0.975, SEEDS - 1) * values.std(ddof=1) / np.sqrt(SEEDS)
        assert row["low"] <= values.mean() - reach + 1e-12
        assert row["high"] >= values.mean() + reach - 1e-12


def test_only_seeds_that_both_have_are_compared() -> None:
    runs = [one for one in runs_at(PLACES) if one.name != "p.update_norm0"]
    comparison = judge(frame_of(runs), Settings(controls=tuple(CONTROLS)))
    table = compare_controls(comparison, CONTROLS).set_index("kind")
    assert table.loc["update_norm", "seeds"] == SEEDS - 1
    lone = [one for one in runs if one.arm != "p.update_norm" or one.seed == 1]
    comparison = judge(frame_of(lone), Settings(controls=tuple(CONTROLS)))
    table = compare_controls(comparison, CONTROLS).set_index("kind")
    assert table.loc["update_norm", "finding"] == "undecided"
    without = {arm: place for arm, place in PLACES.items() if arm != "p.update_norm"}
    assert list(table_of(without)["control"]) == ["p.mean_weights", *["scalarization.6_epochs"] * 2]


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.01, 0.04, "as good"),
        (0.01, 0.04, "as good"),
        (-0.3, -0.2, "as good"),
        (0.01, 0.06, "falls short"),
        (-0.01, 0.06, "undecided"),
        (float("nan"), float("nan"), "undecided"),
    ],
)
def test_words_follow_from_the_interval(low: float, high: float, word: str) -> None:
    assert finding(low, high, 0.05) == word


def test_an_arm_is_explained_in_a_sentence() -> None:
    assert explanations(table_of(PLACES)) == [
        "p: scalarization at its mean weights does not do as well; with updates as long as its own "
        "scalarization does at least as well, so the lengths of its steps matter, not their "
        "directions; its backward passes, spent on longer scalarization, do not do as well.",
        "q: its backward passes, spent on longer scalarization, do at least as well.",
    ]
    lines = explanations(table_of({**PLACES, "p.update_norm": 0.42}))
    assert "updates as long as its own do not make up for it, so the directions" in lines[0]
    lines = explanations(table_of({**PLACES, "p.mean_weights": 0.3}))
    assert "so what it does from step to step is not needed" in lines[0]
    assert "lengths" not in lines[0]


def test_verdicts_of_arms_do_not_change_with_controls() -> None:
    frame = frame_of(runs_at(PLACES))
    alone = judge(frame[~frame["arm"].isin(CONTROLS)])
    both = judge(frame, Settings(controls=tuple(CONTROLS)))
    others = both.statistics[~both.statistics["arm"].isin(CONTROLS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, alone.statistics)
    first = both.rows[~both.rows["arm"].isin(CONTROLS)].reset_index(drop=True)
    first.attrs, alone.rows.attrs = {}, {}
    pd.testing.assert_frame_equal(first, alone.rows)
    assert summary(both) == summary(alone)
    own = both.statistics[both.statistics["arm"].isin(CONTROLS)]
    assert (own["p_holm"] >= own["p_different"]).all()


def test_the_report_shows_controls_and_writes_their_table(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "out", runs_at(PLACES))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"controls": CONTROLS}))
    page = write_report(folder).read_text()
    table = pd.read_csv(folder / "report/tables/controls.csv")
    expected = compare_controls(
        judge(load(folder), Settings(**manifest["report"], controls=tuple(CONTROLS))), CONTROLS
    )
    pd.testing.assert_frame_equal(table, expected)
    assert "correction for 2 arms, and apart from them for 3 controls." in page
    assert "<li>p: scalarization at its mean weights does not do as well" in page
    assert (folder / "report/tables/controls.tex").exists()
