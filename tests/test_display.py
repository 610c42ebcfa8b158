"""What is shown while a sweep runs: counts, rates, fronts; live on a terminal, plain elsewhere."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mtofront.analysis import load
from mtofront.display import Display, watch
from mtofront.picture import line, picture, rate
from mtofront.scatter import SHARED, scatter
from mtofront.sweep import ArmStanding, Folder, Interrupted, Standing, Tracker, load_config, run
from mtofront.sweep import resume as resume_sweep
from mtofront.sweep import standing as standing_of
from mtofront.sweep import tracker as tracker_module
from mtofront.sweep.fronts import Fronts
from mtofront.sweep.job import News
from mtofront.sweep.standing import standing_from

ROOT = Path(__file__).parents[1]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def staircase(points: np.ndarray, corner: np.ndarray) -> float:
    """The area that points of a plane dominate below a corner, rectangle by rectangle."""
    area, ceiling = 0.0, corner[1]
    for x, y in sorted(map(tuple, points)):
        if x < corner[0] and y < ceiling:
            area += (corner[0] - x) * (ceiling - y)
            ceiling = y
    return area


def many_arms(count: int) -> Standing:
    arms = [
        ArmStanding(f"an_arm_with_quite_a_long_name_{k}", 1200, 800, 40, 3, k % 2, 0.5 + k / 100,
                    tuple((0.1 + t / 9 + k / 50, 1.2 - t / 9) for t in range(10)))
        for k in range(count)
    ]  # fmt: skip
    lines = ("Ray's dashboard: http://127.0.0.1:8265",)
    return Standing(("speed", "size"), tuple(arms), 0.64, 725.0, 12.5, 48_000.0, lines)


def drawn(standing: Standing, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=StringIO(), width=width, height=height, force_terminal=False)
    console.print(picture(standing, width, height))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_fronts_keep_what_is_not_dominated_and_hypervolume_is_the_staircase() -> None:
    rng = np.random.default_rng(0)
    fronts = Fronts()
    fronts.add("a", np.array([[2.0, 4.0], [np.nan, 1.0]]), untrained=True)
    fronts.add("b", np.array([[9.0, 9.0]]), untrained=True)  # the first reference point stays
    heard = [np.array([[2.0, 4.0]])]
    for _ in range(20):
        heard.append(rng.random((7, 2)) * [2.2, 4.4])
        fronts.add("a", heard[-1])
    points = np.concatenate(heard)
    free = [p for p in points if not any((q <= p).all() and (q < p).any() for q in points)]
    assert sorted(map(tuple, fronts.points["a"])) == sorted(map(tuple, free))
    expected = staircase(points, np.array([2.0, 4.0])) / 8.0
    assert fronts.volumes(now=True)["a"] == pytest.approx(expected)
    assert fronts.volumes()["b"] == 0.0
    assert len(fronts.shown("a", 3)) <= 3


def test_hypervolumes_of_many_tasks_are_near_the_exact_ones() -> None:
    fronts = Fronts()
    fronts.add("a", np.ones((1, 6)), untrained=True)
    sides = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.4])
    fronts.add("a", sides[None])
    assert fronts.volumes(now=True)["a"] == pytest.approx(np.prod(1 - sides), rel=0.02)


def test_a_scatter_puts_letters_where_the_points_are() -> None:
    groups = {"A": [(0.0, 1.0), (1.0, 0.0)], "B": [(0.0, 0.0), (1.0, 0.0)]}
    lines = scatter(groups, ("x", "y"), 40, 8)
    assert len(lines) == 8 and max(map(len, lines)) <= 40
    rows = [text[10:].ljust(30) for text in lines[1:6]]
    assert rows[0][0] == "A" and rows[-1][0] == "B" and rows[-1][29] == SHARED
    assert sum(len(row.replace(" ", "")) for row in rows) == 3
    assert scatter({"A": []}, ("x", "y"), 40, 8) == []
    assert scatter(groups, ("x", "y"), 25, 8) == []


def test_wide_axes_are_logarithmic_and_say_so() -> None:
    lines = scatter({"A": [(0.01, 1.0), (0.1, 1.5), (1.0, 2.0)]}, ("x", "y"), 41, 8)
    columns = sorted(text.index("A") for text in lines if "A" in text)
    assert columns == [10, 25, 40]
    assert "x (log)" in lines[-1] and "(log)" not in lines[0]


@pytest.mark.parametrize(("arms", "height"), [(2, 24), (8, 24), (40, 24), (8, 12), (3, 50)])
def test_the_picture_fits_the_terminal(arms: int, height: int) -> None:
    lines = drawn(many_arms(arms), height=height)
    assert len(lines) < height
    assert max(map(len, lines)) <= 80
    assert "64%" in lines[0] and f"{803 * arms}/{1200 * arms} runs" in lines[0]
    assert "12 min 05 s left" in lines[0]
    assert "12.5 runs/s" in lines[1] and "48,000 steps/s" in lines[1]
    assert any("8265" in text for text in lines)
    if height > 20 and arms < 10:
        assert any("│" in text and "A" in text for text in lines)


def test_rates_are_given_in_a_unit_that_reads_well() -> None:
    assert rate(1234.5) == "1,234 runs/s"
    assert rate(0.5) == "30.0 runs/min"
    assert rate(0.001) == "3.6 runs/h"


def test_a_standing_goes_through_json_and_into_one_line() -> None:
    standing = many_arms(3)
    assert standing_from(json.loads(json.dumps(asdict(standing)))) == standing
    text = line(standing)
    assert "2409/3600 runs" in text and "9 diverged" in text and "1 failed" in text
    assert "HV 0.5200 an_arm_with_quite_a_long_name_2" in text
    with pytest.raises((KeyError, TypeError)):
        standing_from({"arms": [{"nonsense": 1}]})


def test_a_tracker_counts_runs_by_arm_and_measures_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(tracker_module.time, "monotonic", lambda: now)
    manifest = {
        "packs": [["a", "b"], ["c", "d"], ["e"], ["f"]],
        "runs": {n: {"arm": "x" if n in "abcd" else "y", "epochs": 1} for n in "abcdef"},
        "arms": {name: {"backward_passes_per_step": 1} for name in "xy"},
        "tasks": ["speed", "size"],
    }
    tracker = Tracker(Folder(tmp_path), manifest, [0, 1, 2, 3])
    tracker.hear(News(0, 2, epochs=4, points=((2.0, 2.0), (2.0, 2.0))))
    tracker.hear(News(1, 2, epoch=1, epochs=4, steps=20, diverged=1))  # from a checkpoint
    now = 110.0
    half = ((1.0, 1.0), (float("nan"), float("nan")))
    tracker.hear(News(1, 2, epoch=2, epochs=4, steps=30, diverged=1, points=half))
    tracker.hear(News(0, 2, epoch=4, epochs=4, steps=90, done=True))
    tracker.hear(News(2, 1, failed="it broke"))
    tracker.say("look there")
    standing = tracker.standing(exact=True)
    x, y = standing.arms
    assert (x.expected, x.done, x.running, x.diverged, x.failed) == (4, 2, 1, 1, 0)
    assert (y.expected, y.done, y.running, y.diverged, y.failed) == (2, 0, 0, 0, 1)
    assert x.hypervolume == pytest.approx(0.25) and y.hypervolume is None
    assert x.front == ((1.0, 1.0),)
    assert standing.runs_per_second == pytest.approx(0.2)
    assert standing.steps_per_second == pytest.approx(10.0)  # (90 + 30 - 20) in 10 s
    assert standing.lines == ("look there",)


def test_plain_lines_come_at_a_sane_rate_without_control_characters() -> None:
    now = 0.0
    console = Console(file=StringIO(), force_terminal=False, width=80)
    display = Display(console, clock=lambda: now)
    for second in range(3601):
        now = float(second)
        display.take(replace(many_arms(2), share=second / 3600))
    display.take(many_arms(2), last=True)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].startswith("Ray's dashboard") and lines.count(lines[0]) == 1
    assert 60 < len(lines) < 120  # every ten seconds at first, every two minutes later
    assert not CONTROL.search("\n".join(lines).replace("\n", ""))


def test_watching_a_folder_follows_its_driver_and_ends_with_it(bowls: Path) -> None:
    config = load_config(bowls, ["budget.epochs=4", "budget.evaluations=4", "resources.pack=4"])
    begun = threading.Event()

    def slowly(tracker: Tracker) -> None:
        if tracker.latest:
            begun.set()
            time.sleep(0.05)

    driver = threading.Thread(target=lambda: run(config, "out", listen=slowly))
    driver.start()
    assert begun.wait(60)
    console = Console(file=StringIO(), force_terminal=True, width=80, height=24)
    last = watch(Path("out"), console, 0.1)
    driver.join()
    assert last.count("done") == last.count("expected") == 60
    assert last.share == 1.0
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"\b[1-9]\d* steps/s", text) and "left" in text
    assert not Path("out/progress.json").exists()


def test_a_resumed_sweep_shows_what_was_done_before(bowls: Path) -> None:
    def stop(tracker: Tracker) -> None:
        if tracker.done >= 25:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(load_config(bowls), "out", listen=stop)
    before = standing_of(Folder(Path("out")))
    seen: list[Standing] = []
    resume_sweep("out", listen=lambda tracker: seen.append(tracker.standing(exact=True)))
    assert seen[0].count("done") == before.count("done") >= 25
    assert [arm.hypervolume for arm in seen[0].arms] == [arm.hypervolume for arm in before.arms]
    after = standing_of(Folder(Path("out")))
    assert after.count("done") == 60
    assert max(arm.hypervolume or 0 for arm in after.arms) > 0

    frame = load("out")
    losses = frame[(frame["measure"] == "loss") & (frame["split"] == "val")]
    wide = losses.pivot_table(index=["arm", "run", "step"], columns="task", values="value")
    first = json.loads(Path("out/manifest.json").read_text())["packs"][0]
    untrained = wide.xs(0, level="step").loc[(slice(None), first), :].to_numpy().mean(axis=0)
    for arm in after.arms:
        points = wide.loc[arm.arm].to_numpy()
        expected = staircase(points, untrained) / untrained.prod()
        assert arm.hypervolume == pytest.approx(expected, rel=1e-6)


def status_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mtofront", "status", *arguments]


def test_status_watch_of_an_unfinished_sweep_without_a_driver_ends_with_1(bowls: Path) -> None:
    run(load_config(bowls), "out")
    next(Path("out/records").glob("*.parquet")).unlink()
    done = subprocess.run(
        status_command("out", "--watch", "1"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "mtofront resume out" in done.stderr
    assert len(done.stdout.splitlines()) == 1 and not CONTROL.search(done.stdout.rstrip("\n"))


def test_status_watch_draws_on_a_real_terminal(bowls: Path) -> None:
    run(load_config(bowls), "out")
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        status_command("out", "--watch"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"},
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    text = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        text += chunk
    os.close(leader)
    assert done.wait(60) == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())
    assert "60/60 runs" in shown and "A  scalarization" in shown and "Fronts of validation" in shown
    assert max(len(part) for part in shown.replace("\r", "\n").splitlines()) <= 80
