"""Controls: what is repeated and how, counted before and resumed after; and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from stops import stopped_after_each_pack

from mtofront.analysis import coverage, load
from mtofront.sweep import Folder, RequestError, load_config, plan, run, status
from mtofront.sweep.spec import RunSpec, spec_from_dict

CONTROLLED = """\
name: why
problem: quadratics
problem_options: {scale: 3}
budget: {epochs: 3, batch_size: 16, evaluations: 2}
optimizer: {name: sgd, lr: [0.003, 0.01]}
seeds: 2
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 5}}
  pcgrad:
  uncertainty:
controls: [mean_weights, update_norm, longer]
resources: {engine: inline, pack: 7}
"""
NAMES = (
    "pcgrad.mean_weights", "uncertainty.mean_weights", "pcgrad.update_norm",
    "uncertainty.update_norm", "scalarization.6_epochs",
)  # fmt: skip


@pytest.fixture
def controlled(workdir: Path) -> Path:
    path = workdir / "why.yaml"
    path.write_text(CONTROLLED)
    return path


def sorted_frame(folder: str) -> pd.DataFrame:
    frame = load(folder)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def specs_of(folder: str, arm: str) -> list[RunSpec]:
    manifest = json.loads(Path(folder, "manifest.json").read_text())
    return [spec_from_dict(one) for one in manifest["runs"].values() if one["arm"] == arm]


def key(one: RunSpec) -> tuple[object, ...]:
    return one.seed, one.lr, one.restart, one.optimizer["weight_decay"]


def test_a_plan_counts_the_second_phase_and_a_sweep_trains_it(controlled: Path) -> None:
    config = load_config(controlled)
    planned = plan(config)
    assert planned.arms == ("scalarization", "pcgrad", "uncertainty", *NAMES)
    assert planned.arm_runs() == dict.fromkeys(planned.arms, 20)
    assert len(planned.runs) == 60
    passes = planned.arm_passes()
    one = 20 * planned.steps_per_run
    dear = ("pcgrad", "pcgrad.update_norm", "uncertainty.update_norm", "scalarization.6_epochs")
    assert passes == {arm: 2 * one if arm in dear else one for arm in planned.arms}
    assert [note for note in planned.notes if "control" in note] == [
        "no control longer for uncertainty: a run costs no more backward passes than one of "
        "scalarization"
    ]
    outcome = run(config, "out")
    assert (outcome.runs, outcome.diverged, outcome.failed) == (160, 0, {})
    frame = load("out")
    spent = frame[frame["measure"] == "backward_passes"].groupby("arm")["value"].sum()
    assert spent.to_dict() == passes
    assert len(json.loads(Path("out/manifest.json").read_text())["packs"]) == sum(
        planned.arm_packs().values()
    )
    before = {path: path.stat().st_mtime_ns for path in Path("out/records").iterdir()}
    assert run(config, "out").runs == 160
    assert before == {path: path.stat().st_mtime_ns for path in Path("out/records").iterdir()}


def test_each_control_changes_one_thing_of_each_run(controlled: Path) -> None:
    run(load_config(controlled), "out")
    for arm in ("pcgrad", "uncertainty"):
        own = {key(one): one for one in specs_of("out", arm)}
        means = {key(one): one for one in specs_of("out", f"{arm}.mean_weights")}
        norms = {key(one): one for one in specs_of("out", f"{arm}.update_norm")}
        assert len(own) == 20 and own.keys() == means.keys() == norms.keys()
        for same, one in own.items():
            assert (means[same].method, means[same].treatment) == ("linear", {})
            assert norms[same].method == f"matched_norm:{arm}"
            assert norms[same].hyper == one.hyper
            assert norms[same].weights == means[same].weights
            for control in (means[same], norms[same]):
                assert (control.epochs, control.evaluations) == (one.epochs, one.evaluations)
    longer = {(*key(one), one.weights): one for one in specs_of("out", "scalarization.6_epochs")}
    for one in specs_of("out", "scalarization"):
        again = longer[(*key(one), one.weights)]
        assert again == replace(one, arm="scalarization.6_epochs", epochs=6)


def test_mean_weights_are_those_of_all_steps(controlled: Path) -> None:
    """A task's weight is 1 over its loss; one step an epoch, so evaluations show every loss."""
    values = yaml.safe_load(CONTROLLED)
    values["budget"] = {"epochs": 5, "batch_size": 1000, "evaluations": 5}
    values["arms"] = {"scalarization": values["arms"]["scalarization"], "scale_invariant": None}
    values["controls"] = "mean_weights"
    values["resources"]["pack"] = 64
    for evaluations in (5, 2):  # two: after 2 and after 5 epochs
        values["budget"]["evaluations"] = evaluations
        controlled.write_text(yaml.safe_dump(values))
        run(load_config(controlled), f"out{evaluations}")
    frame = load("out5")
    losses = frame[
        (frame["arm"] == "scale_invariant")
        & (frame["measure"] == "loss")
        & (frame["split"] == "train")
        & (frame["step"] < 5)
    ]
    inverse = (1 / losses.set_index(["seed", "lr", "task"])["value"]).groupby(level=[0, 1, 2])
    expected = inverse.mean().unstack()
    for folder in ("out5", "out2"):
        controls = specs_of(folder, "scale_invariant.mean_weights")
        assert len(controls) == 20
        for one in controls:
            np.testing.assert_allclose(
                one.weights, expected.loc[one.seed, one.lr].to_numpy(), rtol=1e-6
            )


@pytest.mark.parametrize("pack", [3, 64])
def test_controls_do_not_depend_on_packs(controlled: Path, pack: int) -> None:
    values = yaml.safe_load(CONTROLLED)
    values["arms"]["graddrop"] = None
    controlled.write_text(yaml.safe_dump(values))
    run(load_config(controlled), "out")
    run(load_config(controlled, [f"resources.pack={pack}"]), "other")
    pd.testing.assert_frame_equal(sorted_frame("out"), sorted_frame("other"))


def test_stopped_after_any_pack_it_resumes_to_the_same_table(
    controlled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(controlled, ["resources.pack=20", "seeds=1"])
    run(config, "expected")

    def look(stops: int) -> None:
        counts = status(Folder(Path("out")))
        assert {arm: count["expected"] for arm, count in counts.items()} == dict.fromkeys(
            ("scalarization", "pcgrad", "uncertainty", *NAMES), 10
        )
        assert sum(count["missing"] for count in counts.values()) == 80 - 10 * stops
        table = coverage("out").set_index("arm")
        assert set(table.index) == set(counts) and (table["expected"] == 10).all()

    assert stopped_after_each_pack(config, "out", monkeypatch, look) == 7
    pd.testing.assert_frame_equal(sorted_frame("out"), sorted_frame("expected"))


def test_a_control_repeats_what_a_search_found(controlled: Path) -> None:
    values = yaml.safe_load(CONTROLLED)
    values["arms"]["scalarization"]["weights"] = {"search": "front", "points": 6, "start": 3}
    values["controls"] = ["longer"]
    controlled.write_text(yaml.safe_dump(values))
    config = load_config(controlled)
    assert plan(config).arm_runs()["scalarization.6_epochs"] == 24
    run(config, "out")
    found = {one.weights for one in specs_of("out", "scalarization")}
    assert len(found) == 6
    assert {one.weights for one in specs_of("out", "scalarization.6_epochs")} == found


def test_diverged_runs_are_not_repeated(controlled: Path) -> None:
    config = load_config(controlled, ["optimizer.lr=[0.01, 1.0e+30]"])
    outcome = run(config, "out")
    frame = load("out")
    lost = frame[frame["measure"] == "diverged"].groupby("arm")["run"].nunique()
    assert lost["pcgrad"] > 0
    for kind in ("mean_weights", "update_norm"):
        assert len(specs_of("out", f"pcgrad.{kind}")) == 20 - lost["pcgrad"]
    assert outcome.failed == {}
    table = coverage("out").set_index("arm")
    assert table.loc["pcgrad.mean_weights", "expected"] == 20 - lost["pcgrad"]
    assert table["missing"].sum() == 0


def test_where_every_run_diverged_there_is_no_control(controlled: Path) -> None:
    outcome = run(load_config(controlled, ["optimizer.lr=1.0e+30", "seeds=1"]), "out")
    assert outcome.failed == {} and outcome.diverged == outcome.runs
    assert coverage("out").set_index("arm").loc["pcgrad.mean_weights", "expected"] == 0


def test_a_folder_that_began_with_other_controls_is_refused(controlled: Path) -> None:
    run(load_config(controlled), "out")
    with pytest.raises(RequestError, match=r"mean_weights, update_norm, longer; found longer \("):
        run(load_config(controlled, ["controls={longer: pcgrad}"]), "out")
    with pytest.raises(RequestError, match="found none"):
        run(load_config(controlled, ["controls=[]"]), "out")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"controls": ["mean_weight"]}, "unknown control 'mean_weight'; did you mean"),
        ({"controls": ["longer", "longer"]}, "every control may be given only once"),
        ({"controls": 5}, "controls are some of mean_weights, .* found 5"),
        ({"controls": [{"longer": "pcgrad"}]}, "or as a mapping to arms like"),
        ({"controls": {"longer": []}}, "longer needs at least one arm"),
        ({"controls": {"longer": ["pcgra"]}}, "found 'pcgra'; allowed: pcgrad, uncertainty"),
        ({"controls": {"longer": "scalarization"}}, "an arm other than the baseline"),
        ({"controls": {"longer": "uncertainty"}}, "costs no more backward passes"),
        ({"arms": {"mtadam": None}, "controls": ["mean_weights"]}, "mtadam: .* an optimiser"),
        ({"arms": {"merge_ties": None}, "controls": ["update_norm"]}, "trains several networks"),
        (
            {"arms": {"pcgrad": {"weights": [0.2, 0.8]}}, "controls": {"update_norm": "pcgrad"}},
            "`weights` before its method",
        ),
        ({"arms": {"even": {"method": "linear"}}, "controls": ["mean_weights"]}, "itself"),
        ({"arms": {"pcgrad.mean_weights": {"method": "mgda"}, "pcgrad": None}}, "that of a"),
        ({"scheduler": {"name": "front_halving", "rungs": [0.67]}}, "whole trainings"),
        (
            {"tuning": {"runs_per_arm": "equal_backward_passes"}, "controls": ["longer"]},
            "on fewer runs",
        ),
    ],
)
def test_wrong_controls_are_refused_with_rule_and_finding(
    controlled: Path, change: dict[str, Any], says: str
) -> None:
    values = yaml.safe_load(CONTROLLED)
    values |= change
    if "arms" in change:
        baseline = {"scalarization": {"method": "linear"}}
        values["arms"] = baseline | change["arms"]
    controlled.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.raises(RequestError, match=says) as caught:
        plan(load_config(controlled))
    assert str(caught.value).startswith("why.yaml:") or f"{controlled}:" in str(caught.value)
