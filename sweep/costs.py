"""What training costs in backward passes through the shared parameters."""

from __future__ import annotations

from collections.abc import Mapping

from mtofront.methods import Method, Treatment, one_pass


def passes_per_step(method: Method, treatment: Treatment, tasks: int) -> int:
    """Backward passes that one step of a method costs; those that save memory are not counted."""
    return 1 if one_pass(method, treatment) else tasks


def mean_passes_per_step(
    method: Method,
    treatment: Treatment,
    hyper: Mapping[str, float | str],
    tasks: int,
    epochs: int,
) -> float:
    """Backward passes of a whole run divided by its steps."""
    if method.scheme == "manifold":
        return float(hyper["windows"])
    if method.scheme == "merge":
        joint = joint_epochs(hyper, epochs)
        return (joint + (epochs - joint) * tasks) / epochs
    return float(passes_per_step(method, treatment, tasks))


def joint_epochs(hyper: Mapping[str, float | str], epochs: int) -> int:
    """Epochs in which a merging run trains its common start; at least one is left for the tasks."""
    return min(round(epochs * float(hyper["pretrain_percent"]) / 100), epochs - 1)
