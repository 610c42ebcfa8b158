"""Mapped: sets that may not fit memory, prepared once as arrays on disk and mapped from there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .datafolder import data_folder
from .problem import ProblemError

BLOCK = 256
"""Rows that are decoded side by side and then written."""
Row = TypeVar("Row")
Columns = tuple[Tensor, ...]


def mapped(
    recipe: Mapping[str, Any],
    files: Iterable[Path],
    rows: Mapping[str, Sequence[Row]],
    read: Callable[[Row], tuple[NDArray[Any], ...]],
) -> dict[str, Columns]:
    """Split -> its columns (n, ...), each a tensor of a file that is mapped: read, never written.

    What `read` makes of the rows is kept under the digest of the recipe and of the files' names,
    sizes and times of change, not of their content: that of 200,000 files takes minutes.

    recipe: everything else that the columns depend on, in JSON's types; its "problem" names the
    kept folder and its "version" must change whenever `read` does. rows: split -> what `read` is
    called with, once a row, in several threads. read: gives a row's columns, alike in every row.
    Raises ProblemError if they cannot be written.
    """
    home = data_folder()
    stamps = [_stamp(path, home) for path in files]
    digest = hashlib.sha256(json.dumps([recipe, stamps], sort_keys=True).encode())
    folder = home / "prepared" / f"{recipe['problem']}-{digest.hexdigest()[:20]}"
    try:
        return {name: _opened(folder, name) for name in rows}
    except (OSError, ValueError):  # not there, or cut short
        shutil.rmtree(folder, ignore_errors=True)
    _build(folder, rows, read)
    return {name: _opened(folder, name) for name in rows}


def _stamp(path: Path, home: Path) -> tuple[str, int, int]:
    """What tells a file from another of its name. Raises ProblemError if it is not there."""
    try:
        found = path.stat()
    except OSError as error:
        raise ProblemError(f"{path} cannot be read: {error.strerror}") from None
    return str(path.relative_to(home)), found.st_size, found.st_mtime_ns


def _opened(folder: Path, split: str) -> Columns:
    count = len(list(folder.glob(f"{split}-*.npy")))
    if count == 0:
        raise FileNotFoundError(folder)
    return tuple(_tensor(folder / f"{split}-{n}.npy") for n in range(count))


def _tensor(path: Path) -> Tensor:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    with warnings.catch_warnings():  # torch warns that nobody may write there; nobody does
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _build(
    folder: Path,
    rows: Mapping[str, Sequence[Row]],
    read: Callable[[Row], tuple[NDArray[Any], ...]],
) -> None:
    """Write every split's columns into the folder, all or nothing."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as threads:
            for name, own in rows.items():
                _write(temporary, name, own, lambda block: list(threads.map(read, block)))
        temporary.rename(folder)
    except OSError as error:
        if folder.exists():  # another process was first
            return
        raise ProblemError(
            f"{folder.name} cannot be prepared in {folder.parent}: {error.strerror}; set "
            "MTOFRONT_DATA to a folder with more room that can be written to"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path,
    split: str,
    rows: Sequence[Row],
    read: Callable[[Sequence[Row]], list[tuple[NDArray[Any], ...]]],
) -> None:
    """One file a column. Written plainly: a full disk is an error, not a signal, as in a map."""
    files: list[IO[bytes]] = []
    try:
        for start in range(0, len(rows), BLOCK):
            block = read(rows[start : start + BLOCK])
            if not files:
                names = [folder / f"{split}-{n}.npy" for n in range(len(block[0]))]
                files = [_begun(*pair, len(rows)) for pair in zip(names, block[0], strict=True)]
            for arrays in block:
                for file, array in zip(files, arrays, strict=True):
                    file.write(np.ascontiguousarray(array).data)
    finally:
        for file in files:
            file.close()


def _begun(path: Path, first: NDArray[Any], rows: int) -> IO[bytes]:
    """A .npy file of as many arrays like the first, its head written."""
    file = path.open("wb")
    kind = np.lib.format.dtype_to_descr(first.dtype)
    head = {"descr": kind, "fortran_order": False, "shape": (rows, *first.shape)}
    np.lib.format.write_array_header_2_0(file, head)
    return file


def decoded(inputs: Tensor, targets: Columns) -> tuple[Tensor, Columns]:
    """Pixels as bytes -> in [0, 1]; whole numbers -> int64; other numbers -> float32."""
    kinds = [torch.float32 if t.is_floating_point() else torch.int64 for t in targets]
    numbers = tuple(t.to(kind) for t, kind in zip(targets, kinds, strict=True))
    return inputs.float().div_(255), numbers


def first_rows_of(columns: Columns, count: int | None, split: str) -> Columns:
    """So many rows of a split, None for all. Raises ProblemError if it has fewer."""
    if count is not None and not 1 <= count <= len(columns[0]):
        raise ProblemError(
            f"split {split!r} has 1 … {len(columns[0]):,} rows to give; {split}={count} asked"
        )
    return tuple(column[:count] for column in columns)


def carved(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shuffled row numbers of training and, a share of all, of validation."""
    order = np.random.default_rng(seed).permutation(count)
    held = max(1, round(share * count))
    return order[:-held], order[-held:]
