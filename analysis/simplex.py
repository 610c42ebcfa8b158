"""Weights over the tasks that stand for all tastes alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymoo.util.ref_dirs import get_reference_directions

PAIR_STEPS, TRIPLE_STEPS, DRAWS = 100, 40, 1000
"""Two tasks: 101 weights. Three: 861 in a lattice. More: this many draws."""


def simplex_weights(tasks: int) -> NDArray[np.float64]:
    """Return weights (n, T), rows that are >= 0 and sum to 1, spread evenly over the simplex.

    Two tasks: 0, 0.01, ..., 1 for the second one. Three: the lattice of Das and Dennis (1998, SIAM
    J. Optim. 8(3)) with 40 steps. More: 1,000 draws of the uniform distribution, Dirichlet(1, ...,
    1), with a fixed seed, the same in every comparison. One: the weight 1.
    """
    if tasks == 1:
        return np.ones((1, 1))
    if tasks == 2:
        second = np.linspace(0.0, 1.0, PAIR_STEPS + 1)
        return np.column_stack([1.0 - second, second])
    if tasks == 3:
        lattice = get_reference_directions("das-dennis", 3, n_partitions=TRIPLE_STEPS)
        return np.asarray(lattice, dtype=np.float64)
    return np.random.default_rng(0).dirichlet(np.ones(tasks), DRAWS)
