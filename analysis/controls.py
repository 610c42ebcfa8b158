"""What the controls of a second phase explain: does a control do as well as the arm it is of?"""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .decision import CORRECTION_ERROR
from .interval import interval
from .settings import Settings
from .verdict import Comparison

COLUMNS = (
    "control", "kind", "arm", "seeds", "arm_margin", "control_margin", "difference", "low", "high",
    "finding",
)  # fmt: skip
FINDINGS = ("as good", "falls short", "undecided")


def compare_controls(
    comparison: Comparison, controls: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Return one row a control and arm that it is of, with COLUMNS.

    controls: the manifest's. Margins are those of the verdicts, means over the seeds that both have
    (`seeds`). difference: arm's minus control's, paired by seed; low, high: its interval, with the
    same systematic error of gap and luck as a verdict's, of their differences. finding: see
    `finding`. Controls whose arm has no margins have no row.
    """
    margins = {arm: rows.set_index("seed") for arm, rows in comparison.margins.groupby("arm")}
    rows = [
        {"control": name, "kind": control["kind"], "arm": arm}
        | _compared(margins[arm], margins[name], f"{arm} {name}", comparison.settings)
        for name, control in controls.items()
        for arm in control["of"]
        if arm in margins and name in margins
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def finding(low: float, high: float, equivalence: float) -> str:
    """Return the word for an interval of how far an arm lies beyond its control.

    as good: the control is not behind by the equivalence or more (a test of non-inferiority at half
    of 1 - confidence). falls short: it is behind, and may be by that much. undecided: else.
    """
    if high < equivalence:
        return "as good"
    return "falls short" if low > 0 else "undecided"


def explanations(table: pd.DataFrame) -> list[str]:
    """Return a sentence an arm: what its controls say of where its result comes from.

    table: as `compare_controls` returns it.
    """
    found = {
        str(arm): own.set_index("kind")["finding"] for arm, own in table.groupby("arm", sort=False)
    }
    return [f"{arm}: {_explanation(found[arm].to_dict())}" for arm in found]


def _explanation(found: Mapping[Hashable, str]) -> str:
    """What follows from the findings, kind by kind."""
    says = []
    mean, norm, longer = (found.get(k) for k in ("mean_weights", "update_norm", "longer"))
    if mean == "as good":
        says.append(
            "scalarization at its mean weights does at least as well, so what it does from step to "
            "step is not needed"
        )
    elif mean == "falls short":
        says.append("scalarization at its mean weights does not do as well")
    if mean != "as good" and norm == "as good":
        says.append(
            "with updates as long as its own scalarization does at least as well, so the lengths "
            "of its steps matter, not their directions"
        )
    elif norm == "falls short":
        says.append(
            "updates as long as its own do not make up for it, so the directions of its "
            "steps matter"
        )
    if longer == "as good":
        says.append("its backward passes, spent on longer scalarization, do at least as well")
    elif longer == "falls short":
        says.append("its backward passes, spent on longer scalarization, do not do as well")
    undecided = [str(kind) for kind, word in found.items() if word == "undecided"]
    if undecided:
        says.append(f"undecided: {', '.join(undecided)}")
    return "; ".join(says) + "."


def _compared(
    arm: pd.DataFrame, control: pd.DataFrame, name: str, settings: Settings
) -> dict[str, object]:
    """The paired difference of two arms' margins, by seed."""
    seeds = arm.index.intersection(control.index)
    one, other = arm.loc[seeds], control.loc[seeds]
    values = (one["margin"] - other["margin"]).to_numpy(np.float64)
    means = {
        "seeds": len(seeds),
        "arm_margin": float(one["margin"].mean()),
        "control_margin": float(other["margin"].mean()),
        "difference": float(values.mean()) if len(values) else math.nan,
    }
    shift = [float((one[part] - other[part]).mean()) for part in ("gap", "luck")]
    low = high = math.nan
    if len(values) > 1:
        random = np.random.default_rng([settings.seed, zlib.crc32(name.encode())])
        systematic = CORRECTION_ERROR * math.hypot(*shift)
        low, high = interval(values, settings.confidence, random, systematic)
    ends = {"low": low, "high": high}
    return means | ends | {"finding": finding(low, high, settings.equivalence)}
