"""Δm: both means by hand, a published row, and what happens without a reference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tables import frame_of, run

from mtofront.analysis import judge
from mtofront.analysis.relative import delta_m


def records(ends: float = 1.0, metrics: dict[str, dict[str, float]] | None = None) -> pd.DataFrame:
    """Two ends of a sweep at (1, 9) and (9, 2), and x at (1.5, 1) in two seeds."""
    runs = []
    for seed in (0, 1):
        runs += [run(f"a{seed}", "scalarization", seed, (1, 9), weights=(ends, 1 - ends))]
        runs += [run(f"b{seed}", "scalarization", seed, (9, 2), weights=(1 - ends, ends))]
        runs += [run(f"x{seed}", "x", seed, (1.5, 1.0 + seed / 5))]
    frame = frame_of(runs)
    extra = [
        row | {"measure": name, "value": values[str(row["run"])[0]]}
        for name, values in (metrics or {}).items()
        for row in frame[(frame["measure"] == "error") & (frame["task"] == "b")].to_dict("records")
    ]
    return pd.concat([frame, pd.DataFrame(extra, columns=frame.columns)]) if extra else frame


def row(frame: pd.DataFrame, arm: str) -> dict[str, float]:
    rows = delta_m(judge(frame), frame).rows.set_index("arm")
    return dict(rows.loc[arm])


def test_both_means_agree_where_all_tasks_have_as_many_metrics() -> None:
    # Task a: 50 % worse than 1; task b: 50 % and 40 % better than 2; loss and error alike.
    found = row(records(), "x")
    assert found["metric_mean"] == pytest.approx((0 + 5) / 2)
    assert found["task_mean"] == pytest.approx((0 + 5) / 2)
    assert found["metric_sd"] == pytest.approx(np.std([0, 5], ddof=1))
    assert found["seeds"] == 2


def test_a_task_with_more_metrics_has_more_say_in_the_metric_mean_only() -> None:
    # Another metric of task b, 20 % worse than the single-task run of b; negative: flipped.
    frame = records(metrics={"flipped_iou": {"a": 0.0, "b": -1.0, "x": -0.8}})
    found = row(frame, "x")
    first, second = [50, 50, -50, -50, 20], [50, 50, -40, -40, 20]
    assert found["metric_mean"] == pytest.approx(np.mean([np.mean(first), np.mean(second)]))
    assert found["task_mean"] == pytest.approx(
        np.mean([(50 + np.mean(d[2:])) / 2 for d in (first, second)])
    )


def test_the_reference_says_how_single_its_tasks_were() -> None:
    exact, nearly = (delta_m(judge(f), f).source for f in (records(), records(0.95)))
    assert "all of their weight on one task" in exact
    assert "0.95 or more" in nearly and "nearly" in nearly


def test_without_ends_there_is_no_reference_and_the_sentence_says_so() -> None:
    frame = records(0.8)
    found = delta_m(judge(frame), frame)
    assert found.rows.empty
    assert "No single-task reference for a, b" in found.source


def test_an_arm_of_single_task_runs_can_be_named() -> None:
    frame = records()
    more = [run(f"t{k}", "single", 0, p, weights=w) for k, (p, w) in enumerate(
        [((0.5, 9), (1, 0)), ((9, 0.5), (0, 1))])]  # fmt: skip
    frame = pd.concat([frame, frame_of(more)])
    found = delta_m(judge(frame), frame, "single")
    assert found.rows.set_index("arm").loc["x", "metric_mean"] == pytest.approx((200 + 100) / 2)
    assert "single" in found.source


def test_a_perfect_single_task_metric_gives_no_number() -> None:
    frame = records(metrics={"perfect": {"a": 0.0, "b": 0.0, "x": 0.1}})
    assert np.isnan(row(frame, "x")["metric_mean"])


def test_a_published_row_of_nyuv2_has_its_published_metric_mean() -> None:
    """Linear scalarization on NYUv2 (Liu et al. 2023, FAMO, table 1): Δm 5.59; task mean −0.88."""
    tasks, metrics = ("segmentation", "depth", "normals"), (2, 2, 5)
    single = [-38.30, -63.76, 0.6754, 0.2780, 25.01, 19.21, -30.14, -57.20, -69.15]
    linear = [-39.29, -65.33, 0.5493, 0.2263, 28.15, 23.96, -22.09, -47.50, -61.08]
    runs = [
        run(f"t{i}", "scalarization", 0, 2 - np.eye(3)[i], weights=np.eye(3)[i]) for i in (0, 1, 2)
    ]
    plain = frame_of([*runs, run("ls", "linear", 0, (1, 1, 1))], tasks)
    owner = np.repeat(tasks, metrics)
    rows = [
        row | {"measure": f"metric{k}", "value": (linear if row["run"] == "ls" else single)[k]}
        for row in plain[plain["measure"] == "error"].to_dict("records")
        for k in np.flatnonzero(owner == row["task"])
    ]
    # Losses would be metrics too: they are compared, then left out of the metrics.
    comparison = judge(plain)
    frame = pd.DataFrame(rows, columns=plain.columns)
    found = delta_m(comparison, frame).rows.set_index("arm").loc["linear"]
    assert found["metric_mean"] == pytest.approx(5.59, abs=0.01)
    assert found["task_mean"] == pytest.approx(-0.88, abs=0.01)
