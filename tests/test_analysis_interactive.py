"""The numbers behind the interactive front, and the tables as Markdown and LaTeX."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import Run, frame_of, run

from mtofront.analysis import judge
from mtofront.analysis.colours import BASELINE_COLOUR, MARKERS
from mtofront.analysis.interactive import SYMBOLS, as_json, page_data, shown_runs
from mtofront.analysis.table_files import latex, markdown, write_table


def runs_of(tasks: int = 2) -> list[Run]:
    random = np.random.default_rng(0)
    runs = []
    for seed in range(2):
        for k in range(6):
            weights = random.dirichlet(np.ones(tasks))
            losses = 0.2 + np.sqrt(1 - weights) + 0.01 * random.random(tasks)
            runs.append(run(f"s{seed}-{k}", "scalarization", seed, losses, weights=weights))
        two = ((10, [0.5] * tasks, [0.6] * tasks), (20, [0.7] * tasks, [0.8] * tasks))
        runs.append(Run(f"x{seed}", "</script>", seed, two, lr=0.3, hyper={"c": 0.4}))
    return runs


def data_of(runs: list[Run], tasks: int = 2) -> dict[str, object]:
    frame = frame_of(runs, tuple("abcdefgh"[:tasks]))
    specs = {one.name: {"lr": one.lr, "weights": one.weights, "hyper": one.hyper} for one in runs}
    return json.loads(as_json(page_data(judge(frame), frame, specs)))


def test_every_run_is_there_with_what_it_was_and_what_it_reached() -> None:
    data = data_of(runs_of())
    about = data["runs"]
    assert len(about["id"]) == data["total"] == 14
    place = about["id"].index("x1")
    assert [about[name][place] for name in ("arm", "seed", "step", "lr", "weights", "hyper")] == [
        1, 1, 10, 0.3, "", "c=0.4",
    ]  # fmt: skip
    assert (about["front"][place], about["selected"][place]) == (1, 1)
    # The last evaluation on training data, the chosen one elsewhere.
    shown = {
        name: [losses[place] for losses in split["losses"]]
        for name, split in data["splits"].items()
    }
    assert shown == {"train": [0.7, 0.7], "val": [0.5, 0.5], "test": [0.6, 0.6]}
    assert (data["left"], data["right"]) == ("train", "test")
    assert data["arms"][0] == {
        "name": "scalarization", "colour": BASELINE_COLOUR, "symbol": "circle",
        "verdict": "baseline",
    }  # fmt: skip
    assert set(SYMBOLS) == {*MARKERS, "o"}


def test_no_name_can_end_the_script_that_holds_the_numbers() -> None:
    frame = frame_of(runs_of())
    text = as_json(page_data(judge(frame), frame, {}))
    assert "<" not in text
    assert json.loads(text)["arms"][1]["name"] == "</script>"


@pytest.mark.parametrize(("tasks", "pairs"), [(1, 1), (2, 1), (3, 3), (6, 15)])
def test_every_pair_of_tasks_has_axes_and_few_tasks_have_surfaces(tasks: int, pairs: int) -> None:
    test = data_of(runs_of(tasks), tasks)["splits"]["test"]
    assert len(test["axes"]) == pairs
    assert bool(test["surfaces"]) == (tasks in (2, 3))


def test_a_large_sweep_is_thinned_but_fronts_and_selected_runs_stay() -> None:
    inner = [run(f"i{k}", "scalarization", 0, (5 + k, 5 + k)) for k in range(50)]
    frame = frame_of([*runs_of(), *inner])
    comparison = judge(frame)
    kept = set(comparison.runs.run[shown_runs(comparison, 20)])
    every = set(comparison.runs.run[shown_runs(comparison)])
    assert len(every) == 64 and 14 <= len(kept) <= 20
    best = [comparison.runs.run[comparison.runs.select[:, task].argmin()] for task in (0, 1)]
    assert set(best) <= kept
    assert {"x0", "x1"} <= kept


TABLE = pd.DataFrame(
    {"arm_name": ["a|b_&<", "c"], "value": [0.123456, float("nan")], "n": [1e5, np.inf]}
)


def test_markdown_has_sides_and_escapes_bars() -> None:
    assert markdown(TABLE).splitlines() == [
        "| arm_name | value | n |",
        "| :-- | --: | --: |",
        "| a\\|b_&< | 0.1235 | 100,000 |",
        "| c | – | ∞ |",
    ]


def test_latex_has_rules_and_escapes_what_latex_reads() -> None:
    lines = latex(TABLE).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r"arm\_name & value & n \\"
    assert lines[4] == r"a|b\_\&\textless{} & 0.1235 & 100,000 \\"
    assert lines[5] == r"c & -- & $\infty$ \\"
    assert lines[-1] == r"\end{tabular}"


def test_long_tables_are_for_programs_only(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"a": range(201)}), tmp_path / "long")
    write_table(pd.DataFrame({"a": range(200)}), tmp_path / "short")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["long.csv", "short.csv", "short.md", "short.tex"]


def test_the_script_is_read_by_a_javascript_engine() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to read the page's script; test_analysis_page.py runs it")
    script = Path(__file__).parents[1] / "analysis" / "report.js"
    subprocess.run([node, "--check", str(script)], check=True)
