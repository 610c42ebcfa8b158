"""Tuned results over grids of learning rates and over seeds, on runs with known losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tables import run, write_folder

from mtofront.analysis import judge, load, load_manifest
from mtofront.analysis.rate_grids import decades, grid_table
from mtofront.analysis.sources import MEAN

# rates x seeds: the validation loss that selects, and the test loss that is the result
RATES = (0.001, 0.003, 0.01, 0.03)
VAL = np.array([[3.0, 1.0, 2.0], [2.0, 2.0, 1.0], [5.0, 5.0, 5.0], [4.0, 6.0, 4.0]])
TEST = np.array([[0.9, 0.1, 0.2], [0.4, 0.8, 0.6], [1.0, 1.7, 1.1], [1.5, 1.9, 1.4]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = []
    for seed in range(3):
        for k in range(5):
            t = k / 4
            losses = (t, 1 - t)
            runs.append(run(f"s{seed}{k}", "scalarization", seed, losses, weights=(1 - t, t)))
        for k, lr in enumerate(RATES):
            val, test = (VAL[k, seed],) * 2, (TEST[k, seed], 0.5)
            runs.append(run(f"x{seed}{k}", "x", seed, val, test, lr=lr))
    return write_folder(tmp_path_factory.mktemp("grids") / "out", runs)


def test_rates_are_cut_by_decade_or_one_by_one() -> None:
    found = decades(np.array([1e-3, 3e-3, 9.9e-3, 1e-2, 1e-1, 0.3]))
    assert [list(found).count(name) for name in sorted(set(found))] == [3, 1, 2]
    assert decades(np.array([0.001, 0.003, 0.005, 0.003])).tolist() == [0, 1, 2, 1]
    assert decades(10.0 ** np.arange(-6, 1)).tolist() == list(range(-6, 1))


def test_the_best_run_of_each_grid_and_seed_is_the_result(folder: Path) -> None:
    frame = load(folder)
    comparison = judge(frame)
    table = grid_table(comparison, load_manifest(folder)["runs"])
    assert table["arm"].unique().tolist() == ["x"]  # the baseline has one rate
    assert table["task"].tolist() == ["a", "b", MEAN]
    # by hand: the lowest of VAL in each decade of each seed
    tuned = np.array([[0.4, 0.1, 0.6], [1.5, 1.7, 1.4]])
    unit = comparison.normalisation
    tuned = tuned / (unit.nadir[0] - unit.ideal[0])
    row = table.iloc[0]
    assert (row["grids"], row["seeds"]) == (2, 3)
    grid = np.sqrt(((tuned[0] - tuned[1]) ** 2 / 2).mean())
    seed = np.sqrt((tuned[0].var(ddof=1) + tuned[1].var(ddof=1)) / 2)
    np.testing.assert_allclose([row["grid_sd"], row["seed_sd"]], [grid, seed])
    np.testing.assert_allclose(row["ratio"], grid / seed)
    left = [
        np.log(np.sqrt(((t[0] - t[1]) ** 2 / 2).mean()))
        for t in (tuned[:, [1, 2]], tuned[:, [0, 2]], tuned[:, [0, 1]])
    ]
    error = np.sqrt(2 / 3 * ((np.array(left) - np.mean(left)) ** 2).sum())
    reach = np.exp(stats.t.ppf(0.975, 2) * error)
    np.testing.assert_allclose([row["grid_low"], row["grid_high"]], [grid / reach, grid * reach])
    # the second task's result is the same everywhere
    assert table["grid_sd"][1] == 0 and np.isnan(table["grid_low"][1])


def test_seeds_without_a_run_in_every_grid_are_left_out(folder: Path) -> None:
    frame = load(folder)
    specs = load_manifest(folder)["runs"]
    gone = frame[~frame["run"].isin(("x20", "x21"))]
    table = grid_table(judge(gone), specs)
    assert table["seeds"].tolist() == [2, 2, 2]
    assert table["grid_low"].isna().all()
    alone = frame[~frame["run"].isin(("x20", "x21", "x12", "x13"))]
    assert grid_table(judge(alone), specs).empty
