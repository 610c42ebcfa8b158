"""Recorded gradients and weights, arm by arm, against numpy on made-up records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tables import Run, run, write_folder

from mtofront.analysis import judge, load
from mtofront.analysis.diagnostics import (
    gradient_summary,
    gradient_table,
    weight_summary,
    weight_table,
)
from mtofront.analysis.relative import delta_m
from mtofront.analysis.report import write_report
from mtofront.analysis.why_figures import gradients_figure, weights_figure

COSINES = np.array([[0.1, -0.3], [0.2, 0.4], [-0.6, 0.2]])  # seeds x runs


def recorded(
    cosine: float, weights: tuple[float, float]
) -> tuple[tuple[int, str, str, float], ...]:
    """Two evaluations: before training and at step 10, where weights are known."""
    rows: list[tuple[int, str, str, float]] = []
    for step in (0, 10):
        rows += [
            (step, "", "gradient_cosine", cosine + step / 100),
            (step, "", "conflict_rate", 0.5),
            (step, "", "magnitude_similarity", 0.8),
            (step, "a", "gradient_norm", 3.0),
            (step, "b", "gradient_norm", 2.0),
        ]
    rows += [(10, "a", "task_weight", weights[0]), (10, "b", "task_weight", weights[1])]
    rows += [(20, "a", "task_weight", weights[1]), (20, "b", "task_weight", weights[0])]
    return tuple(rows)


def sweep() -> list[Run]:
    runs = []
    for seed in range(3):
        for k in range(5):
            t = k / 4
            fixed = recorded(0.0, (0.5, 0.5))
            runs.append(
                run(f"s{seed}{k}", "scalarization", seed, (t, 1 - t), weights=(1 - t, t),
                    recorded=fixed)
            )  # fmt: skip
        for k in range(2):
            own = recorded(COSINES[seed, k], (6.0, 2.0))
            runs.append(run(f"x{seed}{k}", "x", seed, (0.4, 0.4), recorded=own))
    wild = recorded(99.0, (0.0, 1.0))
    return [*runs, run("wild", "x", 0, (9.0, 9.0), diverged=5, recorded=wild)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("why") / "out", sweep())


def test_means_are_over_seeds_and_diverged_runs_are_left_out(folder: Path) -> None:
    frame = load(folder)
    table = gradient_table(judge(frame), frame)
    own = table[(table["arm"] == "x") & (table["measure"] == "gradient_cosine")]
    assert own["epoch"].tolist() == [0, 1]
    means = COSINES.mean(axis=1)
    reach = stats.t.ppf(0.975, 2) * means.std(ddof=1) / np.sqrt(3)
    expected = [means.mean(), means.mean() - reach, means.mean() + reach]
    np.testing.assert_allclose(own[["mean", "low", "high"]].iloc[0], expected)
    np.testing.assert_allclose(own[["mean", "low", "high"]].iloc[1], np.array(expected) + 0.1)
    assert (own["seeds"].tolist(), own["runs"].tolist()) == ([3, 3], [6, 6])
    short = gradient_summary(table).set_index("arm")
    assert short.index.tolist() == ["scalarization", "x"]
    np.testing.assert_allclose(short.loc["x", "cosine"], means.mean() + 0.1)
    np.testing.assert_allclose(short["norm_ratio"], 1.5)


def test_weights_are_shares_and_their_way_is_measured(folder: Path) -> None:
    frame = load(folder)
    table = weight_table(judge(frame), frame)
    own = table[table["arm"] == "x"].set_index(["epoch", "task"])
    np.testing.assert_allclose(own["share"].to_dict()[1, "a"], 0.75)
    np.testing.assert_allclose(own["share"].to_dict()[2, "a"], 0.25)
    np.testing.assert_allclose(own["moved"], 0.5)
    assert (table.loc[table["arm"] == "scalarization", "moved"] == 0).all()
    short = weight_summary(table, ("a", "b"))
    assert list(short.columns) == ["arm", "moved", "share of a", "share of b"]
    np.testing.assert_allclose(short["share of b"], [0.5, 0.75])


def test_arms_that_move_are_drawn_task_by_task(folder: Path) -> None:
    frame = load(folder)
    comparison = judge(frame)
    weights = weights_figure(weight_table(comparison, frame))
    drawn = [ax for ax in weights.axes if ax.axison]
    assert [ax.get_title() for ax in drawn] == ["x"]
    lines = {line.get_label(): line for line in drawn[0].lines}
    np.testing.assert_allclose(lines["a"].get_ydata(), [0.75, 0.25])
    gradients = gradients_figure(gradient_table(comparison, frame), "scalarization")
    (line,) = [line for line in gradients.axes[1].lines if line.get_label() == "x"]
    np.testing.assert_allclose(line.get_ydata(), [0.0, 0.1], atol=1e-12)
    fixed = weight_table(comparison, frame[frame["arm"] == "scalarization"])
    assert [ax for ax in weights_figure(fixed).axes if ax.axison] == []


def test_they_are_no_metric_of_a_task(folder: Path) -> None:
    frame = load(folder)
    kept = frame[~frame["measure"].isin(("gradient_norm", "task_weight"))]
    settings = judge(frame).settings
    train = judge(frame, type(settings)(report_on="train"))
    found, expected = (delta_m(train, rows).rows for rows in (frame, kept))
    assert len(found)
    assert found.equals(expected)


def test_the_page_shows_them_or_says_how_to_record_them(folder: Path, tmp_path: Path) -> None:
    page = write_report(folder)
    text = page.read_text()
    assert "<h3>Gradients of the tasks</h3>" in text and "<h3>Weights of the tasks</h3>" in text
    stems = {path.stem for path in (folder / "report").rglob("*.csv")}
    assert {"gradients", "gradients_last", "task_weights", "task_weights_last"} <= stems
    assert (folder / "report" / "gradients.svg").is_file()
    bare = [run(f"s{seed}", "scalarization", seed, (1.0, 1.0)) for seed in range(2)]
    text = write_report(write_folder(tmp_path / "out", bare)).read_text()
    assert "<code>diagnostics: true</code>" in text
    assert "<h3>Weights of the tasks</h3>" not in text
