"""One colour and one marker an arm, the same in all figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito (2008), without yellow, which vanishes on white; wine and olive from Tol (2021).
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933",
)  # fmt: skip
# Nine against eight colours: the pairs repeat only after 72 arms.
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "h")
BASELINE_COLOUR, BASELINE_MARKER = "#3d3d3d", "o"
VERDICT_COLOURS = {
    "beats": "#006B4E", "matches": "#005A8E", "worse": "#A84300", "inconclusive": "#555555",
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How an arm is drawn. Colour alone never tells two arms apart: the markers differ too."""

    colour: str
    marker: str


def styles(arms: Sequence[str], baseline: str) -> dict[str, Style]:
    """Return a style an arm; the baseline is dark grey and round. Order decides, so keep it."""
    others = [arm for arm in arms if arm != baseline]
    found = {
        arm: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, arm in enumerate(others)
    }
    return {baseline: Style(BASELINE_COLOUR, BASELINE_MARKER), **found}
