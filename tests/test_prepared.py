"""A problem's data is prepared once a node, however many processes want it at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mtofront.sweep.prepared import first_alone

ROOT = Path(__file__).parents[1]
MAKER = """\
import sys, time
from pathlib import Path
from mtofront.sweep.prepared import first_alone
with first_alone("sweep", "problem"):
    if not Path("data").exists():  # as a download into the working folder would
        with open("downloads", "a") as log:
            log.write("x")
        time.sleep(0.5)
        Path("data").write_text("whole")
    assert Path("data").read_text() == "whole"
"""


def test_processes_that_start_together_download_once(workdir: Path) -> None:
    (workdir / "scratch").mkdir()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(workdir / "scratch")}
    workers = [subprocess.Popen([sys.executable, "-c", MAKER], env=env) for _ in range(3)]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    assert Path("downloads").read_text() == "x"


def test_a_first_one_that_fails_leaves_the_next_one_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(RuntimeError, match="no network"), first_alone("s", "p"):
        raise RuntimeError("no network")
    (made,) = tmp_path.glob("mtofront-*/*")
    assert made.stat().st_size == 0
    with first_alone("s", "p"):
        pass
    assert made.stat().st_size > 0
    with first_alone("s", "p"), first_alone("s", "p"):  # nobody waits any more
        pass
    monkeypatch.setattr(tempfile, "tempdir", str(made))  # no folder: nobody waits either
    with first_alone("s", "p"):
        pass
