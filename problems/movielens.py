"""MovieLens: was a film watched, liked, how many stars; two of the labels are often missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .datafolder import Arrays, prepared, required
from .missing import partly_labelled
from .movielens_rows import FIELDS, TASKS, Order, parsed
from .problem import Problem, ProblemError, Split, Task
from .tabular import yes_or_no


class Recommender(nn.Module):
    """Embeddings of user, film and side features, a shared perceptron, and one output a task.

    Row 0 of the table stands for whoever training never saw, and stays zero.
    """

    def __init__(self, rows: int, genres: int, embedding: int, hidden: int, tasks: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, embedding, padding_idx=0)
        nn.init.normal_(self.table.weight[1:], std=0.1)
        self.genres = nn.Linear(genres, embedding)
        self.trunk = nn.Sequential(
            *(nn.Linear((FIELDS + 1) * embedding, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
        )
        self.heads = nn.ModuleList([nn.Linear(hidden, 1) for _ in range(tasks)])

    def forward(self, rows: Tensor) -> list[Tensor]:
        fields, genres = rows[..., :FIELDS], rows[..., FIELDS:].to(self.genres.weight.dtype)
        features = torch.cat([self.table(fields).flatten(-2), self.genres(genres)], dim=-1)
        shared = self.trunk(features)
        return [head(shared).squeeze(-1) for head in self.heads]


def movielens(
    tasks: Sequence[str] = TASKS,
    order: Order = "calendar",
    negatives: int = 1,
    embedding: int = 16,
    hidden: int = 64,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
) -> Problem:
    """MovieLens-100k: is a film watched, is it liked (4 stars or more), how many stars it gets.

    Harper & Konstan 2015. Source: PyPI's package recbole: mtofront data get movielens. GroupLens'
    terms hold: for research, not to be passed on. A funnel as in Ma et al. 2018 (ESMM): films that
    a user rated count as watched, drawn ones that the user did not rate as not watched; like and
    rating have labels on watched rows only (elsewhere NaN, which costs and teaches nothing).
    Split by time into 70 / 10 / 20 %, the middle part carved out for validation; nobody's standard.
    What is drawn as not watched was rated by someone, and not by this user, up to the end of its
    split; a pair may be drawn in two splits. A user or film that is not in training has the
    embedding 0.

    tasks: some of watched, like, rating. order: calendar divides all ratings at two dates, so that
    88 % of test rows are of new users, known by age, gender and occupation alone; user divides
    each user's ratings. negatives: rows not watched for each watched one. embedding: numbers a
    field. hidden: width of the two shared layers. train, val, test: watched rows, a random part;
    null for all, 70,000 / 10,000 / 20,000 by calendar.
    The target of rating is stars less their mean in training, its loss the mean square; mae is in
    stars.
    """
    if not tasks or len(set(tasks)) != len(tasks) or not set(tasks) <= set(TASKS):
        raise ProblemError(f"tasks must be different ones of {TASKS}; found {list(tasks)}")
    if order not in get_args(Order):
        raise ProblemError(f"order must be one of {get_args(Order)}; found {order!r}")
    if negatives < 1:
        raise ProblemError(f"negatives must be at least 1 a watched row; found {negatives}")
    files = required("movielens")
    recipe = {"problem": "movielens", "version": 1, "negatives": negatives, "order": order}
    arrays = prepared(recipe, files, lambda: parsed(files, negatives, order))
    sizes = {"train": train, "val": val, "test": test}
    columns = [TASKS.index(task) for task in tasks]
    group = 1 + negatives
    splits = {name: _split(arrays, name, size, group, columns) for name, size in sizes.items()}
    rows, genres = int(arrays["rows"]), arrays["train_inputs"].shape[1] - FIELDS
    return Problem(
        "movielens",
        tuple(KINDS[task] for task in tasks),
        splits["train"],
        splits["val"],
        splits["test"],
        model=lambda: Recommender(rows, genres, embedding, hidden, len(tasks)),
    )


KINDS = {
    "watched": yes_or_no("watched"),
    "like": partly_labelled(yes_or_no("like")),
    "rating": partly_labelled(
        Task("rating", functional.mse_loss, {"mae": functional.l1_loss}),
    ),
}
"""Name of a task -> its loss and metrics."""


def _split(
    arrays: Arrays, name: str, size: int | None, group: int, columns: Sequence[int]
) -> Split:
    """So many watched rows, each followed by its unwatched ones if any task has labels there."""
    inputs, targets = arrays[f"{name}_inputs"], arrays[f"{name}_targets"]
    most = len(inputs) // group
    if size is not None and not 1 <= size <= most:
        raise ProblemError(
            f"split {name!r} has 1 … {most:,} watched rows to give; {name}={size} asked"
        )
    step = 1 if TASKS.index("watched") in columns else group
    chosen = slice(0, (size or most) * group, step)
    return Split(
        torch.from_numpy(inputs[chosen].astype(np.int64)),
        tuple(torch.from_numpy(targets[chosen, n].copy()) for n in columns),
    )
