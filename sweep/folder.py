"""A sweep's folder: config, manifest, records, failures, each file written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import RequestError, StorageError

Pack = tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """Where one experiment lives. A pack's files carry its number in the manifest."""

    root: Path

    @property
    def config(self) -> Path:
        """The config after defaults."""
        return self.root / "config.yaml"

    @property
    def manifest(self) -> Path:
        """Every planned run, the packs, versions and machine."""
        return self.root / "manifest.json"

    @property
    def progress(self) -> Path:
        """Which packs the living driver is training; meaningless without one."""
        return self.root / "progress.json"

    def records(self, pack: int) -> Path:
        """The records of one pack."""
        return self.root / "records" / f"pack-{pack:05d}.parquet"

    def failure(self, pack: int) -> Path:
        """Why a pack failed, if it did."""
        return self.root / "failures" / f"pack-{pack:05d}.json"

    def read_manifest(self) -> dict[str, Any]:
        """The manifest. Raises RequestError if the folder holds no readable one."""
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RequestError(
                f"{self.root}: this folder holds no sweep (there is no manifest.json in it)"
            ) from None
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.manifest}: the manifest cannot be read: {error}") from None
        return dict(manifest)

    def finished(self, packs: Mapping[int, Pack]) -> set[int]:
        """Numbers of the packs whose records are there, whole and about the planned runs."""
        return {number for number, runs in packs.items() if self._is_whole(number, runs)}

    def _is_whole(self, number: int, runs: Pack) -> bool:
        try:
            column = pq.read_table(self.records(number), columns=["run"])["run"]
        except (OSError, pa.ArrowException, KeyError):
            return False
        return set(column.unique().to_pylist()) == set(runs)

    def failed(self, packs: Mapping[int, Pack]) -> dict[int, str]:
        """Number -> one line of what went wrong, for the packs that failed and have no records."""
        failures = {}
        for number in packs:
            with contextlib.suppress(OSError, ValueError, KeyError):
                failures[number] = str(json.loads(self.failure(number).read_text())["error"])
        return failures


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all. Raises StorageError."""
    text = json.dumps(value, indent=1)
    write_whole(path, lambda file: file.write(text.encode()))


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet whole or not at all. Raises StorageError."""
    write_whole(path, lambda file: pq.write_table(table, file))


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a new file beside `path`, make it durable, then put it in place.

    Raises StorageError, naming the file and the reason; nothing half-written stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(error.errno, f"{path}: cannot write: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "no space left on the device; free some, then `mtofront resume` goes on"
    return error.strerror or str(error)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder for this process; the lock goes with the process, however it ends.

    Raises RequestError if another process holds it, StorageError if the folder cannot be written.
    """
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        file = open(folder.root / "lock", "a")  # noqa: SIM115 (closed below, held until then)
    except OSError as error:
        raise StorageError(error.errno, f"{folder.root}: cannot write: {_reason(error)}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(
                f"{folder.root}: another mtofront is working in this folder; wait for it, or look "
                f"with: mtofront status {folder.root}"
            ) from None
        yield


def is_locked(folder: Folder) -> bool:
    """Whether a living process works in the folder."""
    try:
        with open(folder.root / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
