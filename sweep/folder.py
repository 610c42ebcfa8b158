"""A sweep's folder: config, manifest, records, failures, each file written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import RequestError, StorageError
from .layout import (
    CONFIG,
    FOLDERS,
    MANIFEST,
    checkpoint_name,
    failure_name,
    records_name,
    rung_name,
)
from .spec import FORMAT
from .stored_path import PROBE, Location, StoredPath

Pack = tuple[str, ...]


@dataclass(frozen=True)
class Folder:
    """Where one experiment lives. A pack's files carry its number in the manifest.

    storage: where workers put what they make, if not into the folder. What it holds is what counts,
    and the folder is the driver's copy, without checkpoints.
    """

    root: Path
    storage: StoredPath | None = None

    @property
    def shared(self) -> Location:
        """What drivers and workers see: the storage, or else the folder."""
        return self.storage or self.root

    @property
    def places(self) -> tuple[Location, ...]:
        """Where what a driver writes for workers belongs, in this order."""
        return (self.storage, self.root) if self.storage else (self.root,)

    @property
    def config(self) -> Path:
        """The config after defaults."""
        return self.root / CONFIG

    @property
    def manifest(self) -> Path:
        """Every planned run, the packs, versions and machine."""
        return self.root / MANIFEST

    @property
    def progress(self) -> Path:
        """Which packs the living driver is training; meaningless without one."""
        return self.root / "progress.json"

    def records(self, pack: int) -> Path:
        """The records of one pack."""
        return self.root / records_name(pack)

    def checkpoint(self, pack: int) -> Location:
        """Where a pack in training stands; its halves' stand beside it."""
        return self.shared / checkpoint_name(pack)

    def rung(self, arm: str, epoch: int) -> Path:
        """What was decided on an arm's runs after an epoch."""
        return self.root / rung_name(arm, epoch)

    def failure(self, pack: int) -> Path:
        """Why a pack failed, if it did."""
        return self.root / failure_name(pack)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest. Raises RequestError if the folder holds none that this version reads."""
        return read_manifest(self.root)

    def finished(self, packs: Mapping[int, Pack]) -> set[int]:
        """Numbers of the packs whose records are there, whole and about the planned runs."""
        return {number for number, flaw in self.flaws(packs).items() if flaw == ""}

    def flaws(self, packs: Mapping[int, Pack]) -> dict[int, str | None]:
        """Number -> what is wrong with a pack's records: "" if nothing, None if there are none."""
        return {number: self._flaw(number, runs) for number, runs in packs.items()}

    def _flaw(self, number: int, runs: Pack) -> str | None:
        try:
            return flaw_of(self.records(number), runs)
        except FileNotFoundError:
            return None

    def tidy(self, finished: Iterable[int]) -> None:
        """Remove what killed processes left: half-written files, checkpoints of finished packs.

        For whoever holds the folder's lock.
        """
        done = {self.checkpoint(number).stem for number in finished}
        for folder in (place / name for place in self.places for name in FOLDERS):
            old = [p for p in folder.glob("*.ckpt") if "-".join(p.stem.split("-")[:2]) in done]
            for path in (*folder.glob(".*.partial"), *old):
                with contextlib.suppress(OSError):
                    path.unlink()
        for path in (p for place in self.places for p in place.glob(".*")):
            if path.suffix == ".partial" or path.name.startswith(PROBE):
                with contextlib.suppress(OSError):
                    path.unlink()

    def failed(self, packs: Mapping[int, Pack]) -> dict[int, str]:
        """Number -> one line of what went wrong, for the packs that failed and have no records."""
        failures = {}
        for number in packs:
            with contextlib.suppress(OSError, ValueError, KeyError):
                failures[number] = str(json.loads(self.failure(number).read_text())["error"])
        return failures


def read_manifest(root: Location) -> dict[str, Any]:
    """The manifest in a sweep's folder or storage.

    Raises RequestError if there is none that this version reads, StorageError if a storage fails.
    """
    path = root / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "folder" if isinstance(root, Path) else "storage"
        raise RequestError(
            f"{root}: this {what} holds no sweep (there is no manifest.json in it)"
        ) from None
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: the manifest cannot be read: {error}") from None
    _check_format(path, manifest)
    return dict(manifest)


def _check_format(path: Location, manifest: Any) -> None:
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        writer = manifest.get("versions", {}) if isinstance(manifest, dict) else {}
        raise RequestError(
            f"{path}: this mtofront reads and continues folders of format {FORMAT}; "
            f"found format {found}, written by mtofront {writer.get('mtofront', '(unknown)')}. "
            "Use that version for this folder, or another --out for a new sweep"
        )


def write_json(path: Location, value: Any) -> None:
    """Write JSON whole or not at all. Raises StorageError."""
    text = json.dumps(value, indent=1)
    write_whole(path, lambda file: file.write(text.encode()))


def write_table(path: Location, table: pa.Table) -> None:
    """Write Parquet whole or not at all, so that any damage shows. Raises StorageError."""
    # pages have checksums; what describes them has not, so it is written down twice
    table = table.replace_schema_metadata({"columns": table.schema.to_string()})
    write_whole(path, lambda file: pq.write_table(table, file, write_page_checksum=True))


def read_table(source: Path | pa.BufferReader) -> pa.Table:
    """A whole Parquet file. Raises OSError, ArrowException or ValueError if it is damaged."""
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        table = file.read()
    said = (table.schema.metadata or {}).get(b"columns")
    if said is not None and table.schema.remove_metadata().to_string().encode() != said:
        raise ValueError(f"{source}: columns are not what was written")
    return table


def flaw_of(source: Path | pa.BufferReader, runs: Pack) -> str:
    """What is wrong with a pack's records, "" if nothing. Raises FileNotFoundError."""
    try:
        found = set(read_table(source)["run"].unique().to_pylist())
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return "damaged or half-written"
    return "" if found == set(runs) else "about other runs than planned"


def write_whole(path: Location, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a new file that appears at `path` when it is complete.

    Raises StorageError, naming the file and the reason; nothing half-written stays.
    """
    if isinstance(path, StoredPath):
        path.write(write)
        return
    # filled beside its place and made durable before it is put there
    partial = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")
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

    The lock is the operating system's; the file's text only says who holds it. Raises RequestError
    if another process does, StorageError if the folder cannot be written.
    """
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
        file = open(folder.root / "lock", "a+")  # noqa: SIM115 (closed below, held until then)
    except OSError as error:
        raise StorageError(error.errno, f"{folder.root}: cannot write: {_reason(error)}") from error
    with file:
        if not _held(file):
            file.seek(0)
            holder = file.readline().strip() or "an unknown process"
            raise RequestError(
                f"{folder.root}: another mtofront is working in this folder ({holder}); wait for "
                f"it, stop it, or look with: mtofront status {folder.root}"
            )
        with contextlib.suppress(OSError):  # a full disk is told by what must be written
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())
        yield


def _held(file: IO[str]) -> bool:
    """Whether the lock could be had. Whoever asks `is_locked` has it for a moment."""
    for _ in range(10):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


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
