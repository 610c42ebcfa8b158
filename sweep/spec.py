"""What defines a run completely, and the id that is its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 2
"""Raised when the meaning of a spec changes, so that old results are not taken for new ones."""


@dataclass(frozen=True)
class RunSpec:
    """One training, from seed to final record.

    weights: the tasks' fixed weights, or None for a method that finds its own. A method that takes
        none of its own sees losses multiplied by them.
    restart: counts trainings that differ in nothing but their randomness.
    hyper: the method's hyper-parameters after defaults.
    treatment: how the method is applied, where that is not the default.
    patience: evaluations in a row without a lower validation loss after which it ends, or None.
    precision: in which the network's layers compute while training.
    scheduler: the rule by which it may be stopped among the runs of its arm and seed, or None:
        its name, its rungs in epochs, and the share `keep` of runs that go on at each.
    """

    arm: str
    method: str
    problem: str
    options: Mapping[str, Any]
    seed: int
    restart: int
    lr: float
    weights: tuple[float, ...] | None
    hyper: Mapping[str, float | str]
    treatment: Mapping[str, str]
    optimizer: Mapping[str, Any]
    epochs: int
    batch_size: int
    evaluations: int
    patience: int | None = None
    precision: str = "float32"
    scheduler: Mapping[str, Any] | None = None

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which it is decided whether the run goes on."""
        return tuple(self.scheduler["rungs"]) if self.scheduler else ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        The default precision and the lack of a scheduler are left out: runs from before there was a
        choice keep their id.
        """
        values = asdict(self)
        if self.precision == "float32":
            del values["precision"]
        if self.scheduler is None:
            del values["scheduler"]
        return values

    @property
    def options_text(self) -> str:
        """The problem's options as canonical JSON."""
        return json.dumps(dict(self.options), sort_keys=True)

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of the canonical JSON of the spec."""
        text = json.dumps(
            {"format": FORMAT, **self.as_dict()}, sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def spec_from_dict(values: Mapping[str, Any]) -> RunSpec:
    """The spec that `as_dict` wrote."""
    weights = values["weights"]
    return RunSpec(**{**values, "weights": None if weights is None else tuple(weights)})
