"""The README's example of one's own problem, run as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pages import blocks

from mtofront.analysis import load

ROOT = Path(__file__).parents[1]


def block(language: str, marker: str) -> str:
    """The first fenced block of a language that holds a marker."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return next(found for found in blocks(text, language) if marker in found)


def test_the_readmes_own_problem_trains_and_gets_a_verdict(workdir: Path) -> None:
    code, config = block("python", "my_problem.py"), block("yaml", "my_problem:")
    assert len(code.splitlines()) <= 20
    Path("my_problem.py").write_text(code)
    Path("mine.yaml").write_text(config)
    short = ["--set", "budget.epochs=2", "--set", "resources.engine=inline", "--set", "seeds=2"]
    command = [sys.executable, "-m", "mtofront", "run", "mine.yaml", *short]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(workdir)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "pcgrad" in done.stdout
    assert set(load("results/mine")["task"]) == {"", "price", "sold"}


def test_every_mtofront_command_in_the_documents_exists() -> None:
    known = {"check", "data", "run", "plan", "resume", "status", "report", "compare"}
    known |= {"methods", "problems"}
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").glob("*")):
        if path.suffix in (".md", ".yaml"):
            named = set(re.findall(r"^[#\s]*mtofront ([a-z]+)", path.read_text(), re.M))
            assert named <= known, path
