"""The examples train from the command line, and docs/own-problem.md is what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pages import blocks

from mtofront.analysis import load
from mtofront.sweep import examine, named_problem

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SLICES = {
    "linnerud": ["budget.epochs=2"],
    "small_cnn": ["budget.epochs=1", "problem_options.rows=240", "problem_options.width=4"],
    "tiny_gpt": ["budget.epochs=1", "problem_options.windows=120", "problem_options.layers=1"],
}
SHORT = ["seeds=2", "optimizer.lr=0.01", "resources.engine=inline", "resources.pack=8"]
SHORT += ["arms.scalarization.weights.points=4"]


def mtofront(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mtofront", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", sorted(SLICES))
def test_a_slice_of_each_example_trains_from_the_command_line(name: str, tmp_path: Path) -> None:
    settings = [part for one in (*SLICES[name], *SHORT) for part in ("--set", one)]
    out = tmp_path / "out"
    done = mtofront(EXAMPLES, "run", f"{name}.yaml", "--out", str(out), *settings)
    assert done.returncode == 0, done.stderr
    assert "uncertainty" in done.stdout and "pcgrad" in done.stdout
    frame = load(str(out))
    assert not (frame["measure"] == "diverged").any()
    losses = frame[(frame["measure"] == "loss") & (frame["split"] == "train")]
    by_step = losses.groupby("step")["value"].mean()
    assert by_step.iloc[-1] < by_step.iloc[0]


def test_every_example_has_a_config_a_test_and_trains_as_one_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SLICES)
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == set(SLICES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in SLICES:
        assert f"mtofront run {name}.yaml" in (EXAMPLES / f"{name}.yaml").read_text()
        assert examine(named_problem(f"{name}:make", [])).reason == ""


def test_the_gpt_sees_no_letter_that_it_must_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    problem = named_problem("tiny_gpt:make", ["windows=40"])
    torch.manual_seed(0)
    module = problem.model().eval()
    text = problem.train.inputs[:2].clone()
    assert torch.equal(problem.train.targets[0][:, :-1], problem.train.inputs[:, 1:])
    assert torch.equal(problem.train.targets[1][:, :-1], problem.train.targets[0][:, 1:])
    with torch.no_grad():
        before = module(text)
        text[:, 20:] = 3
        after = module(text)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one[:, :20], other[:, :20], atol=1e-6)
        assert not torch.allclose(one[:, 20:], other[:, 20:])


def test_the_documents_problem_passes_the_check_that_it_shows(tmp_path: Path) -> None:
    text = (ROOT / "docs/own-problem.md").read_text(encoding="utf-8")
    code = next(b for b in blocks(text, "python") if "def make" in b)
    config = next(b for b in blocks(text, "yaml") if "my_problem:" in b)
    assert len(code.splitlines()) <= 20
    (tmp_path / "my_problem.py").write_text(code)
    (tmp_path / "mine.yaml").write_text(config)
    done = mtofront(tmp_path, "check", "mine.yaml", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["batched"] and facts["notes"] == []
    planned = mtofront(tmp_path, "plan", "mine.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    for name in re.findall(r"\((\.\./[^)#]+|[a-z-]+\.md)\)", text):
        assert (ROOT / "docs" / name).exists(), name
