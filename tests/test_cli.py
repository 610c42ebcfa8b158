"""The command line: what is printed, exit statuses, and messages instead of tracebacks."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtofront.cli import main
from mtofront.methods import METHODS
from mtofront.problems import PROBLEMS

ROOT = Path(__file__).parents[1]
VERDICT_COLUMNS = [
    "arm", "verdict", "margin", "low", "high",
    "hypervolume_ratio", "equivalent_runs", "runs", "backward_passes",
]  # fmt: skip


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    """Runs `mtofront ...` in this process, 80 columns wide: (exit status, stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mtofront", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def test_run_trains_analyses_and_reports(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    code, out, err = command("run", str(bowls), "--out", "out")
    assert code == 0, err
    assert "pcgrad" in out and "cagrad" in out
    assert "out/report/index.html" in out
    assert max(map(len, out.splitlines())) <= 80
    for name in ("index.html", "front.png", "front.svg", "verdicts.csv", "verdicts.json"):
        assert (Path("out/report") / name).stat().st_size > 0
    with open("out/report/verdicts.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == VERDICT_COLUMNS
    assert [row["arm"] for row in rows] == ["pcgrad", "cagrad"]


def test_json_is_a_list_of_verdict_rows_and_nothing_else(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = command("run", str(bowls), "--out", "out", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [list(row) for row in rows] == [VERDICT_COLUMNS] * 2
    assert json.loads(command("report", "out", "--json")[1]) == rows


def test_plan_starts_and_writes_nothing(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    before = sorted(Path.cwd().rglob("*"))
    code, out, _ = command("plan", str(bowls))
    assert code == 0
    assert "60 runs" in out and "Nothing was started" in out
    assert max(map(len, out.splitlines())) <= 80
    rows = json.loads(command("plan", str(bowls), "--json")[1])
    assert {row["arm"]: row["runs"] for row in rows} == {
        "scalarization": 20, "pcgrad": 20, "cagrad": 20,
    }  # fmt: skip
    assert {row["backward_passes"] for row in rows} == {20 * 8, 20 * 16}
    assert sorted(Path.cwd().rglob("*")) == before


def test_weights_without_a_middle_are_noted_before_and_after_training(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    corners = ("--set", "arms.scalarization.weights={grid: lattice, points: 2}")
    for arguments in (("plan",), ("plan", "--json"), ("run", "--out", "out"), ("resume",)):
        name, *rest = arguments
        given = ["out"] if name == "resume" else [str(bowls), *corners]
        code, out, err = command(name, *given, *rest)
        assert code == 0 and max(map(len, err.splitlines())) <= 80
        said = " ".join(err.split())
        before = "note: scalarization: none of the 2 weight vectors weighs all tasks,"
        after = "note: No run of scalarization weighs all tasks: each of its 2 weight vectors"
        assert said.count(before) == (name != "resume")
        assert said.count(after) == (name != "plan")
        assert "note:" not in out
    page = Path("out/report/index.html").read_text()
    assert page.index("Complete: all") < page.index("No run of scalarization") < page.index("<h1>")


def test_status_counts_runs_by_state(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    command("run", str(bowls), "--out", "out")
    next(Path("out/records").glob("*.parquet")).unlink()
    rows = json.loads(command("status", "out", "--json")[1])
    assert list(rows[0]) == [
        "arm", "expected", "done", "running", "stopped", "diverged", "failed", "missing",
    ]  # fmt: skip
    assert sum(row["missing"] for row in rows) > 0
    assert all(row["expected"] == row["done"] + row["missing"] + row["diverged"] for row in rows)
    code, out, _ = command("status", "out")
    assert code == 0 and "missing" in out


def test_a_damaged_records_file_is_one_line_and_missing_runs(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    command("run", str(bowls), "--out", "out")
    path = next(Path("out/records").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    for name in ("status", "report"):
        code, out, err = command(name, "out")
        assert code == 0, err
        line = (
            f"warning: {path} is damaged or half-written: its runs count as missing; "
            "`mtofront resume out` trains them again\n"
        )
        assert err == line
        assert "missing" in out or name == "report"
    code, _, err = command("resume", "out")
    assert code == 0 and "note: " in err and "trained again" in err
    assert command("status", "out")[2] == ""


def test_a_folder_of_another_format_is_refused_with_a_message(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    command("run", str(bowls), "--out", "out")
    path = Path("out/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    for name in ("resume", "status", "report"):
        code, out, err = command(name, "out")
        assert code == 2 and out == ""
        assert "format 99" in err and "Traceback" not in err


def test_methods_and_problems_are_listed_with_papers_and_options(command) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = command("methods")
    assert code == 0
    for name, method in METHODS.items():
        assert name in out and str(method.paper.year) in out
    rows = json.loads(command("methods", "--json")[1])
    assert {row["name"] for row in rows} == set(METHODS)
    out = command("problems")[1]
    assert all(name in out for name in PROBLEMS)
    assert {row["name"] for row in json.loads(command("problems", "--json")[1])} == {
        *PROBLEMS,
        "pymoo:NAME",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "bowls.yaml", "--set", "arms.pcgard={}"], ["did you mean 'pcgrad'"]),
        (["run", "absent.yaml"], ["absent.yaml", "cannot read"]),
        (["plan", "bowls.yaml", "--set", "seeds=[1,1]"], ["bowls.yaml:5: seeds", "1 twice"]),
        (["resume", "nowhere"], ["nowhere", "no sweep"]),
        (["status", "nowhere"], ["nowhere", "no sweep"]),
        (["report", "nowhere"], ["nowhere"]),
        (["compare", "absent.csv"], ["absent.csv"]),
    ],
)
def test_a_wrong_request_is_one_message_exit_2_and_nothing_written(
    bowls: Path,
    command,
    arguments: list[str],
    words: list[str],  # type: ignore[no-untyped-def]
) -> None:
    code, out, err = command(*arguments)
    assert code == 2
    assert out == "" and "Traceback" not in err
    assert all(word in err for word in words), err
    assert [path.name for path in Path.cwd().iterdir()] == ["bowls.yaml"]


def test_compare_judges_a_table_from_elsewhere(workdir: Path, command) -> None:  # type: ignore[no-untyped-def]
    lines = ["arm,seed,speed,size"]
    for seed in range(5):
        for k in range(11):
            t = k / 10
            lines.append(f"scalarization,{seed},{(1 - t) ** 2 + seed / 1000},{t**2}")
        lines.append(f"better,{seed},0.1,0.1")
        lines.append(f"hopeless,{seed},0.9,0.9")
    Path("table.csv").write_text("\n".join(lines))
    code, out, err = command("compare", "table.csv", "--json")
    assert code == 0, err
    assert {r["arm"]: r["verdict"] for r in json.loads(out)} == {
        "better": "beats", "hopeless": "worse",
    }  # fmt: skip


def test_every_command_has_help_with_an_example(command) -> None:  # type: ignore[no-untyped-def]
    for name in ("run", "plan", "resume", "status", "report", "compare", "methods", "problems"):
        code, out, _ = command(name, "--help")
        assert code == 0 and "Example: mtofront" in out


def test_a_failed_pack_gives_exit_1_and_its_reason(bowls: Path, command) -> None:  # type: ignore[no-untyped-def]
    Path("broken.py").write_text(
        "from mtofront.problems import PROBLEMS\n"
        "from dataclasses import replace\n"
        "def problem():\n"
        "    base = PROBLEMS['quadratics']()\n"
        "    def model():\n"
        "        import inspect\n"
        "        if any(f.function == 'stacked_state' for f in inspect.stack()):\n"
        "            raise OSError('the model file is gone')\n"
        "        return base.model()\n"
        "    return replace(base, model=model)\n"
    )
    settings = ["--set", "problem=broken:problem"]
    code, _, err = command("run", str(bowls), "--out", "out", *settings)
    assert code == 1
    assert "the model file is gone" in err and "mtofront resume out" in err


def test_the_command_is_installed_and_a_module(workdir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mtofront", "problems"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "multidigits" in done.stdout
