"""What `aggregate` computes in single precision, and that nothing finite is lost by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jacobians import NASTY, OPPOSITE, graded, random_jacobian, rows
from test_methods_surgery import vaccine_by_the_paper
from torch import Tensor

from mtofront.methods import METHODS, Signals, aggregate, make, values_for

SCALES = (1e-30, 1e-22, 1e-17, 1e17, 1e22, 1e35)
"""Squares of such gradients have no place in single precision, but the gradients do."""

HOMOGENEOUS = [
    ("mgda", {}),
    ("cagrad", {}),
    ("imtl_g", {}),
    ("aligned_mtl", {}),
    ("upgrad", {}),
    ("config", {}),
    ("pcgrad", {}),
    ("graddrop", {}),
    ("trimmed_mean", {}),
    ("moco", {"gamma": 0}),
    ("merge_doge", {"steps": 2}),
]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("name", "hyper"), HOMOGENEOUS, ids=lambda value: str(value))
def test_gradients_beyond_the_squares_of_single_precision_are_not_lost(
    name: str, hyper: dict[str, int], scale: float
) -> None:
    single = random_jacobian(1, 4, 7).float() * scale
    exact = aggregate(name, single.double(), **hyper)
    found = aggregate(name, single, **hyper).double()
    assert exact.norm() > 0
    torch.testing.assert_close(found / exact.norm(), exact / exact.norm(), rtol=1e-5, atol=1e-5)


def test_gradients_of_very_different_length_are_compared_as_in_double_precision() -> None:
    single = graded(4, 9, 25).float()
    exact = aggregate("nash_mtl", single.double())
    torch.testing.assert_close(aggregate("nash_mtl", single).double(), exact, rtol=1e-5, atol=1e-6)


def test_a_sum_that_overflows_on_its_way_arrives() -> None:
    large = torch.tensor([[3e38], [3e38], [-3e38]])
    for name, hyper in (
        ("linear", {"weights": (1, 1, 1)}),
        ("merge_task_arithmetic", {"scale": 1}),
    ):
        torch.testing.assert_close(aggregate(name, large, **hyper), torch.tensor([3e38]))


@pytest.mark.parametrize("name", ["mgda", "imtl_g", "linear", "graddrop", "upgrad"])
def test_a_problem_beyond_single_precision_leaves_its_neighbours_digits_alone(name: str) -> None:
    batch = random_jacobian(2, 5, 4, 50).float()
    disturbed = batch.clone()
    disturbed[1] *= 1e-25
    disturbed[2] *= 1e30
    disturbed[3] = torch.nan
    disturbed[4, 0] = 0
    losses = torch.ones(5, 4)
    calm, found = (
        aggregate(name, jacobian, losses, torch.Generator().manual_seed(3))
        for jacobian in (batch, disturbed)
    )
    assert torch.equal(calm[0], found[0])
    assert found[[1, 2, 4]].isfinite().all()
    assert not found[3].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    jacobian = (300 * random_jacobian(3, 3, 40)).to(dtype)
    for name in ("mgda", "pcgrad", "graddrop"):
        found = aggregate(name, jacobian)
        assert found.dtype == dtype
        exact = aggregate(name, jacobian.double()).to(dtype)
        torch.testing.assert_close(found, exact)


def test_equal_numbers_of_different_types_are_checked_apart() -> None:
    jacobian = random_jacobian(4, 2, 3)
    aggregate("cagrad", jacobian, c=1)
    with pytest.raises(ValueError, match="`c` must be a number"):
        aggregate("cagrad", jacobian, c=True)


def aligned_by_singular_values(jacobian: Tensor, preference: Tensor) -> Tensor:
    """√λ U Vᵀ of the singular value decomposition, the paper's orthogonal system, times p."""
    left, sizes, right = torch.linalg.svd(jacobian, full_matrices=False)
    kept = sizes > 1e-7 * sizes.max()
    if not kept.any():
        return jacobian[0] * 0
    return sizes[kept].min() * preference @ left[:, kept] @ right[kept]


@pytest.mark.parametrize(
    "jacobian",
    [
        *(random_jacobian(seed, 2, 5, spread=1.0) for seed in range(6)),
        rows((1, 0), (0, 1)),
        rows((2, 0), (0, 2)),
        rows((3, 0), (0, 1)),
        rows((0, 1, 2), (0, 0, 0)),
        OPPOSITE,
        NASTY["two zeros"],
        NASTY["graded pair"],
    ],
)
def test_aligned_mtl_of_two_tasks_is_the_nearest_orthogonal_system(jacobian: Tensor) -> None:
    preference = torch.tensor([0.3, 0.9], dtype=torch.float64)
    found = aggregate("aligned_mtl", jacobian, weights=(0.3, 0.9))
    expected = aligned_by_singular_values(jacobian, preference)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_gradvac_of_two_tasks_is_the_papers_algorithm_on_vectors(seed: int) -> None:
    jacobian = random_jacobian(seed, 2, 6, spread=1.0)
    target = torch.tanh(random_jacobian(seed + 50, 2, 2)).fill_diagonal_(0)
    losses = torch.ones(2, dtype=torch.float64)
    signals = Signals(losses, losses[:0], jacobian @ jacobian.T)
    values = values_for(make("gradvac", beta=0.25), 2)
    weights, after = METHODS["gradvac"].step(signals, {"target": target}, values)
    expected = vaccine_by_the_paper(jacobian.numpy(), [[1], [0]], target.numpy())
    np.testing.assert_allclose((weights @ jacobian).numpy(), expected, rtol=1e-8, atol=1e-9)
    cosine = torch.nn.functional.cosine_similarity(jacobian[0], jacobian[1], dim=0)
    torch.testing.assert_close(after["target"][0, 1], 0.75 * target[0, 1] + 0.25 * cosine)
    assert after["target"].diagonal().tolist() == [0, 0]


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "mgda"])
@pytest.mark.parametrize("tasks", [5, 13, 24, 40])
def test_pivoting_answers_a_run_with_the_same_digits_in_every_batch(name: str, tasks: int) -> None:
    # easy, hard and singular problems finish after different numbers of guesses
    jacobians = random_jacobian(tasks, 24, tasks, 50, spread=0.5)
    jacobians[3::4, :, 2:] = 0
    jacobians[1::4] = jacobians[1::4].abs()
    jacobians[2::4, 1] = jacobians[2::4, 0]
    together = aggregate(name, jacobians)
    assert together.isfinite().all()
    for part in (slice(0, 1), slice(1, 2), slice(2, 5), slice(7, 20)):
        assert torch.equal(aggregate(name, jacobians[part]), together[part])
