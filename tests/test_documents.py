"""The documents' blocks that no other test runs, as they are written."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import blocks
from typer.testing import CliRunner

from mtofront.cli import app

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_reports_tables_in_python(workdir: Path) -> None:
    shutil.copytree(ROOT / "docs/results/gradops-census", "results/quickstart")
    names: dict[str, object] = {}
    exec(blocks(page("report.md"), "python")[0], names)
    table, flips = names["indicator_table"], names["flips"]
    assert callable(table) and callable(flips)
    assert len(table(names["comparison"])) > 0


@pytest.fixture
def tables(workdir: Path) -> None:
    """results.csv and other.csv, as the page on results from elsewhere describes them."""
    draw = np.random.default_rng(0)
    rows = [
        (arm, seed, 0.4 + place + draw.normal(0, 0.01), 0.02 - place / 10)
        for seed in range(5)
        for arm, places in (("scalarization", np.linspace(0, 0.1, 9)), ("pcgrad", [0.05] * 9))
        for place in places
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", "segmentation", "depth"])
    frame.to_csv("results.csv", index=False)
    frame["mIoU"] = 1 - frame.pop("segmentation")
    frame["note"] = 7
    frame.replace({"arm": {"scalarization": "linear"}}).to_csv("other.csv", index=False)


@pytest.mark.usefixtures("tables")
def test_the_commands_for_results_from_elsewhere() -> None:
    lines = [line for block in blocks(page("own-results.md")) for line in block.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("mtofront ")]
    assert len(commands) == 3
    for command in commands:
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert "pcgrad" in done.output
