"""MovieLens: rows against the tables they come from, missing labels, and embeddings in packs."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packs import assert_same_alone_and_in_a_pack
from small_data import write_movielens
from torch.nn import functional

from mtofront.problems import PROBLEMS, Problem, ProblemError, refuse_bad_data
from mtofront.problems.movielens import KINDS, Recommender

pytestmark = pytest.mark.usefixtures("small_data")
Rating = tuple[int, int, int, int]


def ratings(folder: Path) -> list[Rating]:
    """User, film, stars and time as written, in the order of time."""
    with gzip.open(folder / "movielens" / "ml-100k.inter.gz", "rt") as file:
        rows = [line.split("\t") for line in file.read().splitlines()[1:]]
    return sorted(((int(a), int(b), int(c), int(d)) for a, b, c, d in rows), key=lambda r: r[3])


def named(folder: Path, problem: Problem, split: str) -> list[tuple[int, int]]:
    """User and film of each row, 0 for one that training never saw; from the table's order."""
    tables = []
    for kind in ("user", "item"):
        with gzip.open(folder / "movielens" / f"ml-100k.{kind}.gz", "rt") as file:
            tables.append(sorted(line.split("\t")[0] for line in file.read().splitlines()[1:]))
    users, films = tables
    inputs = problem.splits()[split].inputs
    first_film = 1 + len(users) + len({n // 10 for n in range(20, 50)}) + 2 + 1
    return [
        (int(users[user - 1]) if user else 0, int(films[film - first_film]) if film else 0)
        for user, film in zip(inputs[:, 0].tolist(), inputs[:, 4].tolist(), strict=True)
    ]


def test_watched_rows_are_the_ratings_divided_by_time(small_data: Path) -> None:
    problem = PROBLEMS["movielens"]()
    written = ratings(small_data)
    cuts = {"train": written[:210], "val": written[210:240], "test": written[240:]}
    trained = {user for user, *_ in cuts["train"]}
    mean = np.mean([stars for _, _, stars, _ in cuts["train"]])
    for split, expected in cuts.items():
        watched, like, rating = (target[::2] for target in problem.splits()[split].targets)
        assert (watched == 1).all() and len(watched) == len(expected)
        pairs = named(small_data, problem, split)
        found = Counter(
            (pair[0], round(float(stars + mean), 3), bool(liked))
            for pair, stars, liked in zip(pairs[::2], rating, like, strict=True)
        )
        assert found == Counter(
            (user if user in trained else 0, float(stars), stars >= 4)
            for user, _, stars, _ in expected
        )
    late = max(user for user, *_ in written)
    assert late not in trained and (problem.test.inputs[:, 0] == 0).any()


def test_rows_not_watched_have_no_other_label_and_show_no_later_film(small_data: Path) -> None:
    problem = PROBLEMS["movielens"](negatives=3)
    written = ratings(small_data)
    ends = {"train": 210, "val": 240, "test": 300}
    for split, data in problem.splits().items():
        before = written[: ends[split]]
        seen = {(user, film) for user, film, *_ in before}
        shown = {film for _, film, *_ in before}
        watched, *others = (target.reshape(-1, 4) for target in data.targets)
        assert (watched[:, 0] == 1).all() and (watched[:, 1:] == 0).all()
        for target in others:
            assert not target[:, 0].isnan().any() and target[:, 1:].isnan().all()
        pairs = named(small_data, problem, split)
        for n, (user, film) in enumerate(pairs):
            if n % 4 and user and film:
                assert (user, film) not in seen and film in shown
    refuse_bad_data(problem)


def test_the_order_of_each_user_gives_every_user_to_training(small_data: Path) -> None:
    problem = PROBLEMS["movielens"](order="user")
    written = ratings(small_data)
    total = Counter(user for user, *_ in written)
    trained = Counter(user for user, _ in named(small_data, problem, "train")[::2])
    for user, count in total.items():
        assert abs(trained[user] - 0.7 * count) <= 1
    assert (problem.test.inputs[:, 0] > 0).all()


def test_fewer_rows_and_tasks_are_a_part_of_all() -> None:
    whole, part = PROBLEMS["movielens"](), PROBLEMS["movielens"](train=50)
    assert torch.equal(part.train.inputs, whole.train.inputs[:100])
    labelled = PROBLEMS["movielens"](tasks=["rating", "like"])
    assert [task.name for task in labelled.tasks] == ["rating", "like"]
    assert torch.equal(labelled.test.inputs, whole.test.inputs[::2])
    assert torch.equal(labelled.test.targets[0], whole.test.targets[2][::2])
    assert not any(target.isnan().any() for target in labelled.test.targets)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_missing_labels_cost_and_teach_nothing(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(8, generator=generator, requires_grad=True)
    target = torch.randint(0, 2, (8,), generator=generator).float()
    target[rows:] = float("nan")
    losses = {
        "like": functional.binary_cross_entropy_with_logits,
        "rating": functional.mse_loss,
    }
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(KINDS[name].loss(output, target), output)
        value = KINDS[name].loss(output, target)
        expected = loss(output[:rows], target[:rows]) if rows else torch.tensor(0.0)
        assert value.item() == pytest.approx(expected.item())
        assert (gradient[rows:] == 0).all() and gradient.isfinite().all()
        assert (gradient[:rows] != 0).all()
    metrics = [KINDS["like"].metrics["error"], KINDS["rating"].metrics["mae"]]
    known, values = target[:rows], output.detach()[:rows]
    if rows:
        wrong = ((values > 0).float() - known).abs().mean()
        found = [metric(output, target).item() for metric in metrics]
        assert found == pytest.approx([wrong.item(), (values - known).abs().mean().item()])


@pytest.mark.parametrize("method", ["linear", "pcgrad", "imtl"])
def test_embeddings_are_bit_for_bit_the_same_alone_and_in_a_pack(method: str) -> None:
    problem = PROBLEMS["movielens"](train=100, val=20, test=40)
    assert_same_alone_and_in_a_pack(problem, method)


def test_whoever_training_never_saw_keeps_the_embedding_zero() -> None:
    problem = PROBLEMS["movielens"]()
    net = problem.model()
    assert isinstance(net, Recommender)
    unknown = problem.test.inputs[problem.test.inputs[:, 0] == 0][:1]
    assert (net.table(unknown[:, :1]) == 0).all()
    outputs = net(problem.train.inputs[:64])
    sum(output.sum() for output in outputs).backward()
    gradient = net.table.weight.grad
    assert gradient is not None and (gradient[0] == 0).all() and (gradient[1:] != 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["watched", "loved"]}, r"tasks must be different ones of .*'loved'"),
        ({"order": "random"}, r"order must be one of .*'random'"),
        ({"negatives": 0}, "at least 1 a watched row; found 0"),
        ({"train": 211}, r"split 'train' has 1 … 210 watched rows to give; train=211"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        PROBLEMS["movielens"](**options)


def test_another_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    write_movielens(tmp_path / "movielens", users=30, films=40)
    path = tmp_path / "movielens" / "ml-100k.user.gz"
    path.write_bytes(gzip.compress(b"user_id:token\n1\n"))
    with pytest.raises(ProblemError, match=r"user\.gz must begin with the line 'user_id.*zip"):
        PROBLEMS["movielens"]()
