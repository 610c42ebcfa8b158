"""Unpack: take single files out of a wheel, a tarball or a Debian package."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from .problem import ProblemError

HEADER = 60
"""Bytes before each member of an ar archive: name 16, times and owners 32, size 10, end 2."""


def unpack(carrier: Path, members: Mapping[str, str], folder: Path) -> None:
    """Write members of an archive into a folder, each whole or not at all; nothing is executed.

    members: file name in the folder -> path in the archive. A name with .gz whose member has none
    is compressed on the way. Raises ProblemError for a missing member or an unknown archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with carrier.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive:
                _write_all(lambda path: archive.open(path), members, folder)
            return
        inner = _data_of_deb(file) if start == b"!<arch>\n" else file
        try:
            with tarfile.open(fileobj=inner) as tar:
                _write_all(lambda path: tar.extractfile(path), members, folder)
        except tarfile.ReadError as error:
            raise ProblemError(f"{carrier} is no archive that can be read: {error}") from None


def _write_all(
    open_member: Callable[[str], IO[bytes] | None], members: Mapping[str, str], folder: Path
) -> None:
    for name, path in members.items():
        try:
            member = open_member(path)
        except KeyError:
            member = None
        if member is None:
            raise ProblemError(f"the archive must hold a file {path}, but has none")
        temporary = folder / f"{name}.{os.getpid()}"
        with member, temporary.open("wb") as file:
            if name.endswith(".gz") and not path.endswith(".gz"):
                with gzip.GzipFile(
                    filename="", mode="wb", compresslevel=3, fileobj=file, mtime=0
                ) as z:
                    shutil.copyfileobj(member, z)
            else:
                shutil.copyfileobj(member, file)
        temporary.replace(folder / name)


def _data_of_deb(file: IO[bytes]) -> IO[bytes]:
    """The tar archive with a Debian package's files; an ar archive holds it beside two others."""
    file.seek(8)
    while len(header := file.read(HEADER)) == HEADER:
        name, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
        if name.startswith("data.tar"):
            return io.BytesIO(file.read(size))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ProblemError("a Debian package must hold a data.tar, but this one has none")
