"""MovieLens' rows: who watched what, divided by time, with drawn films that were not watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .datafolder import Arrays, read
from .problem import ProblemError

TASKS = ("watched", "like", "rating")
LIKED = 4
"""Stars from which a film counts as liked."""
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
"""Of the ratings in the order of time, all together or each user's."""
Order = Literal["calendar", "user"]
HEADS = {
    "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float",
    "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
    "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
}
"""First line of each file."""
FIELDS = 6
"""Columns that are rows of the embedding table: user, age, gender, occupation, film, year."""

Numbers = NDArray[np.int64]
Table = list[list[str]]


def parsed(files: Sequence[Path], negatives: int, order: Order) -> Arrays:
    """Each split's inputs (n, 6 + genres) and targets (n, 3), and the rows of the table.

    files: ratings, users, films. A watched row is followed by `negatives` that were not.
    """
    ratings, users, films = (_cells(file) for file in files)
    users, films = (sorted(table, key=lambda line: int(line[0])) for table in (users, films))
    user_fields, film_fields, rows = _fields(users, films)
    lines = np.array([[int(float(cell)) for cell in line] for line in ratings], dtype=np.int64)
    lines = lines[np.lexsort((lines[:, 1], lines[:, 0], lines[:, 3]))]
    viewers, watched = (
        np.searchsorted([int(line[0]) for line in table], lines[:, column])
        for column, table in enumerate((users, films))
    )
    stars = lines[:, 2].astype(np.float32)
    parts = _parts(viewers if order == "user" else np.zeros_like(viewers))
    mean = stars[parts["train"]].mean(dtype=np.float64)
    generator = np.random.default_rng(1997)
    seen = np.zeros((len(users), len(films)), dtype=bool)
    arrays: Arrays = {"rows": np.array(rows)}
    known = np.zeros(rows, dtype=bool)
    for name, rows_in_time in parts.items():
        part = generator.permutation(rows_in_time)
        seen[viewers[part], watched[part]] = True
        others = _unwatched(seen, viewers[part], negatives, generator)
        both = np.concatenate([watched[part][:, None], others], axis=1).reshape(-1)
        inputs = np.concatenate(
            [user_fields[np.repeat(viewers[part], 1 + negatives)], film_fields[both]], axis=1
        )
        if name == "train":
            known[inputs[:, :FIELDS]] = True
        inputs[:, :FIELDS] *= known[inputs[:, :FIELDS]]
        arrays[f"{name}_inputs"] = inputs.astype(np.int16)
        arrays[f"{name}_targets"] = _targets(stars[part], mean, negatives)
    return arrays


def _parts(groups: Numbers) -> dict[str, Numbers]:
    """Rows of each split: of the rows of a group, which are in the order of time, the shares."""
    by_group = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    share = (np.arange(len(groups)) - first + 0.5) / np.repeat(counts, counts)
    splits = np.searchsorted(np.cumsum(list(SHARES.values()))[:-1], share)
    return {name: by_group[splits == n] for n, name in enumerate(SHARES)}


def _cells(file: Path) -> Table:
    """The rows of a table of cells between tabs. Raises ProblemError for another head."""
    head, *lines = read(file).decode().splitlines()
    wanted = HEADS[file.name.split(".")[1]]
    if head != wanted:
        raise ProblemError(f"{file} must begin with the line {wanted!r}; found {head!r}")
    return [line.split("\t") for line in lines]


def _fields(users: Table, films: Table) -> tuple[Numbers, Numbers, int]:
    """What is known of users (U, 4) and films (F, 2 + genres), and the rows of the table."""
    ages = [f"{int(line[1]) // 10}" for line in users]
    genders, occupations = ([line[column] for line in users] for column in (2, 3))
    identities = [[line[0] for line in table] for table in (users, films)]
    years = [line[2] for line in films]
    rows, columns = 1, []  # row 0 is for whoever training never saw
    for field in (identities[0], ages, genders, occupations, identities[1], years):
        values, codes = np.unique(field, return_inverse=True)
        columns.append(rows + codes.astype(np.int64))
        rows += len(values)
    kinds = [set(line[3].split()) for line in films]
    genres = sorted(set[str]().union(*kinds))
    flags = [[int(genre in kind) for genre in genres] for kind in kinds]
    return np.stack(columns[:4], axis=1), np.column_stack([*columns[4:], flags]), rows


def _unwatched(
    seen: NDArray[np.bool_], viewers: Numbers, count: int, generator: np.random.Generator
) -> Numbers:
    """Films (n, count) that someone has seen and each viewer has not."""
    shown = np.flatnonzero(seen.any(axis=0))
    if seen[np.ix_(np.unique(viewers), shown)].all(axis=1).any():
        raise ProblemError("a user has rated every film, so none is left that was not watched")
    drawn = generator.choice(shown, size=(len(viewers), count))
    while len(again := np.argwhere(seen[viewers[:, None], drawn])):
        drawn[tuple(again.T)] = generator.choice(shown, size=len(again))
    return drawn


def _targets(stars: NDArray[np.float32], mean: float, negatives: int) -> NDArray[np.float32]:
    """One column a task (n, 3) for watched rows, each followed by its unwatched ones."""
    targets = np.full((len(stars), 1 + negatives, len(TASKS)), np.nan, dtype=np.float32)
    targets[:, :, 0] = 0
    targets[:, 0] = np.stack([np.ones_like(stars), stars >= LIKED, stars - mean], axis=1)
    return targets.reshape(-1, len(TASKS))
