"""One checkpoint a run: which evaluation counts, and what cannot be an evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tables import Run, frame_of, run

from mtofront.analysis import ComparisonError, Normalisation, compare
from mtofront.analysis.selection import (
    evaluations,
    last_losses,
    points,
    points_apart,
    run_table,
    select,
    training_of,
)

UNIT = Normalisation(("a", "b"), (0.0, 0.0), (1.0, 10.0))


def wide_of(frame: pd.DataFrame, measure: str = "loss") -> pd.DataFrame:
    return evaluations(frame, measure, ["val", "test"], run_table(frame).index)


def test_one_checkpoint_serves_all_tasks_and_is_chosen_on_validation_in_normalised_units() -> None:
    # Raw means would choose step 20; normalised ones choose step 10. Test losses point elsewhere.
    middle, late = (20, (0.9, 8.0), (6.0, 6.0)), (30, (9, 9), (0, 0))
    one = Run("r", "x", 0, ((10, (0.1, 9.0), (5.0, 5.0)), middle, late))
    frame = frame_of([one])
    wide, table = wide_of(frame), run_table(frame)
    assert select(wide, UNIT, "val", "best").to_dict() == {"r": 10}
    assert select(wide, UNIT, "val", "last").to_dict() == {"r": 30}
    chosen = points(wide, select(wide, UNIT, "val", "best"), table, "val", "test")
    assert chosen.select.tolist() == [[0.1, 9.0]]
    assert chosen.report.tolist() == [[5.0, 5.0]]
    assert chosen.step.tolist() == [10]


def test_the_earliest_of_equal_evaluations_counts() -> None:
    frame = frame_of([Run("r", "x", 0, ((10, (1, 1), (1, 1)), (20, (1, 1), (2, 2))))])
    assert select(wide_of(frame), UNIT, "val", "best").to_dict() == {"r": 10}


def test_an_unknown_checkpoint_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"best.*last.*found 'first'"):
        select(wide_of(frame_of([run("r", "x", 0, (1, 1))])), UNIT, "val", "first")


def test_last_losses_follow_the_step_not_the_order_of_rows() -> None:
    one = Run("r", "x", 0, ((30, (3, 3), (3, 3)), (9, (1, 1), (1, 1))))
    assert last_losses(wide_of(frame_of([one])), "val").to_numpy().tolist() == [[3.0, 3.0]]


def test_another_measure_can_be_the_objective() -> None:
    wide = wide_of(frame_of([run("r", "x", 0, (2.0, 3.0))]), "error")
    assert wide["val"].to_numpy() == pytest.approx(np.array([[0.2, 0.3]]))


def test_a_measure_or_task_that_is_not_there_is_named() -> None:
    frame = frame_of([run("r", "x", 0, (1, 1))])
    with pytest.raises(ComparisonError, match=r"'accuracy'.*'error', 'loss'"):
        wide_of(frame, "accuracy")
    with pytest.raises(ComparisonError, match="1 runs have none, among them r"):
        wide_of(frame[frame["task"] != "b"])


def test_two_values_of_one_thing_are_refused() -> None:
    frame = frame_of([run("r", "x", 0, (1, 1))])
    with pytest.raises(ComparisonError, match="found two for"):
        wide_of(pd.concat([frame, frame]))


def test_nan_in_a_run_that_did_not_diverge_is_refused() -> None:
    with pytest.raises(ComparisonError, match="found nan at"):
        wide_of(frame_of([run("r", "x", 0, (1, np.nan))]))


def test_an_evaluation_counts_only_with_all_tasks_on_both_splits() -> None:
    frame = frame_of([Run("r", "x", 0, ((10, (1, 1), (1, 1)), (20, (0, 0), (0, 0))))])
    late_test = (frame["step"] == 20) & (frame["split"] == "test") & (frame["task"] == "b")
    assert select(wide_of(frame[~late_test]), UNIT, "val", "best").to_dict() == {"r": 10}


def test_runs_with_equal_weights_form_a_group_and_others_stand_alone() -> None:
    runs = [
        run("p", "scalarization", 0, (1, 1), weights=(0.1 + 0.2, 0.7), lr=0.1),
        run("q", "scalarization", 1, (1, 1), weights=(0.3, 0.7), lr=0.2),
        run("s", "scalarization", 0, (1, 1), weights=(0.31, 0.69)),
        run("t", "x", 0, (1, 1)),
        run("u", "x", 0, (1, 1), diverged=5, passes=None),
    ]
    table = run_table(frame_of(runs))
    assert table.loc["p", "group"] == table.loc["q", "group"]
    assert table["group"].nunique() == 4
    assert table["diverged"].tolist() == [False] * 4 + [True]
    assert np.isnan(table.loc["u", "backward_passes"])
    assert table.loc["p", "backward_passes"] == 100


def test_the_untrained_network_is_no_checkpoint() -> None:
    lucky = Run("r", "x", 0, ((0, (0.1, 0.1), (0.1, 0.1)), (5, (0.4, 0.4), (0.5, 0.5))))
    assert select(wide_of(frame_of([lucky])), UNIT, "val", "best").to_dict() == {"r": 5}


def front_of(name: str, losses: dict[float, tuple[float, float]]) -> pd.DataFrame:
    """Records of one training that shows a point a weight; facts about the whole have none."""
    parts = [
        frame_of([run(name, "manifold", 0, at, weights=(w, 1 - w), passes=None)])
        for w, at in losses.items()
    ]
    whole = frame_of([run(name, "manifold", 0, (0.0, 0.0), passes=400.0)])
    return pd.concat([*parts, whole[whole["measure"] == "backward_passes"]], ignore_index=True)


def test_a_training_that_shows_a_front_is_compared_point_by_point_and_paid_for_once() -> None:
    front = front_of("m", {0.0: (1.0, 0.0), 0.5: (0.4, 0.4), 1.0: (0.0, 1.0)})
    plain = frame_of([run("p", "linear", 0, (0.5, 0.5))])
    apart = points_apart(pd.concat([front, plain], ignore_index=True))
    assert sorted(apart["run"].unique()) == ["m#point1", "m#point2", "m#point3", "p"]
    table = run_table(apart)
    assert table["backward_passes"].to_dict() == {
        "m#point1": 400,
        "m#point2": 400,
        "m#point3": 400,
        "p": 100,
    }
    assert {training_of(name) for name in table.index} == {"m", "p"}
    pd.testing.assert_frame_equal(points_apart(apart), apart)
    baseline = [
        run(f"s{k}", "scalarization", 0, (k / 4, 1 - k / 4), weights=(1 - k / 4, k / 4))
        for k in range(5)
    ]
    rows = compare(pd.concat([frame_of(baseline), front], ignore_index=True))
    assert rows[["runs", "backward_passes"]].to_numpy().tolist() == [[1, 400.0]]
    assert rows["hypervolume_ratio"].item() > 0.9
