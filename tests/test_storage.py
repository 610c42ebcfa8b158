"""Sweeps whose results lie in a storage: as in a folder, resumed from there alone, with faults."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.fs
import pytest
from test_sweep import UNSTABLE, sorted_frame

from mtofront.sweep import (
    EngineError,
    Folder,
    Interrupted,
    RequestError,
    StorageError,
    Tracker,
    load_config,
    resume,
    run,
    status,
    stored_path,
)
from mtofront.sweep import owner as owner_module
from mtofront.sweep.folder import write_whole
from mtofront.sweep.owner import owned
from mtofront.sweep.stored_path import StoredPath, check_storage, stored

SEARCH = ["arms={scalarization: {method: linear, weights: {search: front, points: 9}}, pcgrad: {}}"]
HALVING = [
    "budget={epochs: 4, batch_size: 16, evaluations: 4}",
    "scheduler={name: front_halving, rungs: [0.5]}",
]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here takes seconds to answer, and no other process takes part unless a test says."""
    monkeypatch.setattr(stored_path, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(owner_module, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(owner_module, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(owner_module, "SILENT_SECONDS", 0.5)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture
def expected(bowls: Path) -> pd.DataFrame:
    run(load_config(bowls), "expected")
    return sorted_frame(Path("expected"))


def settings(uri: str, *more: str) -> list[str]:
    return [f"resources.storage={uri}", *more]


def files_of(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def stop_after(runs: int) -> Callable[[Tracker], None]:
    def stop(tracker: Tracker) -> None:
        if tracker.done >= runs:
            raise KeyboardInterrupt

    return stop


def test_records_are_those_of_a_folder_and_lie_in_both_places(
    bowls: Path, uri: str, expected: pd.DataFrame
) -> None:
    outcome = run(load_config(bowls, settings(uri)), "out")
    assert (outcome.failed, outcome.notices) == ({}, ())
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)
    kept, copied = files_of(Path("store")), files_of(Path("out"))
    assert copied - kept == {"lock"} and kept <= copied
    assert {"config.yaml", "manifest.json", "records/pack-00000.parquet"} <= kept
    for name in kept:
        assert Path("store", name).read_bytes() == Path("out", name).read_bytes()
    assert status(Folder(Path("out")))["cagrad"] == {"expected": 20, "recorded": 20}


@pytest.mark.parametrize("changes", [[], SEARCH, HALVING], ids=["plain", "search", "halving"])
def test_a_sweep_goes_on_from_its_storage_alone(bowls: Path, uri: str, changes: list[str]) -> None:
    run(load_config(bowls, changes), "whole")
    for after in (1, 12, 30):
        folder = f"machine-{after}"
        with pytest.raises(Interrupted):
            if after == 1:
                config = load_config(
                    bowls, settings(uri, "resources.checkpoint_seconds=0", *changes)
                )
                run(config, folder, listen=stop_after(after))
            else:
                resume(folder, storage=uri, listen=stop_after(after))
    outcome = resume("last", storage=uri)
    assert outcome.failed == {}
    pd.testing.assert_frame_equal(sorted_frame(Path("last")), sorted_frame(Path("whole")))
    resume("machine-12")  # an older copy is brought up to date, and nothing is trained
    pd.testing.assert_frame_equal(sorted_frame(Path("machine-12")), sorted_frame(Path("whole")))
    assert "checkpoints" not in {Path(name).parts[0] for name in files_of(Path("store"))}


def test_the_same_config_in_a_new_folder_takes_the_storage_up(
    bowls: Path, uri: str, expected: pd.DataFrame
) -> None:
    run(load_config(bowls, settings(uri)), "first")
    before = {name: Path("store", name).stat().st_mtime_ns for name in files_of(Path("store"))}
    run(load_config(bowls, settings(uri)), "second")
    assert {n: Path("store", n).stat().st_mtime_ns for n in files_of(Path("store"))} == before
    pd.testing.assert_frame_equal(sorted_frame(Path("second")), expected)


@pytest.fixture
def stopped(bowls: Path, uri: str) -> Path:
    """The folder of a sweep that was stopped after twelve pieces of news."""
    with pytest.raises(Interrupted):
        run(load_config(bowls, settings(uri)), "out", listen=stop_after(12))
    return Path("out")


def test_what_a_storage_lost_is_put_there_again(
    stopped: Path, uri: str, expected: pd.DataFrame
) -> None:
    Path("store").rename("lost")
    assert resume(stopped).failed == {}
    assert {n for n in files_of(Path("lost")) if "records" in n} <= files_of(Path("store"))
    resume("elsewhere", storage=uri)
    pd.testing.assert_frame_equal(sorted_frame(Path("elsewhere")), expected)


def test_a_storage_that_moved_is_named_anew_and_remembered(
    stopped: Path, uri: str, expected: pd.DataFrame
) -> None:
    Path("store").rename("moved")
    with pytest.raises(Interrupted):
        resume(stopped, storage=f"{uri[:-5]}moved", listen=stop_after(20))
    resume(stopped)
    pd.testing.assert_frame_equal(sorted_frame(stopped), expected)
    assert not Path("store").exists()


def test_other_sweeps_and_strange_files_are_refused_untouched(bowls: Path, uri: str) -> None:
    run(load_config(bowls, settings(uri)), "out")
    Path("strange").mkdir()
    Path("strange/thesis.tex").write_text("x")
    before = files_of(Path.cwd())
    strange = f"{uri}/../strange"

    def run_with(folder: str, *changes: str) -> Any:
        return run(load_config(bowls, list(changes)), folder)

    wrong: list[tuple[str, Callable[[], Any]]] = [
        (
            "another experiment.*resources.storage",
            lambda: run_with("new", *settings(uri, "seeds=3")),
        ),
        ("no sweep.*thesis.tex", lambda: run_with("new", *settings(strange))),
        ("this storage holds no sweep", lambda: resume("new", storage=strange)),
        ("no sweep.*thesis.tex", lambda: resume("strange", storage=uri)),
        ("has resources.storage: file.*found none", lambda: run_with("out")),
    ]
    for words, request in wrong:
        with pytest.raises(RequestError, match=words):
            request()
    assert files_of(Path.cwd()) == before
    run(load_config(bowls, ["seeds=1"]), "local")
    with pytest.raises(RequestError, match="hold different experiments"):
        resume("local", storage=uri)
    assert "storage: null" in Path("local/config.yaml").read_text()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("bucket/prefix", "a URI that pyarrow opens"),
        ("foo://bucket", "a URI that pyarrow opens"),
        ("s3://key:secret@bucket/prefix", "no password or key belongs in a config"),
    ],
)
def test_addresses_that_are_none_are_refused(bowls: Path, address: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        run(load_config(bowls, settings(address)), "out")
    assert "secret" not in str(caught.value) and not Path("out").exists()


def test_a_storage_that_cannot_be_used_is_one_clear_error_before_anything_starts(
    bowls: Path, tmp_path: Path
) -> None:
    Path("file").write_text("in the way")
    for address in (
        f"file://{tmp_path}/file/deep",
        "s3://b/p?endpoint_override=127.0.0.1:9&scheme=http",
    ):
        with pytest.raises(
            StorageError, match=r"resources\.storage must be a place where"
        ) as caught:
            run(load_config(bowls, settings(address)), "out")
        assert "\n" not in str(caught.value) and not Path("out").exists()


class Faults:
    """Stands between a storage and its puts; `breaks` says of a file's name whether one fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, breaks: Callable[[str], bool]) -> None:
        self.failed: list[str] = []
        real = StoredPath._put

        def put(place: StoredPath, content: bytes) -> None:
            if breaks(place.shown):
                self.failed.append(place.name)
                raise OSError(None, "the network is down")
            real(place, content)

        monkeypatch.setattr(StoredPath, "_put", put)


def test_a_put_that_fails_once_is_tried_again(
    bowls: Path, uri: str, expected: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    def first(name: str) -> bool:
        return not (
            name.endswith("owner.json") or "probe" in name or name in seen or seen.add(name)
        )  # type: ignore[func-returns-value]

    faults = Faults(monkeypatch, first)
    outcome = run(load_config(bowls, settings(uri, "resources.checkpoint_seconds=0")), "out")
    assert {"manifest.json", "pack-00000.parquet", "pack-00000.ckpt"} <= set(faults.failed)
    assert (outcome.failed, outcome.notices) == ({}, ())
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)


def test_records_that_can_never_be_put_stop_the_sweep_and_what_is_there_stays(
    bowls: Path, uri: str, expected: pd.DataFrame
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, lambda name: name.endswith("records/pack-00002.parquet"))
        with pytest.raises(
            StorageError, match=r"store/records/pack-00002.parquet: cannot write: the network"
        ):
            run(load_config(bowls, settings(uri)), "out")
    assert faults.failed == ["pack-00002.parquet"] * 3
    assert [path.name for path in sorted(Path("store/records").iterdir())] == [
        "pack-00000.parquet",
        "pack-00001.parquet",
    ]
    resume("out")
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)


def test_checkpoints_that_cannot_be_put_are_told_and_training_goes_on(
    bowls: Path, uri: str, expected: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    Faults(monkeypatch, lambda name: name.endswith(".ckpt"))
    outcome = run(load_config(bowls, settings(uri, "resources.checkpoint_seconds=0")), "out")
    assert "training goes on without a new checkpoint" in outcome.notices[0]
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda content: content[:100],
    lambda content: b"",
    lambda content: content[:300] + b"x" + content[301:],
]


@pytest.mark.parametrize("damage", DAMAGES, ids=["cut", "empty", "changed"])
def test_a_damaged_object_is_told_and_its_runs_are_trained_again(
    bowls: Path, uri: str, expected: pd.DataFrame, damage: Callable[[bytes], bytes]
) -> None:
    run(load_config(bowls, settings(uri)), "out")
    path = Path("store/records/pack-00003.parquet")
    path.write_bytes(damage(path.read_bytes()))
    outcome = resume("new", storage=uri)
    assert (
        len(outcome.notices) == 1
        and "store/records/pack-00003.parquet was damaged" in outcome.notices[0]
    )
    pd.testing.assert_frame_equal(sorted_frame(Path("new")), expected)
    assert resume("newer", storage=uri).notices == ()


def test_a_copy_that_is_damaged_is_brought_again(
    bowls: Path, uri: str, expected: pd.DataFrame
) -> None:
    run(load_config(bowls, settings(uri)), "out")
    kept = Path("store/records/pack-00003.parquet")
    before = kept.stat().st_mtime_ns
    Path("out/records/pack-00003.parquet").write_bytes(b"nonsense")
    assert resume("out").notices == () and kept.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)


def test_records_that_are_damaged_on_arrival_are_a_failure_that_can_be_tried_again(
    bowls: Path, uri: str, expected: pd.DataFrame
) -> None:
    real = StoredPath._put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            StoredPath,
            "_put",
            lambda place, content: real(
                place, content[:-9] if place.name == "pack-00001.parquet" else content
            ),
        )
        outcome = run(load_config(bowls, settings(uri)), "out")
    assert outcome.failed == {1: "its records in the storage are damaged or half-written"}
    assert resume("out").failed == {}
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)


def test_what_cannot_be_read_while_packs_train_is_brought_at_the_end(
    bowls: Path, uri: str, expected: pd.DataFrame
) -> None:
    real, failed = StoredPath.read_bytes, []

    def read(place: StoredPath) -> bytes:
        if place.suffix == ".parquet" and len(failed) < 4:
            failed.append(place.name)
            raise StorageError(errno.EIO, f"{place}: cannot read: the network is down")
        return real(place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoredPath, "read_bytes", read)
        run(load_config(bowls, settings(uri)), "out")
    assert len(set(failed)) == 4
    pd.testing.assert_frame_equal(sorted_frame(Path("out")), expected)


def test_a_pack_that_failed_leaves_its_reason_in_both_places(bowls: Path, uri: str) -> None:
    Path("unstable_three.py").write_text(UNSTABLE)
    changes = ["problem=unstable_three:problem", "seeds=1", "problem_options={broken: true}"]
    outcome = run(load_config(bowls, settings(uri, *changes)), "out")
    assert set(outcome.failed.values()) == {"RuntimeError: the loss is broken"}
    for place in ("out", "store"):
        failure = json.loads(sorted(Path(place, "failures").iterdir())[0].read_text())
        assert "the loss is broken" in failure["traceback"]
    assert status(Folder(Path("out")))["pcgrad"] == {"expected": 10, "failed": 10}


def test_a_second_driver_on_a_storage_is_refused(bowls: Path, uri: str) -> None:
    refusals: list[str] = []

    def listen(tracker: Tracker) -> None:
        if not refusals:
            with pytest.raises(
                RequestError, match="another mtofront is working with this"
            ) as caught:
                resume("other", storage=uri)
            refusals.append(str(caught.value))

    run(load_config(bowls, settings(uri)), "out", listen=listen)
    assert f"process {os.getpid()} on" in refusals[0]
    assert not Path("store/owner.json").exists()


def test_two_drivers_that_claim_a_storage_at_once_do_not_both_get_it(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "SETTLE_SECONDS", 0.5)
    monkeypatch.setattr(owner_module, "SILENT_SECONDS", 10.0)
    ends: list[str] = []
    both = threading.Barrier(2)

    def claim() -> None:
        both.wait()
        try:
            with owned(stored(uri)):
                ends.append("owned")
                both.wait(30)
        except RequestError:
            ends.append("refused")
            both.wait(30)

    threads = [threading.Thread(target=claim) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["owned", "refused"]


@pytest.mark.parametrize("home", ["this machine", "another machine"])
def test_a_dead_owner_is_followed(
    bowls: Path, uri: str, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    Path("store").mkdir()
    place = owner_module._home() if home == "this machine" else home
    owner = {
        "owner": "a dead one",
        "token": "0",
        "beats": 3,
        "home": place,
        "process": int(died.stdout),
    }
    Path("store/owner.json").write_text(json.dumps(owner))
    if home == "this machine":
        monkeypatch.setattr(owner_module, "SILENT_SECONDS", 1e9)
    assert run(load_config(bowls, settings(uri)), "out").failed == {}


def test_a_driver_whose_storage_was_taken_over_stops(uri: str) -> None:
    owner = Path(uri.removeprefix("file://"), "owner.json")
    with pytest.raises(EngineError, match="another mtofront took over"), owned(stored(uri)):
        for _ in range(300):  # as another driver's beats would, whichever comes first
            owner.write_text('{"token": "another", "owner": "x"}')
            threading.Event().wait(0.1)
    assert owner.exists()


def test_a_stored_path_is_what_pathlib_would_be(tmp_path: Path, uri: str) -> None:
    root = stored(uri)
    place, real = root / "a" / "pack-1.b.ckpt", tmp_path / "store" / "a" / "pack-1.b.ckpt"
    for name in ("name", "stem", "suffix"):
        assert getattr(place, name) == getattr(real, name)
    assert str(place) == f"file://{real}" and str(place.parent.with_name("z")) == f"{uri}/z"
    assert not place.exists() and list(place.parent.glob("*")) == []
    with pytest.raises(FileNotFoundError):
        place.read_bytes()
    with pytest.raises(FileNotFoundError):
        place.unlink()
    place.unlink(missing_ok=True)
    place.write(lambda file: file.write("ä".encode()))
    assert real.read_text() == place.read_text() == "ä" and place.exists()
    assert [p.name for p in place.parent.glob("pack-[01]*")] == [real.name]
    assert list(place.parent.glob("*.json")) == []
    place.unlink()
    assert not real.exists()


def test_a_file_that_is_not_filled_to_its_end_does_not_appear(tmp_path: Path, uri: str) -> None:
    def half(file: Any) -> None:
        file.write(b"half")
        raise ValueError("a tensor that cannot be written")

    with pytest.raises(ValueError, match="a tensor"):
        write_whole(stored(uri) / "x", half)
    assert not files_of(tmp_path)
    broken = pyarrow.fs.LocalFileSystem()
    place = StoredPath(broken, str(tmp_path / "y"), "file:///y")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            StoredPath,
            "_stream",
            lambda self, path, content: (Path(path).write_bytes(content[:1]), 1 / 0),
        )
        with pytest.raises(ZeroDivisionError):
            place.write(lambda file: file.write(b"half"))
    assert "y" not in files_of(tmp_path)


def test_the_check_leaves_nothing_behind(tmp_path: Path, uri: str) -> None:
    check_storage(stored(uri))
    assert files_of(tmp_path) == set()
