"""Budget curves against counting all draws by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tables import frame_of, run

from mtofront.analysis import judge
from mtofront.analysis.budget import budget_curves
from mtofront.analysis.selection import run_table


def curves(runs: list, baseline: str = "scalarization") -> pd.DataFrame:
    frame = frame_of(runs)
    found = judge(frame)
    return budget_curves(found.runs, run_table(frame), found.normalisation, baseline)


def swept(seed: int) -> list:
    return [
        run(f"s{seed}-{k}", "scalarization", seed, (t, 1 - t), weights=(1 - t, t), passes=10.0)
        for k, t in enumerate((0.0, 0.5, 1.0))
    ]


def test_the_whole_baseline_attains_itself_and_a_part_less() -> None:
    table = curves([*swept(0), *swept(1)]).set_index("runs")
    assert table.loc[3, "hypervolume"] == pytest.approx(1.0)
    assert table.loc[3, "low"] == table.loc[3, "high"] == pytest.approx(1.0)
    assert table.loc[1, "hypervolume"] < table.loc[2, "hypervolume"] < 1.0
    assert table["backward_passes"].tolist() == [10.0, 20.0, 30.0]
    # One run alone: (0, 1) and (1, 0) hold 1.1 * 0.1, the middle 0.6 * 0.6.
    whole = 0.6 * 0.6 + 2 * 0.5 * 0.1
    expected = np.array([0.11, 0.36, 0.11]) / whole
    assert expected.min() <= table.loc[1, "low"] <= table.loc[1, "high"] <= expected.max()
    assert table.loc[1, "hypervolume"] == pytest.approx(expected.mean(), abs=0.15)


def test_diverged_runs_cost_and_attain_nothing() -> None:
    lost = [run(f"d{k}", "x", 0, (0.0, 0.0), diverged=3, passes=10.0) for k in range(9)]
    table = curves([*swept(0), *lost, run("x", "x", 0, (0.0, 0.0), passes=10.0)])
    own = table[table["arm"] == "x"].set_index("runs")
    assert own.loc[1, "hypervolume"] < 0.9 < own.loc[10, "hypervolume"]


def test_many_tasks_have_no_curve() -> None:
    tasks = tuple("abcdef")
    frame = frame_of([run("s", "scalarization", 0, np.eye(6)[0], weights=np.ones(6))], tasks)
    found = judge(frame)
    assert budget_curves(found.runs, run_table(frame), found.normalisation, "scalarization").empty
