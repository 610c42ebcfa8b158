"""Golden: directions worked out by hand or published, one table for every method.

Scales are the papers': a sum of projected gradients for PCGrad, convex weights for MGDA, a ball
around the mean for CAGrad.
"""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch
from jacobians import (
    CHAIN,
    CONFLICT,
    IDENTICAL,
    OPPOSITE,
    ORTHOGONAL,
    STATIONARY,
    TORCHJD,
    rows,
)
from torch import Tensor

import mtofront.methods
from mtofront.methods import METHODS, Signals, State, aggregate

Row = tuple[str, dict[str, Any], Tensor, tuple[float, ...]]

DIRECTIONS: list[Row] = [
    ("linear", {}, CONFLICT, (0, 0.5)),
    ("linear", {"weights": (1, 1)}, CONFLICT, (0, 1)),
    ("linear", {"weights": (0.7, 0.3)}, TORCHJD, (-1, 1, 1)),
    ("uncertainty", {}, CONFLICT, (0, 0.5)),
    ("uncertainty", {"form": "classification"}, CONFLICT, (0, 1)),
    ("tchebycheff", {"losses": (2, 1)}, ORTHOGONAL, (1, 0)),
    ("tchebycheff", {"losses": (2, 1), "weights": (0.3, 0.7)}, ORTHOGONAL, (0, 0.7)),
    ("smooth_tchebycheff", {"losses": (2, 1)}, ORTHOGONAL, (0.993307, 0.003346)),
    ("scale_invariant", {"losses": (2, 4)}, ORTHOGONAL, (1, 0.25)),
    ("geometric_mean", {"losses": (1, 4)}, ORTHOGONAL, (2, 0.25)),
    ("scale_invariant", {"losses": (0, 4)}, ORTHOGONAL, (2e8, 0.25)),
    ("geometric_mean", {"losses": (0, 1)}, ORTHOGONAL, (1e4, 0.5e-4)),
    ("famo", {"losses": (0, 1)}, ORTHOGONAL, (2, 0)),
    ("db_mtl", {"losses": (0, 1)}, ORTHOGONAL, (2e8, 2e8)),
    ("uncertainty_softmax", {"losses": (1, 0.5)}, ORTHOGONAL, (0.537883, 0.731059)),
    ("dwa", {}, CONFLICT, (0, 1)),
    ("imtl_l", {}, CONFLICT, (0, 1)),
    ("famo", {"losses": (2, 1)}, ORTHOGONAL, (0.666667, 0.666667)),
    ("gradnorm", {}, CONFLICT, (0, 1)),
    ("gradops", {}, CONFLICT, (0.5, 1.5)),
    ("gradops", {}, TORCHJD, (0.584795, 3.80117, 3.80117)),
    ("gradops", {}, ORTHOGONAL, (2, 1)),
    ("gradops", {}, CHAIN, (1 / 3, 1.133333, 1.733333)),
    ("gradops", {}, IDENTICAL, (6, 8)),
    ("gradops", {}, OPPOSITE, (0, 0)),
    ("gradops", {}, STATIONARY, (0, 0)),
    ("gradops", {"alpha": 1}, CHAIN, (0.238095, 0.92381, 2.009524)),
    ("gradops", {"alpha": -1}, CHAIN, (0.428571, 1.285714, 1.5)),
    ("gradops", {"alpha": -3}, CHAIN, (0.586957, 1.402174, 1.214674)),
    ("gradops", {"alpha": -1, "p": "1"}, CHAIN, (0.500625, 1.208615, 1.467758)),
    ("gradops", {"alpha": -1, "p": "1"}, rows((1, 0), (0, 1e9)), (2, 1000)),
    ("gradops", {"alpha": -3}, rows((1, 0), (0, 0)), (1, 0)),
    ("gradvac", {}, CONFLICT, (0.5, 1.5)),
    ("gradvac", {}, TORCHJD, (0.584795, 3.80117, 3.80117)),
    ("weighted_pcgrad", {"weights": (1, 0)}, CONFLICT, (1, 1)),
    ("weighted_pcgrad", {"weights": (0, 1)}, CONFLICT, (-0.5, 1.5)),
    ("weighted_pcgrad", {}, ORTHOGONAL, (2, 1)),
    ("graddrop", {}, rows((1, 0, -3), (2, 0, -1)), (3, 0, -4)),
    ("grad_similarity", {}, CONFLICT, (1, 0)),
    ("grad_similarity", {"main": 1}, CONFLICT, (-1, 1)),
    ("grad_similarity", {"form": "unweighted"}, ORTHOGONAL, (2, 1)),
    ("grad_similarity", {}, ORTHOGONAL, (2, 0)),
    ("metabalance", {}, rows((2, 0), (0, 8)), (2, 3.8)),
    ("metabalance", {"r": 1, "beta": 0}, rows((2, 0), (0, 8)), (2, 2)),
    ("metabalance", {"r": 0}, rows((2, 0), (0, 8)), (2, 8)),
    ("metabalance", {"main": 1, "r": 1}, rows((2, 0), (0, 8)), (8, 8)),
    ("imtl_g", {}, CONFLICT, (0.171573, 0.414214)),
    ("imtl_g", {}, TORCHJD, (0.076697, 1, 1)),
    ("imtl_g", {}, ORTHOGONAL, (2 / 3, 2 / 3)),
    ("imtl_g", {}, CHAIN, (0.075999, 0.183478, 0.222818)),
    ("imtl_g", {}, IDENTICAL, (3, 4)),
    ("nash_mtl", {}, CONFLICT, (0.541196, 1.306563)),
    ("nash_mtl", {}, TORCHJD, (0.076584, 0.998533, 0.998533)),
    ("nash_mtl", {}, ORTHOGONAL, (1, 1)),
    ("nash_mtl", {}, CHAIN, (0.367122, 0.968566, 1.388201)),
    ("fairgrad", {"alpha": 1}, CONFLICT, (0.541196, 1.306563)),
    ("fairgrad", {}, CONFLICT, (0.678211, 1.495842)),
    ("fairgrad", {"alpha": 0.5}, CONFLICT, (0.408425, 1.156322)),
    ("fairgrad", {}, TORCHJD, (0.031274, 0.790817, 0.790817)),
    ("fairgrad", {}, ORTHOGONAL, (0.793701, 1)),
    ("fairgrad", {}, CHAIN, (0.539387, 1.23504, 1.662727)),
    ("aligned_mtl", {}, CONFLICT, (0.138197, 0.41459)),
    ("aligned_mtl", {}, TORCHJD, (0.213279, 0.967333, 0.967333)),
    ("aligned_mtl", {}, ORTHOGONAL, (0.5, 0.5)),
    ("aligned_mtl", {}, CHAIN, (0.021103, 0.154632, 0.232717)),
    ("aligned_mtl", {}, IDENTICAL, (3, 4)),
    ("aligned_mtl", {"weights": (1, 1)}, ORTHOGONAL, (1, 1)),
    ("upgrad", {}, CONFLICT, (0.25, 0.75)),
    ("upgrad", {}, TORCHJD, (0.292398, 1.900585, 1.900585)),
    ("upgrad", {}, ORTHOGONAL, (1, 0.5)),
    ("upgrad", {}, CHAIN, (0.111111, 0.377778, 0.577778)),
    ("upgrad", {}, IDENTICAL, (3, 4)),
    ("upgrad", {}, OPPOSITE, (0, 0)),
    ("upgrad", {}, STATIONARY, (0, 0)),
    ("dualproj", {}, CONFLICT, (0, 0.5)),
    ("dualproj", {}, TORCHJD, (0.555556, 1.111111, 1.111111)),
    ("dualproj", {}, ORTHOGONAL, (1, 0.5)),
    ("dualproj", {}, CHAIN, (0, 0.166667, 0.333333)),
    ("config", {}, CONFLICT, (0.353553, 0.853553)),
    ("config", {}, TORCHJD, (0.158809, 2.070607, 2.070607)),
    ("config", {}, ORTHOGONAL, (1.5, 1.5)),
    ("config", {}, CHAIN, (0.235926, 0.569575, 0.691699)),
    ("config", {}, OPPOSITE, (0, 0)),
    ("db_mtl", {"losses": (0.5, 2)}, ORTHOGONAL, (4, 4)),
    ("merge_average", {}, CONFLICT, (0, 0.5)),
    ("merge_task_arithmetic", {}, CONFLICT, (0, 0.3)),
    ("merge_task_arithmetic", {"scale": 0.5}, CHAIN, (-0.25, 0.25, 0.5)),
    ("merge_ties", {"density": 1}, rows((3, -1, 2), (1, 4, -2)), (2, 4, 0)),
    ("merge_ties", {"density": 0.5}, rows((3, -1, 2, 0), (1, 4, -2, 0)), (3, 4, 0, 0)),
    ("merge_ties", {"scale": 0.3}, rows((3, -1, 2), (1, 4, -2)), (0.9, 1.2, 0)),
    ("merge_doge", {"steps": 0, "density": 1}, rows((0, 2), (3, 4)), (0.042, 0.126)),
    ("emtl", {"losses": (2, 1)}, CONFLICT, (0.231802, 0.318198)),
    ("emtl", {"losses": (2, 1), "strength": 0.5}, CONFLICT, (0.573223, 0.176777)),
    ("emtl", {"losses": (2, 1), "form": "variance"}, CONFLICT, (0.256802, 0.307843)),
    ("emtl", {"losses": (2, 1), "strength": 2}, CONFLICT, (1.5, 0)),
    ("emtl", {"losses": (2, 1), "strength": 2, "form": "variance"}, CONFLICT, (1.792893, 0)),
    ("emtl", {"losses": (2, 1), "strength": 4, "form": "unnormalized"}, CONFLICT, (3.585786, 0)),
    (
        "emtl",
        {"losses": (2, 1), "form": "unnormalized", "strength": 0.5},
        CONFLICT,
        (0.551777, 0.771447),
    ),
    ("excess_mtl", {}, CONFLICT, (0, 1)),
    ("moco", {}, CONFLICT, (0.00625, 0.246875)),
    ("moco", {"projection": "softmax"}, CONFLICT, (0.003125, 0.248438)),
    ("moco", {"losses": (2, 1), "normalization": "loss"}, ORTHOGONAL, (0.48125, 0.259375)),
    ("mtadam", {}, rows((3, 4), (0.3, -0.4)), (2, 0)),
    ("pmtl", {"losses": (1, 1)}, ORTHOGONAL, (-0.152241, 0.382683)),
    ("pmtl", {"losses": (1, 1), "vector": 2}, ORTHOGONAL, (0.8, 1.6)),
    ("pmtl", {"losses": (1, 1), "vector": 2}, CONFLICT, (0.4, 0.8)),
    ("epo", {"losses": (2, 1), "weights": (1, 1)}, CONFLICT, (1, 0)),
    ("epo", {"losses": (2, 1)}, CONFLICT, (0.718415, 0.140793)),
    ("epo", {"losses": (1, 1)}, CONFLICT, (0, 0.5)),
    ("epo", {"losses": (1, 1)}, IDENTICAL, (3, 4)),
    ("pcgrad", {}, CONFLICT, (0.5, 1.5)),
    ("pcgrad", {}, TORCHJD, (0.584795, 3.80117, 3.80117)),
    ("pcgrad", {}, ORTHOGONAL, (2, 1)),
    ("pcgrad", {}, IDENTICAL, (6, 8)),
    ("pcgrad", {}, OPPOSITE, (0, 0)),
    ("mgda", {}, CONFLICT, (0.2, 0.4)),
    ("mgda", {}, TORCHJD, (0, 1, 1)),
    ("mgda", {}, ORTHOGONAL, (0.4, 0.8)),
    ("mgda", {}, CHAIN, (0.088889, 0.177778, 0.222222)),
    ("mgda", {}, STATIONARY, (0, 0)),
    ("mgda", {}, IDENTICAL, (3, 4)),
    ("mgda", {}, OPPOSITE, (0, 0)),
    ("mgda", {"normalization": "l2"}, ORTHOGONAL, (1, 0.5)),
    ("cagrad", {"c": 0.4}, CONFLICT, (0.2, 0.5)),
    ("cagrad", {"c": 0.4, "rescale": 1}, CONFLICT, (0.172414, 0.431034)),
    ("cagrad", {"c": 0.4, "rescale": 2}, CONFLICT, (0.142857, 0.357143)),
    ("cagrad", {"c": 0.5}, CONFLICT, (0.25, 0.5)),
    ("cagrad", {"c": 0.5, "rescale": 1}, CONFLICT, (0.2, 0.4)),
    ("cagrad", {"c": 1.0}, CONFLICT, (0.4, 0.8)),
    ("cagrad", {"c": 0.0}, CHAIN, (-1 / 6, 1 / 6, 1 / 3)),
    ("cagrad", {"c": 0.4}, TORCHJD, (0.346803, 1.163299, 1.163299)),
    ("cagrad", {"c": 0.5}, TORCHJD, (0.1835, 1.2041, 1.2041)),
    ("cagrad", {"c": 0.4}, ORTHOGONAL, (1, 0.947214)),
    ("cagrad", {"c": 0.4}, CHAIN, (-0.003367, 0.166667, 0.333333)),
    ("cagrad", {"c": 0.4}, OPPOSITE, (-0.3, 0)),
    ("cagrad", {"c": 0.4}, IDENTICAL, (4.2, 5.6)),
    ("linear", {"losses": (4, 1), "normalization": "initial_loss"}, ORTHOGONAL, (0.4, 0.8)),
    ("sampling", {"weights": (0, 1)}, ORTHOGONAL, (0, 1)),
    ("sampling", {"weights": (3, 0)}, ORTHOGONAL, (2, 0)),
    ("pbi", {"losses": (2, 0), "theta": 1}, ORTHOGONAL, (2.828427, 0)),
    ("pbi", {"losses": (2, 1)}, ORTHOGONAL, (8.485281, -2.828427)),
    ("pbi", {"losses": (3, 3)}, ORTHOGONAL, (1.414214, 0.707107)),
    ("cosmos", {"losses": (4, 3)}, ORTHOGONAL, (1.067882, 0.454745)),
    ("cosmos", {"losses": (4, 3), "weights": (0.8, 0.6)}, ORTHOGONAL, (1.6, 0.6)),
    ("cosmos", {"losses": (0, 0)}, ORTHOGONAL, (1, 0.5)),
    ("smooth_tchebycheff", {"losses": (2, 4), "recipe": "mtl"}, ORTHOGONAL, (1, 0.25)),
    (
        "smooth_tchebycheff",
        {"losses": (2, 4), "recipe": "mtl", "warmup": 0, "mu": 0.5},
        ORTHOGONAL,
        (0.4, 0.4),
    ),
    ("imtl", {"losses": (2, 4)}, CONFLICT, (0.171573, 0.414214)),
    ("imtl", {"losses": (2, 4, 1)}, CHAIN, (0.075999, 0.183478, 0.222818)),
    ("cr_mogm", {}, CONFLICT, (0.2, 0.4)),
    ("cr_mogm", {"base": "cagrad"}, CONFLICT, (0.2, 0.5)),
    ("cr_mogm", {"base": "cagrad", "c": 1}, CONFLICT, (0.4, 0.8)),
    ("modo", {}, CONFLICT, (0.05, 0.475)),
    ("modo", {"gamma": 2}, CONFLICT, (1, 0)),
    ("sdmgrad", {"strength": 0, "weight_lr": 1, "steps": 1}, CONFLICT, (0.343146, 0.328427)),
    ("sdmgrad", {"strength": 0, "weight_lr": 1, "steps": 2}, CONFLICT, (0.26912, 0.36544)),
    ("sdmgrad", {"strength": 0, "weight_lr": 0.5, "steps": 300}, CONFLICT, (0.2, 0.4)),
    ("sdmgrad", {"strength": 0, "weight_lr": 0.5, "steps": 300}, ORTHOGONAL, (0.4, 0.8)),
    ("sdmgrad", {"strength": 10, "weight_lr": 0.5}, CONFLICT, (0.090909, 0.454545)),
    ("sdmgrad", {"strength": 1e9}, CONFLICT, (0, 0.5)),
    ("krum", {"byzantine": 2}, rows((-2,), (1,), (4,), (11,), (11.5,), (16.5,)), (1,)),
    ("krum", {"selected": 3}, rows((0,), (1,), (3,), (7,), (20,)), (4 / 3,)),
    ("krum", {}, rows((1, 0), (0, 1), (10, 10), (1, 1)), (2 / 3, 2 / 3)),
    ("krum", {}, CONFLICT, (0, 0.5)),
    ("trimmed_mean", {}, rows((1, 10), (2, -5), (3, 0), (100, 1)), (2.5, 0.5)),
    ("trimmed_mean", {"trim": 9}, CHAIN, (-0.5, 0, 0)),
    ("trimmed_mean", {}, CONFLICT, (0, 0.5)),
    ("trimmed_mean", {"trim": 0}, CHAIN, (-1 / 6, 1 / 6, 1 / 3)),
]


def direction_id(row: Row) -> str:
    return f"{row[0]}-{'-'.join(map(str, row[1].values()))}-{tuple(row[2].flatten().tolist())}"


@pytest.mark.parametrize("row", DIRECTIONS, ids=direction_id)
def test_the_direction_is_the_published_one(row: Row) -> None:
    name, hyper, jacobian, expected = row
    digits = 1e-4 if name == "cagrad" and hyper["c"] == 0.5 and jacobian is TORCHJD else 2e-6
    losses = hyper.get("losses")
    given = {key: value for key, value in hyper.items() if key != "losses"}
    direction = aggregate(name, jacobian, None if losses is None else rows(losses)[0], **given)
    torch.testing.assert_close(direction, rows(expected)[0], rtol=digits, atol=digits)


def test_every_method_has_a_worked_example() -> None:
    examples = {row[0] for row in DIRECTIONS} | {"random", "pareto_manifold"}
    assert examples == set(METHODS)


def one_step(
    name: str, losses: tuple[float, ...], gramian: Tensor | None = None, **hyper: float | str
) -> tuple[Tensor, State]:
    """Weights and state after the first step of a single run."""
    configured = mtofront.methods.make(name, **hyper)
    signals = Signals(rows(losses)[0], torch.zeros(0, dtype=torch.float64), gramian)
    values = mtofront.methods.values_for(configured, len(losses))
    return METHODS[name].step(signals, METHODS[name].init(torch.zeros_like(signals.losses)), values)


@pytest.mark.parametrize(
    ("alpha", "moved"), [(0.0, (1.076923, 0.923077)), (1.5, (0.926829, 1.073171))]
)
def test_gradnorm_moves_its_weights_as_worked_out_by_hand(
    alpha: float, moved: tuple[float, float]
) -> None:
    method = METHODS["gradnorm"]
    configured = mtofront.methods.make("gradnorm", alpha=alpha, optimizer="sgd")
    values = mtofront.methods.values_for(configured, 2)
    gramian = torch.diag(torch.tensor([4.0, 16.0], dtype=torch.float64))
    noise = torch.zeros(0, dtype=torch.float64)
    state = dict(method.init(torch.zeros(2, dtype=torch.float64)))
    state |= {"first": rows((1, 1))[0], "started": torch.ones(1, dtype=torch.float64)}
    weights, after = method.step(Signals(rows((0.5, 1))[0], noise, gramian), state, values)
    assert weights.tolist() == [1, 1]
    torch.testing.assert_close(after["weights"], rows(moved)[0], rtol=1e-6, atol=1e-6)


def test_gradnorm_with_equal_norms_and_alpha_zero_stays_where_it_is() -> None:
    gramian = torch.tensor([[4.0, -1.0], [-1.0, 4.0]], dtype=torch.float64)
    _, after = one_step("gradnorm", (1, 5), gramian, alpha=0.0)
    assert after["weights"].tolist() == [1, 1]


@pytest.mark.parametrize("form", ["regression", "classification"])
@pytest.mark.parametrize(("loss", "weight"), [(4.0, 0.125), (1.0, 0.5), (0.25, 2.0)])
def test_uncertainty_comes_to_rest_at_half_the_inverse_loss(
    form: str, loss: float, weight: float
) -> None:
    configured = mtofront.methods.make("uncertainty", form=form)
    values = mtofront.methods.values_for(configured, 1)
    method = METHODS["uncertainty"]
    signals = Signals(rows((loss,))[0], torch.zeros(0, dtype=torch.float64))
    state = method.init(torch.zeros(1, dtype=torch.float64))
    for _ in range(600):
        weights, state = method.step(signals, state, values)
    assert weights.item() == pytest.approx(weight, rel=1e-3)


def test_famo_moves_its_logits_as_worked_out_by_hand() -> None:
    method, values = METHODS["famo"], mtofront.methods.values_for(mtofront.methods.make("famo"), 2)
    weights, state = one_step("famo", (2, 1))
    torch.testing.assert_close(weights, rows((1 / 3, 2 / 3))[0])
    assert method.after is not None
    state = method.after(rows((1.8, 0.95))[0], state, values)
    # ∇ξ = (0.013517, −0.013517), and Adam's first step has the length of its learning rate
    torch.testing.assert_close(
        state["adam_mean"], 0.1 * rows((0.013517, -0.013517))[0], rtol=1e-4, atol=0
    )
    torch.testing.assert_close(state["logits"], rows((-0.025, 0.025))[0], rtol=1e-4, atol=0)
    share = torch.softmax(state["logits"], dim=-1)
    torch.testing.assert_close(share, rows((0.487503, 0.512497))[0], rtol=1e-5, atol=0)


def test_dwa_waits_two_epochs_and_then_compares_their_mean_losses() -> None:
    method = METHODS["dwa"]
    values = mtofront.methods.values_for(mtofront.methods.make("dwa"), 2)
    state = method.init(torch.zeros(2, dtype=torch.float64))
    # mean losses (2, 2) in epoch 0 and (1, 2) in epoch 1
    script = [(0, (1, 3)), (0, (3, 1)), (1, (0.5, 2)), (1, (1, 1)), (1, (1.5, 3)), (2, (9, 9))]
    seen = []
    for epoch, losses in [*script, (2, (0, 1))]:
        signals = Signals(rows(losses)[0], torch.zeros(0, dtype=torch.float64), epoch=epoch)
        weights, state = method.step(signals, state, values)
        seen.append(weights)
    for weights in seen[:5]:
        assert weights.tolist() == [1, 1]
    for weights in seen[5:]:
        torch.testing.assert_close(weights, rows((0.875647, 1.124353))[0], rtol=1e-5, atol=0)


def test_smooth_tchebycheff_is_the_gradient_of_its_value() -> None:
    losses = rows((2, 1))[0].requires_grad_()
    value = 0.1 * torch.logsumexp(0.5 * losses / 0.1, dim=0)
    assert value.item() == pytest.approx(1.000671535)
    torch.autograd.backward(value)
    weights, _ = one_step("smooth_tchebycheff", (2, 1), mu=0.1)
    torch.testing.assert_close(weights, losses.grad)
    torch.testing.assert_close(weights, rows((0.496654, 0.003346))[0], rtol=0, atol=1e-6)


def test_imtl_l_comes_to_rest_where_every_scaled_loss_is_one() -> None:
    method = METHODS["imtl_l"]
    values = mtofront.methods.values_for(mtofront.methods.make("imtl_l"), 3)
    losses = rows((4, 1, 0.25))[0]
    state = method.init(torch.zeros(3, dtype=torch.float64))
    for _ in range(600):
        weights, state = method.step(Signals(losses, losses[:0]), state, values)
    torch.testing.assert_close(weights * losses, torch.ones_like(losses), rtol=1e-3, atol=0)


def test_the_tutorial_tells_the_truth() -> None:
    outcome = doctest.testmod(mtofront.methods, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 10
    assert outcome.failed == 0
