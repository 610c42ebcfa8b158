"""Npy folders: the layout train|val/KIND/N.npy in which Liu et al. 2019 (MTAN) hand sets out."""

from __future__ import annotations

from pathlib import Path

from .problem import ProblemError


def numbered(folder: Path, kinds: list[str]) -> list[tuple[Path, ...]]:
    """One tuple of files a row, one of each kind, in the order of their numbers.

    Raises ProblemError if there are none, or if one is missing that another kind has.
    """
    names = {kind: {path.name for path in (folder / kind).glob("*.npy")} for kind in kinds}
    every = set().union(*names.values())
    if not every:
        raise ProblemError(f"{folder / kinds[0]} must hold files 0.npy, 1.npy, …; found none")
    strange = sorted(name for name in every if not Path(name).stem.isdecimal())
    if strange:
        raise ProblemError(f"files in {folder} must be numbered, like 0.npy; found {strange[0]}")
    for kind, own in names.items():
        if missing := every - own:
            first = min(missing, key=_number)
            raise ProblemError(
                f"{folder / kind / first} is missing; every kind ({', '.join(kinds)}) must have "
                "a file of every number"
            )
    return [tuple(folder / kind / name for kind in kinds) for name in sorted(every, key=_number)]


def _number(name: str) -> int:
    return int(Path(name).stem)
