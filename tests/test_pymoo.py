"""pymoo's problems: its own values, slopes by differences, and fronts that nothing beats."""

from __future__ import annotations

from typing import Any

import moocore
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pymoo.problems import get_problem
from pymoo.problems.multi.omnitest import OmniTest
from pymoo.problems.multi.sympart import SYMPART

from mtofront.problems import Problem, ProblemError
from mtofront.problems.pymoo_family import WORKS, pymoo_problem
from mtofront.problems.pymoo_fronts import FRONTS
from mtofront.sweep.provide import make_problem

Array = NDArray[np.float64]
MORE = [("dtlz2", {"n_obj": 5, "n_var": 9}), ("dtlz7", {"n_obj": 2, "n_var": 5})]
MORE += [(f"wfg{n}", {"n_obj": 3, "n_var": 8}) for n in (1, 2, 4)]
KNOWN = [(name, {}) for name in sorted(FRONTS)] + MORE


def numpys(name: str, options: dict[str, Any] | None = None) -> Any:
    """pymoo's problem, which computes with NumPy."""
    if name in ("omnitest", "sympart"):
        return {"omnitest": OmniTest, "sympart": SYMPART}[name]()
    sizes = {"n_var": 10, "n_obj": 2} if name.startswith("wfg") else {}
    return get_problem(name, **{**sizes, **(options or {})})


def values(made: Any, points: Array) -> Array:
    return np.asarray(made.evaluate(points.copy(), return_values_of=["F"]))


def outputs_at(problem: Problem, angle: Array) -> tuple[torch.Tensor, torch.nn.Parameter]:
    module = problem.model()
    with torch.no_grad():
        module.angle.copy_(torch.from_numpy(angle))
    return torch.cat(list(module(problem.train.inputs))), module.angle


@pytest.mark.parametrize("name", WORKS)
def test_values_are_pymoos_and_slopes_those_of_differences(name: str) -> None:
    problem, made = pymoo_problem(name), numpys(name)
    assert problem.name == f"pymoo:{name}"
    assert len(problem.tasks) == made.n_obj
    generator = np.random.default_rng(1)
    angle = generator.uniform(0.3, 1.2, made.n_var)

    def true(angle: Array) -> Array:
        points = made.xl + (made.xu - made.xl) * np.sin(angle) ** 2
        return values(made, points[None])[0]

    found, parameter = outputs_at(problem, angle)
    assert found.detach().numpy() == pytest.approx(true(angle), rel=1e-9, abs=1e-9)
    jacobian = torch.stack([torch.autograd.grad(f, parameter, retain_graph=True)[0] for f in found])
    width = 1e-6
    for n, step in enumerate(np.eye(made.n_var) * width):
        slope = (true(angle + step) - true(angle - step)) / (2 * width)
        scale = max(1.0, jacobian.detach().abs().max().item())
        assert jacobian[:, n].detach().numpy() == pytest.approx(slope, rel=1e-4, abs=1e-4 * scale)


@pytest.mark.parametrize("name", WORKS)
def test_a_bound_has_finite_slopes(name: str) -> None:
    problem = pymoo_problem(name)
    for angle in (0.0, np.pi / 2):
        found, parameter = outputs_at(problem, np.full(numpys(name).n_var, angle))
        (gradient,) = torch.autograd.grad(found.sum(), parameter)
        assert torch.isfinite(found).all() and torch.isfinite(gradient).all()


def searched(made: Any, problem: Problem, points: int = 2048, starts: int = 16) -> Array:
    """What random search finds, and gradient descent on many weightings, from the best of it."""
    generator = np.random.default_rng(0)
    shares = generator.random((points, made.n_var))
    shares[: points // 4] = shares[: points // 4].round()  # corners of the box
    shares[points // 4 : points // 2, made.n_obj - 1 :] = 0.5
    shares[points // 2 : 3 * points // 4, made.n_obj - 1 :] = 0.0
    found = [values(made, made.xl + (made.xu - made.xl) * shares)]
    weights = torch.from_numpy(generator.dirichlet(np.ones(made.n_obj), size=starts))
    spread = torch.from_numpy(found[0].max(axis=0) - found[0].min(axis=0))
    angles = torch.from_numpy(np.arcsin(np.sqrt(generator.random((starts, made.n_var)))))
    angles.requires_grad_()
    optimizer = torch.optim.Adam([angles], lr=0.05)
    module = problem.model()
    objectives = torch.func.vmap(
        lambda angle: torch.cat(
            list(torch.func.functional_call(module, {"angle": angle}, (torch.zeros(1),)))
        )
    )
    for step in range(60):
        losses = objectives(angles) / spread
        share = weights * losses
        total = share.sum() if step % 2 else share.amax(dim=1).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if step >= 40 and step % 5 == 0:
            found.append((losses * spread).detach().numpy())
    return np.concatenate(found)


@pytest.mark.parametrize(("name", "options"), KNOWN)
def test_no_search_finds_anything_beyond_the_front(name: str, options: dict[str, Any]) -> None:
    made, problem = numpys(name, options), pymoo_problem(name, **options)
    assert problem.truth is not None
    front, reference = problem.truth.front.numpy(), problem.truth.reference.numpy()
    found = moocore.filter_dominated(searched(made, problem))
    ahead = (front[None] - found[:, None]).min(axis=2).max()
    assert ahead < 1e-5
    together = moocore.hypervolume(np.concatenate([front, found]), ref=reference)
    gaps = 1.001 if made.n_obj == 2 else 1.005  # between the points that stand for a front
    assert together <= problem.truth.hypervolume * gaps
    assert moocore.hypervolume(front, ref=reference) > 0.93 * problem.truth.hypervolume


def optimal_points(name: str, made: Any) -> Array:
    """Decision vectors that the papers call optimal, many of them."""
    generator = np.random.default_rng(2)
    if name.startswith("wfg"):
        places = np.linspace(0, 1, 1000)[:, None] ** (50 if name == "wfg1" else 1)  # its bias
        both = np.concatenate([np.repeat(places, made.k, axis=1), generator.random((3000, made.k))])
        return np.asarray(made._positional_to_optimal(both))
    if name in ("omnitest", "sympart"):
        return np.asarray(made.pareto_set(3000))
    rest = 0.5 if any(name.endswith(f"dtlz{n}") for n in (1, 2, 3, 4, 5)) or "1^" in name else 0.0
    shares = np.full((4000, made.n_var), rest)
    shares[:, : made.n_obj - 1] = generator.random((4000, made.n_obj - 1))
    if name.endswith("dtlz4"):
        shares[:, : made.n_obj - 1] **= 0.01
    if name == "zdt4":
        shares[:, 1:] = 0.5
    return np.asarray(made.xl + (made.xu - made.xl) * shares)


@pytest.mark.parametrize("name", sorted(set(FRONTS) - {"wfg9"}))
def test_the_whole_front_is_attained(name: str) -> None:
    """wfg9's optimal variables follow from each other; pymoo's own formula for them overflows."""
    made, truth = numpys(name), pymoo_problem(name).truth
    assert truth is not None
    front = truth.front.numpy()[::5]
    spread = front.max(axis=0) - front.min(axis=0)
    attained = moocore.filter_dominated(values(made, optimal_points(name, made)))[::3]
    away = np.abs((front[:, None] - attained[None]) / spread).max(axis=2).min(axis=1)
    assert np.quantile(away, 0.98) < 0.1
    behind = np.abs((front[None] - attained[:, None]) / spread).max(axis=2).min(axis=1)
    assert np.quantile(behind, 0.95) < 0.07


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("zdt5", "not continuous"),
        ("bnh", "has 2 constraints"),
        ("c1dtlz1", "has 1 constraints"),
        ("ackley", "has one objective"),
        ("zcat1", "no gradients here"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_can(name: str, reason: str) -> None:
    with pytest.raises(ProblemError, match=rf"pymoo:{name} .*{reason}.*known to work: .*zdt1"):
        make_problem(f"pymoo:{name}", {})


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(LookupError, match=r"no problem 'zdt7'; known to work: .*zdt6"):
        make_problem("pymoo:zdt7", {})
    with pytest.raises(ValueError, match=r"pymoo:dtlz2 has no option 'n_vars'; its options: k, n"):
        make_problem("pymoo:DTLZ2", {"n_vars": 3})
    with pytest.raises(ValueError, match="cannot be evaluated with these options"):
        make_problem("pymoo:zdt1", {"n_var": 1})


def test_beyond_three_objectives_a_front_that_nobody_knows_is_not_claimed() -> None:
    for name in ("dtlz5", "dtlz7"):
        assert pymoo_problem(name, n_obj=4, n_var=8).truth is None
    assert pymoo_problem("wfg3", n_obj=3).truth is None
    assert pymoo_problem("kursawe").truth is None
