"""Bad problems are refused by task, split and row, before a sweep and by `mtofront check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtofront.cli import main
from mtofront.problems import PROBLEMS, Problem, ProblemError, Split, Task
from mtofront.sweep import RequestError, examine, load_config, named_problem, plan, run
from mtofront.sweep.examine import GLIMPSE, admit

ROWS = 600
KNOWN = ("concave", "landscape", "linear_bottleneck", "multidigits", "quadratics")
HEAD = """\
name: mine
budget: {epochs: 1, batch_size: 16}
optimizer: {name: sgd, lr: 0.01}
seeds: 2
arms: {scalarization: {method: linear, weights: {grid: log_odds, points: 3}}, pcgrad: }
resources: {engine: inline}
problem: """


class Net(nn.Module):
    def __init__(self, shared: bool = True) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 8)
        self.level, self.kind = nn.Linear(8, 1), nn.Linear(8, 3)
        self.other = None if shared else nn.Linear(4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        z = self.trunk(x).relu()
        outputs = self.level(z).squeeze(-1), self.kind(z)
        return outputs if self.other is None else (*outputs, self.other(x).squeeze(-1))


def rows(seed: int, count: int = ROWS) -> Split:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draw)
    return Split(x, (x.sum(1), torch.randint(3, (count,), generator=draw)))


TASKS = (Task("level", functional.mse_loss), Task("kind", functional.cross_entropy))


def problem(**changed: object) -> Problem:
    good = Problem("mine", TASKS, rows(0), rows(1), rows(2), Net)
    return replace(good, **changed)  # type: ignore[arg-type]


def with_row(split: Split, row: int, part: int, value: float) -> Split:
    """A copy in which one row of the inputs (0) or of a task's target (1, 2) is another."""
    parts = [split.inputs.clone(), *(target.clone() for target in split.targets)]
    parts[part][row] = value
    return Split(parts[0], tuple(parts[1:]))


def test_a_good_problem_passes_with_its_facts() -> None:
    found = examine(problem())
    assert (found.shared, found.heads) == (4 * 8 + 8, (9, 27))
    assert found.reason == "" and found.notes == () and admit(problem()) == ()
    torch.manual_seed(0)
    module = Net().eval()
    for name, split in problem().splits().items():
        outputs = module(split.inputs)
        whole = [t.loss(o, y) for t, o, y in zip(TASKS, outputs, split.targets, strict=True)]
        assert found.losses[name] == pytest.approx([loss.item() for loss in whole], rel=1e-5)


@pytest.mark.parametrize("look", [admit, examine])
@pytest.mark.parametrize("label", [3, -1])
def test_a_label_out_of_range_is_named(look: Callable[[Problem], object], label: int) -> None:
    bad = problem(val=with_row(rows(1), 317, 2, label))
    expected = (
        rf"task 'kind', split 'val', row 317: label {label} is out of range for the 3 classes"
    )
    with pytest.raises(ProblemError, match=expected):
        look(bad)


def test_a_rare_label_far_down_is_found_before_a_sweep_too() -> None:
    bad = problem(train=with_row(rows(0, 3 * GLIMPSE), 2 * GLIMPSE, 2, 7))
    with pytest.raises(ProblemError, match=rf"split 'train', row {2 * GLIMPSE}: label 7"):
        admit(bad)


def test_numbers_that_are_not_finite_are_named() -> None:
    with pytest.raises(ProblemError, match=r"split 'test', inputs: .* in 1 rows, .* row 12"):
        admit(problem(test=with_row(rows(2), 12, 0, float("nan"))))
    with pytest.raises(
        ProblemError, match=r"task 'level', split 'val', row 5: .*its target holds NaN"
    ):
        admit(problem(val=with_row(rows(1), 5, 1, float("inf"))))


def test_a_nan_at_initialisation_is_named() -> None:
    class Root(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (x[:, 0] + 3).sqrt() * self.trunk(x).sum(1), self.kind(self.trunk(x))

    # an honest row, for which this network has no answer
    bad = problem(train=with_row(with_row(rows(0), 0, 0, 0.5), 411, 0, -9), model=Root)
    safe = [Split(s.inputs.abs(), s.targets) for s in (bad.val, bad.test)]
    clean = Split(
        torch.where(bad.train.inputs == -9, -9, bad.train.inputs.abs()), bad.train.targets
    )
    bad = replace(bad, train=clean, val=safe[0], test=safe[1])
    with pytest.raises(
        ProblemError, match=r"task 'level', split 'train', row 411: .*output is NaN"
    ):
        admit(bad)

    def logarithm(output: Tensor, target: Tensor) -> Tensor:
        return (target.log() - output).square().mean()

    wrong = problem(tasks=(Task("level", logarithm), TASKS[1]))
    positive = [
        Split(s.inputs, (s.targets[0].abs() + 0.1, s.targets[1])) for s in map(rows, (0, 1, 2))
    ]
    wrong = replace(
        wrong, train=positive[0], val=with_row(positive[1], 44, 1, -1), test=positive[2]
    )
    with pytest.raises(ProblemError, match=r"task 'level', split 'val', row 44: the loss is NaN"):
        admit(wrong)


def test_a_task_that_shares_nothing_is_named() -> None:
    splits = [Split(s.inputs, (*s.targets, s.targets[0])) for s in map(rows, (0, 1, 2))]
    tasks = (*TASKS, Task("alone", functional.mse_loss))
    bad = Problem("mine", tasks, *splits, lambda: Net(shared=False))
    with pytest.raises(
        ProblemError, match=r"task 'alone': every task needs a parameter that it sh"
    ):
        admit(bad)


def test_losses_of_the_wrong_shape_are_named() -> None:
    def each(output: Tensor, target: Tensor) -> Tensor:
        return (output - target) ** 2

    with pytest.raises(
        ProblemError, match=r"task 'level', split 'train': .*scalar.*shape \(256,\)"
    ):
        admit(problem(tasks=(Task("level", each), TASKS[1])))
    column = [Split(s.inputs, (s.targets[0][:, None], s.targets[1])) for s in map(rows, (0, 1, 2))]
    with pytest.raises(ProblemError, match=r"task 'level', split 'train'.*\(256,\).*\(256, 1\)"):
        admit(Problem("mine", TASKS, *column, Net))
    quiet = Task("level", lambda output, target: (output - target).square().mean())
    found = examine(Problem("mine", (quiet, TASKS[1]), *column, Net))
    assert len(found.notes) == 1 and "task 'level': the loss of two rows" in found.notes[0]
    with pytest.raises(ProblemError, match="task 'kind', split 'train': the loss cannot be"):
        admit(problem(tasks=(TASKS[0], Task("kind", functional.mse_loss))))


def test_outputs_that_do_not_fit_the_tasks_are_refused() -> None:
    with pytest.raises(ProblemError, match=r"one output a task \(1\).*found 2"):
        one = [Split(s.inputs, s.targets[:1]) for s in map(rows, (0, 1, 2))]
        admit(Problem("mine", TASKS[:1], *one, Net))
    with pytest.raises(ProblemError, match=r"found Tensor"):
        admit(problem(model=lambda: nn.Linear(4, 2)))
    with pytest.raises(ProblemError, match=r"forward fails on inputs of shape \(256, 4\)"):
        admit(problem(model=lambda: nn.Linear(5, 2)))

    class Pooled(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(output.mean(0, keepdim=True) for output in super().forward(x))

    with pytest.raises(ProblemError, match=r"task 'level', split 'train': an output needs one row"):
        admit(problem(model=Pooled))


def test_rows_that_splits_share_are_counted_and_a_split_within_another_refused() -> None:
    train, val = rows(0), rows(1)
    some = Split(
        torch.cat([val.inputs[:7], train.inputs[20:23]]),
        tuple(
            torch.cat([v[:7], t[20:23]]) for v, t in zip(val.targets, train.targets, strict=True)
        ),
    )
    expected = (
        "problem 'mine': 3 of the 10 rows of split 'val' are in split 'train' too, inputs and "
        "targets alike (row 7 is row 20 there)"
    )
    assert admit(problem(val=some)) == (expected,)
    relabelled = Split(train.inputs, (train.targets[0] + 1, train.targets[1]))
    assert admit(problem(val=relabelled)) == ()
    copied = Split(train.inputs[50:90].clone(), tuple(t[50:90].clone() for t in train.targets))
    with pytest.raises(
        ProblemError, match=r"40 of the 40 rows of split 'test' are in split 'train'"
    ):
        admit(problem(test=copied))
    meant = problem()
    assert admit(replace(meant, test=meant.train)) == (
        f"problem 'mine': splits 'train' and 'test' are the same {ROWS} rows",
    )


@pytest.mark.parametrize("name", KNOWN)
def test_problems_that_need_no_download_pass_without_a_note(name: str) -> None:
    assert examine(PROBLEMS[name]()).notes == ()


BAD = """\
import torch
from test_examine import rows, with_row, Net, TASKS
from mtofront.problems import Problem

def make(label=5):
    return Problem("mine", TASKS, with_row(rows(0), 3, 2, label), rows(1), rows(2), Net)
"""


@pytest.fixture
def own(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an own problem whose label is wrong unless its option says otherwise."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delitem(sys.modules, "bad_labels", raising=False)
    Path("bad_labels.py").write_text(BAD)
    return "bad_labels:make"


def test_a_sweep_of_a_bad_problem_does_not_start(own: str) -> None:
    Path("mine.yaml").write_text(HEAD + own)
    with pytest.raises(
        RequestError, match=r"mine.yaml:7: problem: .* split 'train', row 3: label 5"
    ):
        plan(load_config(Path("mine.yaml")))
    assert not Path("results").exists()


def test_shared_rows_are_told_of_at_the_end_of_a_sweep(workdir: Path, own: str) -> None:
    Path("twice.py").write_text(
        "from dataclasses import replace\nfrom bad_labels import make\n"
        "def twice():\n    p = make(label=2)\n    return replace(p, test=p.val)\n"
    )
    Path("mine.yaml").write_text(HEAD + "twice:twice")
    outcome = run(load_config(Path("mine.yaml")))
    assert any("'val' and 'test' are the same" in notice for notice in outcome.notices)


def checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["mtofront", "check", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_check_prints_what_is_in_a_problem_or_what_is_wrong(
    own: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = checked(monkeypatch, capsys, own, "--set", "label=1")
    assert code == 0 and "side by side" in out and "can be trained" in out
    assert max(map(len, out.splitlines())) <= 80
    code, out, err = checked(monkeypatch, capsys, own)
    assert (code, out) == (2, "")
    assert err.startswith("error: problem 'mine', task 'kind', split 'train', row 3: label 5")
    code, _, err = checked(monkeypatch, capsys, own, "--set", "lable=1")
    assert code == 2 and "its options: label" in err
    Path("mine.yaml").write_text(HEAD + own + "\nproblem_options: {label: 0}\n")
    facts = json.loads(checked(monkeypatch, capsys, "mine.yaml", "--json")[1])
    assert facts["rows"] == {"train": ROWS, "val": ROWS, "test": ROWS}
    assert facts["own_parameters"] == {"level": 9, "kind": 27}
    assert facts["batched"] and facts["best_hypervolume"] is None


def test_check_says_why_runs_train_one_by_one_and_what_a_front_holds() -> None:
    class Looks(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return super().forward(x if x.sum() > 0 else -x)

    assert examine(problem(model=Looks)).reason
    truth = named_problem("pymoo:zdt1", ["n_var=4"]).truth
    assert truth is not None and truth.hypervolume == pytest.approx(0.21 + 2 / 3, abs=1e-3)
