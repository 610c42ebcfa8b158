"""Reading a results folder: what it gives, what mends it, and what has been run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import pytest
from tables import frame_of, run, write_failure, write_folder, write_records

from mtofront.analysis import RecordsError, RecordsWarning, coverage, failures, load, load_manifest

RUNS = [
    run("s0", "scalarization", 0, (1.0, 2.0), weights=(0.25, 0.75)),
    run("s1", "scalarization", 1, (2.0, 1.0), weights=(0.5, 0.5)),
    run("p0", "pcgrad", 0, (1.5, 1.5)),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "out", RUNS)


def test_load_gives_exactly_the_promised_columns_and_rows(folder: Path) -> None:
    frame = load(folder)
    assert list(frame.columns) == [
        "run", "arm", "method", "problem", "seed", "lr", "w_a", "w_b", "step", "epoch", "split",
        "task", "measure", "value",
    ]  # fmt: skip
    expected = frame_of(RUNS)
    key = ["run", "split", "task", "measure"]
    pd.testing.assert_frame_equal(
        frame.sort_values(key, ignore_index=True),
        expected.sort_values(key, ignore_index=True),
        check_dtype=False,
    )
    assert frame.loc[frame["run"] == "p0", ["w_a", "w_b"]].isna().all(axis=None)


def test_a_run_in_two_files_is_taken_once(folder: Path) -> None:
    before = load(folder)
    write_records(folder, "zz-again", RUNS[:2])
    pd.testing.assert_frame_equal(load(folder), before)


def test_a_folder_without_records_gives_an_empty_table(tmp_path: Path) -> None:
    frame = load(write_folder(tmp_path / "out", [], planned=RUNS))
    assert len(frame) == 0 and "w_b" in frame.columns


def test_a_hidden_unfinished_file_is_not_read(folder: Path) -> None:
    (folder / "records" / ".half.parquet").write_bytes(b"PAR1")
    assert len(load(folder)) == len(frame_of(RUNS))


@pytest.mark.parametrize("content", [b"", b"PAR1 torn off"])
def test_an_unreadable_file_counts_as_missing_and_is_named_with_the_command_that_mends_it(
    folder: Path, content: bytes
) -> None:
    (folder / "records" / "torn.parquet").write_bytes(content)
    with pytest.warns(RecordsWarning, match=r"torn\.parquet.*missing.*mtofront resume .*out"):
        frame = load(folder)
    assert len(frame) == len(frame_of(RUNS))


def test_a_file_with_other_columns_is_named(folder: Path) -> None:
    pd.DataFrame({"run": ["x"]}).to_parquet(folder / "records" / "foreign.parquet")
    with pytest.raises(RecordsError, match=r"foreign\.parquet: a records file has the columns"):
        load(folder)


def test_a_missing_torn_or_foreign_manifest_is_named(folder: Path) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(RecordsError, match=r"format 2; found format 99"):
        load_manifest(folder)
    path.write_text("{")
    with pytest.raises(RecordsError, match=r"manifest\.json cannot be read.*mtofront resume"):
        load_manifest(folder)
    path.unlink()
    with pytest.raises(RecordsError, match=r"manifest\.json is not there.*mtofront resume"):
        load(folder)


def test_a_hundred_thousand_rows_load_in_a_second(tmp_path: Path) -> None:
    many = [run(f"r{i}", "x", i % 5, (1.0, 2.0)) for i in range(7700)]
    folder = write_folder(tmp_path / "out", many)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(load(folder)) > 100_000
        times.append(time.perf_counter() - start)
    # The best of three: other programs may hold the processor for a moment.
    assert min(times) < 1.0


def test_coverage_counts_every_planned_run_once(tmp_path: Path) -> None:
    runs = [*RUNS, run("p1", "pcgrad", 1, (9, 9), diverged=30)]
    runs += [run("p5", "pcgrad", 1, (9, 9), stopped=True)]
    planned = [run(name, "pcgrad", 2, (0, 0)) for name in ("p2", "p3", "p4")]
    folder = write_folder(tmp_path / "out", runs, planned=planned)
    # p1 failed at first and was run again since; p2 failed; p3 and p4 never started.
    write_failure(folder, "pack-1", ["p1", "p2"], "out of memory")
    rows = coverage(folder).to_dict("records")
    counts = ["expected", "done", "stopped", "diverged", "failed", "missing"]
    assert rows == [
        {"arm": "scalarization", **dict(zip(counts, (2, 2, 0, 0, 0, 0), strict=True))},
        {"arm": "pcgrad", **dict(zip(counts, (6, 1, 1, 1, 1, 2), strict=True))},
    ]
    assert [report["error"] for report in failures(folder)] == ["out of memory"]


def test_coverage_of_a_sweep_that_has_not_begun_is_all_missing(tmp_path: Path) -> None:
    table = coverage(write_folder(tmp_path / "out", [], planned=RUNS))
    assert table["missing"].tolist() == table["expected"].tolist() == [2, 1]


def test_an_unreadable_failure_report_is_named(folder: Path) -> None:
    (folder / "failures" / "bad.json").write_text("{")
    with pytest.raises(RecordsError, match=r"bad\.json"):
        coverage(folder)
