"""Generated: data sets computed here, once, with an optional extra that training forgoes."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .datafolder import Arrays, data_folder, write_arrays
from .mt10_demonstrations import EPISODES, demonstrated
from .problem import ProblemError


@dataclass(frozen=True)
class Generated:
    """A data set and what computes it.

    make: gives the arrays; told whom to tell how many of `parts` are done. extra: of this package,
    what `make` needs. size: of the file, in bytes. sha256: of the content, as it came with the
    versions in `made_by`; on another kind of processor the last bits may differ.
    """

    name: str
    title: str
    make: Callable[[Callable[[int], None]], Arrays]
    parts: int
    extra: str
    size: int
    sha256: str
    made_by: str
    licence: str
    citation: str


_ALL = (
    Generated(
        name="mt10",
        title="Meta-World MT10: 100 demonstrations of each of ten tasks",
        make=demonstrated,
        parts=EPISODES,
        extra="mt10",
        size=13_004_526,
        sha256="39d25745b7c33186c34a232224558eb237234a0dd7e7ae9c4d1bbfc22e731360",
        made_by="metaworld 3.1.1, mujoco 3.3.0 and numpy 2.4.6 on x86-64",
        licence="MIT (metaworld, whose experts these are), Apache-2.0 (mujoco)",
        citation="Yu et al. 2020, Meta-World: a benchmark and evaluation for multi-task and meta "
        "reinforcement learning, arXiv 1910.10897",
    ),
)
GENERATED: Mapping[str, Generated] = {one.name: one for one in _ALL}
"""Name of a data set -> what computes it."""


def file_of(one: Generated) -> Path:
    """Where a data set's file lies, or would."""
    return data_folder() / one.name / f"{one.name}.npz"


def generate(one: Generated, listen: Callable[[int], None]) -> None:
    """Compute a data set and keep it, whole or not at all.

    Raises ProblemError if its extra is not installed.
    """
    write_arrays(file_of(one), one.make(listen))


def required_arrays(name: str) -> Arrays:
    """A data set's arrays. Raises ProblemError with the command that makes what is absent."""
    one = GENERATED[name]
    path = file_of(one)
    if not path.exists():
        raise ProblemError(
            f"the data set {name!r} is not in {path.parent}; it is computed, not fetched. Make it "
            f"once with: pip install 'mtofront[{one.extra}]' && mtofront data get {name}"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            return {key: kept[key] for key in kept.files}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ProblemError(
            f"{path} cannot be read: {error}; make it again with: mtofront data get {name} --again"
        ) from None


def digest_of(arrays: Arrays) -> str:
    """The sha256 of names, types, shapes and values, whatever the file's packing."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
