"""A method in anyone's training loop: `balancer.backward(losses)` in place of `loss.backward()`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .application import Evidence, Update, first_state, noise_width, unsolved_steps, updated
from .gramian import gramian_of
from .hyper import HyperError, check_task_weights, make, values_for
from .leaves import Group
from .method import Signals, State, TaskWeights
from .passes import (
    Sample,
    Surroundings,
    combined_passes,
    last_layer_rows,
    values_of,
    weighted_pass,
)
from .treatment import TREATMENTS, from_losses, treated, treatment_of

Losses = Sequence[Tensor] | Tensor


class Scaler(Protocol):
    """What is asked of a torch.amp.GradScaler."""

    def get_scale(self) -> float:
        """The factor that losses are multiplied by before the backward pass."""


class Balancer:
    """One method with its state, for one training run.

    weights: (T,) float64, what the last `backward` weighted the tasks with; None before the first
        and for methods that answer with a direction.
    steps: how many times `backward` has run.
    """

    def __init__(
        self,
        name: str,
        tasks: int,
        shared: Iterable[Tensor],
        seed: int = 0,
        group: Group | None = None,
        **options: object,
    ) -> None:
        """Prepare method `name` for `tasks` losses.

        shared: the parameters that all tasks train, in the order of the forward pass.
        seed: of the method's own random numbers; the same on all processes of a group.
        group: a torch.distributed process group whose processes each hold a part of the minibatch.
            Gradients and losses are averaged over it before the method sees them, so the model
            must not average them again: run it outside DistributedDataParallel or under its
            `no_sync()`, and every process computes all losses.
        options: the method's hyper-parameters, settings of `TREATMENTS`, and for a method that
            takes no weights of its own `weights`, one number a task that multiplies its loss first.
        Raises ValueError for an unknown method, no task, or shared parameters that are none or
        frozen; HyperError for a wrong option.
        """
        self.shared = list(shared)
        _check_shared(self.shared, tasks)
        given = {key: options.pop(key) for key in TREATMENTS if key in options}
        method = make(name).method
        if method.scheme:
            raise ValueError(
                f"{name} trains several networks a run, so it cannot stand in for one network's "
                "backward(); use it as an arm of a sweep"
            )
        self._scale_losses: Tensor | None = None
        if not any(isinstance(kind, TaskWeights) for kind in method.hyper.values()):
            self._scale_losses = _loss_weights(options.pop("weights", None), tasks)
        self.configured = make(name, **options)
        self.treatment = treatment_of(method, given)
        if self.treatment.level == "features" and group is not None:
            raise HyperError("level", "`level: features` does not work over a process group yet")
        self.tasks = tasks
        self.steps = 0
        self.weights: Tensor | None = None
        self._group = group
        self._device = str(self.shared[0].device)
        self._values = values_for(self.configured, tasks, (), self._device)
        zeros = torch.zeros(tasks, dtype=torch.float64, device=self._device)
        sizes = [parameter.numel() for parameter in self.shared]
        self._state = first_state(method, self.treatment, zeros, sizes)
        self._noise_width = noise_width(method, self.treatment, tasks, len(sizes))
        self._waits = False
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def unsolved(self) -> int:
        """In how many steps the method's solver missed its tolerance."""
        count = unsolved_steps(self._state, ())
        return 0 if count is None else int(count)

    def backward(
        self,
        losses: Losses,
        epoch: int = 0,
        *,
        features: Tensor | None = None,
        independent: Losses | None = None,
        scaler: Scaler | None = None,
    ) -> None:
        """Add the method's update to `.grad` of every parameter that the losses reach.

        losses: T scalars, or one tensor (T,), still attached to their graph, which is freed.
        epoch: how many passes over the data are finished, for the few methods that count them.
        features: the shared representation, attached, for `level="features"`.
        independent: the losses of a second minibatch, for methods that compare two independent
            samples (`Method.independent`); without it they see one sample twice. Both count half.
        scaler: of automatic mixed precision. Give the losses as they are, not scaled: the method
            sees true gradients, `.grad` holds scaled ones, as `scaler.step` expects.
        Shared parameters get the method's combination of the tasks' gradients. Every other
        parameter gets its tasks' gradients: weighted too where one backward pass of the weighted
        losses serves everything, else as `heads` says. A parameter that no loss reaches is left as
        it is. Gradients that are not finite leave the method's state alone.
        Raises ValueError if the losses are not T scalars that require a gradient, if features are
        missing or out of place, or if the method still waits for `after`.
        """
        if self._waits:
            raise ValueError(
                f"{self.configured.method.name} learns from every step's effect: call "
                "after(losses) with the same minibatch's losses after optimizer.step()"
            )
        self._check_features(features)
        samples = [Sample(self._checked(losses), features)]
        if independent is not None and self.configured.method.independent:
            samples.append(Sample(self._checked(independent)))
        scale = 1.0 if scaler is None else scaler.get_scale()
        around = Surroundings(self.shared, self._group, scale)
        noise = torch.rand(self._noise_width, generator=self._generator, dtype=torch.float64)
        noise = noise.to(self._device)
        if from_losses(self.configured.method):
            self._weighted(samples[0].losses, around, noise, epoch)
        else:
            update = combined_passes(samples, around, self._decide, noise, epoch)
            self.weights = update.weights
        self.steps += 1
        self._waits = self.configured.method.after is not None

    def after(self, losses: Losses) -> None:
        """Tell a method that has `Method.after` what its step did; nothing for the others.

        losses: those of the same minibatch after the optimiser's step; no gradient is needed.
        """
        method = self.configured.method
        if method.after is not None:
            scalars = self._treated(self._scalars(losses))
            around = Surroundings(self.shared, self._group, 1.0)
            effect = values_of(scalars, around).to(self._device)
            self._keep(method.after(effect, self._state, self._values), effect)
        self._waits = False

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later `load_state_dict` needs to go on as if never interrupted."""
        return {
            "method": self.configured.method.name,
            "tasks": self.tasks,
            "steps": self.steps,
            "waits": self._waits,
            "state": {name: value.clone() for name, value in self._state.items()},
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises ValueError if it is another method's."""
        own = (self.configured.method.name, self.tasks)
        if (state["method"], state["tasks"]) != own:
            raise ValueError(
                f"a state loads into a Balancer of its own method and number of tasks, {own}; "
                f"found {(state['method'], state['tasks'])}"
            )
        self.steps, self._waits = state["steps"], state["waits"]
        self._state = {name: value.to(self._device) for name, value in state["state"].items()}
        self._generator.set_state(state["generator"])

    def _scalars(self, losses: Losses) -> list[Tensor]:
        scalars = list(losses)
        shapes = [tuple(loss.shape) for loss in scalars]
        if len(scalars) != self.tasks or any(loss.numel() != 1 for loss in scalars):
            raise ValueError(f"a step has {self.tasks} scalar losses; found shapes {shapes}")
        return [loss.reshape(()) for loss in scalars]

    def _checked(self, losses: Losses) -> list[Tensor]:
        scalars = self._scalars(losses)
        for task, loss in enumerate(scalars):
            if not loss.requires_grad:
                raise ValueError(
                    f"every loss must depend on a trainable parameter; loss {task} requires no "
                    "gradient. Was it detached, or computed under torch.no_grad()?"
                )
        return self._treated(scalars)

    def _treated(self, scalars: Sequence[Tensor]) -> list[Tensor]:
        weights = [None] * self.tasks if self._scale_losses is None else list(self._scale_losses)
        return [
            treated(loss, self.treatment, weight)
            for loss, weight in zip(scalars, weights, strict=True)
        ]

    def _check_features(self, features: Tensor | None) -> None:
        wanted = self.treatment.level == "features"
        if wanted and (features is None or not features.requires_grad):
            raise ValueError(
                "level='features' needs the shared representation, attached to its graph: "
                "backward(losses, features=...)"
            )
        if features is not None and not wanted:
            raise ValueError(
                "features are looked at under level='features' only: "
                f"Balancer({self.configured.method.name!r}, ..., level='features')"
            )

    def _weighted(
        self, losses: Sequence[Tensor], around: Surroundings, noise: Tensor, epoch: int
    ) -> None:
        method = self.configured.method
        seen = values_of(losses, around).to(self._device)
        last = method.layer == "last"
        gramian = gramian_of(last_layer_rows(losses, around)) if last else None
        signals = Signals(seen, noise, gramian, epoch=epoch)
        self.weights, state = method.step(signals, self._state, self._values)
        self._keep(state, self.weights)
        weighted_pass(losses, self.weights, around)

    def _decide(self, evidence: Evidence) -> Update:
        update = updated(
            self.configured.method, self.treatment, self._values, self._state, evidence
        )
        self._keep(update.state, update.direction)
        return update

    def _keep(self, state: State, answer: Tensor) -> None:
        """Move to the next state, unless this step's answer shows that its numbers were broken."""
        sound = torch.isfinite(answer).all()
        self._state = {
            name: torch.where(sound, value, self._state[name]) for name, value in state.items()
        }


def _check_shared(shared: Sequence[Tensor], tasks: int) -> None:
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


def _loss_weights(found: object, tasks: int) -> Tensor | None:
    """Checked weights (T,) that multiply the losses before the method, or None for ones."""
    if found is None:
        return None
    return torch.tensor(check_task_weights("weights", found, tasks), dtype=torch.float64)
