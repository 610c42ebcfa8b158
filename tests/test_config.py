"""Bad input: one clear message each, with file, line, what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtofront.sweep import RequestError, load_config, plan

GOOD = """\
name: bowls
problem: quadratics
budget: {epochs: 2, batch_size: 16}
optimizer:
  name: adam
  lr: [1e-3, 1.0e-2]
seeds: [3, 5]
arms:
  scalarization:
    method: linear
    weights: {grid: log_odds, points: 5}
  cagrad:
    c: [0.2, 0.6]
"""


def refused(folder: Path, text: str) -> str:
    """The message that a config gets, without the folder's name."""
    path = folder / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RequestError) as caught:
        plan(load_config(path))
    return str(caught.value).replace(f"{folder}/", "")


def test_a_good_config_is_read_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.optimizer.lr == (0.001, 0.01)
    assert config.seeds == (3, 5)
    assert config.resources.engine == "ray"
    assert config.report.baseline == "scalarization"


CASES = [
    ("unknown field", "seeds:", "sed: 1\nseeds:", ["bad.yaml:7: sed:", "'seeds'"]),
    (
        "unknown nested field",
        "batch_size: 16",
        "batchsize: 16",
        ["bad.yaml:3: budget.batchsize:", "'batch_size'"],
    ),
    ("wrong type", "epochs: 2", "epochs: many", ["bad.yaml:3: budget.epochs:", "'many'"]),
    ("missing field", "seeds: [3, 5]\n", "", ["seeds:", "required"]),
    ("unknown method", "method: linear", "method: linaer", ["bad.yaml:10:", "'linear'"]),
    ("unknown method by arm", "  cagrad:\n    c", "  cagard:\n    c", ["bad.yaml:12:", "'cagrad'"]),
    ("unknown problem", "quadratics", "quadratic", ["bad.yaml:2: problem:", "'quadratics'"]),
    ("unknown optimizer", "name: adam", "name: adma", ["bad.yaml:5: optimizer.name:", "'adam'"]),
    (
        "Adam's memory without Adam",
        "name: adam",
        "name: sgd\n  beta2: 0.9",
        ["beta2", "adamw", "sgd"],
    ),
    ("unknown hyper-parameter", "    c:", "    gamma:", ["bad.yaml:13: arms.cagrad.gamma:", "c"]),
    ("hyper-parameter out of range", "c: [0.2, 0.6]", "c: [0.2, -1]", ["bad.yaml:13:", "-1"]),
    ("hyper-parameter of a wrong type", "c: [0.2, 0.6]", "c: high", ["bad.yaml:13:", "high"]),
    ("empty grid of values", "c: [0.2, 0.6]", "c: []", ["bad.yaml:13:", "empty"]),
    ("empty weight grid", "points: 5", "points: 0", ["bad.yaml:11:", "at least 1", "0"]),
    ("unknown weight grid", "log_odds", "logodds", ["bad.yaml:11:", "'log_odds'"]),
    (
        "negative weights",
        "{grid: log_odds, points: 5}",
        "[[0.5, 0.5], [-0.1, 1.1]]",
        ["bad.yaml:11: arms.scalarization.weights.1:", "non-negative", "-0.1"],
    ),
    (
        "weights of the wrong length",
        "{grid: log_odds, points: 5}",
        "[0.2, 0.3, 0.5]",
        ["bad.yaml:11:", "2 non-negative numbers", "0.2, 0.3, 0.5"],
    ),
    ("seed given twice", "seeds: [3, 5]", "seeds: [3, 5, 3]", ["bad.yaml:7: seeds:", "3 twice"]),
    ("no seed", "seeds: [3, 5]", "seeds: 0", ["bad.yaml:7: seeds:", "at least one", "0"]),
    ("learning rate of zero", "[1e-3, 1.0e-2]", "[1e-3, 0]", ["bad.yaml:6:", "greater than 0"]),
    ("negative learning rate", "[1e-3, 1.0e-2]", "-0.1", ["bad.yaml:6:", "-0.1"]),
    ("field given twice", "  cagrad:", "  scalarization: {}\n  cagrad:", ["line 9", "only once"]),
    ("no baseline", "scalarization:", "sweep:", ["arms:", "'scalarization'", "sweep, cagrad"]),
    ("not YAML", "name: bowls", "name: [", ["not valid YAML"]),
]


@pytest.mark.parametrize(("old", "new", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_wrong_config_is_refused_with_line_finding_and_remedy(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in GOOD
    message = refused(tmp_path, GOOD.replace(old, new, 1))
    assert message.startswith("bad.yaml:")
    for word in words:
        assert word in message, message


def test_an_absent_or_empty_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot read"):
        load_config(tmp_path / "nothing.yaml")
    assert "empty" in refused(tmp_path, "")


def test_settings_override_fields_and_are_checked_like_them(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    config = load_config(path, ["budget.epochs=7", "seeds=[1]", "arms.pcgrad={}"])
    assert (config.budget.epochs, config.seeds) == (7, (1,))
    assert "pcgrad" in config.arms
    with pytest.raises(RequestError, match="KEY=VALUE"):
        load_config(path, ["budget.epochs"])
    with pytest.raises(RequestError, match=r"budget\.epochs: .*found 0"):
        load_config(path, ["budget.epochs=0"])


def test_a_problem_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    unknown = GOOD.replace("problem: quadratics", "problem: quadratics\nproblem_options: {task: 3}")
    assert "tasks, scale, noise, rows" in refused(tmp_path, unknown)
    wrong = GOOD.replace("problem: quadratics", "problem: quadratics\nproblem_options: {tasks: 1}")
    assert "tasks >= 2" in refused(tmp_path, wrong)
    absent = GOOD.replace("problem: quadratics", "problem: no_such_module:problem")
    assert "no_such_module" in refused(tmp_path, absent)
