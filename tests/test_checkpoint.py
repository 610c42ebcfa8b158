"""Checkpoints: a pack killed after every evaluation, against one that never was; and bad files."""

from __future__ import annotations

import errno
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from test_ending import fragile, limit_memory, runs
from test_engine import Twin, regression, runs_of, settings, spec
from test_lowering import Pictures, pictures
from torch import nn

from mtofront.methods import METHODS, method_named
from mtofront.problems import PROBLEMS, Problem
from mtofront.sweep import Interrupted, Tracker, load_config, resume, run
from mtofront.sweep import checkpoint as checkpoint_module
from mtofront.sweep import train as training
from mtofront.sweep.arms import default_values
from mtofront.sweep.checkpoint import Checkpoints
from mtofront.sweep.records import record_table
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import train_pack
from mtofront.sweep.trained import Progress, Trained


class Killed(Exception):
    """Stands for SIGKILL: nothing between the evaluation and this may save anything."""


def killed_again_and_again(
    problem: Problem, specs: list[RunSpec], path: Path, every: float = 0.0
) -> tuple[Trained, int]:
    """Train, killed after each evaluation and taken up by a new process's objects each time."""
    seen: set[Any] = set()

    def listen(progress: Progress) -> None:
        key = (progress.runs, progress.epoch, progress.points.tobytes())
        if key not in seen:
            seen.add(key)
            raise Killed

    for attempt in range(100):
        checkpoints = Checkpoints(path, every)
        try:
            return train_pack(problem, specs, listen, checkpoints), attempt
        except Killed:
            assert checkpoints.notices == []
    raise AssertionError("no progress from attempt to attempt")


def records(trained: Trained) -> pd.DataFrame:
    return record_table(trained, ["first", "second"]).to_pandas()


def assert_same(found: Trained, expected: Trained) -> None:
    pd.testing.assert_frame_equal(records(found), records(expected), check_exact=True)
    assert found.notice == expected.notice


def check(problem: Problem, specs: list[RunSpec], path: Path, kills: int | None = None) -> None:
    expected = train_pack(problem, specs)
    resumed, killed = killed_again_and_again(problem, specs, path / "p.ckpt")
    assert killed == (specs[0].evaluations + 1 if kills is None else kills)
    assert_same(resumed, expected)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    specs = [replace(s, epochs=3, evaluations=2) for s in runs_of(name, 3)]
    check(regression(), specs, tmp_path)


@pytest.mark.parametrize("call", ["MoDoWeighting(gamma=0.01)", "GradVac()", "ExcessMTL()"])
def test_what_a_method_of_torchjd_remembers_is_kept(call: str, tmp_path: Path) -> None:
    pytest.importorskip("torchjd")
    method = method_named(f"torchjd:{call}")
    hyper = default_values(method)
    one = replace(spec(), method=method.name, hyper=hyper, weights=None, epochs=3, evaluations=3)
    check(regression(), [one, replace(one, seed=1)], tmp_path)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "momentum"])
def test_every_optimiser_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    momentum = 0.9 if name == "momentum" else 0.0
    optimizer = settings(name, weight_decay=0.05, momentum=momentum, schedule="cosine", clip=0.5)
    specs = [replace(s, optimizer=optimizer, epochs=4, evaluations=3) for s in runs_of("cagrad", 4)]
    problem = PROBLEMS["multidigits"](train=160, val=40, test=40)
    check(problem, specs, tmp_path)


LAYERS: dict[str, Callable[[], Problem]] = {
    "dropout": lambda: regression(lambda: Twin(nn.Dropout(0.3))),
    "batch norm": lambda: regression(lambda: Twin(nn.BatchNorm1d(8))),
    "one by one": lambda: regression(lambda: Twin(nn.AlphaDropout(0.5))),
    "convolutions": lambda: pictures(lambda: Pictures(norm=True, drop=0.2)),
}


@pytest.mark.parametrize("layer", sorted(LAYERS))
@pytest.mark.parametrize("method", ["linear", "gradnorm", "merge_average", "pareto_manifold"])
def test_layers_that_draw_or_remember_go_on_bit_for_bit(
    method: str, layer: str, tmp_path: Path
) -> None:
    specs = [replace(s, epochs=4, evaluations=2) for s in runs_of(method, 3)]
    check(LAYERS[layer](), specs, tmp_path)


@pytest.mark.parametrize(
    "treatment", [{"granularity": "tensor"}, {"losses": "log"}, {"level": "features"}]
)
def test_treated_methods_go_on_bit_for_bit(treatment: dict[str, str], tmp_path: Path) -> None:
    specs = [replace(s, treatment=treatment, epochs=3, evaluations=3) for s in runs_of("moco", 3)]
    if "level" in treatment:
        specs = [replace(s, method="mgda", hyper=default_values(METHODS["mgda"])) for s in specs]
    check(regression(), specs, tmp_path)


@pytest.mark.parametrize("method", ["linear", "gradnorm", "mtadam", "merge_ties", "famo"])
def test_a_pack_that_shrinks_goes_on_bit_for_bit(method: str, tmp_path: Path) -> None:
    """Two runs diverge and one stops early; whoever is left keeps its digits."""
    specs = [replace(s, patience=3) for s in runs(method, [0.001, 1e6, 1e-300, 1e6, 0.002])]
    expected = train_pack(fragile(), specs)
    assert (expected.diverged_at >= 0).tolist() == [False, True, False, True, False]
    assert len(set(expected.steps.tolist())) >= 3
    check(fragile(), specs, tmp_path)


def test_a_pack_in_which_every_run_ends_early_is_over_when_taken_up(tmp_path: Path) -> None:
    specs = [replace(s, patience=2) for s in runs("linear", [1e-300, 1e6])]
    check(fragile(), specs, tmp_path, kills=3)


def test_a_single_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    check(regression(), [spec("pcgrad", epochs=4, evaluations=4)], tmp_path)


def test_halves_of_a_pack_too_large_for_memory_go_on_from_their_own_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = runs("mgda", [0.001, 0.002, 1e6, 0.003, 0.004])
    expected = train_pack(fragile(), specs)
    tried = limit_memory(monkeypatch)
    resumed, killed = killed_again_and_again(fragile(), specs, tmp_path / "pack-00000.ckpt")
    assert_same(resumed, expected)
    assert killed > 2 * 7  # every evaluation of a half, and of halves of halves
    assert tried.count(5) == 1  # a pack with checkpoints of halves is not tried whole again
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"pack-00000-{part}.ckpt" for part in ("a", "b-a", "b-b")]
    Checkpoints(tmp_path / "pack-00000.ckpt", 0.0).clear()
    assert list(tmp_path.iterdir()) == []


def test_a_half_that_has_ended_is_kept_however_short_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = runs("linear", [0.001, 0.002, 0.003, 0.004])
    path, trained_epochs = tmp_path / "pack-00000.ckpt", []
    original = training._train_together

    def limited(problem: Any, some: Any, listen: Any, checkpoints: Any, *rest: Any) -> Any:
        if len(some) > 2:
            raise MemoryError
        if some[0] == specs[2] and not trained_epochs:
            raise Killed
        trained_epochs.append([some[0].seed, checkpoints.load(some) is not None])
        return original(problem, some, listen, checkpoints, *rest)

    monkeypatch.setattr(training, "_train_together", limited)
    trained_epochs.clear()
    with pytest.raises(Killed):
        train_pack(regression(), specs, lambda _: trained_epochs.clear(), Checkpoints(path, 1e9))
    train_pack(regression(), specs, checkpoints=Checkpoints(path, 1e9))
    assert trained_epochs == [[0, True], [2, False]]


def damaged(content: bytes, kind: str, random_: random.Random) -> bytes:
    position = random_.randrange(len(content))
    if kind == "truncated":
        return content[:position]
    if kind == "flipped":
        return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    return b""


@pytest.fixture
def left(tmp_path: Path) -> tuple[list[RunSpec], Path]:
    """Runs whose training was killed in the middle, and their checkpoint."""
    specs = [replace(s, epochs=4, evaluations=4) for s in runs_of("famo", 3)]
    path = tmp_path / "p.ckpt"

    def listen(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_pack(regression(), specs, listen, Checkpoints(path, 0.0))
    return specs, path


def from_the_beginning(specs: list[RunSpec], path: Path, words: str) -> None:
    """The pack starts at epoch 0 with a notice that holds these words, and ends as ever."""
    epochs: list[int] = []
    checkpoints = Checkpoints(path, 0.0)
    done = train_pack(regression(), specs, lambda p: epochs.append(p.epoch), checkpoints)
    assert epochs == [0, 1, 2, 3, 4]
    assert len(checkpoints.notices) == 1
    assert words in checkpoints.notices[0] and "start from the beginning" in checkpoints.notices[0]
    assert_same(done, train_pack(regression(), specs))


def test_a_whole_checkpoint_is_gone_on_from(left: tuple[list[RunSpec], Path]) -> None:
    specs, path = left
    epochs: list[int] = []
    done = train_pack(regression(), specs, lambda p: epochs.append(p.epoch), Checkpoints(path, 0.0))
    assert epochs == [2, 3, 4]
    assert_same(done, train_pack(regression(), specs))


@pytest.mark.parametrize("kind", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_refused_wherever_the_damage_is(
    left: tuple[list[RunSpec], Path], kind: str
) -> None:
    specs, path = left
    content, random_ = path.read_bytes(), random.Random(0)
    for _ in range(50):
        path.write_bytes(damaged(content, kind, random_))
        checkpoints = Checkpoints(path, 0.0)
        assert checkpoints.load(specs) is None
        assert "damaged or half-written" in checkpoints.notices[0]
    from_the_beginning(specs, path, "damaged or half-written")


def signed(head: dict[str, Any], payload: bytes) -> bytes:
    body = json.dumps(head).encode() + b"\n" + payload
    return body + sha256(body).digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoint": 1}, "of format 1, not 2"),
        ({"checkpoint": 3}, "of format 3, not 2"),
        ({"mtofront": "0.0.1"}, "of version of mtofront 0.0.1"),
        ({"runs": ["abc"]}, "of other runs"),
    ],
)
def test_a_foreign_checkpoint_is_refused(
    left: tuple[list[RunSpec], Path], change: dict[str, Any], words: str
) -> None:
    specs, path = left
    line, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(signed({**json.loads(line), **change}, rest[:-32]))
    from_the_beginning(specs, path, words)


def test_the_checkpoint_of_the_same_runs_in_another_order_is_refused(
    left: tuple[list[RunSpec], Path],
) -> None:
    specs, path = left
    from_the_beginning(specs[::-1], path, "of other runs")


class Code:
    """Unpickled by an unwary reader, this would make a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


def test_no_code_in_a_checkpoint_is_run(left: tuple[list[RunSpec], Path]) -> None:
    specs, path = left
    line = path.read_bytes().partition(b"\n")[0]
    trap = path.with_name("trap")
    code = io.BytesIO()
    torch.save({"epoch": Code(str(trap))}, code)
    for payload in (code.getvalue(), b"neither pickle nor zip"):
        path.write_bytes(signed(json.loads(line), payload))
        from_the_beginning(specs, path, "cannot be read")
    assert not trap.exists()


@pytest.mark.parametrize("part", ["params", "first", "method", "ledger"])
def test_a_checkpoint_whose_tensors_do_not_fit_is_refused(
    left: tuple[list[RunSpec], Path], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, path = left
    state = Checkpoints(path, 0.0).load(specs)
    assert state is not None
    if part == "ledger":
        del state["ledger"]["waited"]
    else:
        tensors = state["course"][part]
        name = next(iter(tensors))
        tensors[name] = tensors[name][:, :-1]
    Checkpoints(path, 0.0).save(specs, state)
    from_the_beginning(specs, path, "does not fit its runs")


def test_a_checkpoint_that_cannot_be_written_is_a_notice_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(tmp_path / "p.ckpt", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = train_pack(regression(), [spec(), spec(seed=1)], checkpoints=checkpoints)
    assert_same(done, train_pack(regression(), [spec(), spec(seed=1)]))
    assert len(checkpoints.notices) == 1 and "no space left" in checkpoints.notices[0]
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_as_far_apart_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def listen(progress: Progress) -> None:
        nonlocal now
        now += 25.0
        head = path.read_bytes() if path.exists() else b""
        written.append(head)

    monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda: now)
    path, written = tmp_path / "p.ckpt", []
    specs = [spec(epochs=7, evaluations=7), spec(seed=1, epochs=7, evaluations=7)]
    train_pack(regression(), specs, listen, Checkpoints(path, 60.0))
    changes = [k for k in range(1, 8) if written[k] != written[k - 1]]
    assert changes == [3, 6]  # evaluations at 75 and 150 seconds


def rows(folder: Path) -> pd.DataFrame:
    from mtofront.analysis import load

    frame = load(folder)
    return frame.sort_values(list(frame.columns)).reset_index(drop=True)


def test_a_sweep_stopped_in_a_pack_goes_on_in_the_middle_of_it_and_leaves_no_checkpoint(
    bowls: Path,
) -> None:
    changes = ["budget.epochs=6", "budget.evaluations=6", "resources.checkpoint_seconds=0"]
    config = load_config(bowls, changes)
    run(config, "whole")
    assert not list(Path("whole").glob("checkpoints/*"))

    def stop(tracker: Tracker) -> None:
        if any(news.epoch == 3 for news in tracker.latest.values()):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(config, "cut", listen=stop)
    assert [path.name for path in Path("cut/checkpoints").iterdir()] == ["pack-00000.ckpt"]
    first: dict[int, int] = {}

    def note(tracker: Tracker) -> None:
        for number, news in tracker.latest.items():
            first.setdefault(number, news.epoch)

    outcome = resume("cut", listen=note)
    assert first[0] == 3 and set(list(first.values())[1:]) == {0}
    assert outcome.notices == ()
    assert not list(Path("cut/checkpoints").iterdir())
    pd.testing.assert_frame_equal(rows(Path("cut")), rows(Path("whole")))


def test_a_damaged_checkpoint_in_a_folder_is_told_and_what_dead_processes_left_is_removed(
    bowls: Path,
) -> None:
    config = load_config(bowls)
    run(config, "out")
    before = rows(Path("out"))
    next(Path("out/records").glob("*-00001.parquet")).unlink()
    folder = Path("out/checkpoints")
    folder.mkdir(exist_ok=True)
    for name in ("pack-00001.ckpt", "pack-00000.ckpt", "pack-00000-a-b.ckpt", ".x.1.partial"):
        (folder / name).write_bytes(b"nonsense")
    outcome = resume("out")
    assert len(outcome.notices) == 1 and "pack-00001.ckpt" in outcome.notices[0]
    assert not list(folder.iterdir())
    pd.testing.assert_frame_equal(rows(Path("out")), before)
