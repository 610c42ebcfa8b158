"""The true fronts of pymoo's test problems, from closed forms and from their optimal variables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .truth import Truth, simplex_grid, truth_of

POINTS = 2001
FRONT_PLACES = 101
"""Of each of two variables that tell places of a two-dimensional front apart."""


def true_front(name: str, problem: Any) -> Truth | None:
    """What is known of a pymoo problem; None where nobody has its front in closed form.

    Its own `pareto_front()` is seldom asked: it may download a file, draw at random or raise.
    """
    known = FRONTS.get(name)
    return known(problem) if known else None


def _curve(second: Callable[[Tensor], Tensor], start: float = 0.0) -> Callable[[Any], Truth]:
    """The front (f, second(f)) for f from `start` to 1."""

    def front(_: Any) -> Truth:
        first = torch.linspace(start, 1, POINTS, dtype=torch.float64)
        return truth_of(torch.stack([first, second(first)], dim=1))

    return front


def _pieces(problem: Any) -> Truth:
    """ZDT3: five pieces, whose ends pymoo knows."""
    return truth_of(torch.from_numpy(problem.pareto_front(n_points=POINTS)))


def _simplex(problem: Any) -> Truth:
    """DTLZ1: the objectives sum to 0.5, times a scale each."""
    tasks = problem.n_obj
    scale = torch.from_numpy(np.broadcast_to(getattr(problem, "scale_factor", 1.0), (1,)).copy())
    scales = scale ** torch.arange(tasks, dtype=torch.float64)

    def volume(reference: Tensor) -> float:
        below = 0.5**tasks / math.factorial(tasks)
        return float(reference.prod() - below * scales.prod())

    return truth_of(0.5 * scales * simplex_grid(tasks), volume)


def _inverted_simplex(problem: Any) -> Truth:
    return truth_of(0.5 * (1 - simplex_grid(problem.n_obj)))


def _sphere(problem: Any) -> Truth:
    """DTLZ2 to 4: the part of the unit sphere where no objective is negative."""
    tasks = problem.n_obj

    def volume(reference: Tensor) -> float:
        ball = math.pi ** (tasks / 2) / math.gamma(tasks / 2 + 1)
        return float(reference.prod() - ball / 2**tasks)

    return truth_of(_on_sphere(tasks), volume)


def _on_sphere(tasks: int) -> Tensor:
    vectors = simplex_grid(tasks)
    return torch.nn.functional.normalize(vectors, dim=1)


def _powered_sphere(problem: Any) -> Truth:
    points = _on_sphere(problem.n_obj).square()
    return truth_of(torch.cat([points[:, :-1].square(), points[:, -1:]], dim=1))


def _arc(problem: Any) -> Truth | None:
    """DTLZ5 and 6: a quarter circle; with four objectives no curve (Huband et al. 2006)."""
    if problem.n_obj > 3:
        return None
    angles = torch.linspace(0, math.pi / 2, POINTS, dtype=torch.float64)
    sides = [angles.cos(), angles.sin()]
    if problem.n_obj == 3:
        sides = [sides[0] * math.sqrt(0.5), sides[0] * math.sqrt(0.5), sides[1]]
    return truth_of(torch.stack(sides, dim=1))


def _at_optimum(rest: float, power: float = 1.0) -> Callable[[Any], Truth | None]:
    """What is not dominated of the values where all distance variables are at their optimum.

    rest: that optimum, a share of the variable's range. power: of an even grid over the position
    variables, of which one is needed for each objective but the last.
    """

    def front(problem: Any) -> Truth | None:
        if problem.n_obj > 3:
            return None
        count = POINTS if problem.n_obj == 2 else FRONT_PLACES
        axes = [np.linspace(0, 1, count) ** power] * (problem.n_obj - 1)
        places = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
        own = problem.k if hasattr(problem, "S") else problem.n_obj - 1
        shares = np.full((len(places), problem.n_var), rest)
        shares[:, :own] = np.repeat(places, own // (problem.n_obj - 1), axis=1)
        points = problem.xl + (problem.xu - problem.xl) * shares
        return truth_of(torch.from_numpy(problem.evaluate(points, return_values_of=["F"])))

    return front


def _wfg_sphere(problem: Any) -> Truth:
    """WFG4 to 9: the unit sphere's part with half axes 2, 4, 6, …"""
    return truth_of(_on_sphere(problem.n_obj) * torch.from_numpy(problem.S))


def _wfg_line(problem: Any) -> Truth | None:
    """WFG3: a line for two objectives; beyond, other than was meant (Ishibuchi et al. 2016)."""
    if problem.n_obj > 2:
        return None
    return truth_of(simplex_grid(2) * torch.from_numpy(problem.S))


def _omni(problem: Any) -> Truth:
    """Omni-test: every variable at the same angle, so a quarter circle of radius n_var."""
    angles = torch.linspace(0, math.pi / 2, POINTS, dtype=torch.float64)
    return truth_of(-problem.n_var * torch.stack([angles.cos(), angles.sin()], dim=1))


def _between_centres(problem: Any) -> Truth:
    """SYM-PART: the squared distances from two centres 2a apart, on the line between them."""
    place = torch.linspace(-1, 1, POINTS, dtype=torch.float64) * problem.a
    return truth_of(torch.stack([(place + problem.a) ** 2, (place - problem.a) ** 2], dim=1))


FRONTS: dict[str, Callable[[Any], Truth | None]] = {
    "zdt1": _curve(lambda f: 1 - f.sqrt()),
    "zdt2": _curve(lambda f: 1 - f**2),
    "zdt3": _pieces,
    "zdt4": _curve(lambda f: 1 - f.sqrt()),
    "zdt6": _curve(lambda f: 1 - f**2, start=0.280775318815),
    "dtlz1": _simplex,
    "sdtlz1": _simplex,
    "dtlz1^-1": _inverted_simplex,
    **dict.fromkeys(("dtlz2", "dtlz3", "dtlz4"), _sphere),
    **dict.fromkeys(("convex_dtlz2", "convex_dtlz4"), _powered_sphere),
    **dict.fromkeys(("dtlz5", "dtlz6"), _arc),
    "dtlz7": _at_optimum(rest=0.0),
    "wfg1": _at_optimum(rest=0.35, power=50.0),
    "wfg2": _at_optimum(rest=0.35),
    "wfg3": _wfg_line,
    **dict.fromkeys(("wfg4", "wfg5", "wfg6", "wfg7", "wfg8", "wfg9"), _wfg_sphere),
    "omnitest": _omni,
    "sympart": _between_centres,
}
"""pymoo's name of a problem -> what knows its front."""
