"""Ready configs: they plan, say how to run them, and the controls come out as they must."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtofront.analysis import compare, load
from mtofront.sweep import load_config, plan, run

CONFIGS = Path(__file__).parents[1] / "configs"
FAST = ["resources.engine=inline", "seeds=3"]


def verdicts(config: str, *settings: str) -> dict[str, str]:
    run(load_config(CONFIGS / config, [*FAST, *settings]), "out")
    rows = compare(load("out"))
    return dict(zip(rows["arm"], rows["verdict"], strict=True))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_plans_and_its_head_says_command_and_expectation(path: Path) -> None:
    planned = plan(load_config(path))
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
