"""QM9: rows against the tables they come from, Coulomb matrices by hand, units and scales."""

from __future__ import annotations

import csv
import gzip
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packs import assert_same_alone_and_in_a_pack
from small_data import qm9_molecule, write_qm9

from mtofront.problems import PROBLEMS, Problem, ProblemError, refuse_bad_data
from mtofront.problems.qm9_molecules import coulomb_eigenvalues

pytestmark = pytest.mark.usefixtures("small_data")
Z = {"H": 1.0, "C": 6.0, "N": 7.0, "O": 8.0, "F": 9.0}
IN_BOHR = 1 / 0.529177210903
WRITTEN = {
    **{"mu": 13, "alpha": 14, "homo": 15, "lumo": 16, "r2": 18, "zpve": 19},
    **{"U0": 20, "U": 21, "H": 22, "G": 23, "Cv": 24},
}
"""Task -> its column, counted in the head of the real file."""


def written(folder: Path) -> NDArray[np.float64]:
    """The eleven targets of every molecule (n, 11), by the molecule's number."""
    rows = []
    for path in sorted((folder / "qm9").glob("part*.csv.gz")):
        with gzip.open(path, "rt", newline="") as file:
            rows += list(csv.reader(file))[1:]
    rows.sort(key=lambda row: int(row[1]))
    return np.array([[float(row[column]) for column in WRITTEN.values()] for row in rows])


def numbers(problem: Problem, mean: float) -> dict[str, list[int]]:
    """Of each split's rows the molecule's number, which is its dipole moment, in debye."""
    place = [task.name for task in problem.tasks].index("mu")
    splits = problem.splits().items()
    return {
        name: [round(v + mean) for v in split.targets[place].tolist()] for name, split in splits
    }


def raw(folder: Path) -> tuple[Problem, dict[str, list[int]]]:
    """All rows in the files' units, and which molecules they are."""
    problem = PROBLEMS["qm9"](scale="raw")
    # the least of all targets is that of molecule 0, whose dipole moment is written as 0
    least = min(float(split.targets[0].min()) for split in problem.splits().values())
    return problem, numbers(problem, -least)


def test_targets_are_what_is_written_less_the_mean_of_training(small_data: Path) -> None:
    problem, molecules = raw(small_data)
    table = written(small_data)
    assert [task.name for task in problem.tasks] == list(WRITTEN)
    mean = table[molecules["train"]].mean(axis=0)
    for name, split in problem.splits().items():
        found = torch.stack(split.targets, 1).numpy()
        np.testing.assert_allclose(found, table[molecules[name]] - mean, rtol=1e-5, atol=1e-4)
    refuse_bad_data(problem)


def test_every_molecule_is_in_one_split_and_always_in_the_same(small_data: Path) -> None:
    _, molecules = raw(small_data)
    assert [len(rows) for rows in molecules.values()] == [76, 7, 7]
    assert sorted(itertools.chain(*molecules.values())) == list(range(90))
    assert raw(small_data)[1] == molecules
    assert molecules["train"] != sorted(molecules["train"])


def test_standardised_targets_have_the_units_of_training(small_data: Path) -> None:
    plain, _ = raw(small_data)
    problem = PROBLEMS["qm9"]()
    for before, after in zip(plain.train.targets, problem.train.targets, strict=True):
        assert after.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        assert torch.allclose(after * before.std(correction=0), before, rtol=1e-4, atol=1e-4)
    outputs = [torch.randn(7, generator=torch.Generator().manual_seed(n)) for n in range(11)]
    for n, output in enumerate(outputs):
        deviation = plain.train.targets[n].std(correction=0)
        by_scale = [
            problem.tasks[n].metrics["mae"](output, problem.test.targets[n]),
            plain.tasks[n].metrics["mae"](output * deviation, plain.test.targets[n]),
        ]
        expected = (output - problem.test.targets[n]).abs().sum() / 7
        assert [value.item() for value in by_scale] == pytest.approx([expected.item()] * 2, 1e-4)
        loss = plain.tasks[n].loss(output * deviation, plain.test.targets[n])
        errors = (output * deviation - plain.test.targets[n]).square()
        assert loss.item() == pytest.approx(errors.mean().item())


def coulomb_matrix(elements: str, places: list[list[float]]) -> NDArray[np.float64]:
    """Entry by entry, as in the paper."""
    size = len(elements)
    matrix = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if i == j:
                matrix[i, j] = 0.5 * Z[elements[i]] ** 2.4
            else:
                distance = math.dist(places[i], places[j]) * IN_BOHR
                matrix[i, j] = Z[elements[i]] * Z[elements[j]] / distance
    return matrix


def test_features_are_counts_and_sorted_eigenvalues(small_data: Path) -> None:
    problem, molecules = raw(small_data)
    expected = np.zeros((90, 34))
    for n in range(90):
        elements, places = qm9_molecule(n)
        expected[n, :5] = [elements.count(element) for element in Z]
        values = np.linalg.eigvals(coulomb_matrix(elements, places)).real
        expected[n, 5 : 5 + len(values)] = sorted(values, key=abs, reverse=True)
    train = expected[molecules["train"]]
    deviation = train.std(axis=0)
    deviation[deviation == 0] = 1
    for name, split in problem.splits().items():
        scaled = (expected[molecules[name]] - train.mean(axis=0)) / deviation
        np.testing.assert_allclose(split.inputs.numpy(), scaled, rtol=1e-3, atol=1e-3)


def test_eigenvalues_of_carbon_monoxide_are_those_on_paper_wherever_it_lies() -> None:
    c, o, between = 0.5 * 6**2.4, 0.5 * 8**2.4, 6 * 8 / (1.128 * IN_BOHR)
    middle, half = (c + o) / 2, math.hypot((c - o) / 2, between)
    expected = sorted([middle + half, middle - half], key=abs, reverse=True)
    charges = np.array([[6.0, 8.0, 0.0], [8.0, 6.0, 0.0], [6.0, 0.0, 8.0]])
    places = np.zeros((3, 3, 3))
    places[0, 1] = [1.128, 0, 0]
    places[1, :2] = [[3, 2, 1], [3, 2 + 1.128 * 0.6, 1 - 1.128 * 0.8]]
    places[2, 2] = [0, 0, 1.128]
    for values in coulomb_eigenvalues(charges, places):
        assert values.tolist() == pytest.approx([*expected, 0.0])


def test_fewer_rows_and_tasks_are_a_part_of_all() -> None:
    whole = PROBLEMS["qm9"]()
    part = PROBLEMS["qm9"](tasks=["Cv", "mu"], train=20, test=3)
    assert [task.name for task in part.tasks] == ["Cv", "mu"]
    assert torch.equal(part.train.inputs, whole.train.inputs[:20])
    assert torch.equal(part.test.targets[0], whole.test.targets[10][:3])
    assert torch.equal(part.val.targets[1], whole.val.targets[0])


@pytest.mark.parametrize("scale", ["standardised", "raw"])
def test_it_is_bit_for_bit_the_same_alone_and_in_a_pack(scale: str) -> None:
    problem = PROBLEMS["qm9"](tasks=["homo", "r2", "U0"], scale=scale, hidden=16)
    assert_same_alone_and_in_a_pack(problem, "pcgrad")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["mu"]}, r"tasks must be two or more different ones of .*\['mu'\]"),
        ({"tasks": ["mu", "mu"]}, "two or more different ones"),
        ({"tasks": ["mu", "gap"]}, "two or more different ones .*'gap'"),
        ({"scale": "log"}, r"scale must be one of .*'log'"),
        ({"train": 77}, r"split 'train' has 1 … 76 rows to give; train=77"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        PROBLEMS["qm9"](**options)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("LUMO_au", "LUMO", r"part2\.csv\.gz must be a table of QM9 .*LUMO_au"),
        ("-399.0", "unknown", r"part2\.csv\.gz must be a table of QM9 .*unknown"),
        ("['", "['Xe','", r"part2\.csv\.gz, molecule 1: at most 29 atoms .*KeyError: 'Xe'"),
        ("[[", "[[7.,", r"part2\.csv\.gz, molecule 1: at most 29 atoms .*ValueError"),
        ("[[", "[(", r"part2\.csv\.gz, molecule 1: at most 29 atoms .*SyntaxError"),
        ("['", "[" + 30 * "'H'," + "'", r"molecule 1: at most 29 atoms .*ValueError"),
    ],
)
def test_another_table_is_refused(
    before: str, after: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    write_qm9(tmp_path / "qm9", molecules=9)
    path = tmp_path / "qm9" / "part2.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode()
    assert before in text
    path.write_bytes(gzip.compress(text.replace(before, after, 1).encode()))
    with pytest.raises(ProblemError, match=message):
        PROBLEMS["qm9"]()
