"""Methods named `torchjd:NAME(...)`: the answers of TorchJD called by hand, and their errors."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from jacobians import CHAIN, random_jacobian, rows
from rich.console import Console
from torch import Tensor
from torchjd import Stateful, aggregation

from mtofront.analysis import load
from mtofront.cli import main
from mtofront.methods import (
    METHODS,
    UNSOLVED,
    Balancer,
    HyperError,
    Method,
    Signals,
    State,
    aggregate,
    make,
    method_named,
    treatment_of,
)
from mtofront.sweep import load_config, plan, run
from mtofront.tables import method_table

TASKS = 5

CALLS: dict[str, dict[str, Any]] = {
    "AlignedMTL": {"scale_mode": "median"},
    "AlignedMTLWeighting": {},
    "CAGrad": {"c": 0.4},
    "CAGradWeighting": {"c": 0.4, "norm_eps": 0.001},
    "ConFIG": {"pref_vector": [1, 2, 3, 4, 5]},
    "Constant": {"weights": [0.5, -0.2, 0.3, 0.1, 1]},
    "ConstantWeighting": {"weights": [0.5, 0.2, 0.3, 0.1, 1]},
    "DualProj": {},
    "DualProjWeighting": {"pref_vector": [0.1, 0.2, 0.3, 0.2, 0.2]},
    "ExcessMTL": {"n_warmup_steps": 1},
    "ExcessMTLWeighting": {"robust_step_size": 0.01},
    "FairGrad": {"alpha": 1.0, "max_iters": None},
    "FairGradWeighting": {"alpha": 0.5},
    "GradDrop": {"leak": [0.1, 0.2, 0.3, 0.4, 0]},
    "GradVac": {"beta": 0.3},
    "GradVacWeighting": {},
    "IMTLG": {},
    "IMTLGWeighting": {},
    "Krum": {"n_byzantine": 1, "n_selected": 2},
    "KrumWeighting": {"n_byzantine": 2},
    "MGDA": {},
    "MGDAWeighting": {"epsilon": 1e-5, "max_iters": 500},
    "Mean": {},
    "MeanWeighting": {},
    "MoDoWeighting": {"gamma": 0.01, "rho": 0.2},
    "PCD": {"tau": [0.1, 0.2, 0.1, 0.3]},
    "PCDWeighting": {"beta": 0.5},
    "PCGrad": {},
    "PCGradWeighting": {},
    "Random": {},
    "RandomWeighting": {},
    "SDMGradWeighting": {"n_iter": 5, "pref_vector": [0.1, 0.2, 0.3, 0.2, 0.2]},
    "Sum": {},
    "SumWeighting": {},
    "TrimmedMean": {"trim_number": 1},
    "UPGrad": {},
    "UPGradWeighting": {},
}
"""Every class that can be named, with arguments for five tasks."""

REASONS = {
    "Aggregator": "the base class of aggregators",
    "CRMOGMWeighting": "its argument is a weighting",
    "GramianWeightedAggregator": "its argument is a weighting",
    "NashMTL": "nash_mtl is the same method",
    "WeightedAggregator": "its argument is a weighting",
    "Weighting": "the base class of weightings",
}
"""Every class that cannot, and why."""

SOLVERS = {"CAGrad": "cvxpy", "DualProj": "quadprog", "UPGrad": "quadprog"}

ON_JACOBIANS = {
    *("ConFIG", "Constant", "ConstantWeighting", "ExcessMTL", "ExcessMTLWeighting", "GradDrop"),
    *("Mean", "MeanWeighting", "Random", "RandomWeighting", "Sum", "SumWeighting", "TrimmedMean"),
}
RANDOM = {"GradDrop", "GradVac", "PCGrad", "Random"}


def stem(name: str) -> str:
    return name.removesuffix("Weighting")


def row(name: str) -> Any:
    solver = SOLVERS.get(stem(name))
    missing = solver is not None and find_spec(solver) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{solver} is missing"))


every = pytest.mark.parametrize("name", [row(name) for name in CALLS])


def text_of(name: str) -> str:
    return f"torchjd:{name}({', '.join(f'{k}={v!r}' for k, v in CALLS[name].items())})"


def by_hand(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """(Jacobian, seed's uniform number) -> direction, by an object of TorchJD that lives on."""
    arguments = {
        key: torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value
        for key, value in CALLS[name].items()
    }
    made = getattr(aggregation, name)(**arguments)

    def direction(jacobian: Tensor, uniform: Tensor) -> Tensor:
        torch.manual_seed(int(uniform.item() * 2**53))
        if isinstance(made, aggregation.Aggregator):
            answer: Tensor = made(jacobian)
            return answer
        shown = jacobian if name in ON_JACOBIANS else jacobian @ jacobian.T
        weighted: Tensor = made(shown) @ jacobian
        return weighted

    return direction


def signals_of(method: Method, jacobian: Tensor, seed: int = 0) -> Signals:
    batch, generator = jacobian.shape[:-2], torch.Generator().manual_seed(seed)
    gramian = jacobian @ jacobian.mT
    return Signals(
        losses=torch.full_like(jacobian[..., 0], torch.nan),
        noise=torch.rand(*batch, 1, generator=generator, dtype=torch.float64),
        gramian=gramian if method.needs == "gramian" else None,
        jacobian=jacobian if method.needs == "jacobian" else None,
        independent=gramian if method.independent else None,
    )


def fresh(method: Method, jacobian: Tensor) -> State:
    zeros = torch.zeros_like(jacobian)
    return method.init(zeros if method.needs == "jacobian" else zeros[..., 0])


def direction_of(method: Method, answer: Tensor, jacobian: Tensor) -> Tensor:
    if method.answers == "weights":
        return (answer.unsqueeze(-2) @ jacobian).squeeze(-2)
    return answer


def one_of(signals: Signals, place: int) -> Signals:
    def part(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[place]

    return Signals(
        signals.losses[place],
        signals.noise[place],
        part(signals.gramian),
        part(signals.jacobian),
        part(signals.independent),
    )


def test_every_public_class_is_supported_or_refused_with_a_reason() -> None:
    assert set(CALLS) | set(REASONS) == set(aggregation.__all__)
    assert not set(CALLS) & set(REASONS)


@every
def test_aggregate_gives_what_torchjd_gives(name: str) -> None:
    jacobian = random_jacobian(1, TASKS, 8, spread=0.5)
    uniform = torch.rand(1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = by_hand(name)(jacobian, uniform)
    assert expected.norm() > 0.01
    torch.testing.assert_close(aggregate(text_of(name), jacobian), expected, rtol=1e-6, atol=1e-8)


@every
def test_steps_of_a_batch_go_on_like_one_object_of_torchjd_a_run(name: str) -> None:
    method = method_named(text_of(name))
    jacobians = random_jacobian(2, 3, TASKS, 8, spread=0.3)
    objects, state = [by_hand(name) for _ in range(3)], fresh(method, jacobians)
    shapes = {key: (value.shape, value.dtype) for key, value in state.items()}
    for step in range(4):
        now = jacobians * (1 + 0.1 * step) + 0.2 * random_jacobian(step, 3, TASKS, 8)
        signals = signals_of(method, now, seed=step)
        before = pickle.dumps((signals, dict(state)))
        answer, after = method.step(signals, state, {})
        assert pickle.dumps((signals, dict(state))) == before
        found = direction_of(method, answer, now)
        expected = [o(j, u) for o, j, u in zip(objects, now, signals.noise, strict=True)]
        torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-8)
        state = pickle.loads(pickle.dumps(dict(after)))
        assert {key: (value.shape, value.dtype) for key, value in state.items()} == shapes
    assert torch.equal(state[UNSOLVED], torch.zeros(3, 1, dtype=torch.float64))


@every
def test_a_run_in_a_batch_gets_bit_for_bit_what_it_gets_alone_beside_a_broken_one(
    name: str,
) -> None:
    method = method_named(text_of(name))
    jacobians = random_jacobian(3, 4, TASKS, 6)
    jacobians[1, 0, 0] = torch.nan
    jacobians[2, 1, 2] = torch.inf
    together, answers = fresh(method, jacobians), []
    for step in range(2):
        answer, together = method.step(signals_of(method, jacobians, seed=step), together, {})
        answers.append(answer)
        assert answer[1:3].isnan().all()
    for place in (0, 3):
        alone = fresh(method, jacobians[place])
        for step in range(2):
            part = one_of(signals_of(method, jacobians, seed=step), place)
            answer, alone = method.step(part, alone, {})
            assert torch.equal(answer, answers[step][place])
            assert torch.isfinite(answer).all()
        assert all(torch.equal(value, together[key][place]) for key, value in alone.items())
    # what diverged is no fault of a solver, and leaves no trace in what is remembered
    start = fresh(method, jacobians)
    assert all(torch.equal(value[1:3], start[key][1:3]) for key, value in together.items())


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_what_is_drawn_follows_from_the_runs_own_seed_alone(name: str) -> None:
    method = method_named(text_of(name))
    jacobian = random_jacobian(4, TASKS, 6)
    signals = signals_of(method, jacobian.expand(2, -1, -1), seed=5)
    state = fresh(method, jacobian.expand(2, -1, -1))
    torch.manual_seed(1)
    first, _ = method.step(signals, state, {})
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    second, _ = method.step(signals, state, {})
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_what_a_method_says_of_itself() -> None:
    described = {
        text: (method.needs, method.answers, method.independent)
        for text in ("MGDA()", "MGDAWeighting()", "Mean()", "ConFIG()", "MoDoWeighting()")
        for method in [method_named(f"torchjd:{text}")]
    }
    assert described == {
        "MGDA()": ("gramian", "weights", False),
        "MGDAWeighting()": ("gramian", "weights", False),
        "Mean()": ("jacobian", "weights", False),
        "ConFIG()": ("jacobian", "direction", False),
        "MoDoWeighting()": ("gramian", "weights", True),
    }
    method = make("torchjd: MGDA( 1e-3,max_iters = 50 )").method
    assert method.name == "torchjd:MGDA(epsilon=0.001, max_iters=50)"
    assert method_named(method.name).name == method.name
    assert (method.paper.arxiv, method.deviations) == (
        "2406.16232",
        "TorchJD's own code, run by run",
    )
    assert pickle.loads(pickle.dumps(method)).name == method.name


def test_every_stateful_class_of_torchjd_keeps_a_memory_here() -> None:
    remembering = {
        name
        for name in CALLS
        if issubclass(getattr(aggregation, name), Stateful)
        and fresh(method_named(text_of(name)), random_jacobian(0, TASKS, 6)).keys() - {UNSOLVED}
    }
    assert {stem(name) for name in remembering} == {
        *("ExcessMTL", "GradVac", "MoDo", "PCD", "SDMGrad")
    }
    assert remembering == {n for n in CALLS if issubclass(getattr(aggregation, n), Stateful)}


def test_only_what_remembers_gradients_is_kept_from_a_representation() -> None:
    assert treatment_of(method_named("torchjd:GradDrop()"), {"level": "features"})
    with pytest.raises(HyperError, match="remembers gradients"):
        treatment_of(method_named("torchjd:ExcessMTL()"), {"level": "features"})


@pytest.mark.parametrize("call", ["Krum(n_byzantine=1)", "TrimmedMean(1)", "Constant([1, 2, 3])"])
def test_a_run_for_which_torchjd_raises_gets_nan_and_is_counted(call: str) -> None:
    method = method_named(f"torchjd:{call}")
    jacobians = random_jacobian(5, 2, 2, 4)
    state = fresh(method, jacobians)
    for step in range(1, 3):
        answer, state = method.step(signals_of(method, jacobians), state, {})
        assert answer.shape == (2, 4 if method.answers == "direction" else 2)
        assert answer.isnan().all()
        assert state[UNSOLVED].tolist() == [[step], [step]]
    assert aggregate(f"torchjd:{call}", jacobians).isnan().all()


def test_an_answer_that_is_not_finite_is_counted() -> None:
    method = method_named("torchjd:PCGrad()")
    jacobians = torch.stack([CHAIN, CHAIN])
    signals = signals_of(method, jacobians)
    assert signals.gramian is not None
    # opposed gradients of norm 0: PCGrad divides by it
    signals.gramian[1] = torch.eye(3, dtype=torch.float64) - 1
    answer, state = method.step(signals, fresh(method, jacobians), {})
    assert answer.isnan().all(-1).tolist() == [False, True]
    assert state[UNSOLVED].tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("MDGA()", "no aggregator or weighting 'MDGA'; did you mean 'MGDA'? known: AlignedMTL, "),
        ("MGDA", "NAME(argument=value, ...)"),
        ("MGDA(", "NAME(argument=value, ...)"),
        ("", "NAME(argument=value, ...)"),
        ("aggregation.MGDA()", "NAME(argument=value, ...)"),
        ("__import__('os').getcwd()", "NAME(argument=value, ...)"),
        ("Krum()", "missing a required argument: 'n_byzantine'; it takes n_byzantine, n_selected"),
        ("Sum(1)", "too many positional arguments; it takes no arguments"),
        ("MGDA(eps=1)", "unexpected keyword argument 'eps'; it takes epsilon, max_iters"),
        ("MGDA(epsilon=-1.0)", "epsilon must be positive, but got -1.0."),
        ("MGDA(epsilon=open('x'))", "found open('x')"),
        ("MGDA(epsilon=1e999)", "an argument is a finite number, a string,"),
        ("MGDA(epsilon=2 * 3)", "found 2 * 3"),
        ("MGDA(*[1])", "found *[1]"),
        ("MGDA(**{'epsilon': 1})", "found {'epsilon': 1}"),
        ("GradDrop(f=abs)", "found abs"),
        ("GradDrop(leak=[[1], [2]])", "leak must be a 1-dimensional tensor"),
        ("AlignedMTL(scale_mode='max')", "Invalid scale_mode='max'. Expected 'min', 'median'"),
        ("FairGrad(alpha='one')", "answers for no number of tasks"),
        *((f"{name}(1)", reason) for name, reason in REASONS.items()),
    ],
)
def test_a_wrong_text_is_refused_and_named(call: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        method_named(f"torchjd:{call}")
    assert repr(f"torchjd:{call}") in str(caught.value)


def test_without_torchjd_or_a_solver_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape('pip install "torchjd[quadprog_projector]"')):
        method_named("torchjd:UPGrad(pref_vector=[0.25, 0.75])")
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'torchjd[")):
        method_named("torchjd:MGDA(max_iters=3)")
    assert method_named("mgda") is METHODS["mgda"]


def test_another_version_that_remembers_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class PCDWeighting(aggregation.PCDWeighting):  # type: ignore[misc]
        def __init__(self, tau: float = 0.02) -> None:
            super().__init__(tau)
            self.register_buffer("_more", None)

    monkeypatch.setattr(aggregation, "PCDWeighting", PCDWeighting)
    with pytest.raises(ValueError, match="what PCDWeighting of the installed TorchJD remembers"):
        method_named("torchjd:PCDWeighting(tau=0.5)")


def test_a_balancer_goes_on_from_its_state() -> None:
    def losses(weight: Tensor) -> list[Tensor]:
        return [(weight - target).square().sum() for target in rows((1, 0), (-1, 1), (0, 2))]

    def steps(balancer: Balancer, weight: Tensor, count: int) -> None:
        for _ in range(count):
            weight.grad = None
            balancer.backward(losses(weight))
            assert weight.grad is not None
            with torch.no_grad():
                weight -= 0.1 * weight.grad

    name = "torchjd:GradVac(0.3)"
    whole, part = (torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    first = Balancer(name, tasks=3, shared=[whole], seed=4)
    steps(first, whole, 6)
    second = Balancer(name, tasks=3, shared=[part], seed=4)
    steps(second, part, 3)
    third = Balancer("torchjd:GradVac(beta=0.3)", tasks=3, shared=[part])
    third.load_state_dict(pickle.loads(pickle.dumps(second.state_dict())))
    steps(third, part, 3)
    assert torch.equal(whole, part)
    assert third.weights is not None
    assert first.weights is not None
    assert torch.equal(third.weights, first.weights)


def test_a_sweep_trains_arms_of_torchjd_whatever_the_packs(bowls: Path) -> None:
    arms = (
        'arms={scalarization: {method: linear}, drawn: {method: "torchjd:PCGrad()"}, '
        'shortest: {method: "torchjd:MGDA( 0.0001 )"}, whole: {method: "torchjd:GradDrop()"}, '
        'memory: {method: "torchjd:ExcessMTL(n_warmup_steps=2)"}, '
        'halves: {method: "torchjd:MoDoWeighting()"}, '
        'tensors: {method: "torchjd:PCGrad()", granularity: tensor}}'
    )
    config = load_config(bowls, [arms])
    outcome = run(config, "seven")
    run(load_config(bowls, [arms, "resources.pack=1"]), "one")
    assert (outcome.diverged, outcome.failed) == (0, {})
    seven, one = (
        load(folder).sort_values(["run", "epoch", "split", "task", "measure"], ignore_index=True)
        for folder in ("seven", "one")
    )
    pd.testing.assert_frame_equal(seven, one)
    methods = seven.groupby("arm")["method"].unique().map(list).to_dict()
    assert methods["shortest"] == ["torchjd:MGDA(epsilon=0.0001)"]
    assert methods["halves"] == ["torchjd:MoDoWeighting()"]
    runs = plan(config).runs
    assert set(seven["run"]) == set(runs)
    last = seven[(seven["epoch"] == 2) & (seven["split"] == "val") & (seven["measure"] == "loss")]
    first = seven[(seven["epoch"] == 0) & (seven["split"] == "val") & (seven["measure"] == "loss")]
    assert last.groupby("arm")["value"].mean().lt(first.groupby("arm")["value"].mean()).all()


def test_a_run_that_torchjd_cannot_answer_diverges_and_is_counted(bowls: Path) -> None:
    outcome = run(
        load_config(bowls, ['arms.pcgrad={method: "torchjd:Krum(n_byzantine=0)"}']), "out"
    )
    frame = load("out")
    arm = frame[frame["arm"] == "pcgrad"]
    assert outcome.failed == {}
    assert outcome.diverged == arm["run"].nunique() == len(arm[arm["measure"] == "diverged"])
    assert (arm.loc[arm["measure"] == "unsolved_steps", "value"] >= 1).all()
    assert set(frame.loc[frame["measure"] == "diverged", "arm"]) == {"pcgrad"}


def test_two_spellings_are_one_run_and_other_arguments_another(bowls: Path) -> None:
    def runs(text: str) -> set[str]:
        config = load_config(bowls, [f'arms={{scalarization: {{method: "torchjd:{text}"}}}}'])
        return set(plan(config).runs)

    assert runs("MGDA(0.01)") == runs("MGDA( epsilon = 1e-2 )")
    assert not runs("MGDA(0.01)") & runs("MGDA(0.02)")


def test_a_wrong_text_in_a_config_is_an_error_with_file_and_line(
    bowls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = bowls.read_text().replace(
        "  pcgrad:\n", '  ours:\n    method: "torchjd:MGDA(epsilon=-1.0)"\n'
    )
    bowls.write_text(text)
    line = next(n for n, found in enumerate(text.splitlines(), 1) if "torchjd" in found)
    monkeypatch.setattr(sys, "argv", ["mtofront", "plan", str(bowls)])
    with pytest.raises(SystemExit) as end:
        main()
    err = capsys.readouterr().err
    assert end.value.code
    assert f"bowls.yaml:{line}: arms.ours.method: method 'torchjd:MGDA(epsilon=-1.0)'" in err
    assert "epsilon must be positive, but got -1.0." in err


def test_the_table_of_methods_says_that_torchjd_can_be_named() -> None:
    console = Console(file=StringIO(), width=80)
    method_table({"mgda": METHODS["mgda"]}, console)
    assert isinstance(console.file, StringIO)
    assert "torchjd:NAME(arguments)" in console.file.getvalue()
