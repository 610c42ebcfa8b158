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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON.

        The default precision is left out: runs from before there was a choice keep their id.
        """
        values = asdict(self)
        if self.precision == "float32":
            del values["precision"]
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
