"""Yeast: fourteen functional classes of genes, a small problem with many tasks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from .datafolder import Arrays, prepared, read, required
from .networks import Network, chosen
from .problem import Problem, ProblemError, Split
from .tabular import first_of, standardised, tabular_network, yes_or_no

FEATURES, LABELS = 103, 14
SHARES = (0.6, 0.15, 0.25)


def yeast(
    labels: Sequence[int] = tuple(range(1, LABELS + 1)),
    hidden: int = 64,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    network: Network = "split",
) -> Problem:
    """Yeast: 14 yes-or-no tasks on 103 micro-array and phylogenetic features of 2,417 genes.

    Elisseeff & Weston 2001. Source: PyPI's package river (BSD-3-Clause): mtofront data get yeast.
    That file does not say which rows were the original 1,500 for training: a fixed division of
    60 / 15 / 25 % is drawn here; no two rows are the same. Classes hold 1 to 75 % of the genes.

    labels: numbers 1 … 14 of the classes that are tasks. With more than about eight, a front's
    exact hypervolume takes very long. hidden: width of the two shared layers.
    train, val, test: rows; null for all. network: split, wide, deep, dense, mtan, cross_stitch,
    mmoe, stan or single_task, of layers of that width.
    """
    known = range(1, LABELS + 1)
    if not labels or len(set(labels)) != len(labels) or not set(labels) <= set(known):
        raise ProblemError(f"labels must be different ones of 1 … {LABELS}; found {list(labels)}")
    choice = chosen(network)
    files = required("yeast")
    columns = [label - 1 for label in labels]
    arrays = prepared({"problem": "yeast", "version": 1}, files, lambda: _parsed(files[0]))
    every = {name: arrays[name] for name in ("train", "val", "test")}
    rows = first_of(every, {"train": train, "val": val, "test": test})
    train_split, val_split, test_split = (
        Split(
            torch.from_numpy(arrays["features"][part]),
            tuple(torch.from_numpy(arrays["labels"][part][:, columns]).float().mT.contiguous()),
        )
        for part in rows.values()
    )
    tasks = tuple(yes_or_no(f"class{label}") for label in labels)
    return Problem(
        "yeast",
        tasks,
        train_split,
        val_split,
        test_split,
        model=tabular_network(choice, FEATURES, hidden, len(labels)),
        single_task=choice.single_task,
    )


def _parsed(file: Path) -> Arrays:
    """Standardised features, labels, and each split's rows."""
    text = io.StringIO(read(file).decode())
    head = text.readline().strip().split(",")
    expected = [f"Att{n + 1}" for n in range(FEATURES)] + [f"Class{n + 1}" for n in range(LABELS)]
    if head != expected:
        raise ProblemError(
            f"{file} must have columns Att1 … Att{FEATURES}, Class1 … Class{LABELS}; found "
            f"{len(head)} columns, {head[0]} … {head[-1]}"
        )
    table = np.loadtxt(text, delimiter=",", ndmin=2)
    features, labels = table[:, :FEATURES].astype(np.float32), table[:, FEATURES:] > 0.5
    order = np.random.default_rng(2001).permutation(len(table))
    cuts = np.round(np.cumsum(SHARES[:-1]) * len(order)).astype(int)
    train, val, test = np.split(order, cuts)
    return {
        "features": standardised(features, train),
        "labels": labels,
        **{"train": train, "val": val, "test": test},
    }
