"""Matched norm: fixed weights say where the shared update points, a method how long it is.

d = s Σ w_i g_i with w fixed for the whole run and s such that ‖d‖ is the length of what the method
makes of the same gradients at the same step, with a state of its own. This is linear scalarization
as far as directions go. What a method gains over it comes from turning the update, step by step;
what both gain over plain scalarization comes from how long the steps are. The counterpart,
`norm: scalarization`, leaves the method its directions and takes its lengths away.

A control of ours, called `matched_norm:METHOD`; that step lengths explain gains of methods is
argued by Elich et al. 2024 (arXiv:2311.04698). With Adam a length that stays the same has no
effect, only its course over the steps. It costs T backward passes a step, whatever the method
costs. A task's own parameters follow the treatment `heads`, with the weights s w_i.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from .arithmetic import dot, positive, times
from .method import Method, Signals, State, Step, TaskWeights, Values, task_weights

MATCHED_NORM = "matched_norm:"


def matched_norm(method: Method) -> Method:
    """The method whose updates are as long as those of `method`, along fixed weights.

    Its hyper-parameters are those of `method`, and `weights`. Raises ValueError for a method that
    has no such counterpart.
    """
    reason = why_no_matched_norm(method)
    if reason:
        raise ValueError(f"{MATCHED_NORM}{method.name} does not exist: {reason}")
    return replace(
        method,
        name=MATCHED_NORM + method.name,
        summary=f"fixed weights; updates as long as those of {method.name}",
        needs="jacobian" if method.needs == "jacobian" else "gramian",
        step=_step_of(method),
        answers="weights",
        hyper={**method.hyper, "weights": TaskWeights("one fixed weight a task")},
        heads="unit",
        deviations="",
    )


def why_no_matched_norm(method: Method) -> str:
    """Why there is no update of this method's length along fixed weights, or ""."""
    if method.scheme:
        return f"{method.name} trains several networks, each by its own rule"
    if method.answers == "step":
        return f"{method.name} is an optimiser of its own"
    if method.layer == "last":
        return f"{method.name} looks at the gradients of the last shared layer only"
    if method.takes_weights:
        return f"{method.name} has fixed weights of its own"
    return ""


def _step_of(method: Method) -> Step:
    def step(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
        own = {name: value for name, value in values.items() if name != "weights"}
        answer, state = method.step(signals, state, own)
        assert signals.gramian is not None
        if method.answers == "weights":
            length = _length(signals.gramian, answer)
        else:
            length = answer.double().square().sum(-1, keepdim=True).sqrt()
        fixed = task_weights(values, "weights").expand_as(signals.losses)
        return fixed * length / positive(_length(signals.gramian, fixed)), state

    return step


def _length(gramian: Tensor, weights: Tensor) -> Tensor:
    """‖Σ w_i g_i‖, (..., 1)."""
    return dot(weights, times(gramian, weights)).clamp_min(0).sqrt()
