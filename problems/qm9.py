"""QM9: eleven properties of small molecules, which differ in difficulty and, raw, in scale."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .datafolder import Arrays, prepared, required
from .networks import Network, chosen
from .problem import Problem, ProblemError, Split, Task
from .qm9_molecules import COLUMNS, FEATURES, Floats, parsed
from .tabular import Rows, check_tasks, first_of, tabular_network

TASKS = tuple(COLUMNS)
Scale = Literal["standardised", "raw"]


def qm9(
    tasks: Sequence[str] = TASKS,
    scale: Scale = "standardised",
    hidden: int = 128,
    train: int | None = None,
    val: int | None = None,
    test: int | None = None,
    network: Network = "split",
) -> Problem:
    """QM9: eleven properties of molecules of up to nine heavy atoms, from atoms and geometry.

    Ramakrishnan et al. 2014. Source: PyPI's package qm9pack: mtofront data get qm9. Features are
    the counts of H, C, N, O and F and the eigenvalues of the Coulomb matrix (Rupp et al. 2012),
    standardised: far less than graph networks see, so errors are no match for published ones.
    Of 130,831 molecules 10,000 are for validation, 10,000 for test and the others for training,
    drawn once with a fixed seed; the set has no official split.

    tasks: two or more of mu (debye), alpha (bohr³), homo, lumo (hartree), r2 (bohr²), zpve, U0, U,
    H, G (hartree, not less the atoms' energies) and Cv (cal/mol/K). With more than about eight, a
    front's exact hypervolume takes very long. scale: standardised, or raw for these units; either
    way targets are less their mean in training. hidden: width of the two shared layers. train,
    val, test: rows; null for all. network: split, wide, deep, dense, mtan, cross_stitch, mmoe,
    stan or single_task, of layers of that width.
    Loss: mean square; mae: in standard deviations of the targets of all 110,831 training rows.
    """
    check_tasks(tasks, TASKS)
    if scale not in get_args(Scale):
        raise ProblemError(f"scale must be one of {get_args(Scale)}; found {scale!r}")
    choice = chosen(network)
    files = required("qm9")
    arrays = prepared({"problem": "qm9", "version": 1}, files, lambda: parsed(files))
    every = {name: arrays[name] for name in ("train", "val", "test")}
    rows = first_of(every, {"train": train, "val": val, "test": test})
    columns = [TASKS.index(task) for task in tasks]
    deviations = arrays["deviations"][columns]
    units = deviations if scale == "standardised" else np.ones_like(deviations)
    splits = {name: _split(arrays, part, columns, units) for name, part in rows.items()}
    return Problem(
        "qm9",
        tuple(_regression(*pair) for pair in zip(tasks, deviations / units, strict=True)),
        splits["train"],
        splits["val"],
        splits["test"],
        model=tabular_network(choice, FEATURES, hidden, len(tasks)),
        single_task=choice.single_task,
    )


def _regression(name: str, deviation: float) -> Task:
    return Task(
        name, functional.mse_loss, {"mae": partial(_absolute_error, deviation=float(deviation))}
    )


def _absolute_error(output: Tensor, target: Tensor, deviation: float) -> Tensor:
    """Mean absolute error in deviations."""
    return functional.l1_loss(output, target) / deviation


def _split(arrays: Arrays, rows: Rows, columns: list[int], units: Floats) -> Split:
    targets = (arrays["targets"][rows][:, columns] / units).astype(np.float32)
    return Split(
        torch.from_numpy(arrays["features"][rows]),
        tuple(torch.from_numpy(targets).mT.contiguous()),
    )
