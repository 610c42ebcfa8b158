"""What may explain a verdict: where results vary, how tasks conflict, how methods weigh them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from .diagnostics import gradient_summary, gradient_table, weight_summary, weight_table
from .rate_grids import grid_table
from .sources import Specs, deviations, variance_table
from .verdict import Comparison
from .why_figures import gradients_figure, variance_figure, weights_figure


@dataclass(frozen=True)
class Explanation:
    """Tables and figures by file name. Those of gradients and weights are there if recorded."""

    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]


def explain(comparison: Comparison, frame: pd.DataFrame, specs: Specs) -> Explanation:
    """Return the analysis of variance, and what the records say of gradients and weights.

    specs: the manifest's runs.
    """
    variance, grids = variance_table(comparison, frame, specs), grid_table(comparison, specs)
    tables = {
        "variance": variance,
        "deviations": deviations(variance),
        "learning_rate_grids": grids,
    }
    figures = {"variance": variance_figure(variance, grids)}
    gradients, weights = gradient_table(comparison, frame), weight_table(comparison, frame)
    if len(gradients):
        tables |= {"gradients": gradients, "gradients_last": gradient_summary(gradients)}
        figures["gradients"] = gradients_figure(gradients, comparison.settings.baseline)
    if len(weights):
        last = weight_summary(weights, comparison.runs.tasks)
        tables |= {"task_weights": weights, "task_weights_last": last}
        figures["task_weights"] = weights_figure(weights)
    return Explanation(tables, figures)
