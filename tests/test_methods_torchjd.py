"""Against TorchJD on thousands of random Jacobians; every difference has its reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
import torchjd.aggregation as peer
from jacobians import random_jacobian, rows
from torch import Tensor

from mtofront.methods import aggregate
from mtofront.methods.pcgrad import surgery

SHAPES = [(2, 3), (3, 5), (5, 8), (8, 12), (12, 40)]

shapes = pytest.mark.parametrize(("tasks", "size"), SHAPES)


def drawn(count: int, tasks: int, size: int, spread: float = 0.7) -> Tensor:
    """So many Jacobians (count, T, P)."""
    return random_jacobian(tasks, count, tasks, size, spread=spread)


def peers(make: Callable[[], Any], jacobians: Tensor) -> Tensor:
    """What a fresh aggregator makes of each Jacobian, (count, P)."""
    try:
        return torch.stack([make()(jacobian) for jacobian in jacobians])
    except ImportError as error:
        pytest.skip(str(error).splitlines()[0])


def distance(ours: Tensor, theirs: Tensor, jacobians: Tensor) -> Tensor:
    """How far two directions are apart, as a share of the longer of theirs and the longest row."""
    size = torch.maximum(theirs.norm(dim=-1), jacobians.norm(dim=-1).amax(-1))
    return (ours - theirs).norm(dim=-1) / size


def progress(jacobians: Tensor, directions: Tensor) -> Tensor:
    """Dot products (count, T) of the gradients with a direction."""
    return (jacobians @ directions.unsqueeze(-1)).squeeze(-1)


def projector(accuracy: float) -> Any:
    """TorchJD's projection with so much regularisation, in place of its 1e-4."""
    from torchjd.linalg import QuadprogProjector

    return QuadprogProjector(norm_eps=0.0, reg_eps=accuracy)


@shapes
@pytest.mark.parametrize(
    ("name", "hyper", "theirs"),
    [
        ("linear", {}, "Mean"),
        ("linear", {"weights": 1.0}, "Sum"),
        ("imtl_g", {}, "IMTLG"),
        ("aligned_mtl", {}, "AlignedMTL"),
        ("config", {}, "ConFIG"),
    ],
)
def test_closed_forms_agree(
    name: str, hyper: dict[str, float], theirs: str, tasks: int, size: int
) -> None:
    jacobians = drawn(300, tasks, size)
    given = {key: (value,) * tasks for key, value in hyper.items()}
    expected = peers(getattr(peer, theirs), jacobians)
    assert distance(aggregate(name, jacobians, **given), expected, jacobians).max() < 1e-7


@shapes
def test_constant_weights_agree(tasks: int, size: int) -> None:
    jacobians, weights = drawn(300, tasks, size), torch.arange(1.0, tasks + 1).double()
    expected = peers(lambda: peer.Constant(weights), jacobians)
    found = aggregate("linear", jacobians, weights=weights.tolist())
    assert distance(found, expected, jacobians).max() < 1e-12


@shapes
def test_mgda_is_never_longer_and_equal_for_two_tasks(tasks: int, size: int) -> None:
    # Frank-Wolfe's steps get short before it is near: theirs stops after 100, or at a step of 1e-3
    jacobians = drawn(100, tasks, size)
    ours, theirs = aggregate("mgda", jacobians), peers(peer.MGDA, jacobians)
    excess = theirs.norm(dim=-1) / ours.norm(dim=-1) - 1
    assert excess.min() > -1e-9
    if tasks == 2:
        assert excess.max() < 1e-9
        assert distance(ours, theirs, jacobians).max() < 1e-6
    else:
        assert excess.max() > 1e-5


def test_mgda_agrees_where_frank_wolfe_goes_on() -> None:
    jacobians = drawn(10, 4, 8, spread=0.3)
    theirs = peers(lambda: peer.MGDA(epsilon=1e-9, max_iters=1000), jacobians)
    assert distance(aggregate("mgda", jacobians), theirs, jacobians).max() < 1e-2
    excess = theirs.norm(dim=-1) / aggregate("mgda", jacobians).norm(dim=-1) - 1
    # even a tenth of its default step and ten times as many leave some tenths of a percent
    assert 0 < excess.median() < 2e-3


@shapes
@pytest.mark.parametrize(("name", "theirs"), [("upgrad", "UPGrad"), ("dualproj", "DualProj")])
def test_projections_agree_without_regularisation(
    name: str, theirs: str, tasks: int, size: int
) -> None:
    jacobians = drawn(40, tasks, size)
    ours = aggregate(name, jacobians)
    expected = peers(lambda: getattr(peer, theirs)(projector=projector(1e-11)), jacobians)
    assert distance(ours, expected, jacobians).max() < 1e-6
    # by default it adds 1e-4 of the trace to the Gramian: near, but some conflict is left
    regularised = peers(getattr(peer, theirs), jacobians)
    assert distance(ours, regularised, jacobians).max() < 0.1
    longest = jacobians.norm(dim=-1).amax(-1, keepdim=True)
    assert (progress(jacobians, ours) / longest**2).min() > -1e-9
    if name == "dualproj":
        assert (progress(jacobians, regularised) / longest**2).min() < -1e-6


@shapes
def test_cagrad_serves_the_worst_served_task_as_well(tasks: int, size: int) -> None:
    jacobians = drawn(30, tasks, size)
    ours = aggregate("cagrad", jacobians, c=0.4)
    theirs = peers(lambda: peer.CAGrad(c=0.4, norm_eps=0.0), jacobians)
    # Clarabel stops at 1e-8 of the cost, whose square root is what the direction can be off by
    assert distance(ours, theirs, jacobians).max() < 1e-3
    scale = jacobians.norm(dim=-1).amax(-1) * jacobians.mean(-2).norm(dim=-1)
    gain = progress(jacobians, ours).amin(-1) - progress(jacobians, theirs).amin(-1)
    assert (gain / scale).min() > -1e-7


def test_cagrad_goes_on_where_theirs_gives_up() -> None:
    # where ‖g_w‖ is below 1e-4 of the gradients it answers 0; both tasks can still gain
    nearly_opposite = rows((1, 1e-6), (-1, 1e-6))
    theirs = peers(lambda: peer.CAGrad(c=0.4), nearly_opposite.unsqueeze(0))
    assert theirs.norm() == 0
    ours = aggregate("cagrad", nearly_opposite, c=0.4)
    torch.testing.assert_close(ours, rows((0, 1.4e-6))[0], rtol=1e-6, atol=1e-12)


@shapes
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_fairgrad_meets_its_equations_at_least_as_well(alpha: float, tasks: int, size: int) -> None:
    # a least-squares search from 1/T stops at a relative change of 1e-8, near or not
    jacobians = drawn(30, tasks, size)
    theirs = peers(lambda: peer.FairGrad(alpha=alpha).gramian_weighting, jacobians @ jacobians.mT)
    ours = aggregate("fairgrad", jacobians, alpha=alpha)
    met = progress(jacobians, (theirs.unsqueeze(-2) @ jacobians).squeeze(-2))
    missed = (met * theirs ** (1 / alpha) - 1).abs().amax(-1)
    near = missed < 1e-5
    assert near.double().mean() > 0.3
    expected = (theirs.unsqueeze(-2) @ jacobians).squeeze(-2)
    assert distance(ours, expected, jacobians)[near].max() < 1e-3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("tasks", "size"), [(2, 3), (3, 5), (5, 8)])
def test_nash_mtl_has_the_same_direction_where_theirs_is_solved(tasks: int, size: int) -> None:
    # theirs keeps state, so each Jacobian gets a fresh one; it divides the Gramian by its norm,
    # and clips the update unless max_norm is 0; it returns what it has when its solver fails
    jacobians = drawn(20, tasks, size)
    theirs = peers(lambda: peer.NashMTL(n_tasks=tasks, max_norm=0.0).weighting, jacobians)
    directions = (theirs.unsqueeze(-2) @ jacobians).squeeze(-2)
    shares = theirs * progress(jacobians, directions)
    solved = shares.amin(-1) > 0.99 * shares.amax(-1)
    assert solved.double().mean() > 0.5
    ours = aggregate("nash_mtl", jacobians)
    cosine = torch.nn.functional.cosine_similarity(ours, directions)
    assert cosine[solved].min() > 1 - 1e-4
    # only ours has the length that the equations ask for, ‖d‖² = T
    torch.testing.assert_close(ours.square().sum(-1), torch.full((20,), float(tasks)).double())


def every_surgery(jacobian: Tensor) -> Tensor:
    """The directions that PCGrad can end at with three tasks, (64, P), whatever is drawn."""
    orders = list(itertools.permutations(range(3)))
    each = [surgery(jacobian @ jacobian.T, torch.tensor(order).expand(3, 3)) for order in orders]
    ways = itertools.product(range(len(orders)), repeat=3)
    return torch.stack([sum(each[k][i] for i, k in enumerate(way)) @ jacobian for way in ways])


@pytest.mark.parametrize(("name", "theirs"), [("pcgrad", "PCGrad"), ("gradvac", "GradVac")])
def test_surgery_agrees(name: str, theirs: str) -> None:
    pairs = drawn(300, 2, 3)
    expected = peers(getattr(peer, theirs), pairs)
    # theirs adds 1e-8 to GradVac's divisors
    assert distance(aggregate(name, pairs), expected, pairs).max() < 1e-6
    # with more tasks both draw orders: theirs must be one of all that ours can draw. In its first
    # step GradVac aims at right angles, which is PCGrad
    triples = drawn(40, 3, 4)
    for jacobian, direction in zip(triples, peers(getattr(peer, theirs), triples), strict=True):
        assert (every_surgery(jacobian) - direction).norm(dim=-1).min() < 1e-6 * jacobian.norm()


def test_graddrop_has_the_same_two_values_and_the_same_mean() -> None:
    jacobian, count = random_jacobian(3, 3, 6), 1500
    torch.manual_seed(0)
    theirs = peers(peer.GradDrop, jacobian.expand(count, 3, 6))
    ours = aggregate("graddrop", jacobian.expand(count, 3, 6))
    values = torch.stack([jacobian.clamp_min(0).sum(0), jacobian.clamp_max(0).sum(0)])
    for directions in (ours, theirs):
        assert (directions - values.unsqueeze(1)).abs().amin(0).max() < 1e-12
    error = (ours.std(0) + theirs.std(0)) / count**0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4 * error + 1e-12).all()


def test_random_weights_have_the_same_distribution() -> None:
    identity = torch.eye(4, dtype=torch.float64).expand(1500, 4, 4)
    torch.manual_seed(0)
    theirs, ours = peers(peer.Random, identity), aggregate("random", identity)
    assert scipy.stats.ks_2samp(ours[:, 0].numpy(), theirs[:, 0].numpy()).pvalue > 0.001
    torch.testing.assert_close(ours.sum(-1), torch.ones(1500, dtype=torch.float64))


def test_zero_gradients_give_no_direction_here_and_there() -> None:
    zeros = torch.zeros(1, 3, 4, dtype=torch.float64)
    for name, theirs in (("imtl_g", "IMTLG"), ("aligned_mtl", "AlignedMTL"), ("mgda", "MGDA")):
        assert aggregate(name, zeros).norm() == 0
        assert peers(getattr(peer, theirs), zeros).norm() == 0
