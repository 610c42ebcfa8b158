"""Drawing fronts and margins, and saving figures. What is drawn is computed in `figure_data`."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from .atomic import replace_file
from .colours import BASELINE_COLOUR, VERDICT_COLOURS, Style, styles
from .figure_data import Axis, Floats, Grid, MarginData, Panel

DPI = 150
COLUMNS = 4
"""Panels side by side in a figure of small multiples."""
STYLE: dict[Any, Any] = {
    "font.size": 10.0, "axes.titlesize": 10.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
    "axes.axisbelow": True, "svg.hashsalt": "mtofront", "pdf.fonttype": 42, "legend.frameon": False,
}  # fmt: skip
PLATE: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
NOTE: dict[str, Any] = {"fontsize": 8, "color": "#555555", "bbox": PLATE, "zorder": 5}
FAINT = "#b5b5b5"


def front_figure(data: Grid) -> Figure:
    """Return training fronts beside reported fronts, one row a pair of tasks."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.6 * len(data.panels) + 0.7), layout="constrained")
        axes = figure.subplots(len(data.panels), 2, squeeze=False)
        found = styles(data.arms, data.baseline)
        for row, panels in zip(axes, data.panels, strict=True):
            for ax, panel in zip(row, panels, strict=True):
                draw_front(panel, ax, found, data.baseline)
        _legend(figure, data, found)
    return figure


def arms_figure(data: Grid) -> Figure:
    """Return small multiples: each arm alone over the baseline, all on the same axes."""
    panels = [panel for row in data.panels for panel in row]
    columns = COLUMNS if not data.panels or len(data.panels[0]) == 1 else len(data.panels[0])
    columns = min(columns, max(len(panels), 2))
    rows = max(math.ceil(len(panels) / columns), 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * columns, 2.8 * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False)
        found = styles(data.arms, data.baseline)
        for index, ax in enumerate(axes.flat):
            if index >= len(panels):
                ax.set_axis_off()
                continue
            draw_front(panels[index], ax, found, data.baseline)
        if panels:
            _legend(figure, Grid(data.panels, (data.baseline,), data.baseline), found)
        else:
            figure.suptitle("There is no arm to compare with the baseline")
    return figure


def margins_figure(data: MarginData) -> Figure:
    """Return the forest plot: margin and interval an arm, the equivalence band, the verdict."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 0.42 * len(data.arms) + 1.7), layout="constrained")
        draw_margins(data, figure.subplots())
    return figure


def draw_front(panel: Panel, ax: Axes, found: dict[str, Style], baseline: str) -> None:
    """Draw one panel: clouds, the baseline's front, the runs that the verdicts rest on."""
    for arm, cloud in panel.clouds.items():
        _cloud(ax, cloud, found[arm], arm == baseline)
    for stairs in panel.stairs:
        _staircase(ax, panel, stairs, linewidth=0.7, alpha=0.35)
    if len(panel.median):
        _staircase(ax, panel, panel.median, linewidth=1.8, alpha=1.0)
    ax.scatter(
        panel.members[:, 0],
        panel.members[:, 1],
        s=13,
        color=BASELINE_COLOUR,
        zorder=3,
        linewidths=0,
    )
    for arm, points in panel.marked.items():
        style = found[arm]
        ax.scatter(
            points[:, 0], points[:, 1], s=44, marker=style.marker, color=style.colour,
            edgecolors="black", linewidths=0.8, zorder=4,
        )  # fmt: skip
    draw_axis(ax, "x", panel.x)
    draw_axis(ax, "y", panel.y)
    ax.set_title(panel.title)
    if panel.outside:
        text = f"{panel.outside} run{'s' if panel.outside > 1 else ''} beyond the axes"
        ax.text(0.98, 0.97, text, transform=ax.transAxes, ha="right", va="top", **NOTE)


def draw_margins(data: MarginData, ax: Axes) -> None:
    """Draw one row an arm, from the top: margin and interval, below it the seeds, the verdict."""
    band = ax.axvspan(-data.equivalence, data.equivalence, color="#dfeaf3", zorder=0)
    band.set_label(f"equivalence: ±{data.equivalence:g}")
    ax.axvline(0.0, color="#777777", linewidth=0.8, zorder=1)
    for row, (arm, verdict) in enumerate(zip(data.arms, data.verdicts, strict=True)):
        colour = VERDICT_COLOURS[verdict]
        seeds = data.seeds[arm]
        ax.plot([data.low[row], data.high[row]], [row, row], color=colour, linewidth=2.2)
        ax.plot(data.margin[row], row, "D", color=colour, markersize=6)
        ax.scatter(
            seeds, np.full(len(seeds), row + 0.25), s=11, color=colour, alpha=0.6, linewidths=0
        )
        ax.annotate(
            verdict, (1.01, row), xycoords=("axes fraction", "data"), va="center", color=colour,
            fontweight="bold", annotation_clip=False,
        )  # fmt: skip
    ax.set_yticks(np.arange(len(data.arms)), data.arms)
    ax.set_ylim(len(data.arms) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("margin in normalised units:   < 0 behind the front   |   > 0 beyond the front")
    handles = [
        band,
        Line2D(
            [], [], color="#555555", marker="D", label=f"margin, {data.confidence:.0%} interval"
        ),
        Line2D([], [], color="#555555", linestyle="", marker="o", markersize=3, label="one seed"),
    ]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=9)


def save(figure: Figure, stem: Path) -> str:
    """Write stem.png, .svg and .pdf, each whole or not at all, and return the SVG's text."""
    with mpl.rc_context(STYLE):
        replace_file(
            stem.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=DPI)
        )
        # The layout is settled: all files then show the same picture.
        figure.set_layout_engine("none")
        # Without the date the same results give the same bytes.
        for form, date in (("svg", "Date"), ("pdf", "CreationDate")):
            replace_file(
                stem.with_suffix(f".{form}"),
                partial(figure.savefig, format=form, metadata={date: None}),
            )
    return stem.with_suffix(".svg").read_text(encoding="utf-8")


def _cloud(ax: Axes, points: Floats, style: Style, is_baseline: bool) -> None:
    """All runs of one arm, faint, so that the marked ones stand out."""
    ax.scatter(
        points[:, 0], points[:, 1], s=9 if is_baseline else 12, marker=style.marker, linewidths=0,
        color=FAINT if is_baseline else style.colour, alpha=0.7 if is_baseline else 0.35,
        zorder=1 if is_baseline else 2,
    )  # fmt: skip


def _staircase(ax: Axes, panel: Panel, points: Floats, linewidth: float, alpha: float) -> None:
    """The border of what the points attain, out to the ends of the axes."""
    top = [points[0, 0], max(panel.y.high, points[0, 1])]
    right = [max(panel.x.high, points[-1, 0]), points[-1, 1]]
    corners = np.vstack([top, points, right])
    ax.plot(
        corners[:, 0], corners[:, 1], drawstyle="steps-post", color=BASELINE_COLOUR,
        linewidth=linewidth, alpha=alpha, zorder=2.5,
    )  # fmt: skip


def draw_axis(ax: Axes, side: str, axis: Axis) -> None:
    """Set scale, limits, ticks and label of one axis; side: "x" or "y"."""
    if axis.log:
        getattr(ax, f"set_{side}scale")("log")
        ticks = _log_ticks(axis.low, axis.high)
        getattr(ax, f"set_{side}ticks")(ticks, [f"{tick:g}" for tick in ticks])
        getattr(ax, f"{side}axis").set_minor_locator(NullLocator())
    getattr(ax, f"set_{side}lim")(axis.low, axis.high)
    getattr(ax, f"set_{side}label")(axis.label)


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers within the limits, few enough for a small panel: plain decimals, no powers."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 6)):
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) >= 3:
            break
    return shown


def _legend(figure: Figure, data: Grid, found: dict[str, Style]) -> None:
    """One legend below the panels, off the data."""
    is_flat = any(len(panel.median) for row in data.panels for panel in row)
    edge: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.8}
    handles = [
        Line2D([], [], linestyle="", marker="o", color=FAINT, label=f"{data.baseline}: runs"),
        Line2D(
            [], [], marker="o", markersize=4, linewidth=1.8, color=BASELINE_COLOUR,
            linestyle="-" if is_flat else "", label=f"{data.baseline}: front",
        ),
    ]  # fmt: skip
    handles += [
        Line2D([], [], linestyle="", marker=found[arm].marker, color=found[arm].colour, label=arm)
        for arm in data.arms
        if arm != data.baseline
    ]
    chosen = "black edge: a seed's selected run"
    handles.append(Line2D([], [], linestyle="", marker="s", color="white", label=chosen, **edge))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
