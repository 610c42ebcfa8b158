"""Drawing what holds over seeds, tastes and budgets: surfaces, the utility sweep, curves."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .attainment import Surfaces, arm_surfaces
from .colours import styles
from .figure_data import Floats, pair_axes
from .figures import COLUMNS, STYLE, draw_axis
from .utility import Utility, flips, shares
from .verdict import Comparison

LABELLED = 8
"""More lines than this are told apart by colour and dashes in the legend only."""
DASHES = ("-", "--", "-.", ":")


def attainment_figure(comparison: Comparison) -> Figure:
    """Return small multiples, one an arm: its surfaces over the baseline's, reporting split.

    Two tasks only; else a figure that says where the surfaces are. Thick line: what half of the
    seeds attain. Band: from what one seed attains to what all do.
    """
    runs, settings = comparison.runs, comparison.settings
    arms = [str(arm) for arm in comparison.rows["arm"]]
    with mpl.rc_context(STYLE):
        if len(runs.tasks) != 2:
            return _sentence("Attainment surfaces are drawn for two tasks")
        found = styles([settings.baseline, *arms], settings.baseline)
        base = arm_surfaces(runs, settings.baseline)
        x, y = pair_axes(runs, (0, 1), comparison)
        shown = [(arm, arm_surfaces(runs, arm)) for arm in arms] or [(settings.baseline, None)]
        columns = min(COLUMNS, max(len(shown), 2))
        rows = math.ceil(len(shown) / columns)
        figure = Figure(figsize=(2.9 * columns, 2.8 * rows + 0.5), layout="constrained")
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax, (arm, own) in zip(axes, shown, strict=False):
            draw_axis(ax, "x", x)
            draw_axis(ax, "y", y)
            for surfaces, style in ((base, found[settings.baseline]), (own, found[arm])):
                if surfaces:
                    draw_surfaces(surfaces, ax, style.colour, (x.high, y.high))
            ax.set_title(arm)
        for ax in axes[len(shown) :]:
            ax.set_axis_off()
        dark = found[settings.baseline].colour
        handles = [
            Line2D([], [], color=dark, linewidth=1.8, label=f"{settings.baseline}: half of seeds"),
            Patch(color=dark, alpha=0.18, linewidth=0, label="from one seed to all seeds"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def utility_figure(sweep: Utility) -> Figure:
    """Return gain over the baseline for every taste: lines for two tasks, else ranges of gains."""
    with mpl.rc_context(STYLE):
        height = 3.8 if len(sweep.tasks) == 2 else 0.34 * len(sweep.arms) + 1.4
        figure = Figure(figsize=(9, height), layout="constrained")
        ax = figure.subplots()
        if len(sweep.tasks) == 2:
            draw_utility(sweep, ax)
            figure.legend(loc="outside right upper", fontsize=9)
        else:
            draw_gains(sweep, ax)
    return figure


def budget_figure(curves: pd.DataFrame, baseline: str) -> Figure:
    """Return hypervolume against the budget: runs a seed, and backward passes where known."""
    with mpl.rc_context(STYLE):
        if curves.empty:
            return _sentence("Budget curves are computed for up to five tasks")
        kinds = [kind for kind in ("runs", "backward_passes") if curves[kind].notna().all()]
        figure = Figure(figsize=(4.6 * len(kinds) + 1.6, 3.6), layout="constrained")
        arms = [str(arm) for arm in curves["arm"].unique()]
        found = styles([baseline, *(arm for arm in arms if arm != baseline)], baseline)
        for ax, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
            for i, arm in enumerate(arms):
                own, style = curves[curves["arm"] == arm], found[arm]
                dash = DASHES[i // LABELLED % len(DASHES)]
                ax.fill_between(
                    own[kind], own["low"], own["high"], color=style.colour, alpha=0.1, linewidth=0
                )
                ax.plot(own[kind], own["hypervolume"], dash, color=style.colour, label=arm)
            ax.set_xscale("log")
            ax.set_xlabel(f"{kind.replace('_', ' ')} a seed")
            ax.set_ylabel(f"hypervolume, {baseline} = 1")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def draw_surfaces(surfaces: Surfaces, ax: Axes, colour: str, far: tuple[float, float]) -> None:
    """Draw one arm's band between best and worst, and its median, out to the ends of the axes."""
    best, median, worst = (
        _corners(points, far) for points in (surfaces.best, surfaces.median, surfaces.worst)
    )
    firsts = np.unique(np.concatenate([best[:, 0], worst[:, 0]]))
    upper, lower = (_height(corners, firsts) for corners in (worst, best))
    ax.fill_between(firsts, lower, upper, step="post", color=colour, alpha=0.18, linewidth=0)
    ax.plot(median[:, 0], median[:, 1], drawstyle="steps-post", color=colour, linewidth=1.8)


def draw_utility(sweep: Utility, ax: Axes) -> None:
    """Draw one line an arm over the weight of the second task, and where first place changes."""
    found = styles(sweep.arms, sweep.arms[0])
    second = sweep.weights[:, 1]
    for i, arm in enumerate(sweep.arms):
        gain, error = sweep.gain[:, i], sweep.error[:, i]
        dash = DASHES[i // LABELLED % len(DASHES)]
        ax.plot(second, gain, dash, color=found[arm].colour, linewidth=1.6, label=arm)
        if i and np.isfinite(error).all():
            low, high = gain - 2 * error, gain + 2 * error
            ax.fill_between(second, low, high, color=found[arm].colour, alpha=0.1, linewidth=0)
    for weight, _, _ in flips(sweep):
        ax.axvline(weight, color="#777777", linewidth=0.8, linestyle=":")
    ax.set_xlim(0, 1)
    ax.set_xlabel(f"weight of {sweep.tasks[1]} in the taste (rest: {sweep.tasks[0]})")
    ax.set_ylabel(f"gain over {sweep.arms[0]}")


def draw_gains(sweep: Utility, ax: Axes) -> None:
    """Draw one row an arm: its least, mean and most gain over all tastes, and how often first."""
    found, table = styles(sweep.arms, sweep.arms[0]), shares(sweep)
    for row, values in enumerate(table.to_dict("records")):
        style = found[values["arm"]]
        ends = [values["least"], values["most"]]
        ax.plot(ends, [row, row], color=style.colour, linewidth=2.2)
        ax.plot(values["mean"], row, style.marker, color=style.colour, markersize=6)
        ax.annotate(
            f"first for {values['first']:.0%}", (1.01, row), xycoords=("axes fraction", "data"),
            va="center", annotation_clip=False,
        )  # fmt: skip
    ax.axvline(0.0, color="#777777", linewidth=0.8)
    ax.set_yticks(np.arange(len(table)), list(table["arm"]))
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlabel(f"gain over {sweep.arms[0]}, from the worst taste to the best")


def _corners(points: Floats, far: tuple[float, float]) -> Floats:
    """A staircase out to the ends of the axes."""
    top = [points[0, 0], max(far[1], points[0, 1])]
    right = [max(far[0], points[-1, 0]), points[-1, 1]]
    return np.vstack([top, points, right])


def _height(corners: Floats, firsts: Floats) -> Floats:
    """The height of a staircase at each first loss; its top left of it."""
    place = np.searchsorted(corners[:, 0], firsts, side="right") - 1
    heights: Floats = np.where(place < 0, corners[:, 1].max(), corners[place, 1])
    return heights


def _sentence(text: str) -> Figure:
    figure = Figure(figsize=(6, 1), layout="constrained")
    figure.suptitle(text)
    return figure
