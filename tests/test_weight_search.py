"""The adaptive weight search: properties of its proposals, and how fast it shows known fronts."""

from __future__ import annotations

import itertools

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtofront.sweep.edges import divided, edges, worth_it
from mtofront.sweep.front_search import (
    LOW,
    batch_size,
    hypervolume_gain,
    observed,
    propose,
    start_size,
)
from mtofront.sweep.weights import weight_grid

Rows = NDArray[np.float64]


def bowls(weights: Rows, scales: tuple[float, ...]) -> Rows:
    """Minimum of Σ w_i s_i |x − e_i|² over x, its losses s_i |x − e_i|² (T,)."""
    pull = weights * np.array(scales)
    place = pull / pull.sum()
    losses: Rows = np.array(scales) * ((place - np.eye(len(scales))) ** 2).sum(axis=1)
    return losses


def searched(scales: tuple[float, ...], points: int, noise: float = 0.0) -> Rows:
    """The weights (points, T) that the search chooses on bowls, 3 seeds of noise on every loss."""
    tasks = len(scales)
    generator = np.random.default_rng(0)
    chosen = weight_grid("log_odds", start_size(points, tasks), tasks, LOW)
    batch = batch_size(points, len(chosen))
    weights, losses = [], []
    fresh = chosen
    while True:
        for row, _ in itertools.product(fresh, range(3)):
            weights.append(row)
            disturbed = 1 + noise * generator.standard_normal(tasks)
            losses.append(bowls(np.array(row), scales) * disturbed)
        if len(chosen) >= points:
            return np.array(chosen)
        fresh = propose(
            weights,
            losses,
            min(batch, points - len(chosen)),
            seeds=np.tile(range(3), len(chosen)),
        )
        chosen = [*chosen, *fresh]


def volume(weights: Rows, scales: tuple[float, ...]) -> float:
    """Hypervolume below 1.1 of the bowls' losses in units of their scales, the front's range."""
    points = np.array([bowls(np.array(row), scales) for row in weights]) / (2 * np.array(scales))
    return float(moocore.hypervolume(points[(points < 1.1).all(axis=1)], ref=[1.1] * len(scales)))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Rows, Rows, NDArray[np.int64]]:
    """Runs of 2 … 8 tasks with 1 … 3 seeds, corners among the weights, some losses diverged."""
    tasks, count, seeds = draw(st.integers(2, 8)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    places = generator.dirichlet(np.ones(tasks), size=count)
    places[0] = np.eye(tasks)[0]
    weights = np.repeat(places, seeds, axis=0)
    losses = generator.lognormal(size=weights.shape)
    losses[generator.random(len(losses)) < draw(st.sampled_from([0.0, 0.2, 1.0]))] = np.nan
    return weights, losses, np.tile(np.arange(seeds), count)


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(1, 6))
def test_proposals_are_new_distinct_simplex_points_and_always_the_same(
    runs: tuple[Rows, Rows, NDArray[np.int64]], count: int
) -> None:
    weights, losses, seeds = runs
    found = propose(weights, losses, count, seeds=seeds)
    assert len(found) == len(set(found)) == count
    assert all(abs(sum(row) - 1) < 1e-12 and min(row) > 0 for row in found)
    for row in found:
        assert np.abs(weights - row).max(axis=1).min() > 1e-9
    order = np.random.default_rng(0).permutation(len(weights))
    again = propose(weights[order], losses[order], count, seeds=seeds[order])
    assert np.allclose(again, found, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(2, 12), st.integers(0, 10**6))
def test_edges_are_pairs_with_nothing_in_the_ball_between_them(
    dimensions: int, count: int, seed: int
) -> None:
    places = np.random.default_rng(seed).standard_normal((count, dimensions))
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(count), 2)
        if all(
            np.linalg.norm(place - (places[a] + places[b]) / 2)
            > np.linalg.norm(places[a] - places[b]) / 2
            for k, place in enumerate(places)
            if k not in (a, b)
        )
    }
    assert {(int(a), int(b)) for a, b in edges(places)} == expected


def test_an_edge_is_divided_where_both_ends_are_worth_the_same() -> None:
    weights = np.array([[0.2, 0.8], [0.6, 0.4]])
    losses = np.array([bowls(row, (1.0, 3.0)) for row in weights])
    _, middle, _ = divided(observed(weights, losses))
    assert middle[0] @ losses[0] == pytest.approx(middle[0] @ losses[1])


@pytest.mark.parametrize(("tasks", "tolerance"), [(2, 1e-9), (3, 1e-9), (6, 0.02)])
def test_gains_are_the_hypervolume_that_the_expected_losses_add(
    tasks: int, tolerance: float
) -> None:
    rows = weight_grid("log_odds", 12 if tasks < 6 else 21, tasks)
    scales = tuple(1.0 + k for k in range(tasks))
    front = observed(np.array(rows), np.array([bowls(np.array(row), scales) for row in rows]))
    corner = [1.1] * tasks

    def whole(points: Rows) -> float:
        return float(moocore.hypervolume(points[(points < 1.1).all(axis=1)], ref=corner))

    before = whole(front.losses)
    for one in hypervolume_gain(front):
        after = whole(np.vstack([front.losses, np.minimum(one.losses, 1.0)]))
        assert one.gain == pytest.approx(after - before, abs=tolerance)


@pytest.mark.parametrize("ratio", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_25_weights_show_the_front_of_two_tasks_as_101_do(ratio: float, noise: float) -> None:
    scales = (1.0, ratio)
    chosen = searched(scales, 25, noise)
    assert len(np.unique(chosen, axis=0)) == 25
    best = max(volume(weight_grid("log_odds", 101, 2, low), scales) for low in (1e-2, 1e-3, 1e-4))
    assert volume(chosen, scales) > 0.99 * best
    for grid in ("log_odds", "lattice"):
        if ratio > 1:
            assert volume(chosen, scales) > volume(weight_grid(grid, 25, 2), scales)


def test_22_weights_show_more_of_three_unequal_tasks_than_a_lattice_of_91() -> None:
    scales = (1.0, 10.0, 100.0)
    assert volume(searched(scales, 22), scales) > volume(weight_grid("lattice", 91, 3), scales)


def test_a_bad_run_and_a_diverged_one_do_not_draw_the_search_to_themselves() -> None:
    weights = np.array(weight_grid("log_odds", 9, 2))
    losses = np.array([bowls(row, (1.0, 1.0)) for row in weights])
    clean = propose(weights, losses, 4)
    losses[2] += 0.5  # dominated
    losses[6] = np.nan
    spoilt = propose(weights, losses, 4)
    near = np.abs(np.array(spoilt)[:, None] - weights[[2]]).max(axis=-1)
    assert near.min() > 0.01
    assert volume(np.vstack([weights, spoilt]), (1.0, 1.0)) > 0.99 * volume(
        np.vstack([weights, clean]), (1.0, 1.0)
    )


def test_what_noise_alone_tells_apart_is_not_divided() -> None:
    weights = np.repeat([[0.3, 0.7], [0.4, 0.6], [0.8, 0.2]], 4, axis=0)
    base = np.repeat([[1.0, 0.30], [0.99, 0.31], [0.2, 1.0]], 4, axis=0)
    jitter = 0.1 * np.random.default_rng(0).standard_normal(base.shape)
    front = observed(weights, base + jitter)
    pairs = edges(front.ratios)
    assert pairs.tolist() == [[0, 1], [1, 2]]
    assert worth_it(front, pairs).tolist() == [False, True]
    # what a seed does to all weights alike is no noise
    shared = np.tile(jitter[:4], (3, 1))
    apart = observed(weights, base + shared, np.tile(np.arange(4), 3))
    assert worth_it(apart, pairs).tolist() == [True, True]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(3, 2\)"):
        propose(np.ones((2, 2)), np.ones((3, 2)), 1)
