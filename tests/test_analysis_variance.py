"""Analysis of variance against closed forms for balanced designs and numbers that are known."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tables import Run, run, write_folder

from mtofront.analysis import judge, load, load_manifest
from mtofront.analysis.rate_grids import grid_table
from mtofront.analysis.sources import MEAN, deviations, variance_table
from mtofront.analysis.variance import Component, Factor, components
from mtofront.analysis.why_figures import variance_figure

# the axes of the tables below: settings, rates, seeds
SETTINGS, RATES, SEEDS = 4, 3, 5


def of_table(table: np.ndarray, confidence: float = 0.95) -> dict[str, Component]:
    """The components of a full table (settings, rates, seeds)."""
    rows = list(product(*map(range, table.shape)))
    factors = {
        "setting": Factor([row[0] for row in rows], True, ("rate",)),
        "rate": Factor([row[1] for row in rows], True, ("setting",)),
        "both": Factor([row[:2] for row in rows], True, ("setting", "rate")),
        "seed": Factor([row[2] for row in rows], False, ("both",)),
    }
    return components(table.reshape(-1, 1), factors, confidence)


def test_a_full_table_has_the_components_of_textbooks() -> None:
    random = np.random.default_rng(0)
    table = random.normal(size=(SETTINGS, RATES, SEEDS)) + 3 * random.normal(size=(1, 1, SEEDS))
    table += 2 * random.normal(size=(SETTINGS, 1, 1)) + random.normal(size=(1, RATES, 1))
    table += 1.5 * random.normal(size=(SETTINGS, RATES, 1))
    cells, grand = table.mean(axis=2), table.mean()
    settings, rates, seeds = (table.mean(axis=a) for a in ((1, 2), (0, 2), (0, 1)))
    rest = table - cells[:, :, None] - seeds + grand
    noise = (rest**2).sum() / ((SETTINGS * RATES - 1) * (SEEDS - 1))
    both = cells - settings[:, None] - rates + grand
    freedom = (SETTINGS - 1) * (RATES - 1)
    expected = {
        "setting": settings.var(ddof=1) - noise / (RATES * SEEDS),
        "rate": rates.var(ddof=1) - noise / (SETTINGS * SEEDS),
        "seed": seeds.var(ddof=1) - noise / (SETTINGS * RATES),
        "residual": noise,
    }
    found = of_table(table)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].variance, value, rtol=1e-10, err_msg=name)
    # sum of squares over degrees of freedom, less the noise, over the seeds in a cell and what
    # sum-to-zero takes from a cell's own effect
    squares = SEEDS * (both**2).sum()
    own = SEEDS * freedom
    np.testing.assert_allclose(found["both"].variance, (squares - freedom * noise) / own)
    assert [found[name].freedom for name in found] == [3, 2, 6, 4, 44]
    assert [found[name].levels for name in found] == [4, 3, 12, 5, 60]
    ends = noise * 44 / stats.chi2.ppf([0.975, 0.025], 44)
    np.testing.assert_allclose([found["residual"].low[0], found["residual"].high[0]], ends)


def test_restarts_lie_within_seeds() -> None:
    random = np.random.default_rng(1)
    seeds, restarts, settings = 4, 3, 2
    table = random.normal(size=(seeds, restarts, settings)) + random.normal(size=(seeds, 1, 1))
    table += 2 * random.normal(size=(seeds, restarts, 1))
    rows = list(product(range(seeds), range(restarts), range(settings)))
    factors = {
        "setting": Factor([row[2] for row in rows], True),
        "seed": Factor([row[0] for row in rows], False, ("setting",), within="restart"),
        "restart": Factor([row[:2] for row in rows], False, ("setting", "seed")),
    }
    found = components(table.reshape(-1, 1), factors, 0.95)
    pairs, whole = table.mean(axis=2), table.mean(axis=(1, 2))
    rest = table - pairs[:, :, None] - table.mean(axis=(0, 1)) + table.mean()
    noise = (rest**2).sum() / ((seeds * restarts - 1) * (settings - 1))
    within = settings * ((pairs - whole[:, None]) ** 2).sum() / (seeds * (restarts - 1))
    between = settings * restarts * whole.var(ddof=1)
    np.testing.assert_allclose(found["restart"].variance, (within - noise) / settings)
    expected = max((between - within) / (settings * restarts), 0)
    np.testing.assert_allclose(found["seed"].variance, expected, atol=1e-12)
    # Williams' ends with the restarts as what seeds are measured against
    ratio, freedom = between / within, seeds - 1
    against = seeds * (restarts - 1)
    high = (seeds - 1) * (between - within * stats.f.ppf(0.025, freedom, against))
    high /= settings * restarts * stats.chi2.ppf(0.025, freedom)
    assert ratio > 0
    np.testing.assert_allclose(found["seed"].high, high)


def test_unequal_groups_have_the_one_way_estimate() -> None:
    sizes = (2, 5, 3, 7)
    labels = np.repeat(range(4), sizes)
    values = np.random.default_rng(2).normal(size=17) + np.array([0.0, 3.0, -2.0, 1.0])[labels]
    found = components(values[:, None], {"group": Factor(labels.tolist(), False)}, 0.95)
    groups = [values[labels == k] for k in range(4)]
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (17 - 4)
    between = sum(len(g) * (g.mean() - values.mean()) ** 2 for g in groups) / 3
    typical = (17 - sum(size**2 for size in sizes) / 17) / 3  # n_0, Searle et al. 1992, ch. 3
    np.testing.assert_allclose(found["group"].variance, (between - within) / typical)


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_intervals_hold_the_truth_as_often_as_they_say(spread: float) -> None:
    random = np.random.default_rng(3)
    trials, rates, seeds = 4000, 3, 3
    effect = np.array([-1.0, 0.0, 1.0]) * spread
    values = random.normal(size=(rates, seeds, trials)) + effect[:, None, None]
    values += random.normal(size=(1, seeds, trials))
    rows = list(product(range(rates), range(seeds)))
    factors = {
        "rate": Factor([row[0] for row in rows], True),
        "seed": Factor([row[1] for row in rows], False, ("rate",)),
    }
    found = components(values.reshape(-1, trials), factors, 0.95)
    for name, truth in (("rate", spread**2), ("seed", 1.0), ("residual", 1.0)):
        one = found[name]
        held = ((one.low <= truth) & (truth <= one.high)).mean()
        assert 0.94 < held < 0.985, (name, held)


def made_up(folder: Path, more: tuple[Run, ...] = ()) -> Path:
    """Losses that are sums of known effects of weights, rates and seeds."""
    runs = []
    weights = [(w, 1 - w) for w in (0.2, 0.5, 0.8)]
    for (k, pair), (r, lr), seed in product(enumerate(weights), enumerate((0.001, 0.01)), range(4)):
        own = 0.3 * r + 0.05 * seed
        losses = (1.0 - 0.4 * k + own, 0.2 + 0.4 * k + own)
        runs.append(run(f"s{k}{r}{seed}", "scalarization", seed, losses, weights=pair, lr=lr))
    for r, seed in product(range(2), range(4)):
        losses = (0.6 + 0.1 * seed, 0.6)
        runs.append(run(f"x{r}{seed}", "x", seed, losses, lr=0.01, restart=r))
    return write_folder(folder / "out", [*runs, *more])


def table_of(folder: Path) -> pd.DataFrame:
    frame = load(folder)
    return variance_table(judge(frame), frame, load_manifest(folder)["runs"])


def test_known_effects_are_found_task_by_task(tmp_path: Path) -> None:
    folder = made_up(tmp_path)
    table = table_of(folder)
    unit = judge(load(folder)).normalisation
    width = float(unit.nadir[0] - unit.ideal[0])
    own = table[(table["arm"] == "scalarization") & (table["task"] == "a")].set_index("source")
    assert list(own.index) == ["setting", "learning_rate", "setting_and_rate", "seed", "residual"]
    expected = {
        "setting": np.std([0, 0.4, 0.8], ddof=1),
        "learning_rate": np.std([0, 0.3], ddof=1),
        "setting_and_rate": 0.0,
        "seed": np.std([0, 0.05, 0.1, 0.15], ddof=1),
        "residual": 0.0,
    }
    for source, value in expected.items():
        np.testing.assert_allclose(own.loc[source, "sd"] * width, value, atol=1e-7)
    assert own["share"].sum() == pytest.approx(1)
    mean = table[(table["arm"] == "scalarization") & (table["task"] == MEAN)]
    assert mean.set_index("source").loc["setting", "sd"] == pytest.approx(0, abs=1e-7)
    # one setting, one rate: restarts, which change nothing here, are the residual
    other = table[(table["arm"] == "x") & (table["task"] == "a")].set_index("source")
    assert list(other.index) == ["seed", "residual"]
    np.testing.assert_allclose(other.loc["seed", "sd"] * width, np.std([0, 0.1, 0.2, 0.3], ddof=1))


def test_runs_that_diverged_or_stopped_early_do_not_count(tmp_path: Path) -> None:
    wild = run("wild", "scalarization", 0, (99.0, 99.0), weights=(0.5, 0.5), diverged=5)
    early = run("early", "scalarization", 1, (50.0, 50.0), weights=(0.5, 0.5), stopped=True)
    plain, more = table_of(made_up(tmp_path / "a")), table_of(made_up(tmp_path / "b", (wild,)))
    pd.testing.assert_frame_equal(plain, more)
    table = table_of(made_up(tmp_path / "c", (early,)))
    assert table.loc[table["arm"] == "scalarization", "runs"].unique().tolist() == [24]


def test_many_runs_are_thinned_by_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtofront.analysis.sources.LARGEST", 16)
    table = table_of(made_up(tmp_path))
    own = table[table["arm"] == "scalarization"]
    assert own["runs"].unique().tolist() == [16]
    assert own.set_index("source").loc["setting", "levels"].unique().tolist() == [2]


def test_every_deviation_is_drawn_and_tuned_results_only_where_there_are_grids(
    tmp_path: Path,
) -> None:
    folder = made_up(tmp_path)
    table = table_of(folder)
    grids = grid_table(judge(load(folder)), load_manifest(folder)["runs"])
    assert grids["arm"].unique().tolist() == ["scalarization"]
    one, two = variance_figure(table, grids.iloc[:0]), variance_figure(table, grids)
    assert (len(one.axes), len(two.axes)) == (1, 2)
    drawn = {
        float(line.get_xdata()[0])  # type: ignore[index, arg-type]
        for line in one.axes[0].lines
        if line.get_marker() not in ("", "None") and len(line.get_xdata()) == 1  # type: ignore[arg-type]
    }
    mean = table[(table["task"] == MEAN) & (table["sd"] > 0)]
    assert drawn == set(mean["sd"])


def test_the_short_table_has_a_row_an_arm_and_a_column_a_source(tmp_path: Path) -> None:
    table = table_of(made_up(tmp_path))
    short = deviations(table)
    assert short["arm"].tolist() == ["scalarization", "x"]
    assert short["runs"].tolist() == [24, 8]
    mean = table[(table["task"] == MEAN) & (table["arm"] == "scalarization")]
    assert short["seed"][0] == mean.set_index("source").loc["seed", "sd"]
    assert np.isnan(short["setting"][1])
