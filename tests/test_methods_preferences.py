"""EPO and PMTL: their programs against literal ones, and where they end."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import scipy.optimize
import torch
from jacobians import random_jacobian, rows
from numpy.typing import NDArray
from pymoo.util.ref_dirs import get_reference_directions
from torch import Tensor

from mtofront.methods import (
    METHODS,
    UNSOLVED,
    HyperError,
    Signals,
    State,
    Values,
    aggregate,
    make,
    values_for,
)
from mtofront.methods.epo import balancing_pull
from mtofront.methods.pmtl import constraints, offsets_from, spread_vectors

Array = NDArray[np.float64]


def drawn(seed: int, *shape: int) -> Tensor:
    """Uniform numbers in [0.1, 1.1)."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + torch.rand(*shape, generator=generator, dtype=torch.float64)


def epo_step(
    jacobian: Tensor, losses: Tensor, preference: tuple[float, ...] | Tensor, **hyper: float
) -> tuple[Tensor, State]:
    values = dict(values_for(make("epo", **hyper), len(losses)))
    values["weights"] = torch.as_tensor(preference, dtype=torch.float64)
    state = METHODS["epo"].init(torch.zeros_like(losses))
    return METHODS["epo"].step(Signals(losses, losses[:0], jacobian @ jacobian.T), state, values)


def test_the_pull_is_the_published_one() -> None:
    pull, uneven = balancing_pull(rows((2, 1))[0], rows((1, 1))[0])
    torch.testing.assert_close(uneven, rows((0.056633,))[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(pull, rows((0.231049, -0.462098))[0], rtol=0, atol=1e-6)


def test_the_pull_leaves_the_weighted_losses_sum_to_zero() -> None:
    losses, preference = drawn(1, 50, 4), drawn(2, 50, 4)
    pull, uneven = balancing_pull(losses, preference)
    torch.testing.assert_close((pull * losses).sum(-1), torch.zeros(50, dtype=torch.float64))
    assert (uneven > 0).all()


def literal_epo(gramian: Array, losses: Array, preference: Array, eps: float) -> Array | None:
    """The two programs as they are printed; the descent may be infeasible."""
    tasks, product = len(losses), losses * preference
    share = product / product.sum()
    uneven = float((share * np.log(tasks * share)).sum())
    gains = gramian @ (preference * (np.log(tasks * share) - uneven))
    lower = np.zeros(tasks)
    if uneven > eps:
        if (gains > 0).any():
            lower = np.where(gains > 0, -np.inf, gains)
            lower[product == product.max()] = 0
        objective, extra = gains, np.zeros((0, tasks))
    else:
        objective, extra = gramian.sum(0), -gains[None]
    used = np.isfinite(lower)
    result = scipy.optimize.linprog(
        -objective,
        A_ub=np.vstack([-gramian[used], extra]),
        b_ub=np.concatenate([-lower[used], np.full(len(extra), -min(gains.max(), 0))]),
        A_eq=np.ones((1, tasks)),
        b_eq=[1],
        bounds=(0, None),
    )
    assert result.status == 0 or (result.status == 2 and uneven <= eps)
    return np.asarray(result.x) if result.status == 0 else None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("eps", [1e-4, 10.0], ids=["balance", "descend"])
@pytest.mark.parametrize(("tasks", "size"), [(2, 3), (3, 5), (6, 4), (12, 30), (40, 60)])
def test_epo_solves_the_printed_programs(seed: int, eps: float, tasks: int, size: int) -> None:
    jacobian = random_jacobian(seed, tasks, size, spread=0.5)
    losses, preference = drawn(seed, tasks), drawn(seed + 100, tasks)
    weights, state = epo_step(jacobian, losses, preference, eps=eps)
    gramian = (jacobian @ jacobian.T).numpy()
    expected = literal_epo(gramian, losses.numpy(), preference.numpy(), eps)
    assert state[UNSOLVED].item() == (expected is None)
    if expected is None:
        torch.testing.assert_close(weights, preference / preference.sum())
    else:
        np.testing.assert_allclose(weights.numpy(), expected, rtol=0, atol=1e-5)


def test_epo_counts_the_programs_it_could_not_solve_and_takes_the_preference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtofront.methods.linear_program.ITERATIONS", 1)
    jacobian, losses = random_jacobian(1, 3, 5), drawn(1, 3)
    weights, state = epo_step(jacobian, losses, (2, 1, 1))
    assert weights.tolist() == [0.5, 0.25, 0.25]
    assert state[UNSOLVED].tolist() == [1]


def descended(anchors: Tensor, preference: Tensor, steps: int) -> Tensor:
    """Losses ‖x − a_i‖² (N, T) where descent along EPO ends; preference (N, T), anchors (T, P)."""
    method, runs = METHODS["epo"], len(preference)
    values: Values = {
        "weights": preference,
        "eps": torch.full((runs,), 1e-6, dtype=torch.float64),
    }
    place = anchors.mean(0).repeat(runs, 1) + 0.3
    state = method.init(torch.zeros_like(preference))
    for count in range(steps):
        offset = place.unsqueeze(1) - anchors
        signals = Signals(offset.square().sum(-1), place[:, :0], 4 * offset @ offset.mT)
        weights, state = method.step(signals, state, values)
        place = place - 0.1 / (1 + count / 10) * 2 * (weights.unsqueeze(-1) * offset).sum(1)
    assert state[UNSOLVED].max() == 0
    return (place.unsqueeze(1) - anchors).square().sum(-1)


@pytest.mark.parametrize(
    ("anchors", "preference"),
    [
        (rows((0, 0, 0), (2, 1, 0)), rows((1, 1), (0.2, 0.8), (0.9, 0.1))),
        (
            rows((1, 0, 0), (0, 1, 0), (0, 0, 1)),
            rows((1, 1, 1), (2, 1, 1), (0.5, 0.7, 0.6)),
        ),
    ],
    ids=["2 tasks", "3 tasks"],
)
def test_epo_ends_where_the_weighted_losses_are_equal(anchors: Tensor, preference: Tensor) -> None:
    losses = descended(anchors, preference, steps=120)
    product = preference * losses
    expected = product.mean(-1, keepdim=True).expand_as(product)
    torch.testing.assert_close(product, expected, rtol=0.01, atol=0)
    # and no point of the segment or triangle between the anchors is better for all tasks
    shares = torch.cartesian_prod(*[torch.linspace(0, 1, 41, dtype=torch.float64)] * len(anchors))
    shares = shares[shares.sum(-1) > 0] / shares[shares.sum(-1) > 0].sum(-1, keepdim=True)
    others = (shares @ anchors).unsqueeze(1).sub(anchors).square().sum(-1)
    for run in losses:
        assert not (others < run - 0.01).all(-1).any()


def pmtl_values(vectors: int, vector: int, tasks: int) -> Values:
    return values_for(make("pmtl", vectors=vectors, vector=vector), tasks)


def pmtl_offsets(tasks: int, vectors: int, vector: int) -> Tensor:
    chosen = torch.tensor([float(vector)], dtype=torch.float64)
    return offsets_from(spread_vectors(tasks, vectors), chosen, torch.ones(tasks).double())


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        (0, (0, 0.2168, 0.2929, 0.2168, 0)),
        (2, (-0.2929, -0.0761, 0, -0.0761, -0.2929)),
        (4, (0, 0.2168, 0.2929, 0.2168, 0)),
    ],
)
def test_pmtls_constraints_are_the_published_ones(vector: int, expected: tuple[float, ...]) -> None:
    values = constraints(rows((1, 1))[0], pmtl_offsets(2, 5, vector))
    torch.testing.assert_close(values, rows(expected)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("tasks", "least", "steps"),
    [(3, 2, 1), (3, 4, 2), (3, 6, 2), (3, 15, 4), (4, 11, 3), (5, 5, 1)],
)
def test_the_lattice_is_that_of_das_and_dennis(tasks: int, least: int, steps: int) -> None:
    found = np.array(spread_vectors(tasks, least))
    lattice = get_reference_directions("das-dennis", tasks, n_partitions=steps)
    expected = lattice / np.linalg.norm(lattice, axis=1, keepdims=True)
    assert len(found) == len(expected)
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected.tolist()), atol=1e-12)


def shortest(members: Array) -> Array:
    """The shortest vector in the hull of some rows: the best of all faces' projections."""
    best = np.full(members.shape[1], np.inf)
    for size in range(1, len(members) + 1):
        for face in itertools.combinations(members, size):
            corner, edges = face[0], np.array(face[1:]).reshape(-1, len(face[0])) - face[0]
            share, *_ = np.linalg.lstsq(edges.T, -corner, rcond=None)
            if (share >= -1e-12).all() and share.sum() <= 1 + 1e-12:
                vector = corner + share @ edges
                best = vector if vector @ vector < best @ best else best
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("tasks", "vectors", "size"), [(2, 5, 4), (3, 6, 5), (4, 5, 6)])
def test_pmtl_finds_the_shortest_vector_of_all_faces(
    seed: int, tasks: int, vectors: int, size: int
) -> None:
    jacobian, losses = random_jacobian(seed, tasks, size, spread=0.7), drawn(seed, tasks)
    values = pmtl_values(vectors, seed % vectors, tasks)
    offsets = pmtl_offsets(tasks, vectors, seed % vectors).numpy()
    violated = offsets[offsets @ losses.numpy() > 0] @ jacobian.numpy()
    for epoch in (0, 2):
        signals = Signals(losses, losses[:0], jacobian @ jacobian.T, epoch=epoch)
        weights, state = METHODS["pmtl"].step(signals, METHODS["pmtl"].init(losses), values)
        searching = epoch < 2 and len(violated) > 0
        assert state["searching"].item() == searching
        expected = shortest(violated if searching else np.vstack([jacobian.numpy(), violated]))
        direction = (weights @ jacobian).numpy()
        if not searching:
            assert weights.abs().sum().item() == pytest.approx(tasks)
            direction, expected = (v / np.linalg.norm(v) for v in (direction, expected))
        np.testing.assert_allclose(direction, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_pmtl_in_its_region_is_mgda(tasks: int) -> None:
    jacobian = random_jacobian(1, 10, tasks, 8)
    losses = torch.tensor(spread_vectors(tasks, 2), dtype=torch.float64)[1].expand(10, tasks)
    direction = aggregate("pmtl", jacobian, losses, vectors=2, vector=1)
    torch.testing.assert_close(direction, tasks * aggregate("mgda", jacobian))


def test_pmtl_never_searches_again_once_it_was_in_its_region() -> None:
    method, values = METHODS["pmtl"], pmtl_values(5, 2, 2)
    gramian = torch.eye(2, dtype=torch.float64)
    state = method.init(torch.zeros(2, dtype=torch.float64))
    seen = []
    for losses in ((9, 1), (1, 1), (9, 1)):
        signals = Signals(rows(losses)[0], torch.zeros(0), gramian)
        weights, state = method.step(signals, state, values)
        seen.append((state["searching"].item(), round(weights.abs().sum().item(), 9) == 2))
    assert seen == [(1, False), (0, True), (0, True)]


def test_pmtls_runs_end_in_their_regions() -> None:
    anchors = rows((0, 0), (2, 1))
    method = METHODS["pmtl"]
    values: Values = {
        "vectors": 5,
        "vector": torch.arange(5, dtype=torch.float64),
        "warmup": torch.full((5,), 2, dtype=torch.float64),
    }
    place = rows((1.5, -0.5)).repeat(5, 1)
    state = method.init(torch.zeros(5, 2, dtype=torch.float64))
    for count in range(120):
        offset = place.unsqueeze(1) - anchors
        losses = offset.square().sum(-1)
        signals = Signals(losses, losses[:, :0], 4 * offset @ offset.mT, epoch=count // 20)
        weights, state = method.step(signals, state, values)
        place = place - 0.05 * 2 * (weights.unsqueeze(-1) * offset).sum(1)
    angles = torch.atan2(losses[:, 1], losses[:, 0])
    assert (angles / (torch.pi / 8)).round().tolist() == [0, 1, 2, 3, 4]


def test_a_vector_that_does_not_exist_is_refused() -> None:
    make("pmtl", vectors=8, vector=7)
    words = "`vector` must be a whole number below `vectors`, which is 8; found 8"
    with pytest.raises(HyperError, match=re.escape(words)) as caught:
        make("pmtl", vectors=8, vector=8)
    assert caught.value.parameter == "vector"
    with pytest.raises(HyperError, match="which is 5; found 5"):
        aggregate("pmtl", rows((1, 0), (0, 1)), rows((1, 1))[0], vector=5)
