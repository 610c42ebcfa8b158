"""Linear scalarization: minimise Σ w_i L_i with weights fixed for the whole run.

d = Σ w_i g_i with w_i >= 0. One backward pass, nothing to remember. With positive weights a global
minimum is Pareto optimal; with convex losses every Pareto optimum is one for some weights. It is
the baseline that every other method here has to beat.
Boyd and Vandenberghe, "Convex Optimization", 2004, section 4.7. No difference from the source.
"""

from __future__ import annotations

from torch import Tensor

from .method import Method, Paper, Signals, State, TaskWeights, Values, task_weights


def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """The fixed weights (..., T), whatever the signals."""
    return task_weights(values, "weights").expand_as(signals.losses).clone(), state


METHOD = Method(
    name="linear",
    summary="fixed weights: minimise the weighted sum of the losses",
    paper=Paper(
        authors="Boyd, Vandenberghe",
        year=2004,
        title="Convex Optimization, section 4.7",
        venue="Cambridge University Press",
    ),
    needs="losses",
    step=step,
    hyper={"weights": TaskWeights("one fixed weight a task; the paper's w")},
    heads="weighted",
)
