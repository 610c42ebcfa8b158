"""Problems from data sets: what is in their rows, and that no two splits share a source row."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_data import SMALL, census_line, pictures, write_idx

from mtofront.analysis import load
from mtofront.problems import PROBLEMS, Problem, ProblemError
from mtofront.problems.lenet import LENETS, LeNet
from mtofront.problems.overlays import overlaid
from mtofront.sweep import load_config, run

OVERLAYS = ("multimnist", "multifashion", "multi_fashion_mnist")
pytestmark = pytest.mark.usefixtures("small_data")


def ink(problem: Problem, split: str) -> NDArray[np.uint8]:
    """The canvases of a split (n, 36, 36) in 0 … 255."""
    images = problem.splits()[split].inputs
    return np.asarray((images * 255).round().byte().squeeze(1).numpy(), dtype=np.uint8)


def corners(problem: Problem, split: str) -> list[tuple[bytes, bytes]]:
    """What shows only the upper left, and only the lower right picture: 8 rows of each."""
    return [(c[:8, :28].tobytes(), c[28:, 8:].tobytes()) for c in ink(problem, split)]


def digit_sources() -> dict[bytes, tuple[int, bytes]]:
    """First 8 rows of every written digit -> its class and last 8 rows."""
    known = {}
    for digit in range(10):
        for picture in pictures(10, digit):
            known[picture[:8].tobytes()] = (digit, picture[-8:].tobytes())
    return known


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("name", OVERLAYS)
def test_no_picture_is_in_two_splits(name: str, seed: int) -> None:
    problem = PROBLEMS[name](**SMALL[name], network="mlp", seed=seed)
    owner: dict[bytes, str] = {}
    clothes = [*pictures(180, 101), *pictures(60, 102)]
    lower = {last: first for first, (_, last) in digit_sources().items()}
    lower |= {picture[-8:].tobytes(): picture[:8].tobytes() for picture in clothes}
    for split in problem.splits():
        for top, bottom in corners(problem, split):
            for piece in (top, lower[bottom]):
                assert owner.setdefault(piece, split) == split
    assert set(owner.values()) == {"train", "val", "test"}


def test_both_digits_lie_where_they_must_and_are_named() -> None:
    problem = PROBLEMS["multimnist"](**SMALL["multimnist"])
    known = digit_sources()
    classes = {last: digit for digit, last in known.values()}
    seen = Counter[int]()
    for split, data in problem.splits().items():
        for n, (top, bottom) in enumerate(corners(problem, split)):
            assert known[top][0] == data.targets[0][n]
            assert classes[bottom] == data.targets[1][n]
            seen[int(data.targets[0][n])] += 1
    assert set(seen) == set(range(10))


def test_the_darker_ink_wins_and_shrinking_keeps_the_mean() -> None:
    left, right = pictures(5, 1), pictures(5, 2)
    canvas = overlaid(left, right)
    for one in range(5):
        for row, column in ((0, 0), (10, 12), (27, 27), (35, 35), (2, 33)):
            expected = 0
            if row < 28 and column < 28:
                expected = int(left[one, row, column])
            if row >= 8 and column >= 8:
                expected = max(expected, int(right[one, row - 8, column - 8]))
            assert canvas[one, row, column] == expected
    small = overlaid(left, right, side=28)
    assert small.shape == (5, 28, 28)
    assert small.mean() == pytest.approx(canvas.mean(), rel=0.05)


def test_a_smaller_split_is_the_beginning_of_a_larger_one_and_leaves_the_others_alone() -> None:
    large = PROBLEMS["multimnist"](**SMALL["multimnist"])
    small = PROBLEMS["multimnist"](**{**SMALL["multimnist"], "train": 25})
    assert torch.equal(small.train.inputs, large.train.inputs[:25])
    assert torch.equal(small.test.inputs, large.test.inputs)
    other = PROBLEMS["multimnist"](**SMALL["multimnist"], seed=1)
    assert not torch.equal(other.test.inputs, large.test.inputs)


def test_fashion_keeps_its_official_test_set() -> None:
    problem = PROBLEMS["multifashion"](**SMALL["multifashion"])
    official = {picture[:8].tobytes() for picture in pictures(60, 102)}
    for split in problem.splits():
        for top, _ in corners(problem, split):
            assert (top in official) == (split == "test")


@pytest.mark.parametrize("packed", [True, False])
def test_the_users_own_idx_files_are_read_when_all_digits_are_asked_for(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    with pytest.raises(ProblemError, match=r"train-images-idx3-ubyte\.gz is not there"):
        PROBLEMS["multimnist"](full=True)
    write_idx(tmp_path / "mnist", train=120, test=40, packed=packed)
    problem = PROBLEMS["multimnist"](**SMALL["multimnist"], full=True)
    official = {p[:8].tobytes(): n % 10 for n, p in enumerate(pictures(40, 102))}
    found = [official[top] for top, _ in corners(problem, "test")]
    assert found == problem.test.targets[0].tolist()


def test_files_that_are_not_what_they_must_be_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    write_idx(tmp_path / "fashion_mnist", train=60, test=20, packed=False)
    labels = tmp_path / "fashion_mnist" / "train-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-3])
    with pytest.raises(ProblemError, match=r"idx1-ubyte must be an idx file.*\(60,\)"):
        PROBLEMS["multifashion"]()
    labels.write_bytes(whole[:-1] + b"\x0b")
    with pytest.raises(ProblemError, match=r"a label in 0 … 9.*up to 11"):
        PROBLEMS["multifashion"]()
    (tmp_path / "census").mkdir()
    line = census_line(1, np.random.default_rng(0))
    for wrong, reason in ((f"{line}, 5", "42 columns; found 43"), ("x" + line, "UCI has it")):
        for part in ("train", "test"):
            with gzip.open(tmp_path / "census" / f"{part}.csv.gz", "wt") as file:
                file.write(wrong + "\n")
        with pytest.raises(ProblemError, match=reason):
            PROBLEMS["census"]()
    (tmp_path / "yeast").mkdir()
    (tmp_path / "yeast" / "yeast.csv.gz").write_bytes(gzip.compress(b"Att1,Class1\n1,0\n"))
    with pytest.raises(ProblemError, match=r"must have columns Att1 … Att103.*found 2 columns"):
        PROBLEMS["yeast"]()


def test_options_that_cannot_be_met_are_refused() -> None:
    for options, reason in (
        ({"network": "vgg"}, "network must be one of"),
        ({"train": 0}, "at least one overlay"),
    ):
        with pytest.raises(ProblemError, match=reason):
            PROBLEMS["multimnist"](**options)
    with pytest.raises(ProblemError, match=r"split 'test' has 1 … 80 rows to give; test=81 asked"):
        PROBLEMS["census"](train=10, val=5, test=81)
    with pytest.raises(ProblemError, match=r"different ones of 1 … 14; found \[0, 3\]"):
        PROBLEMS["yeast"](labels=[0, 3])
    with pytest.raises(ProblemError, match="tasks must be different ones"):
        PROBLEMS["census"](tasks=["income", "income"])


def everything() -> Problem:
    return PROBLEMS["census"](train=None, val=None, test=None)


def ages(problem: Problem, split: str) -> NDArray[np.int64]:
    """The first column of the written lines, which tells them apart, from the standardised one."""
    train = np.asarray(problem.train.inputs[:, 0])
    column = problem.splits()[split].inputs[:, 0].numpy()
    lines = np.concatenate([np.arange(180), np.arange(20)])  # as they were written
    known = np.concatenate([train, problem.val.inputs[:, 0].numpy()])
    scale = (lines.max() - lines.min()) / (known.max() - known.min())
    return np.asarray(((column - known.min()) * scale).round(), dtype=np.int64)


def test_no_line_of_the_census_is_in_two_splits_and_none_is_lost() -> None:
    problem = everything()
    train, val, test = (ages(problem, split).tolist() for split in ("train", "val", "test"))
    assert not set(train) & set(val)
    assert Counter(train + val) == Counter([*range(180), *range(20)])
    assert sorted(test) == [1000 + n for n in range(80)]


def test_census_columns_are_standardised_one_hot_and_without_the_tasks(small_data: Path) -> None:
    problem = everything()
    with gzip.open(small_data / "census" / "train.csv.gz", "rt") as file:
        cells = [line.strip().split(", ") for line in file]
    categories = [n for n in range(42) if n not in (0, 5, 16, 17, 18, 30, 39, 4, 7, 24, 41)]
    values = sum(len({row[n] for row in cells}) for n in categories)
    assert problem.train.inputs.shape[1] == 7 + values
    numbers = problem.train.inputs[:, :7]
    assert numbers.mean(dim=0) == pytest.approx(np.zeros(7), abs=1e-5)
    assert numbers.std(dim=0, correction=0) == pytest.approx(np.ones(7), abs=1e-4)
    hot = problem.train.inputs[:, 7:]
    assert set(hot.unique().tolist()) == {0.0, 1.0}
    assert set(hot.sum(dim=1).tolist()) == {float(len(categories))}
    guam = ages(problem, "test") == 1000  # a state that no training row has
    assert problem.test.inputs[guam][:, 7:].sum() == len(categories) - 1


def test_census_targets_are_those_of_the_line(small_data: Path) -> None:
    with gzip.open(small_data / "census" / "train.csv.gz", "rt") as file:
        cells = [line.strip().split(", ") for line in file]
    problem = everything()
    for n, age in enumerate(ages(problem, "train")):
        row = cells[age]
        expected = [row[41] == "50000+.", row[7] == "Never married", "High" not in row[4]]
        assert [bool(target[n]) for target in problem.train.targets] == expected
    some = PROBLEMS["census"](["education", "income"], train=None, val=None, test=None)
    assert [task.name for task in some.tasks] == ["education", "income"]
    assert torch.equal(some.train.targets[1], problem.train.targets[0])


def test_every_row_of_yeast_is_in_one_split(small_data: Path) -> None:
    problem = PROBLEMS["yeast"]()
    sizes = [len(split) for split in problem.splits().values()]
    assert sizes == [48, 12, 20]
    with gzip.open(small_data / "yeast" / "yeast.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", skiprows=1)
    rows = torch.cat([split.inputs for split in problem.splits().values()]).numpy()
    labels = torch.cat([torch.stack(s.targets, 1) for s in problem.splits().values()]).numpy()
    some = PROBLEMS["yeast"](labels=[14, 2])
    assert [task.name for task in some.tasks] == ["class14", "class2"]
    assert torch.equal(some.test.targets[1], problem.test.targets[1])
    assert torch.equal(some.test.targets[0], problem.test.targets[13])
    order = [np.argsort(column[:, 0]) for column in (rows, table)]
    assert np.corrcoef(rows[order[0], 5], table[order[1], 5])[0, 1] == pytest.approx(1)
    assert (labels[order[0]] == table[order[1], 103:]).all()


@pytest.mark.parametrize(
    ("name", "weights"),
    # convolutions, the layer of 50 and two heads, weights and biases, from the papers' figures
    [
        ("lenet_mgda", 10 * 26 + 20 * 251 + 50 * 321 + 2 * (50 * 51 + 10 * 51)),
        ("lenet_pmtl", 10 * 82 + 20 * 251 + 50 * 501 + 2 * 10 * 51),
        ("lenet_pamal", 10 * 82 + 20 * 251 + 50 * 501 + 2 * (50 * 51 + 10 * 51)),
    ],
)
def test_each_lenet_has_the_layers_of_its_paper(name: str, weights: int) -> None:
    kind = LENETS[name]
    outputs = LeNet(kind, (10, 7))(torch.rand(3, 1, kind.side, kind.side))
    assert [tuple(output.shape) for output in outputs] == [(3, 10), (3, 7)]
    net = LeNet(kind, (10, 10))
    assert sum(parameter.numel() for parameter in net.parameters()) == weights


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("multimnist", {"network": "lenet_mgda"}),
        ("multifashion", {"network": "mlp"}),
        ("multi_fashion_mnist", {"network": "lenet_pmtl"}),
        ("census", {}),
        ("yeast", {}),
        ("movielens", {}),
        ("qm9", {"scale": "raw", "tasks": ["homo", "Cv"]}),
        ("qm9", {"tasks": ["homo", "Cv"], "network": "mmoe"}),
        ("mt10", {"tasks": ["reach", "push"], "hidden": 16}),
        ("translation", {"layers": 1, "width": 8, "heads": 2}),
    ],
)
def test_each_trains_in_a_pack_from_a_config(name: str, options: dict, bowls: Path) -> None:  # type: ignore[type-arg]
    given = json.dumps({**SMALL.get(name, {}), **options})
    config = load_config(
        bowls,
        [
            f"problem={name}",
            f"problem_options={given}",
            "arms.scalarization={method: linear}",
            "arms.cagrad=",
            "optimizer={name: adam, lr: 0.003}",
            "budget.epochs=4",
        ],
    )
    run(config, "out")
    frame = load("out")
    mean = frame[(frame["split"] == "train") & (frame["measure"] == "loss")]
    ends = mean.groupby("step")["value"].mean()
    assert ends.iloc[-1] < ends.iloc[0]
