"""QM9's molecules: what is measured of each, and eigenvalues of its Coulomb matrix."""

from __future__ import annotations

import ast
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .datafolder import Arrays, read
from .problem import ProblemError
from .tabular import standardised

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "mu": "Dipole_debye",
    "alpha": "Polarizability_bohr3",
    "homo": "HOMO_au",
    "lumo": "LUMO_au",
    "r2": "R2_bohr2",
    "zpve": "ZPVE_au",
    "U0": "InternalEnergy_0K_au",
    "U": "InternalEnergy_298K_au",
    "H": "Enthalphy_298K_au",
    "G": "GibbsFreeEnergy_298K_au",
    "Cv": "Heatcapacity_Cv_cal_mol_K",
}
"""Task -> column of the files, whose spelling and unit this is."""
ELEMENTS, PLACES = "Elements", "XYZ_Ang"
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
MOST_ATOMS = 29
FEATURES = len(CHARGES) + MOST_ATOMS
BOHR = 0.529177210903
"""Ångström."""
HELD = 10_000 / 130_831
"""Share of validation and of test."""
AT_ONCE = 4096
"""Molecules whose matrices are held at the same time, 26 MiB each of a few."""

Floats = NDArray[np.float64]


def parsed(files: Sequence[Path]) -> Arrays:
    """Standardised features (n, 34), targets less their training mean (n, 11), rows of each split.

    deviations (11,): standard deviations of the training rows' targets, in the files' units.
    """
    tables = [_table(file) for file in files]
    targets = np.concatenate([table[list(COLUMNS.values())].to_numpy() for table in tables])
    features = np.concatenate([_features(*pair) for pair in zip(files, tables, strict=True)])
    order = np.random.default_rng(2014).permutation(len(targets))
    held = round(HELD * len(order))
    test, val, train = np.split(order, [held, 2 * held])
    deviations = targets[train].std(axis=0)
    return {
        "features": standardised(features, train),
        "targets": (targets - targets[train].mean(axis=0)).astype(np.float32),
        "deviations": np.where(deviations > 0, deviations, 1.0),
        **{"train": train, "val": val, "test": test},
    }


def _table(file: Path) -> pd.DataFrame:
    """The columns that are used. Raises ProblemError if one is missing or holds no numbers."""
    import pandas as pd  # half a second that the second start spares

    kinds: dict[str, Any] = {**dict.fromkeys(COLUMNS.values(), float), ELEMENTS: str, PLACES: str}
    try:
        return pd.read_csv(
            io.BytesIO(read(file)), usecols=list(kinds), dtype=kinds, na_filter=False
        )
    except ValueError as error:
        raise ProblemError(f"{file} must be a table of QM9 as qm9pack has it; {error}") from None


def _features(file: Path, table: pd.DataFrame) -> NDArray[np.float32]:
    """Five counts of atoms and 29 eigenvalues (n, 34)."""
    charges = np.zeros((len(table), MOST_ATOMS))
    places = np.zeros((len(table), MOST_ATOMS, 3))
    for n, (elements, xyz) in enumerate(zip(table[ELEMENTS], table[PLACES], strict=True)):
        try:
            own = [CHARGES[element] for element in ast.literal_eval(elements)]
            charges[n, : len(own)] = own
            places[n, : len(own)] = np.reshape(ast.literal_eval(xyz), (len(own), 3))
        except (ValueError, SyntaxError, KeyError, TypeError) as error:
            raise ProblemError(
                f"{file}, molecule {n + 1}: at most {MOST_ATOMS} atoms of {', '.join(CHARGES)} "
                f"with three numbers each are needed; {type(error).__name__}: {error}"
            ) from None
    counts = [(charges == charge).sum(axis=1) for charge in CHARGES.values()]
    parts = range(0, len(table), AT_ONCE)
    values = [coulomb_eigenvalues(charges[n : n + AT_ONCE], places[n : n + AT_ONCE]) for n in parts]
    return np.column_stack([*counts, np.concatenate(values)]).astype(np.float32)


def coulomb_eigenvalues(charges: Floats, places: Floats) -> Floats:
    """Eigenvalues (n, atoms) of Coulomb matrices, largest magnitude first, in hartree.

    charges: (n, atoms), 0 where there is no atom. places: (n, atoms, 3) in Ångström. Rupp et al.
    2012, equation 1: half of Z^2.4 on the diagonal, products of charges over distances elsewhere.
    """
    distances = np.linalg.norm(places[:, :, None] - places[:, None], axis=-1) / BOHR
    products = charges[:, :, None] * charges[:, None]
    diagonal = np.arange(charges.shape[1])
    distances[:, diagonal, diagonal] = 1.0
    matrices = np.divide(products, distances, out=np.zeros_like(products), where=products > 0)
    matrices[:, diagonal, diagonal] = 0.5 * charges**2.4
    values = np.linalg.eigvalsh(matrices)
    order = np.argsort(-np.abs(values), axis=1)
    sorted_values: Floats = np.take_along_axis(values, order, axis=1)
    return sorted_values
