"""pymoo's test problems: the decision vector is the shared parameter, each objective a task."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .problem import Problem, ProblemError, Split, Task
from .pymoo_fronts import FRONTS, true_front
from .torch_array import differentiable

OTHERS = ("kursawe",)
"""What can be trained though its front is not known in closed form."""
WORKS = tuple(sorted({*FRONTS, *OTHERS}))
"""Names that a test trains; further ones work if they pass the same examination."""
INSIDE = 1e-30
"""Share of the range that keeps a root's slope finite at a lower bound 0."""
SAMPLES = 16
CLOSE = 1e-9


class Decision(nn.Module):
    """A point in a box that starts evenly spread in it; rows and tasks see its objectives.

    x = low + (high − low) sin²φ, as MINUIT and Box (1966) have it: differentiable, never outside,
    and a minimum at a bound is an ordinary minimum in φ. A sigmoid would reach no bound, and most
    of these fronts lie on bounds; clipping would have no slope outside and wrong gradients at it.
    """

    low: Tensor
    span: Tensor

    def __init__(self, problem: Any) -> None:
        super().__init__()
        self.problem = problem
        start = torch.rand(problem.n_var, dtype=torch.float64)
        self.angle = nn.Parameter(start.sqrt().arcsin())
        self.register_buffer("low", torch.from_numpy(np.array(problem.xl, dtype=float)))
        self.register_buffer("span", torch.from_numpy(np.array(problem.xu - problem.xl, float)))

    def forward(self, rows: Tensor) -> tuple[Tensor, ...]:
        point = self.low + self.span * (self.angle.sin().square() + INSIDE)
        values = differentiable(self.problem._evaluate, point.unsqueeze(0))[0]
        return tuple(value + rows for value in values.unbind())


def _objective(seen: Tensor, _: Tensor) -> Tensor:
    return seen.mean()


def pymoo_problem(name: str, **options: Any) -> Problem:
    """Any continuous, unconstrained problem of pymoo with two objectives or more, as pymoo:NAME.

    `problem: pymoo:zdt1` with `problem_options: {n_var: 10}`; options go to pymoo's constructor.
    Known to work, with reference point, true front and best hypervolume: convex_dtlz2,
    convex_dtlz4, dtlz1 … dtlz7, dtlz1^-1, omnitest, sdtlz1, sympart, wfg1 … wfg9, zdt1 … zdt4,
    zdt6; and kursawe, whose front nobody has in closed form. Beyond three objectives the fronts
    of dtlz5 to 7, wfg1 and wfg2 are not known either, nor, beyond two, wfg3's.

    Deterministic: one row a split. Zitzler, Deb & Thiele 2000 (ZDT), Deb et al. 2005 (DTLZ),
    Huband et al. 2006 (WFG); the formulas are pymoo's (Blank & Deb 2020, Apache 2.0).
    """
    name = name.lower()
    found = _made(name, options)
    _refuse_unfit(name, found)
    row = torch.zeros(1, dtype=torch.float64)
    split = Split(row, (row,) * found.n_obj)
    tasks = tuple(Task(f"f{n + 1}", _objective) for n in range(found.n_obj))
    truth = true_front(name, found)
    model = lambda: Decision(found)  # noqa: E731
    return Problem(f"pymoo:{name}", tasks, split, split, split, model, truth=truth)


def _made(name: str, options: dict[str, Any]) -> Any:
    """pymoo's own problem of this name. Raises LookupError for an unknown one, ValueError else."""
    from pymoo.problems import get_problem
    from pymoo.problems.multi.omnitest import OmniTest
    from pymoo.problems.multi.sympart import SYMPART

    beside = {"omnitest": OmniTest, "sympart": SYMPART}
    if name.startswith("wfg"):  # these have no defaults of their own
        options = {"n_var": 10, "n_obj": 2} | options
    try:
        made = beside[name](**options) if name in beside else get_problem(name, **options)
    except Exception as error:  # pymoo raises plain Exceptions
        if str(error) == "Problem not found.":
            raise LookupError(
                f"pymoo has no problem {name!r}; known to work: {', '.join(WORKS)}"
            ) from None
        raise ValueError(f"pymoo refuses {options} for {name!r}: {error}") from error
    known = _options_of(made)
    if unknown := [key for key in options if key not in known]:  # pymoo would pass over them
        raise ValueError(
            f"pymoo:{name} has no option {unknown[0]!r}; its options: {', '.join(known) or 'none'}"
        )
    return made


def _options_of(made: Any) -> list[str]:
    """The names that the constructors of a pymoo problem take, its base class left out."""
    from pymoo.core.problem import Problem as PymooProblem

    own = type(made).__mro__[: type(made).__mro__.index(PymooProblem)]
    makers = [vars(kind)["__init__"] for kind in own if "__init__" in vars(kind)]
    found = [p for maker in makers for p in inspect.signature(maker).parameters.values()]
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = [p.name for p in found if p.kind not in kinds and p.name != "self"]
    return sorted({*names} - {"problem"})


def _refuse_unfit(name: str, problem: Any) -> None:
    """Refuse what has no gradients or no place here, with the reason."""
    reason = _why_unfit(problem)
    if reason:
        raise ProblemError(f"pymoo:{name} {reason}; known to work: {', '.join(WORKS)}")


def _why_unfit(problem: Any) -> str:
    if problem.n_obj < 2:
        return "has one objective, and one task has no trade-off"
    if problem.n_ieq_constr or problem.n_eq_constr:
        count = problem.n_ieq_constr + problem.n_eq_constr
        return f"has {count} constraints, which gradient descent on weighted losses ignores"
    if problem.xl is None or problem.xu is None:
        return "has no bounds to start between"
    # ZDT5 says that its variables are numbers, but counts the bits in them
    if problem.vtype not in (float, None) or type(problem).__name__ == "ZDT5":
        return "has variables that are not continuous, so there are no gradients"
    shares = np.random.default_rng(0).random((SAMPLES, problem.n_var))
    points = problem.xl + (problem.xu - problem.xl) * shares
    try:
        true = problem.evaluate(points.copy(), return_values_of=["F"])
    except Exception as error:  # its options let it be made, but not be used
        return f"cannot be evaluated with these options ({error})"
    try:
        found = differentiable(problem._evaluate, torch.from_numpy(points.copy())).numpy()
    except Exception as error:  # whatever its code does with an array that we do not foresee
        return f"computes its objectives in a way that has no gradients here ({error})"
    if not np.allclose(found, true, rtol=CLOSE, atol=CLOSE):
        return "has other values when its formulas are computed with gradients"
    return ""
