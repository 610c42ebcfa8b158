"""Checkpoints on disk: one file a pack in training, whole or not at all, checked when read."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import torch

from mtofront import __version__

from .errors import StorageError
from .folder import write_whole
from .snapshot import Snapshot
from .spec import RunSpec
from .stored_path import Location

FORMAT = 2
"""Raised when the meaning of what a checkpoint holds changes; others are not taken up."""
DIGEST = hashlib.sha256
"""Its digest of everything before stands at the end of the file."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be gone on from, and why."""


@dataclass
class Checkpoints:
    """Where one pack keeps its checkpoint. A pack trained in halves has one for each half.

    every: seconds that must pass before the next is written. notices: what the user is to know.
    half: whether the end of training is kept too, until the other half has ended.
    """

    path: Location
    every: float
    notices: list[str] = field(default_factory=list)
    half: bool = False
    _last: float = field(default_factory=lambda: time.monotonic())

    def is_due(self) -> bool:
        """Whether enough time has passed since the last one, or since the start."""
        return time.monotonic() - self._last >= self.every

    def save(self, specs: Sequence[RunSpec], state: Snapshot) -> None:
        """Replace the checkpoint. One that cannot be written is a notice; training goes on."""
        self._last = time.monotonic()
        try:
            write_whole(self.path, lambda file: _write(file, specs, state))
        except StorageError as error:
            self._note(f"{error.strerror}; training goes on without a new checkpoint")

    def load(self, specs: Sequence[RunSpec]) -> Snapshot | None:
        """The checkpoint of exactly these runs, or None: there is none, or none of use."""
        try:
            return _read(self.path, specs)
        except FileNotFoundError:
            return None
        except (CheckpointError, OSError) as error:
            self.refuse(str(error))
            return None

    def refuse(self, reason: str) -> None:
        """Say why the checkpoint is not gone on from."""
        self._note(f"{self.path}: {reason}; its runs start from the beginning")

    def halves(self) -> tuple[Checkpoints, Checkpoints]:
        """The places of a pack's halves; they tell their notices here."""
        stem, suffix = self.path.stem, self.path.suffix
        first, second = (self.path.with_name(f"{stem}-{k}{suffix}") for k in "ab")
        return (
            Checkpoints(first, self.every, self.notices, half=True),
            Checkpoints(second, self.every, self.notices, half=True),
        )

    def is_halved(self) -> bool:
        """Whether a half, or a half of one, has a checkpoint."""
        return any(self._of_halves())

    def clear(self) -> None:
        """Remove the checkpoint and those of halves: the pack's records are written."""
        for path in (self.path, *self._of_halves()):
            with contextlib.suppress(OSError):
                path.unlink()

    def _of_halves(self) -> Iterator[Location]:
        return self.path.parent.glob(f"{self.path.stem}-[ab]*{self.path.suffix}")

    def _note(self, line: str) -> None:
        if line not in self.notices:
            self.notices.append(line)


def _head(specs: Sequence[RunSpec]) -> dict[str, Any]:
    """What a file must say of itself to be gone on from."""
    runs = [spec.id for spec in specs]
    return {"checkpoint": FORMAT, "mtofront": __version__, "runs": runs}


@dataclass
class _Digested:
    """A file to be written whose bytes are digested as they pass."""

    file: BinaryIO
    digest: Any = field(default_factory=DIGEST)

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _write(file: BinaryIO, specs: Sequence[RunSpec], state: Snapshot) -> None:
    """One line of JSON, the tensors as torch.save writes them, the digest of both."""
    passed = _Digested(file)
    passed.write(json.dumps(_head(specs)).encode() + b"\n")
    torch.save(state, cast(BinaryIO, passed))
    file.write(passed.digest.digest())


def _read(path: Location, specs: Sequence[RunSpec]) -> Snapshot:
    content = path.read_bytes()
    size = DIGEST().digest_size
    body, digest = memoryview(content)[:-size], content[-size:]
    if DIGEST(body).digest() != digest:
        raise CheckpointError("this checkpoint is damaged or half-written")
    line, _, payload = content[:-size].partition(b"\n")
    try:
        found, wanted = json.loads(line), _head(specs)
        for part, name in (("checkpoint", "format"), ("mtofront", "version of mtofront")):
            if found[part] != wanted[part]:
                raise CheckpointError(
                    f"this checkpoint is of {name} {found[part]}, not {wanted[part]}"
                )
        if found["runs"] != wanted["runs"]:
            raise CheckpointError("this checkpoint is of other runs")
        state: Snapshot = torch.load(io.BytesIO(payload), weights_only=True)
    except (ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"this checkpoint cannot be read ({error})") from error
    return state
