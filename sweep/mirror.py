"""The driver's copy of what lies in a storage: all that analysis reads, brought as it arrives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from .errors import StorageError
from .folder import Folder, Pack, flaw_of, locked, write_whole
from .job import News
from .layout import (
    CONFIG,
    FAILURES,
    MANIFEST,
    RECORDS,
    RUNGS,
    failure_name,
    records_name,
)
from .owner import owned
from .stored_path import Location

AT_ONCE = 16
"""Files that are brought at the same time."""


@contextlib.contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Hold the folder, and its storage if it has one, for this driver.

    Raises RequestError if another driver does, StorageError if they cannot be written.
    """
    with locked(folder), owned(folder.storage) if folder.storage else contextlib.nullcontext():
        yield


def adopt(folder: Folder) -> None:
    """Make the storage's manifest the folder's, or put into an empty storage what the folder has.

    The folder's own pack numbers are given up then; records that do not fit count as missing.
    """
    if folder.storage is None:
        return
    theirs = folder.storage / MANIFEST
    if not theirs.exists():
        if folder.manifest.exists():
            _publish(folder)
        return
    _copy(theirs, folder.manifest)


def _publish(folder: Folder) -> None:
    """Put everything but the manifest there first: with that the storage holds a sweep."""
    assert folder.storage is not None
    for name in (RECORDS, RUNGS, FAILURES):
        for path in sorted((folder.root / name).glob("pack-*" if name != RUNGS else "*.json")):
            _copy(path, folder.storage / name / path.name)
    for name in (CONFIG, MANIFEST):
        _copy(folder.root / name, folder.storage / name)


def _copy(source: Location, target: Location) -> None:
    content = source.read_bytes()
    write_whole(target, lambda file: file.write(content))


def gather(folder: Folder, packs: Mapping[int, Pack]) -> dict[int, str | None]:
    """Bring everything that a sweep's storage has and its folder has not.

    Returns what is wrong with each pack's records, as `Folder.flaws` does. Raises StorageError.
    """
    flaws = folder.flaws(packs)
    if folder.storage is None:
        return flaws
    for path in (folder.storage / RUNGS).glob("*.json"):
        _copy(path, folder.root / RUNGS / path.name)
    there = {path.name for path in (folder.storage / RECORDS).glob("*.parquet")}
    missing = [n for n, flaw in flaws.items() if flaw != "" and folder.records(n).name in there]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda n: bring_records(folder, n, packs[n]), missing)
        flaws |= dict(zip(missing, found, strict=True))
    failed = {path.name for path in (folder.storage / FAILURES).glob("*.json")}
    for number, flaw in flaws.items():
        if flaw != "":
            folder.failure(number).unlink(missing_ok=True)
            if folder.failure(number).name in failed:
                bring_failure(folder, number)
    return flaws


def bring_records(folder: Folder, number: int, runs: Pack) -> str | None:
    """Copy a pack's records into the folder if they are whole and about these runs.

    Returns what is wrong with them: "" if nothing, None if there are none. Raises StorageError.
    """
    assert folder.storage is not None
    try:
        content = (folder.storage / records_name(number)).read_bytes()
    except FileNotFoundError:
        return None
    flaw = flaw_of(pa.BufferReader(content), runs)
    if not flaw:
        write_whole(folder.records(number), lambda file: file.write(content))
    return flaw


def arrived(folder: Folder, packs: Mapping[int, Pack], news: News, *, patient: bool = True) -> News:
    """Bring what a pack tells that it has written; the news as the driver's folder has it then.

    A pack whose records are damaged there has failed. patient: what cannot be brought now, because
    the storage does not answer, will be; else StorageError.
    """
    with contextlib.suppress(*([StorageError] if patient else [])):
        if news.failed:
            bring_failure(folder, news.pack)
        elif news.done:
            flaw = bring_records(folder, news.pack, packs[news.pack])
            if flaw != "":
                what = f"its records in the storage are {flaw or 'not there any more'}"
                return replace(news, done=False, failed=what)
        else:
            folder.failure(news.pack).unlink(missing_ok=True)
    return news


def bring_failure(folder: Folder, number: int) -> None:
    """Copy why a pack failed into the folder, if that is there. Raises StorageError."""
    assert folder.storage is not None
    with contextlib.suppress(FileNotFoundError):
        _copy(folder.storage / failure_name(number), Path(folder.failure(number)))
