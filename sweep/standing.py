"""How a sweep stands at one moment, in plain values: for the screen, and for whoever watches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ArmStanding:
    """One arm. Counts are runs; done: recorded to the end, neither diverged nor stopped early.

    hypervolume: of its validation losses so far, as a share of the box below the untrained losses.
    front: its non-dominated validation losses in the first two tasks, thinned.
    """

    arm: str
    expected: int
    done: int = 0
    running: int = 0
    diverged: int = 0
    failed: int = 0
    hypervolume: float | None = None
    front: tuple[tuple[float, float], ...] = ()
    stopped: int = 0


@dataclass(frozen=True)
class Standing:
    """A whole sweep. share: of the work to do that is done, 0 … 1.

    seconds_left, the rates (runs, and steps of single runs): None before anything is known.
    lines: what the engine told, like where to look for more.
    """

    tasks: tuple[str, ...]
    arms: tuple[ArmStanding, ...]
    share: float = 0.0
    seconds_left: float | None = None
    runs_per_second: float | None = None
    steps_per_second: float | None = None
    lines: tuple[str, ...] = ()

    def count(self, state: str) -> int:
        """Runs in a state, like "done", over all arms."""
        return sum(getattr(arm, state) for arm in self.arms)

    @property
    def best(self) -> ArmStanding | None:
        """The arm with the largest hypervolume."""
        known = [arm for arm in self.arms if arm.hypervolume is not None]
        return max(known, key=lambda arm: arm.hypervolume or 0.0, default=None)


def standing_from(values: Mapping[str, Any]) -> Standing:
    """The standing that `asdict` took apart. Raises KeyError or TypeError if it is none."""
    arms = tuple(
        ArmStanding(**{**arm, "front": tuple((x, y) for x, y in arm["front"])})
        for arm in values["arms"]
    )
    plain = {**values, "tasks": tuple(values["tasks"]), "lines": tuple(values["lines"])}
    return Standing(**{**plain, "arms": arms})
