"""A method in anyone's training loop: `balancer.backward(losses)` in place of `loss.backward()`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .hyper import make, values_for
from .leaves import accumulate, last_layer, leaves_of, stacked, task_gradients
from .method import Signals


class Balancer:
    """One method with its state, for one training run.

    weights: (T,) float64, what the last `backward` weighted the tasks with; None before the first
        and for methods that answer with a direction.
    steps: how many times `backward` has run.
    """

    def __init__(
        self, name: str, tasks: int, shared: Iterable[Tensor], seed: int = 0, **hyper: object
    ) -> None:
        """Prepare method `name` for `tasks` losses.

        shared: the parameters that all tasks train, in the order of the forward pass.
        seed: of the method's own random numbers.
        Raises ValueError for an unknown method, no task, or shared parameters that are none or
        frozen; HyperError for a wrong hyper-parameter.
        """
        self.shared = list(shared)
        if tasks < 1 or not self.shared:
            raise ValueError(
                "a Balancer needs at least one task and one shared parameter; "
                f"found tasks={tasks} and {len(self.shared)} parameters"
            )
        if not all(parameter.requires_grad for parameter in self.shared):
            raise ValueError(
                "every shared parameter must be trainable, but one has requires_grad=False; "
                "leave frozen parameters out of `shared`"
            )
        self.configured = make(name, **hyper)
        self.tasks = tasks
        self.steps = 0
        self.weights: Tensor | None = None
        self._device = str(self.shared[0].device)
        self._values = values_for(self.configured, tasks, (), self._device)
        shape = (tasks, *self._coordinates())
        zeros = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._state = self.configured.method.init(zeros)
        self._waits = False
        self._epoch = 0
        self._generator = torch.Generator().manual_seed(seed)

    def backward(self, losses: Sequence[Tensor] | Tensor, epoch: int = 0) -> None:
        """Add the method's update to `.grad` of every parameter that the losses reach.

        losses: T scalars, or one tensor (T,), still attached to their graph, which is freed.
        epoch: how many passes over the data are finished, for the few methods that count them.
        Shared parameters get the method's combination of the tasks' gradients. Every other
        parameter gets its tasks' gradients: weighted too where one backward pass of the weighted
        losses serves everything (`Method.heads`), else as they are. A parameter that no loss
        reaches is left as it is.
        Raises ValueError if the losses are not T scalars that require a gradient, or if the method
        still waits for `after`.
        """
        if self._waits:
            raise ValueError(
                f"{self.configured.method.name} learns from every step's effect: call "
                "after(losses) with the same minibatch's losses after optimizer.step()"
            )
        scalars = self._checked(losses)
        self._epoch = epoch
        method = self.configured.method
        if method.needs == "losses":
            self._weighted_pass(scalars, self._decide(scalars, None, None))
        elif method.layer == "last":
            layer = last_layer(self.shared)
            rows = task_gradients(scalars, [layer] * self.tasks, keep=True)
            jacobian = torch.cat(stacked(rows, layer), dim=1)
            self._weighted_pass(scalars, self._decide(scalars, jacobian @ jacobian.mT, None))
        else:
            self._combined_passes(scalars)
        self.steps += 1
        self._waits = method.after is not None

    def after(self, losses: Sequence[Tensor] | Tensor) -> None:
        """Tell a method that has `Method.after` what its step did; nothing for the others.

        losses: those of the same minibatch after the optimiser's step; no gradient is needed.
        """
        method = self.configured.method
        if method.after is not None:
            scalars = self._scalars(losses)
            effect = torch.stack([loss.detach().double() for loss in scalars]).to(self._device)
            self._state = method.after(effect, self._state, self._values)
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

    def _coordinates(self) -> tuple[int, ...]:
        """(P,) for a method that remembers coordinates, () for the others."""
        if self.configured.method.needs != "jacobian":
            return ()
        return (sum(parameter.numel() for parameter in self.shared),)

    def _scalars(self, losses: Sequence[Tensor] | Tensor) -> list[Tensor]:
        scalars = list(losses)
        shapes = [tuple(loss.shape) for loss in scalars]
        if len(scalars) != self.tasks or any(loss.numel() != 1 for loss in scalars):
            raise ValueError(f"a step has {self.tasks} scalar losses; found shapes {shapes}")
        return [loss.reshape(()) for loss in scalars]

    def _checked(self, losses: Sequence[Tensor] | Tensor) -> list[Tensor]:
        scalars = self._scalars(losses)
        for task, loss in enumerate(scalars):
            if not loss.requires_grad:
                raise ValueError(
                    f"every loss must depend on a trainable parameter; loss {task} requires no "
                    "gradient. Was it detached, or computed under torch.no_grad()?"
                )
        return scalars

    def _decide(
        self, losses: Sequence[Tensor], gramian: Tensor | None, jacobian: Tensor | None
    ) -> Tensor:
        """The method's answer for this step; its state moves on."""
        method = self.configured.method
        noise = torch.rand(method.noise(self.tasks), generator=self._generator, dtype=torch.float64)
        signals = Signals(
            losses=torch.stack([loss.detach().double() for loss in losses]).to(self._device),
            noise=noise.to(self._device),
            gramian=gramian,
            jacobian=jacobian,
            independent=gramian if method.independent else None,
            epoch=self._epoch,
        )
        answer, self._state = method.step(signals, self._state, self._values)
        self.weights = answer if method.answers == "weights" else None
        return answer

    def _weighted_pass(self, losses: Sequence[Tensor], weights: Tensor) -> None:
        """One backward pass of Σ w_i L_i through everything."""
        scaled = [w.to(loss) * loss for w, loss in zip(weights, losses, strict=True)]
        torch.autograd.backward(torch.stack(scaled).sum())

    def _combined_passes(self, losses: Sequence[Tensor]) -> None:
        """One backward pass a task; shared parameters get the combination, heads their own."""
        method, known = self.configured.method, {id(p) for p in self.shared}
        heads = [[p for p in leaves_of(loss) if id(p) not in known] for loss in losses]
        wanted = [[*self.shared, *own] for own in heads]
        rows = task_gradients(losses, wanted, keep=False)
        count = len(self.shared)
        blocks = stacked([row[:count] for row in rows], self.shared)
        jacobian = torch.cat(blocks, dim=1)
        full = jacobian if method.needs == "jacobian" else None
        answer = self._decide(losses, jacobian @ jacobian.mT, full)
        direction = answer @ jacobian if method.answers == "weights" else answer
        parts = torch.split(direction, [block.shape[1] for block in blocks])
        for place, (parameter, part) in enumerate(zip(self.shared, parts, strict=True)):
            if any(row[place] is not None for row in rows):
                accumulate(parameter, part)
        for task, own in enumerate(heads):
            for parameter, gradient in zip(own, rows[task][count:], strict=True):
                if gradient is not None:
                    accumulate(parameter, gradient)
