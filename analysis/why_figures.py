"""Drawing what may explain a verdict: sources of variance, conflicts, weights of the tasks."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .colours import COLOURS, MARKERS, styles
from .figure_data import Axis
from .figures import COLUMNS, STYLE, draw_axis
from .records import GRADIENTS
from .seeds_figures import DASHES, LABELLED
from .sources import MEAN, SOURCES

MOVES = 1e-6
"""Shares of the weights that stay within this are those of fixed weights, and are not drawn."""
TITLES = {
    "conflict_rate": "conflict rate", "gradient_cosine": "mean cosine",
    "magnitude_similarity": "magnitude similarity",
}  # fmt: skip


def variance_figure(sources: pd.DataFrame, grids: pd.DataFrame) -> Figure:
    """Return standard deviations by source, beside them those of tuned results if there are any.

    Both of the mean normalised loss, one row an arm, on one logarithmic axis. sources, grids: the
    tables of `variance_table` and `grid_table`.
    """
    left, right = (table[table["task"] == MEAN] for table in (sources, grids))
    arms = [str(arm) for arm in left["arm"].unique()]
    parts = {name: left[left["source"] == name] for name in SOURCES}
    parts = {name: rows for name, rows in parts.items() if len(rows)}
    tuned = {
        name: right.rename(columns={f"{key}_{end}": end for end in ("sd", "low", "high")})
        for name, key in (("learning_rate", "grid"), ("seed", "seed"))
    }
    with mpl.rc_context(STYLE):
        height = max(0.13 * len(arms) * (len(parts) + 1), 0.42 * len(arms)) + 1.5
        figure = Figure(figsize=(11, height), layout="constrained")
        panels = {"all runs: by source": parts}
        if len(right):
            panels["tuned result: over grids of learning rates, over seeds"] = tuned
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        low, high = _limits([rows for shown in panels.values() for rows in shown.values()])
        for ax, (title, shown) in zip(axes, panels.items(), strict=True):
            draw_axis(ax, "x", Axis("standard deviation, normalised loss", low, high, True))
            draw_deviations(ax, arms, shown)
            ax.set_title(title)
        axes[0].set_yticks(np.arange(len(arms)), arms)
        axes[0].set_ylim(len(arms) - 0.5, -0.5)
        handles = [
            Line2D([], [], linestyle="", color=colour, marker=marker, label=name.replace("_", " "))
            for name, (colour, marker) in _looks().items()
            if any(name in shown for shown in panels.values())
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def draw_deviations(ax: Axes, arms: list[str], parts: dict[str, pd.DataFrame]) -> None:
    """Draw for each arm one line a source, from low to high with a mark at sd.

    What is 0 has no place on a logarithmic axis and is left out; a line that starts at 0 starts
    beyond the axis' end.
    """
    for place, (name, rows) in enumerate(parts.items()):
        colour, marker = _looks()[name]
        shift = (place - (len(parts) - 1) / 2) * 0.8 / len(parts)
        for row in rows[rows["sd"] > 0].to_dict("records"):
            y = arms.index(str(row["arm"])) + shift
            ends = [max(row["low"], row["sd"] / 1e3), row["high"]]
            ax.plot(ends, [y, y], color=colour, linewidth=1.3, alpha=0.7)
            ax.plot(row["sd"], y, linestyle="", color=colour, marker=marker, markersize=4.5)
    ax.grid(axis="y", visible=False)
    for border in range(1, len(arms)):
        ax.axhline(border - 0.5, color="#e6e6e6", linewidth=0.8)


def _looks() -> dict[str, tuple[str, str]]:
    """Colour and marker of each source."""
    return dict(zip(SOURCES, zip(COLOURS, MARKERS, strict=False), strict=False))


def _limits(tables: list[pd.DataFrame]) -> tuple[float, float]:
    """Ends of an axis that holds every standard deviation but those that are 0."""
    found = pd.concat([table["sd"] for table in tables])
    found = found[found > 0]
    return (found.min() / 3, found.max() * 3) if len(found) else (0.1, 1.0)


def gradients_figure(table: pd.DataFrame, baseline: str) -> Figure:
    """Return conflict rate, cosine and magnitude similarity over epochs, a line an arm.

    table: of `gradient_table`, at least one row. Bands: intervals over seeds.
    """
    arms = [str(arm) for arm in table["arm"].unique()]
    found = styles(arms, baseline)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4 + 0.2 * math.ceil(len(arms) / 6)), layout="constrained")
        for ax, measure in zip(figure.subplots(1, len(GRADIENTS)), GRADIENTS, strict=True):
            for i, arm in enumerate(arms):
                own = table[(table["arm"] == arm) & (table["measure"] == measure)]
                dash = DASHES[i // LABELLED % len(DASHES)]
                _trajectory(ax, own, "mean", found[arm].colour, dash, arm, 0.4 / len(arms))
            ax.set_title(TITLES[measure])
            ax.set_xlabel("epoch")
            if measure == "gradient_cosine":
                ax.axhline(0.0, color="#777777", linewidth=0.8)
            else:
                ax.set_ylim(-0.02, 1.02)
        lines, labels = ax.get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=min(len(arms), 6))
    return figure


def weights_figure(table: pd.DataFrame) -> Figure:
    """Return small multiples: the shares of the tasks' weights over epochs, a line a task.

    table: of `weight_table`; only arms whose weights move are drawn. Bands: intervals over seeds.
    """
    moving = table[table["moved"] > MOVES]
    arms = [str(arm) for arm in moving["arm"].unique()]
    tasks = [str(task) for task in table["task"].unique()]
    with mpl.rc_context(STYLE):
        if not arms:
            figure = Figure(figsize=(6, 1), layout="constrained")
            figure.suptitle("No arm's weights move")
            return figure
        rows = math.ceil(len(arms) / COLUMNS)
        figure = Figure(figsize=(2.9 * COLUMNS, 2.5 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
        axes = list(grid.flat)
        for ax, arm in zip(axes, arms, strict=False):
            for k, task in enumerate(tasks):
                own = moving[(moving["arm"] == arm) & (moving["task"] == task)]
                dash = DASHES[k // len(COLOURS) % len(DASHES)]
                colour, band = COLOURS[k % len(COLOURS)], 0.3 / len(tasks)
                _trajectory(ax, own, "share", colour, dash, task, band)
            ax.axhline(1 / len(tasks), color="#777777", linewidth=0.8, linestyle=":")
            ax.set_title(arm)
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("epoch")
        for ax in axes[len(arms) :]:
            ax.set_axis_off()
        figure.supylabel("share of the weights", fontsize=10)
        lines, labels = axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=min(len(tasks), 8))
    return figure


def _trajectory(
    ax: Axes, rows: pd.DataFrame, column: str, colour: str, dash: str, label: str, band: float
) -> None:
    epochs = rows["epoch"].to_numpy(np.float64)
    ax.plot(epochs, rows[column], dash, color=colour, linewidth=1.6, label=label)
    low, high = (rows[name].to_numpy(np.float64) for name in ("low", "high"))
    ax.fill_between(epochs, low, high, color=colour, alpha=band, linewidth=0)
