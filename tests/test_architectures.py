"""Architectures by name: what each computes, how large it is, and who shares what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_data import SMALL
from test_engine import final_losses, settings, spec
from torch import nn

from mtofront.analysis import load
from mtofront.methods import METHODS, from_losses
from mtofront.problems import PROBLEMS, Problem, ProblemError
from mtofront.problems.architectures import CrossStitch, Dense, HardSharing, Mmoe, Mtan, SingleTask
from mtofront.problems.lenet import LENETS, lenet_body
from mtofront.problems.networks import ARCHITECTURES, chosen, parameters
from mtofront.problems.perceptrons import perceptron
from mtofront.sweep import RequestError, examine, load_config, named_problem, plan, run
from mtofront.sweep.network import network
from mtofront.sweep.train import train_pack

BODIES = {
    "rows": (perceptron(7, 5, (3, None)), (6, 7)),
    "pictures": (lenet_body(LENETS["lenet_pmtl"], (3, 2)), (4, 1, 36, 36)),
}
SHARED = sorted(set(ARCHITECTURES) - {"stan", "single_task"})


def drawn(body: str) -> torch.Tensor:
    return torch.randn(BODIES[body][1], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("body", BODIES)
def test_one_expert_is_hard_sharing(body: str) -> None:
    torch.manual_seed(0)
    one, shared = Mmoe(BODIES[body][0], 2, experts=1), HardSharing(BODIES[body][0], 2)
    shared.trunk.load_state_dict(one.experts[0].state_dict())
    shared.heads.load_state_dict(one.heads.state_dict())
    x = drawn(body)
    assert all(map(torch.equal, one(x), shared(x)))


def test_equal_gates_average_the_experts() -> None:
    torch.manual_seed(0)
    mixed, x = Mmoe(BODIES["rows"][0], 2, experts=3), drawn("rows")
    with torch.no_grad():
        for gate in mixed.gates:
            gate.weight.zero_()
    mean = torch.stack([expert(x) for expert in mixed.experts]).mean(0)
    for output, head in zip(mixed(x), mixed.heads, strict=True):
        assert torch.allclose(output, head(mean), atol=1e-6)


@pytest.mark.parametrize("body", BODIES)
def test_identity_units_make_cross_stitch_single_task(body: str) -> None:
    torch.manual_seed(0)
    stitched, apart = CrossStitch(BODIES[body][0], 2, same=1.0), SingleTask(BODIES[body][0], 2)
    apart.trunks.load_state_dict(stitched.trunks.state_dict())
    apart.heads.load_state_dict(stitched.heads.state_dict())
    x = drawn(body)
    assert all(map(torch.equal, stitched(x), apart(x)))


def test_cross_stitch_starts_near_the_identity() -> None:
    for tasks, off in ((2, 0.1), (3, 0.05)):
        units = CrossStitch(perceptron(7, 5, (None,) * tasks), tasks).units
        expected = np.full((tasks, tasks), off) + (0.9 - off) * np.eye(tasks)
        assert len(units) == 2
        for unit in units:
            assert unit.detach().numpy() == pytest.approx(expected)


Rows = NDArray[np.float64]


def affine(x: Rows, part: nn.Module) -> Rows:
    weight, bias = (p.detach().double().numpy() for p in part.parameters())
    return x @ weight.T + bias


def relu(x: Rows) -> Rows:
    return np.maximum(x, 0)


def masked(x: Rows, mask: nn.Module) -> Rows:
    first, last = mask[0], mask[1]  # type: ignore[index]
    return 1 / (1 + np.exp(-affine(relu(affine(x, first)), last)))


def test_mtan_on_rows_is_what_its_paper_says() -> None:
    torch.manual_seed(0)
    made, x = Mtan(BODIES["rows"][0], 2), drawn("rows")
    first = relu(affine(x.double().numpy(), made.trunk[0]))
    second = relu(affine(first, made.trunk[1]))
    for task, (attention, head) in enumerate(zip(made.attentions, made.heads, strict=True)):
        seen = masked(first, attention.masks[0]) * first
        carried = relu(affine(seen, attention.carry[0]))
        mask = masked(np.concatenate([second, carried], axis=1), attention.masks[1])
        output = affine(mask * second, head)
        found = made(x)[task].detach().numpy()
        assert found == pytest.approx(output.reshape(found.shape), rel=1e-4, abs=1e-6)


def test_dense_gives_every_task_all_shared_features() -> None:
    torch.manual_seed(0)
    made, x = Dense(BODIES["rows"][0], 2), drawn("rows")
    rows = x.double().numpy()
    first = relu(affine(rows, made.trunk[0]))
    second = relu(affine(first, made.trunk[1]))
    for task, (trunk, head) in enumerate(zip(made.trunks, made.heads, strict=True)):
        own = np.concatenate([relu(affine(rows, trunk[0])), first], axis=1)
        own = np.concatenate([relu(affine(own, trunk[1])), second], axis=1)
        found = made(x)[task].detach().numpy()
        output = affine(own, head).reshape(found.shape)
        assert found == pytest.approx(output, rel=1e-4, abs=1e-6)


def layer(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def counts_by_hand(d: int, h: int, tasks: int, outputs: int) -> dict[str, int]:
    """Parameters of each architecture of rows with two layers of h."""
    encoder, head = layer(d, h) + layer(h, h), layer(h, outputs)
    attention = 2 * layer(h, h) + layer(h, h) + layer(2 * h, h) + layer(h, h)
    beside = layer(d, h) + layer(2 * h, h)
    return {
        "split": encoder + tasks * head,
        "dense": encoder + tasks * (beside + layer(2 * h, outputs)),
        "mtan": encoder + tasks * (attention + head),
        "cross_stitch": tasks * (encoder + head) + 2 * tasks**2,
        "mmoe": 4 * encoder + tasks * (head + 4 * d),
        "stan": tasks * (encoder + attention + head),
        "single_task": tasks * (encoder + head),
    }


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize(
    ("name", "outputs"), [("multidigits", 10), ("census", 1), ("yeast", 1), ("qm9", 1), ("mt10", 4)]
)
def test_every_architecture_is_as_large_as_it_should_be(name: str, outputs: int) -> None:
    for architecture in ARCHITECTURES:
        made = PROBLEMS[name](**SMALL.get(name, {}), network=architecture, hidden=16)
        d, tasks = made.train.inputs.shape[-1], len(made.tasks)
        by_hand = counts_by_hand(d, 16, tasks, outputs)
        found = parameters(made.model)
        if architecture in by_hand:
            assert found == by_hand[architecture]
        else:  # one step of the width more or less is farther from MTAN
            widest = next(made.model().parameters()).shape[0]
            step = {"wide": (d, 2), "deep": (d, 6)}[architecture]
            one_more = step[0] + step[1] * (widest + 1) + tasks * outputs + 4
            assert abs(found - by_hand["mtan"]) <= one_more


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", ["wide", "deep"])
def test_hard_sharing_is_widened_to_mtans_parameters(body: str, name: str) -> None:
    goal = parameters(lambda: Mtan(BODIES[body][0], 2))
    found = parameters(chosen(name).maker(BODIES[body][0], 2))
    assert abs(found / goal - 1) < 0.08
    layers = sum(
        1
        for part in chosen(name).maker(BODIES[body][0], 2)().trunk.modules()
        if hasattr(part, "weight")
    )
    assert layers == len(BODIES[body][0].widths) * (2 if name == "deep" else 1)


@pytest.mark.parametrize("name", ["multidigits", "census", "yeast", "qm9", "mt10", "multimnist"])
def test_a_problem_with_a_choice_says_which(name: str) -> None:
    told = " ".join((PROBLEMS[name].__doc__ or "").replace(",", " ").split())
    assert all(f" {one} " in told.replace(".", " ") for one in ARCHITECTURES)


def small(architecture: object) -> Problem:
    return PROBLEMS["multidigits"](
        network=architecture, hidden=6, offset=1, train=64, val=20, test=20
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_runs_of_every_architecture_train_in_a_pack_as_alone(name: str) -> None:
    made = small(name)
    found = examine(made)
    assert found.reason == "" and found.notes == ()
    assert (found.shared == 0) == (name in ("stan", "single_task"))
    runs = [spec(seed=seed, optimizer=settings("sgd")) for seed in range(3)]
    if name in SHARED:
        runs_of_gradients = [spec("pcgrad", seed=seed) for seed in range(2)]
        packs = [runs, runs_of_gradients]
    else:
        packs = [runs]
    for pack in packs:
        together = final_losses(train_pack(made, pack))
        alone = np.concatenate([final_losses(train_pack(made, [one])) for one in pack])
        assert np.array_equal(together, alone) and np.isfinite(together).all()


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize("base", ["lenet_pmtl", "lenet_mgda", "mlp"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_of_pictures_train_in_packs(name: str, base: str) -> None:
    made = PROBLEMS["multimnist"](**SMALL["multimnist"], network={"name": name, "base": base})
    runs = [spec(seed=seed, epochs=1, batch_size=30) for seed in range(2)]
    assert network(made, runs[0]).reason == ""
    assert np.isfinite(final_losses(train_pack(made, runs))).all()


@pytest.mark.usefixtures("small_data")
def test_networks_without_a_choice_keep_their_parameters_names() -> None:
    trunk = [f"trunk.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")]
    names = [name for name, _ in PROBLEMS["multidigits"]().model().named_parameters()]
    assert names == [*trunk, "left.weight", "left.bias", "right.weight", "right.bias"]
    names = [n for n, _ in PROBLEMS["census"](**SMALL["census"]).model().named_parameters()]
    assert names == [
        *trunk,
        *(f"heads.{t}.{kind}" for t in range(3) for kind in ("weight", "bias")),
    ]
    for kind in LENETS:
        made = PROBLEMS["multimnist"](**SMALL["multimnist"], network=kind).model()
        split = PROBLEMS["multimnist"](
            **SMALL["multimnist"], network={"name": "split", "base": kind}
        )
        assert list(made.state_dict()) == list(split.model().state_dict())


def test_single_tasks_do_not_disturb_each_other() -> None:
    made = small("single_task")
    weights = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0))
    runs = [spec(weights=one, optimizer=settings("sgd"), lr=0.5) for one in weights]
    last = [m for m in train_pack(made, runs).measurements if m.measure == "loss" and m.epoch == 2]
    for task, alone, other in (("left", 1, 2), ("right", 2, 1)):
        (values,) = [m.values for m in last if m.task == task and m.split == "train"]
        assert values[alone] == values[0] != values[other]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_trains_in_bfloat16(name: str) -> None:
    made = small(name)
    runs = [spec(seed=seed, epochs=1, precision="bfloat16") for seed in range(2)]
    assert network(made, runs[0]).reason == ""
    assert np.isfinite(final_losses(train_pack(made, runs))).all()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_without_shared_parameters_methods_train_or_say_why_not(method: str) -> None:
    kind = METHODS[method]
    one = spec(method, epochs=1)
    if from_losses(kind) and kind.layer == "shared" and not kind.scheme:
        assert np.isfinite(final_losses(train_pack(small("single_task"), [one]))).all()
    else:
        with pytest.raises(ProblemError, match=f"share no parameter, and {method} works on shared"):
            train_pack(small("single_task"), [one])


SWEEP = """\
name: alone
problem: multidigits
problem_options: {network: single_task, hidden: 6, train: 64, val: 20, test: 20}
budget: {epochs: 1, batch_size: 16}
optimizer: {name: sgd, lr: 0.1}
seeds: 2
arms: {scalarization: {method: linear, weights: {grid: log_odds, points: 3}}, uncertainty: }
resources: {engine: inline}
"""


def test_a_single_task_sweep_runs_and_arms_of_gradients_are_refused(workdir: Path) -> None:
    path = workdir / "alone.yaml"
    path.write_text(SWEEP)
    outcome = run(load_config(path), "out")
    assert outcome.failed == {} and load("out")["run"].nunique() == outcome.runs
    with pytest.raises(RequestError, match=r"arms.pcgrad: .*share no parameter, .* or leave the a"):
        plan(load_config(path, ["arms.pcgrad={}"]))


def test_a_problem_that_says_it_shares_nothing_must_not_share() -> None:
    with pytest.raises(ProblemError, match=r"4 are used by several, the first is 'trunk.0.weight'"):
        examine(replace(small("split"), single_task=True))
    with pytest.raises(ProblemError, match="single_task=True"):
        examine(replace(small("single_task"), single_task=False))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (["network=moe"], "network must be one of split, wide, .*; found 'moe'"),
        (["network.experts=3"], "found 'without a name'"),
        (
            ["network={name: mmoe, experts: 0}"],
            "experts must be a whole number, 1 or more; found 0",
        ),
        (["network={name: cross_stitch, same: 2}"], r"same must be a number in \[0, 1\]; found 2"),
        (["network={name: mtan, experts: 2}"], "'mtan' has no option 'experts'; its options: none"),
    ],
)
def test_wrong_networks_are_refused_with_what_there_is(settings_: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        named_problem("multidigits", settings_)
