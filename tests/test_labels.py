"""Missing and wrong labels: what they cost and teach, and that the other splits stay."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_engine import final_losses, spec
from torch import Tensor, nn
from torch.nn import functional as F

from mtofront.cli import main
from mtofront.methods import METHODS
from mtofront.problems import (
    PROBLEMS,
    Problem,
    ProblemError,
    Split,
    Task,
    known,
    over_labelled,
    partly_labelled,
    with_label_options,
)
from mtofront.problems.missing import IGNORED
from mtofront.sweep import RequestError, examine, lowering, named_problem
from mtofront.sweep.entropy import packed_entropy
from mtofront.sweep.evaluate import ROWS
from mtofront.sweep.examine import admit
from mtofront.sweep.network import fresh_module
from mtofront.sweep.packed import Layer
from mtofront.sweep.spec import RunSpec
from mtofront.sweep.train import train_pack

NAN = float("nan")


class Net(nn.Module):
    """A shared layer, a number and three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 6)
        self.level, self.kind = nn.Linear(6, 1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.trunk(x).tanh()
        return self.level(z).squeeze(-1), self.kind(z)


def wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) != labels).to(logits.dtype).mean()


def rows(seed: int, count: int) -> Split:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draw)
    return Split(x, (x.sum(1), torch.randint(3, (count,), generator=draw)))


TASKS = (Task("level", F.mse_loss), Task("kind", F.cross_entropy, {"error": wrong}))


def problem(count: int = 64) -> Problem:
    return Problem("mine", TASKS, rows(0, count), rows(1, 40), rows(2, 40), Net)


def labels_of(made: Problem, task: int) -> np.ndarray:
    return made.train.targets[task].numpy()


def row_losses(split: Split, outputs: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Every row's squared error and cross-entropy."""
    level, logits = (output.detach().double().numpy() for output in outputs)
    labels = split.targets[1].numpy()
    shifted = logits - logits.max(1, keepdims=True)
    entropy = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(labels)), labels]
    return (level - split.targets[0].numpy()) ** 2, entropy


def loss_without(output: Tensor, target: Tensor) -> Tensor:
    """A loss of one's own that has no value for a label of 0 or less."""
    return (target.log() - output).square().mean()


MEASURES = {
    "square": (F.mse_loss, None),
    "huber": (partial(F.huber_loss, delta=0.5), None),
    "logistic": (F.binary_cross_entropy_with_logits, None),
    "own": (loss_without, None),
    "entropy": (F.cross_entropy, 3),
    "smoothed": (partial(F.cross_entropy, label_smoothing=0.1), 3),
    "module": (nn.CrossEntropyLoss(), 3),
    "error": (wrong, 3),
}


@pytest.mark.parametrize("name", MEASURES)
@given(seed=st.integers(0, 1000), labelled=st.integers(0, 8))
def test_a_measure_is_that_of_the_rows_with_a_label(name: str, seed: int, labelled: int) -> None:
    measure, classes = MEASURES[name]
    draw = torch.Generator().manual_seed(seed)
    output = torch.randn(8, *([classes] if classes else []), generator=draw, requires_grad=True)
    target = torch.rand(8, generator=draw) + 0.01
    if classes:
        target = torch.randint(classes, (8,), generator=draw)
    lost = torch.randperm(8, generator=draw)[labelled:]
    missing = target.index_fill(0, lost, IGNORED if classes else NAN)
    there = known(missing)
    found = over_labelled(measure, target[0].item())(output, missing)
    whole = measure(output[there], target[there]) if labelled else output.sum() * 0
    assert torch.allclose(found, whole, rtol=1e-5)
    if name != "error":
        (gradient,) = torch.autograd.grad(found, [output])
        (expected,) = torch.autograd.grad(whole, [output])
        assert torch.allclose(gradient, expected, rtol=1e-4, atol=1e-7)
        assert not gradient[~there].any()


def test_a_label_for_every_number_counts_by_itself() -> None:
    output, target = torch.zeros(2, 3), torch.tensor([[1.0, NAN, NAN], [2.0, NAN, 3.0]])
    assert over_labelled(F.mse_loss)(output, target) == pytest.approx((1 + 4 + 9) / 3)
    assert over_labelled(loss_without, 1.0)(output, target.nan_to_num(NAN)) == 0
    pixels = torch.tensor([[[0, IGNORED]], [[IGNORED, 1]]])
    logits = torch.zeros(2, 4, 1, 2)
    assert over_labelled(F.cross_entropy)(logits, pixels) == pytest.approx(np.log(4))


def test_a_task_without_a_label_in_a_minibatch_teaches_nothing() -> None:
    """By hand: the mean square's gradient of a linear network, and exactly zero without labels."""
    loss = partly_labelled(TASKS[0]).loss
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    y = x @ np.array([1, -1, 2, 0.5], dtype=np.float32)
    weight = torch.ones(4, requires_grad=True)
    for there in ([0, 3, 4], [5], []):
        target = np.full(6, np.nan, dtype=np.float32)
        target[there] = y[there]
        value = loss(torch.from_numpy(x) @ weight, torch.from_numpy(target))
        (gradient,) = torch.autograd.grad(value, [weight])
        error = (x @ np.ones(4) - y)[there]
        expected = 2 * error @ x[there] / len(there) if there else np.zeros(4)
        assert gradient.numpy() == pytest.approx(expected, rel=1e-5)
        assert there or (value == 0 and not gradient.any())


@pytest.mark.parametrize("options", [{"labelled": 1.0}, {"label_noise": 0.0, "task_imbalance": 1}])
def test_all_labels_give_the_plain_problem_bit_for_bit(options: dict[str, float]) -> None:
    plain, optional = problem(), with_label_options(problem(), **options)
    specs = [spec(lr=0.1), spec("pcgrad", lr=0.1)]
    for one in specs:
        first, second = (train_pack(p, [one]) for p in (plain, optional))
        assert np.array_equal(final_losses(first), final_losses(second))


@given(share=st.floats(0.01, 1), seed=st.integers(0, 50))
def test_a_share_of_the_labels_stays_at_random_and_grows_with_the_share(
    share: float, seed: int
) -> None:
    whole = problem(200)
    some = with_label_options(whole, labelled={"kind": share}, label_seed=seed)
    more = with_label_options(whole, labelled={"kind": min(1, share * 2)}, label_seed=seed)
    kept, kept_more = (labels_of(p, 1) != IGNORED for p in (some, more))
    assert kept.sum() == max(1, round(share * 200))
    assert kept_more[kept].all()
    assert np.array_equal(labels_of(some, 1)[kept], labels_of(whole, 1)[kept])
    assert np.array_equal(labels_of(some, 0), labels_of(whole, 0))
    assert some.val is whole.val and some.test is whole.test
    assert [task.missing for task in some.tasks] == [False, share < 1]


def test_tasks_lose_their_labels_independently() -> None:
    made = with_label_options(problem(1000), labelled=0.5)
    level, kind = ~np.isnan(labels_of(made, 0)), labels_of(made, 1) != IGNORED
    assert level.sum() == kind.sum() == 500
    assert 200 < (level & kind).sum() < 300


def test_task_imbalance_is_geometric_from_the_first_task_to_the_last() -> None:
    splits = [Split(s.inputs, (s.targets[0],) * 3) for s in (rows(0, 400), rows(1, 9), rows(2, 9))]
    tasks = tuple(Task(name, F.mse_loss) for name in "abc")
    made = with_label_options(Problem("three", tasks, *splits, Net), task_imbalance=16)
    counts = [int((~np.isnan(labels_of(made, t))).sum()) for t in range(3)]
    assert counts == [400, 100, 25]


@given(share=st.floats(0, 1), seed=st.integers(0, 50))
def test_noise_replaces_exactly_its_share_of_classes(share: float, seed: int) -> None:
    whole = problem(300)
    made = with_label_options(
        whole, labelled={"kind": 0.5}, label_noise={"kind": share}, label_seed=seed
    )
    there = labels_of(made, 1) != IGNORED
    changed = labels_of(made, 1)[there] != labels_of(whole, 1)[there]
    assert there.sum() == 150 and changed.sum() == round(share * 150)
    assert set(labels_of(made, 1)[there]) <= {0, 1, 2}
    assert np.array_equal(labels_of(made, 0), labels_of(whole, 0))
    assert made.val is whole.val and made.test is whole.test


def test_wrong_classes_are_drawn_evenly_and_numbers_get_gaussian_noise() -> None:
    whole = problem(30_000)
    made = with_label_options(whole, label_noise={"kind": 1.0, "level": 0.5})
    shift = (labels_of(made, 1) - labels_of(whole, 1)) % 3
    assert np.bincount(shift, minlength=3)[0] == 0
    assert abs((shift == 1).mean() - 0.5) < 4 * 0.5 / np.sqrt(30_000)
    noise = (labels_of(made, 0) - labels_of(whole, 0)) / labels_of(whole, 0).std()
    assert noise.std() == pytest.approx(0.5, rel=0.02) and abs(noise.mean()) < 0.02
    assert np.abs(noise).max() > 1.5


def test_answers_of_yes_or_no_are_flipped() -> None:
    splits = [
        Split(s.inputs, (s.targets[0], (s.targets[1] > 0).float()))
        for s in map(rows, (0, 1, 2), (100, 9, 9))
    ]
    tasks = (TASKS[0], Task("sold", F.binary_cross_entropy_with_logits))
    whole = Problem("p", tasks, *splits, Net)
    made = with_label_options(whole, label_noise={"sold": 0.3})
    assert np.abs(labels_of(made, 1) - labels_of(whole, 1)).sum() == 30


def test_a_subset_keeps_rows_whole_and_lies_in_a_larger_one() -> None:
    whole = problem(100)
    few, more = (with_label_options(whole, subset={"train": n, "val": 7}) for n in (20, 50))
    assert [len(split) for split in few.splits().values()] == [20, 7, 40]
    assert few.test is whole.test
    inputs = [{row.numpy().tobytes() for row in p.train.inputs} for p in (few, more, whole)]
    assert inputs[0] < inputs[1] < inputs[2]
    assert torch.allclose(few.train.inputs.sum(1), few.train.targets[0])


def sparse(count: int = 64) -> Problem:
    """One label in sixteen: in minibatches of four a task often has none."""
    return with_label_options(problem(count), labelled=1 / 16)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_where_a_task_has_no_label_in_a_minibatch(method: str) -> None:
    runs = [spec(method, batch_size=4, epochs=1, seed=seed, weights=None) for seed in range(2)]
    if "weights" in METHODS[method].hyper:
        runs = [replace(run, weights=(0.3, 0.7)) for run in runs]
    trained = train_pack(sparse(32), runs)
    assert (trained.diverged_at < 0).all()
    assert np.isfinite(final_losses(trained)).all()


@pytest.mark.parametrize("method", ["linear", "cagrad"])
@pytest.mark.parametrize("losses", ["raw", "log"])
def test_a_pack_with_missing_labels_trains_as_its_runs_do_alone(method: str, losses: str) -> None:
    weights = (0.3, 0.7) if method == "linear" else None
    treatment = {} if losses == "raw" else {"losses": "log"}
    runs: list[RunSpec] = [
        spec(method, batch_size=4, seed=seed, weights=weights, treatment=treatment, epochs=20)
        for seed in range(3)
    ]
    made = sparse()
    together = final_losses(train_pack(made, runs))
    alone = np.concatenate([final_losses(train_pack(made, [run])) for run in runs])
    assert np.array_equal(together, alone) and np.isfinite(together).all()


def test_cross_entropy_of_a_pack_keeps_its_fast_form(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def counted(runs: int, *arguments: Any) -> Tensor:
        used.append(runs)
        return packed_entropy(runs, *arguments)

    monkeypatch.setattr(lowering, "ENTROPY", Layer(F.cross_entropy, counted))
    train_pack(sparse(), [spec(epochs=1), spec(epochs=1, seed=1)])
    assert len(used) >= 4 and set(used) == {2}


def test_training_losses_are_means_over_all_labelled_rows_of_all_blocks() -> None:
    count = 2 * ROWS + 100
    whole = problem(count)
    made = with_label_options(whole, labelled={"level": 0.05, "kind": 0.01}, label_seed=3)
    trained = train_pack(made, [spec(epochs=1, batch_size=64)])
    first = {
        (m.task, m.measure): m.values
        for m in trained.measurements
        if m.step == 0 and m.split == "train"
    }
    outputs = fresh_module(made, spec())(made.train.inputs)
    level, entropy = row_losses(whole.train, outputs)
    there = ~np.isnan(labels_of(made, 0)), labels_of(made, 1) != IGNORED
    error = outputs[1].argmax(1).numpy() != labels_of(whole, 1)
    assert first["level", "loss"][0] == pytest.approx(level[there[0]].mean(), rel=1e-5)
    assert first["kind", "loss"][0] == pytest.approx(entropy[there[1]].mean(), rel=1e-5)
    assert first["kind", "error"][0] == pytest.approx(error[there[1]].mean(), rel=1e-5)


def test_check_takes_missing_labels_and_still_refuses_a_nan() -> None:
    found = examine(sparse())
    assert found.notes == () and found.reason == ""
    assert all(np.isfinite(found.losses["train"]))

    class Root(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return (x[:, 0] + 9).sqrt() + self.trunk(x).sum(1), self.kind(self.trunk(x))

    made = with_label_options(problem(), labelled={"level": 0.5})
    row = int(np.isnan(labels_of(made, 0)).nonzero()[0][0])
    inputs = made.train.inputs.index_fill(0, torch.tensor([row]), -99)
    broken = replace(made, train=Split(inputs, made.train.targets), model=Root)
    with pytest.raises(
        ProblemError, match=rf"task 'level', split 'train', row {row}: .*output is NaN"
    ):
        admit(broken)
    nothing = Split(made.train.inputs, (torch.full((64,), NAN), made.train.targets[1]))
    with pytest.raises(ProblemError, match=r"task 'level', split 'train': .*found none in 64 rows"):
        admit(replace(made, train=nothing))


MODULE = """\
import torch
from torch import nn
from mtofront.problems import Problem, Split, Task

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 1), nn.Linear(4, 1)
    def forward(self, x):
        z = self.trunk(x).relu()
        return self.a(z).squeeze(-1), self.b(z).squeeze(-1)

def make(rows=30, subset="own"):
    assert subset == "own"
    parts = [torch.randn(rows, 2, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    splits = [Split(x, (x.sum(1), x[:, 0])) for x in parts]
    tasks = Task("a", nn.functional.mse_loss), Task("b", nn.functional.l1_loss)
    return Problem("own", tasks, *splits, model=Net)
"""


def test_options_reach_ready_problems_and_ones_own(workdir: Path) -> None:
    digits = named_problem(
        "multidigits", ["labelled.left=0.1", "label_noise=0.2", "subset.train=500"]
    )
    left, right = (target.numpy() for target in digits.train.targets)
    assert len(left) == 500 and (left != IGNORED).sum() == 50 and (right != IGNORED).all()
    (workdir / "with_labels.py").write_text(MODULE)
    own = named_problem("with_labels:make", ["rows=40", "labelled.b=0.25"])
    assert (~np.isnan(labels_of(own, 1))).sum() == 10
    with pytest.raises(RequestError, match="unexpected keyword argument 'labeled'"):
        named_problem("with_labels:make", ["labeled=0.25"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["labelled=0"], r"labelled must lie in \(0, 1\]; found 0"),
        (["labelled=many"], "labelled must be a number, 0 or more, or one a task; found 'many'"),
        (["labelled.up=0.1"], "labelled: unknown task 'up'; the tasks are left, right"),
        (["labelled=0.1", "task_imbalance=3"], "choose one"),
        (["task_imbalance=0.5"], "task_imbalance must be a number, 1 or more"),
        (["label_noise=1.5"], r"share in \[0, 1\] .*found 1.5 for 10 classes"),
        (["subset.train=0"], "split 'train' has 1 … 2,000 rows to give; subset asks for 0"),
        (["subset=10"], "subset takes rows by split"),
        (["label_seed=-1"], "label_seed must be a whole number"),
        (["label=1"], "its options: offset, .*labelled"),
    ],
)
def test_wrong_options_are_refused_with_the_rule(settings: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        named_problem("multidigits", settings)


def test_problems_without_data_have_no_labels_to_lose() -> None:
    with pytest.raises(
        RequestError, match="'concave' has no labels that could be missing or wrong"
    ):
        named_problem("concave", ["labelled=0.5"])
    assert PROBLEMS["concave"]().truth is not None


def test_missing_labels_do_not_hide_a_row_that_splits_share() -> None:
    whole = problem()
    first = with_label_options(whole, labelled={"level": 0.5})
    both = Split(first.train.inputs[:20], tuple(t[:20] for t in first.train.targets))
    with pytest.raises(
        ProblemError, match="20 of the 20 rows of split 'test' are in split 'train'"
    ):
        admit(replace(first, test=both))


def test_an_option_of_ones_own_goes_before_that_of_labels(workdir: Path) -> None:
    (workdir / "with_own.py").write_text(MODULE)
    assert len(named_problem("with_own:make", ["subset=own"]).train) == 30


def test_check_tells_how_many_labels_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "check",
        "multidigits",
        "--set",
        "labelled.left=0.1",
        "--set",
        "network=single_task",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mtofront", *arguments])
        with pytest.raises(SystemExit, match="0"):
            main()
    shown = " ".join(capsys.readouterr().out.split())
    assert "Labels of left: train 200, val 1,000, test 2,000." in shown and "of right" not in shown
    assert "Tasks share no parameter: only methods that weight the losses can train it." in shown
