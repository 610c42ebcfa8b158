"""What a training loop gives to a Balancer: checked, with words for what is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .hyper import check_task_weights
from .method import Method
from .treatment import Treatment

Losses = Sequence[Tensor] | Tensor


def check_shared(shared: Sequence[Tensor], tasks: int) -> None:
    """Refuse shared parameters that are none or frozen, and no task."""
    if tasks < 1 or not shared:
        raise ValueError(
            "a Balancer needs at least one task and one shared parameter; "
            f"found tasks={tasks} and {len(shared)} parameters"
        )
    if not all(parameter.requires_grad for parameter in shared):
        raise ValueError(
            "every shared parameter must be trainable, but one has requires_grad=False; "
            "leave frozen parameters out of `shared`"
        )


def loss_weights(found: object, tasks: int) -> Tensor | None:
    """Checked weights (T,) that multiply the losses before the method, or None for ones."""
    if found is None:
        return None
    return torch.tensor(check_task_weights("weights", found, tasks), dtype=torch.float64)


def scalars(losses: Losses, tasks: int) -> list[Tensor]:
    """The losses as scalars of at least single precision."""
    given = list(losses)
    shapes = [tuple(loss.shape) for loss in given]
    if len(given) != tasks or any(loss.numel() != 1 for loss in given):
        raise ValueError(f"a step has {tasks} scalar losses; found shapes {shapes}")
    # weights, logarithms and a scaler's factor need more range than half precision has
    return [loss.reshape(()).to(torch.promote_types(loss.dtype, torch.float32)) for loss in given]


def attached(losses: list[Tensor]) -> list[Tensor]:
    """The losses, each of which requires a gradient."""
    for task, loss in enumerate(losses):
        if not loss.requires_grad:
            raise ValueError(
                f"every loss must depend on a trainable parameter; loss {task} requires no "
                "gradient. Was it detached, or computed under torch.no_grad()?"
            )
    return losses


def check_features(method: Method, treatment: Treatment, features: Tensor | None) -> None:
    """Refuse a representation that is missing, cut off from its graph or not asked for."""
    wanted = treatment.level == "features"
    if wanted and (features is None or features.grad_fn is None):
        raise ValueError(
            "level='features' needs the shared representation, attached to its graph: "
            "backward(losses, features=...)"
        )
    if features is not None and not wanted:
        raise ValueError(
            "features are looked at under level='features' only: "
            f"Balancer({method.name!r}, ..., level='features')"
        )


def check_takes_two(method: Method) -> None:
    """Refuse a second sample for a method that would not look at it."""
    if not method.independent:
        raise ValueError(
            f"{method.name} looks at one sample a step: leave out independent=, or give the "
            "losses of both samples together"
        )
