"""A method in anyone's training loop: `balancer.backward(losses)` in place of `loss.backward()`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from .application import Evidence, Update, first_state, noise_width, unsolved_steps, updated
from .given import (
    Losses,
    attached,
    check_features,
    check_shared,
    check_takes_two,
    loss_weights,
    scalars,
)
from .gramian import gramian_of
from .hyper import HyperError, make, values_for
from .leaves import Group
from .method import Signals, State
from .passes import (
    Sample,
    Surroundings,
    all_finite,
    combined_passes,
    last_layer_rows,
    treated_together,
    values_of,
    weighted_pass,
)
from .treatment import TREATMENTS, from_losses, treatment_of


class Scaler(Protocol):
    """What is asked of a torch.amp.GradScaler."""

    def scale(self, outputs: Tensor) -> Tensor:
        """The outputs times the present factor; the first call makes the scaler ready to step."""


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

        shared: the parameters that all tasks train, in the order of the forward pass; one that is
            named twice counts once.
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
        self.shared = list({id(parameter): parameter for parameter in shared}.values())
        check_shared(self.shared, tasks)
        given = {key: options.pop(key) for key in TREATMENTS if key in options}
        method = make(name).method
        if method.scheme:
            raise ValueError(
                f"{name} trains several networks a run, so it cannot stand in for one network's "
                "backward(); use it as an arm of a sweep"
            )
        self._scale_losses: Tensor | None = None
        if not method.takes_weights:
            self._scale_losses = loss_weights(options.pop("weights", None), tasks)
        self.configured = make(name, **options)
        self.treatment = treatment_of(method, given)
        if self.treatment.level == "features" and group is not None:
            raise HyperError("level", "`level: features` does not work over a process group yet")
        self.tasks = tasks
        self.steps = 0
        self.weights: Tensor | None = None
        self._group = group
        self._values = values_for(self.configured, tasks)
        zeros = torch.zeros(tasks, dtype=torch.float64)
        sizes = [parameter.numel() for parameter in self.shared]
        self._state = first_state(method, self.treatment, zeros, sizes)
        self._noise_width = noise_width(method, self.treatment, tasks, len(sizes))
        self._waits = False
        self._sound = torch.tensor(True)
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
        it is. Losses, or gradients of shared parameters, that are not finite leave the method's
        state alone. Half-precision losses are multiplied and added in single precision.
        Raises ValueError if the losses are not T scalars that require a gradient, if features or
        a second sample are missing or out of place, or if the method still waits for `after`.
        """
        if self._waits:
            raise ValueError(
                f"{self.configured.method.name} learns from every step's effect: call "
                "after(losses) with the same minibatch's losses after optimizer.step()"
            )
        check_features(self.configured.method, self.treatment, features)
        samples = [Sample(self._trained(attached(scalars(losses, self.tasks))), features)]
        if independent is not None:
            check_takes_two(self.configured.method)
            samples.append(Sample(self._trained(attached(scalars(independent, self.tasks)))))
        self._follow()
        one = torch.ones((), device=self._sound.device)
        scale = 1.0 if scaler is None else float(scaler.scale(one))
        around = Surroundings(self.shared, self._group, scale)
        noise = torch.rand(self._noise_width, generator=self._generator, dtype=torch.float64)
        noise = noise.to(self._sound.device)
        # a training step may be called inside autocast, where backward passes would lose digits
        with torch.autocast(self._sound.device.type, enabled=False):
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
        A step whose numbers were not finite teaches nothing.
        Raises ValueError if no `backward` came before, or a call has followed it already.
        """
        method = self.configured.method
        if method.after is None:
            return
        if not self._waits:
            raise ValueError(f"{method.name}: call after(losses) once after every backward(losses)")
        self._follow()
        trained = self._trained(scalars(losses, self.tasks))
        effect = values_of(trained, Surroundings(self.shared, self._group, 1.0))
        sound = self._sound & torch.isfinite(effect).all()
        self._keep(method.after(effect, self._state, self._values), sound)
        self._waits = False

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later `load_state_dict` needs to go on as if never interrupted."""
        return {
            "method": self.configured.method.name,
            "tasks": self.tasks,
            "steps": self.steps,
            "waits": self._waits,
            "sound": bool(self._sound),
            "state": {name: value.clone() for name, value in self._state.items()},
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, wherever its tensors are now.

        Raises ValueError if it is that of another method, number of tasks or treatment.
        """
        own = (self.configured.method.name, self.tasks)
        if (state["method"], state["tasks"]) != own:
            raise ValueError(
                f"a state loads into a Balancer of its own method and number of tasks, {own}; "
                f"found {(state['method'], state['tasks'])}"
            )
        shapes, found = (
            {name: tuple(value.shape) for name, value in tensors.items()}
            for tensors in (self._state, state["state"])
        )
        if shapes != found:
            raise ValueError(
                "a state loads into a Balancer of the same treatment and shared parameters; "
                f"it remembers {shapes}, found {found}"
            )
        self.steps, self._waits = state["steps"], state["waits"]
        self._sound = torch.tensor(state["sound"])
        self._state = dict(state["state"])
        self._generator.set_state(state["generator"].cpu())

    def _follow(self) -> None:
        """Be where the parameters are now: a model may move after its Balancer was made."""
        device = self.shared[0].device
        self._sound = self._sound.to(device)
        self._state = {name: value.to(device) for name, value in self._state.items()}
        self._values = {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in self._values.items()
        }

    def _trained(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The losses as the method trains them: weighted, then their logarithms if so treated."""
        weights = [None] * self.tasks if self._scale_losses is None else list(self._scale_losses)
        return [
            treated_together(loss, self.treatment, weight, self._group)
            for loss, weight in zip(losses, weights, strict=True)
        ]

    def _weighted(
        self, losses: Sequence[Tensor], around: Surroundings, noise: Tensor, epoch: int
    ) -> None:
        method = self.configured.method
        seen = values_of(losses, around)
        last = method.layer == "last"
        gramian = gramian_of(last_layer_rows(losses, around)) if last else None
        signals = Signals(seen, noise, gramian, epoch=epoch)
        self.weights, state = method.step(signals, self._state, self._values)
        weighted_pass(losses, self.weights, around)
        grads = [parameter.grad for parameter in self.shared if parameter.grad is not None]
        self._keep(state, all_finite([seen, self.weights, *(grads if state else [])]))

    def _decide(self, evidence: Evidence) -> Update:
        update = updated(
            self.configured.method, self.treatment, self._values, self._state, evidence
        )
        self._keep(update.state, all_finite([evidence.losses, update.direction]))
        return update

    def _keep(self, state: State, sound: Tensor) -> None:
        """Move to the next state, unless the numbers that it was made of were broken."""
        self._sound = sound
        self._state = {
            name: torch.where(sound, value, self._state[name]) for name, value in state.items()
        }
