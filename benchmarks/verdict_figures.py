"""Draws the figures of docs/verdict.md: distance, placebo, and the words for an interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mtofront.analysis.colours import VERDICT_COLOURS
from mtofront.analysis.distance import interpolated

Rows = NDArray[np.float64]
DOCS = Path(__file__).parents[1] / "docs"
ARM, GREY = "#D55E00", "#3d3d3d"
GREEN = "#E3EFE8"
REACH = 0.35
"""How wide a gap is bridged in the drawing."""
WEIGHTS = np.linspace(0.06, 0.94, 6)
FINENESS = 90
"""Points a side at which the shaded area is computed."""


def main() -> None:
    """Write docs/verdict-distance.png, docs/verdict-placebo.png and docs/verdict-words.png."""
    for name, figure in (("distance", distances()), ("placebo", placebo()), ("words", words())):
        figure.savefig(DOCS / f"verdict-{name}.png", dpi=110, metadata={"Software": None})


def distances() -> Figure:
    """A run before a convex front, and one in the hole of a front that weights cannot fill."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    for axes, points, run, title in zip(
        figure.subplots(1, 2),
        (_convex(WEIGHTS), _concave()),
        (np.array([0.12, 0.2]), np.array([0.55, 0.6])),
        ("Gaps that are filled: chords count", "A hole that stays open: points count"),
        strict=True,
    ):
        _front(axes, points, title, REACH, 1.1)
        _arm(axes, run, points, REACH)
    return figure


def placebo() -> Figure:
    """A weight left out lies beyond the front of the others, as an arm's run in its place does."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    points = _convex(WEIGHTS)
    held, others = points[2], np.delete(points, 2, axis=0)
    run = held - 0.05
    left, right = figure.subplots(1, 2)
    _front(left, others, "Placebo: a weight left out", np.inf, 0.66)
    left.plot(*held, "o", markerfacecolor="white", markeredgecolor=GREY, markersize=8)
    gap = _arrow(left, held, others, np.inf, GREY)
    left.text(0.33, 0.5, f"gap {gap:+.3f}", color=GREY)
    _front(right, others, "Arm: its nearest weight left out", np.inf, 0.66)
    distance = _arm(right, run, others, np.inf)
    text = f"distance {distance:+.3f}\n− gap {gap:.3f}\n= {distance - gap:+.3f}, before luck"
    right.text(0.27, 0.42, text, color=ARM)
    return figure


def words() -> Figure:
    """Intervals and what they are called, at an equivalence of 0.05."""
    figure = Figure(figsize=(8, 3.1), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-0.05, 0.05, color="#DDE7EE")
    axes.axvline(0, color=GREY, linewidth=1)
    cases = (
        ("beats", 0.06, 0.14),
        ("matches", -0.02, 0.035),
        ("matches", 0.01, 0.045),
        ("inconclusive", -0.03, 0.11),
        ("worse", -0.12, -0.03),
    )
    for row, (word, low, high) in enumerate(reversed(cases)):
        colour = VERDICT_COLOURS[word]
        axes.plot([low, high], [row, row], color=colour, linewidth=3)
        axes.plot((low + high) / 2, row, "o", color=colour)
        axes.text(0.155, row, word, color=colour, va="center")
    axes.set(xlim=(-0.15, 0.2), ylim=(-0.7, len(cases) + 0.6), yticks=[])
    axes.set_xlabel("margin, as a share of the front's range")
    axes.text(0, 5, "equivalence,\ndeclared before the run", ha="center", va="center", fontsize=9)
    return figure


def _convex(weights: Rows) -> Rows:
    """Losses of two bowls at the best place for each weight of the first."""
    return np.stack([(1 - weights) ** 2, weights**2], axis=1)


def _concave() -> Rows:
    """What fixed weights attain of a concave front: its ends, crowded."""
    ends = np.array([[0.0, 1.0], [0.01, 0.99], [0.03, 0.98]])
    return np.concatenate([ends, ends[::-1, ::-1]])


def _front(axes: Axes, points: Rows, title: str, reach: float, end: float) -> None:
    """The runs of fixed weights, and the area of all that one of them or a chord is as good as."""
    side = np.linspace(-0.04, end, FINENESS)
    ahead = [[interpolated(np.array([x, y]), points, reach).distance for x in side] for y in side]
    axes.contourf(side, side, ahead, levels=[-np.inf, 0], colors=[GREEN])
    axes.plot(*points.T, "o", color=GREY)
    axes.text(
        0.97, 0.95, "attained", color="#4C7A62", ha="right", va="top", transform=axes.transAxes
    )
    axes.set_title(title, fontsize=10)
    axes.set(xlim=(-0.04, end), ylim=(-0.04, end), xlabel="loss of task 1", ylabel="loss of task 2")
    axes.set_aspect("equal")


def _arm(axes: Axes, run: Rows, points: Rows, reach: float) -> float:
    """An arm's run and its distance, which is returned."""
    axes.plot(*run, "^", color=ARM, markersize=9)
    distance = _arrow(axes, run, points, reach, ARM)
    axes.annotate(
        f"{distance:+.2f}", run, (-10, -16), textcoords="offset points", color=ARM, ha="center"
    )
    return distance


def _arrow(axes: Axes, run: Rows, points: Rows, reach: float, colour: str) -> float:
    """An arrow from a run to where the front has something as good; its length in each task."""
    distance = interpolated(run, points, reach).distance
    arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", run + distance, run, arrowprops=arrow)
    return distance


if __name__ == "__main__":
    main()
