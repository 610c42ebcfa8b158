"""Where files lie: on this machine, or in a storage: any file system that pyarrow opens."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
from pyarrow import fs

from .errors import RequestError, StorageError

Result = TypeVar("Result")
WAITS = (0.5, 2.0)
"""Seconds before an operation that failed is tried again; pyarrow's own tries come before."""
WHOLE = frozenset({"s3", "gcs", "abfs"})
"""File systems on which a file appears when it is complete; on others it is moved into place."""
PROBE = ".probe-"
"""What the names of files begin with that are written to see whether that works."""
NEEDED = (
    "resources.storage must be a place where files can be written, read, listed and removed from "
    "here and from every node that trains"
)


@dataclass(frozen=True)
class StoredPath:
    """A file or folder in a storage, with what this package uses of `pathlib.Path`.

    path: as the file system wants it. shown: the same with scheme, for people. Whatever goes wrong,
    but for a file that is not there, is a StorageError that names the file. patient: whether what
    fails is tried again.
    """

    system: fs.FileSystem
    path: str
    shown: str
    patient: bool = True

    def __str__(self) -> str:
        return self.shown

    def __truediv__(self, name: str) -> StoredPath:
        return replace(self, path=f"{self.path}/{name}", shown=f"{self.shown}/{name}")

    @property
    def name(self) -> str:
        """What stands after the last slash."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot."""
        return Path(self.name).suffix

    @property
    def parent(self) -> StoredPath:
        """The folder."""
        path, shown = (text.rpartition("/")[0] for text in (self.path, self.shown))
        return replace(self, path=path, shown=shown)

    def with_name(self, name: str) -> StoredPath:
        """Another file in the same folder."""
        return self.parent / name

    def exists(self) -> bool:
        """Whether there is a file."""
        found = self._tried("read", lambda: self.system.get_file_info(self.path))
        return bool(found.type == fs.FileType.File)

    def read_bytes(self) -> bytes:
        """All of the file. Raises FileNotFoundError, StorageError."""

        def read() -> bytes:
            with self.system.open_input_stream(self.path, compression=None) as stream:
                return bytes(stream.read())

        return self._tried("read", read)

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of the file as text. Raises FileNotFoundError, StorageError."""
        return self.read_bytes().decode(encoding)

    def glob(self, pattern: str) -> Iterator[StoredPath]:
        """What lies directly in this folder and has such a name; nothing if it is not there."""
        look = fs.FileSelector(self.path, allow_not_found=True)
        found = self._tried("list", lambda: self.system.get_file_info(look))
        names = sorted(info.base_name for info in found)
        yield from (self / name for name in fnmatch.filter(names, pattern))

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file. Raises FileNotFoundError unless it may be missing, StorageError."""
        with contextlib.suppress(*([FileNotFoundError] if missing_ok else [])):
            self._tried("remove", lambda: self.system.delete_file(self.path))

    def write(self, fill: Callable[[BinaryIO], Any]) -> None:
        """Put the file there, whole or not at all. Raises StorageError."""
        buffer = io.BytesIO()
        fill(buffer)  # before anything is opened: closing a stream completes an object
        content = buffer.getvalue()
        try:
            self._tried("write", lambda: self._put(content))
        except FileNotFoundError as error:  # no such bucket
            raise StorageError(error.errno, f"{self}: cannot write: {reason(error)}") from error

    def _put(self, content: bytes) -> None:
        if self.system.type_name in WHOLE:
            self._stream(self.path, content)
            return
        writer = f"{platform.node()}-{os.getpid()}-{threading.get_ident()}"
        partial = self.with_name(f".{self.name}.{writer}.partial").path
        try:
            self.system.create_dir(self.parent.path, recursive=True)
            self._stream(partial, content)
            self.system.move(partial, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                self.system.delete_file(partial)
            raise

    def _stream(self, path: str, content: bytes) -> None:
        with self.system.open_output_stream(path, compression=None) as stream:
            stream.write(content)

    def _tried(self, what: str, operation: Callable[[], Result]) -> Result:
        waits = iter(WAITS if self.patient else ())
        while True:
            try:
                return operation()
            except FileNotFoundError:
                raise
            except (OSError, pa.ArrowException) as error:
                wait = next(waits, None)
                if wait is None:
                    number = error.errno if isinstance(error, OSError) else None
                    line = f"{self}: cannot {what}: {reason(error)}"
                    raise StorageError(number, line) from error
            time.sleep(wait)


Location = Path | StoredPath


def stored(uri: str) -> StoredPath:
    """The folder in a storage that a URI names, like s3://bucket/prefix or file:///folder.

    Raises RequestError if it is no such URI, StorageError if the file system does not answer.
    """
    scheme, _, rest = uri.partition("://")
    if scheme != "file" and ":" in rest.rpartition("@")[0]:
        raise RequestError(
            "resources.storage: no password or key belongs in a config; found one before the @. "
            "Give it in the environment, where pyarrow looks (AWS_ACCESS_KEY_ID, …)"
        )
    shown = uri.partition("?")[0].rstrip("/")
    try:
        system, path = fs.FileSystem.from_uri(uri)
    except OSError as error:
        raise StorageError(error.errno, f"{shown}: {reason(error)}") from error
    except (pa.ArrowException, ImportError) as error:
        raise RequestError(
            f"resources.storage: a URI that pyarrow opens, like s3://bucket/prefix, gs://bucket/"
            f"prefix or file:///folder; found {shown} ({reason(error)})"
        ) from error
    return StoredPath(system, path.rstrip("/"), shown)


def location(text: str) -> Location:
    """The storage at a URI, or the folder of this machine at a path. Raises as `stored` does."""
    return stored(text) if "://" in text else Path(text)


def check_storage(storage: StoredPath) -> None:
    """Raise StorageError unless files can be written, read, listed and removed there."""
    content = secrets.token_hex(8)
    probe = replace(storage, patient=False) / f"{PROBE}{content}"
    try:
        probe.write(lambda file: file.write(content.encode()))
        same = probe.read_text() == content
        listed = [path.name for path in probe.parent.glob(f"{PROBE}*")]
        probe.unlink()
    except OSError as error:
        raise StorageError(error.errno, f"{error.strerror or error}; {NEEDED}") from error
    if not same or probe.name not in listed:
        raise StorageError(None, f"{storage}: a file just written was not found whole; {NEEDED}")


def reason(error: BaseException) -> str:
    """The first line of what an error says."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.strip().partition("\n")[0] or type(error).__name__
