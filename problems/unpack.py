"""Unpack: take single files out of a wheel, a tarball or a Debian package."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .problem import ProblemError

HEADER = 60
"""Bytes before each member of an ar archive: name 16, times and owners 32, size 10, end 2."""


def unpack(carrier: Path, members: Mapping[str, str], folder: Path) -> None:
    """Write members of an archive into a folder, each whole or not at all; nothing is executed.

    members: file name in the folder -> path in the archive. A name with .gz whose member has none
    is compressed on the way; a path that ends with / is a folder, whose files are written as one
    zip archive, named from there. Raises ProblemError for a missing member or an unknown archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with carrier.open("rb") as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive:
                names = (item.filename for item in archive.infolist() if not item.is_dir())
                _write_all(Archive(archive.open, names), members, folder)
            return
        inner = _data_of_deb(file) if start == b"!<arch>\n" else file
        try:
            with tarfile.open(fileobj=inner) as tar:
                names = (item.name for item in tar if item.isfile())
                _write_all(Archive(tar.extractfile, names), members, folder)
        except tarfile.ReadError as error:
            raise ProblemError(f"{carrier} is no archive that can be read: {error}") from None


@dataclass(frozen=True)
class Archive:
    """How a member is opened, and the names of all files, each of which may be opened in turn."""

    open: Callable[[str], IO[bytes] | None]
    names: Iterable[str]


def _write_all(archive: Archive, members: Mapping[str, str], folder: Path) -> None:
    for name, path in members.items():
        temporary = folder / f"{name}.{os.getpid()}"
        if path.endswith("/"):
            _write_folder(archive, path, temporary)
        else:
            _write_file(archive, path, temporary, name.endswith(".gz"))
        temporary.replace(folder / name)


def _write_file(archive: Archive, path: str, target: Path, packed: bool) -> None:
    """One member; packed: compressed if it is not yet."""
    try:
        member = archive.open(path)
    except KeyError:
        member = None
    if member is None:
        raise ProblemError(f"the archive must hold a file {path}, but has none")
    with member, target.open("wb") as file:
        if packed and not path.endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=3, fileobj=file, mtime=0) as z:
                shutil.copyfileobj(member, z)
        else:
            shutil.copyfileobj(member, file)


def _write_folder(archive: Archive, path: str, target: Path) -> None:
    """All files below a folder, in the archive's order, under names that start there."""
    found = False
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as folder:
        for name in archive.names:
            member = archive.open(name) if name.startswith(path) else None
            if member is not None:
                found = True
                with member:
                    folder.writestr(
                        zipfile.ZipInfo(name.removeprefix(path)),
                        member.read(),
                        zipfile.ZIP_DEFLATED,
                    )
    if not found:
        target.unlink()
        raise ProblemError(f"the archive must hold files below {path}, but has none")


def digest_of_pages(file: Path) -> str:
    """The sha256 of a zip archive's files by name: of what they hold, not of how it is packed."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            digest.update(hashlib.sha256(archive.read(name)).digest() + name.encode() + b"\n")
    return digest.hexdigest()


def _data_of_deb(file: IO[bytes]) -> IO[bytes]:
    """The tar archive with a Debian package's files; an ar archive holds it beside two others."""
    file.seek(8)
    while len(header := file.read(HEADER)) == HEADER:
        name, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
        if name.startswith("data.tar"):
            return io.BytesIO(file.read(size))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise ProblemError("a Debian package must hold a data.tar, but this one has none")
