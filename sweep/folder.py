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
from .spec import FORMAT

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

    def checkpoint(self, pack: int) -> Path:
        """Where a pack in training stands; its halves' stand beside it."""
        return self.root / "checkpoints" / f"pack-{pack:05d}.ckpt"

    def rung(self, arm: str, epoch: int) -> Path:
        """What was decided on an arm's runs after an epoch."""
        return self.root / "rungs" / f"{arm}-epoch-{epoch:05d}.json"

    def failure(self, pack: int) -> Path:
        """Why a pack failed, if it did."""
        return self.root / "failures" / f"pack-{pack:05d}.json"

    def read_manifest(self) -> dict[str, Any]:
        """The manifest. Raises RequestError if the folder holds none that this version reads."""
        try:
            manifest = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RequestError(
                f"{self.root}: this folder holds no sweep (there is no manifest.json in it)"
            ) from None
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.manifest}: the manifest cannot be read: {error}") from None
        self._check_format(manifest)
        return dict(manifest)

    def _check_format(self, manifest: Any) -> None:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        if found != FORMAT:
            writer = manifest.get("versions", {}) if isinstance(manifest, dict) else {}
            raise RequestError(
                f"{self.manifest}: this mtofront reads and continues folders of format {FORMAT}; "
                f"found format {found}, written by mtofront {writer.get('mtofront', '(unknown)')}. "
                "Use that version for this folder, or another --out for a new sweep"
            )

    def finished(self, packs: Mapping[int, Pack]) -> set[int]:
        """Numbers of the packs whose records are there, whole and about the planned runs."""
        return {number for number, flaw in self.flaws(packs).items() if flaw == ""}

    def flaws(self, packs: Mapping[int, Pack]) -> dict[int, str | None]:
        """Number -> what is wrong with a pack's records: "" if nothing, None if there are none."""
        return {number: self._flaw(number, runs) for number, runs in packs.items()}

    def _flaw(self, number: int, runs: Pack) -> str | None:
        try:
            table = read_table(self.records(number))
            found = set(table["run"].unique().to_pylist())
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException, ValueError, KeyError):
            return "damaged or half-written"
        return "" if found == set(runs) else "about other runs than planned"

    def tidy(self, finished: Iterable[int]) -> None:
        """Remove what killed processes left: half-written files, checkpoints of finished packs.

        For whoever holds the folder's lock.
        """
        done = {self.checkpoint(number).stem for number in finished}
        checkpoints = self.root.glob("checkpoints/*.ckpt")
        old = [path for path in checkpoints if "-".join(path.stem.split("-")[:2]) in done]
        for path in (*self.root.glob(".*.partial"), *self.root.glob("*/.*.partial"), *old):
            with contextlib.suppress(OSError):
                path.unlink()

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
    """Write Parquet whole or not at all, so that any damage shows. Raises StorageError."""
    # pages have checksums; what describes them has not, so it is written down twice
    table = table.replace_schema_metadata({"columns": table.schema.to_string()})
    write_whole(path, lambda file: pq.write_table(table, file, write_page_checksum=True))


def read_table(path: Path) -> pa.Table:
    """A whole Parquet file. Raises OSError, ArrowException or ValueError if it is damaged."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read()
    said = (table.schema.metadata or {}).get(b"columns")
    if said is not None and table.schema.remove_metadata().to_string().encode() != said:
        raise ValueError(f"{path}: columns are not what was written")
    return table


def write_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let `write` fill a new file beside `path`, make it durable, then put it in place.

    Raises StorageError, naming the file and the reason; nothing half-written stays.
    """
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
