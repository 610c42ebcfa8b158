"""What a comparison fixes before it looks at the results."""

from __future__ import annotations

from dataclasses import dataclass

from .selection import CHECKPOINTS


@dataclass(frozen=True)
class Settings:
    """The pre-declared choices of a comparison.

    baseline: the arm that all others are compared with. objective: the measure compared. select_on,
    report_on: the splits for choosing and for reporting. equivalence: the margin, in normalised
    units, below which a difference does not matter. confidence: of each interval, in (0, 1). seed:
    of the bootstrap. checkpoint: "best" or "last", see `selection.select`. controls: arms that
    explain others; they are corrected for each other, and the others as if they were not there.

    Raises ValueError for a number out of range or an unknown checkpoint.
    """

    baseline: str = "scalarization"
    objective: str = "loss"
    select_on: str = "val"
    report_on: str = "test"
    equivalence: float = 0.05
    confidence: float = 0.95
    seed: int = 0
    checkpoint: str = "best"
    controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.0 < self.equivalence < float("inf"):
            raise ValueError(f"equivalence must be positive and finite; found {self.equivalence}")
        if not 0.0 < self.confidence < 1.0:
            raise ValueError(f"confidence must lie between 0 and 1; found {self.confidence}")
        if self.checkpoint not in CHECKPOINTS:
            raise ValueError(f"checkpoint must be one of {CHECKPOINTS}; found {self.checkpoint!r}")
