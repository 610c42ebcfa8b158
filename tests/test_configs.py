"""Ready configs: they plan, say how to run them, and the controls come out as they must."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_data import SMALL

from mtofront.analysis import compare, load
from mtofront.sweep import load_config, plan, run

CONFIGS = Path(__file__).parents[1] / "configs"
FAST = ["resources.engine=inline", "seeds=3"]


def verdicts(config: str, *settings: str) -> dict[str, str]:
    loaded = load_config(CONFIGS / config, [*FAST, *settings])
    run(loaded, "out")
    rows = compare(load("out"), baseline=loaded.report.baseline)
    return dict(zip(rows["arm"], rows["verdict"], strict=True))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.usefixtures("small_data")
def test_every_config_plans_and_its_head_says_command_and_expectation(path: Path) -> None:
    sizes = [f"problem_options.{key}={n}" for key, n in SMALL.get(path.stem, {}).items()]
    planned = plan(load_config(path, sizes))
    head = path.read_text().split("name:")[0]
    assert f"mtofront run configs/{path.name}" in head
    assert "Expected:" in head
    assert f"{len(planned.runs):,} " in head
    assert len(set(planned.arm_runs().values())) == 1


def test_the_quickstart_is_what_the_documents_say() -> None:
    config = load_config(CONFIGS / "quickstart.yaml")
    planned = plan(config)
    weights = {s.weights for s in planned.runs.values() if s.arm == "scalarization"}
    assert len(weights) >= 15 and len(config.optimizer.lr) >= 3 and len(config.seeds) >= 3
    named = {"uncertainty", "gradnorm", "pcgrad", "mgda", "cagrad", "random", "scalarization"}
    assert named <= set(config.arms)


@pytest.mark.slow
def test_positive_control_tchebycheff_beats_linear_weights_on_a_concave_front(
    workdir: Path,
) -> None:
    grid = "weights={grid: uniform, points: 9, low: 0.05}"
    settings = [f"arms.{arm}.{grid}" for arm in ("scalarization", "tchebycheff")]
    found = verdicts(
        "concave.yaml",
        *settings,
        "arms.smooth_tchebycheff=",
        "arms.between={method: linear, weights: [[0.47, 0.53], [0.31, 0.69]]}",
        "optimizer.lr=0.03",
        "budget.epochs=500",
    )
    assert found["tchebycheff"] == "beats"
    assert found["between"] != "beats"


@pytest.mark.slow
def test_negative_control_no_method_beats_tuned_weights_on_convex_bowls(workdir: Path) -> None:
    found = verdicts("quadratics.yaml", "optimizer.lr=0.08", "budget.epochs=60")
    assert set(found.values()) <= {"matches", "inconclusive"}
    assert list(found.values()).count("matches") >= 4


def last_losses() -> pd.DataFrame:
    """One row a run: arm, weights and the tasks' test losses at the end."""
    frame = load("out")
    wanted = (frame["split"] == "test") & (frame["measure"] == "loss")
    wanted &= frame["step"] == frame["step"].max()
    weights = [name for name in frame.columns if name.startswith("w_")]
    rows = frame[wanted].set_index(["run", "arm", *weights, "task"])["value"]
    return rows.unstack("task").reset_index()


def distance_to(balanced: float) -> pd.Series[float]:
    """How close each arm comes to equal losses of all three tasks, in max-norm."""
    runs = last_losses()
    away = (runs[["task1", "task2", "task3"]] - balanced).abs().max(axis=1)
    return away.groupby(runs["arm"]).min()


BRIEF = [
    "budget.epochs=200",
    "optimizer.lr=0.03",
    "resources.pack=512",
    "tuning.runs_per_arm=as_given",
    "arms.smooth_tchebycheff=",
]


def test_positive_control_fixed_weights_miss_the_middle_of_a_bottleneck(workdir: Path) -> None:
    assert verdicts("linear_bottleneck.yaml", *BRIEF, "seeds=5")["tchebycheff"] == "beats"
    away = distance_to(98 / 150)
    assert away["scalarization"] == pytest.approx(0.345, abs=0.01)
    assert away["tchebycheff"] < 0.01


def test_negative_control_fixed_weights_fill_the_front_of_a_flippable_bottleneck(
    workdir: Path,
) -> None:
    assert verdicts("linear_bottleneck_flippable.yaml", *BRIEF)["tchebycheff"] != "beats"
    assert distance_to(7 / 15)["scalarization"] < 0.001


@pytest.mark.slow
def test_on_the_landscape_surgery_beats_equal_weights_and_so_do_tuned_ones(workdir: Path) -> None:
    # In a twelfth of the steps nobody reaches the floor, but both leave the valley where equal
    # weights are stuck, at -211 or above: paths in so narrow a valley depend on how a processor
    # rounds. The many learning rates cost nothing: they train side by side.
    rates = np.geomspace(0.003, 0.03, 40).round(5).tolist()
    verdicts(
        "landscape_equal.yaml",
        "seeds=2",
        "budget.epochs=8",
        f"optimizer.lr={rates}",
        "resources.pack=512",
        "arms.equal_weights.weights=[[0.05, 0.95], [0.1, 0.9], [0.5, 0.5]]",
        "arms.pcgrad.weights=[[0.3, 0.7], [0.5, 0.5], [0.7, 0.3]]",
    )
    frame = load("out")
    tuned = (frame["arm"] == "equal_weights") & (frame["w_first"] < 0.5)
    frame.loc[tuned, "arm"] = "tuned"
    rows = compare(frame, baseline="equal_weights").set_index("arm")
    assert rows["verdict"].to_dict() == {"tuned": "beats", "pcgrad": "beats"}
    runs = last_losses()
    total = (runs["first"] + runs["second"]).groupby([runs["arm"], runs["w_first"]]).min()
    assert total["equal_weights", 0.5] > -213
    assert total["equal_weights", 0.05] < -240
    assert total["pcgrad"].min() < -240
