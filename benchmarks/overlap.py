"""Kurin et al. 2022's statistic on kept results: mean accuracy and its interval, arm by arm.

    python benchmarks/overlap.py kurin-multimnist

An arm takes the learning rate and weight decay of the lowest validation loss, a mean over tasks and
seeds; its runs there give the mean test accuracy and Student's interval. The paper calls arms equal
whose intervals overlap: weaker than an equivalence test, it finds equal what it cannot tell apart.
"""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import typer
from claims import RESULTS
from kept import judged
from rich.console import Console
from rich.table import Table
from scipy import stats

from mtofront.analysis import load, load_manifest

TUNED = ["lr", "weight_decay"]


def accuracies(folder: Path, confidence: float = 0.95) -> pd.DataFrame:
    """One row an arm: arm, lr, weight_decay, runs, accuracy, half (of the interval)."""
    runs = _runs(folder)
    rows = []
    for arm, own in runs.groupby("arm", sort=False):
        best = own.groupby(TUNED)["loss"].mean().idxmin()
        accuracy = 1 - own.set_index(TUNED).loc[best, "error"]
        width = float(stats.t.ppf((1 + confidence) / 2, len(accuracy) - 1))
        half = width * accuracy.std(ddof=1) / math.sqrt(len(accuracy))
        rows.append((arm, *best, len(accuracy), accuracy.mean(), half))
    return pd.DataFrame(rows, columns=["arm", *TUNED, "runs", "accuracy", "half"])


def _runs(folder: Path) -> pd.DataFrame:
    """Each finished run: settings, and validation loss and test error at its checkpoint."""
    chosen, specs, frame = judged(folder).runs, load_manifest(folder)["runs"], load(folder)
    errors = frame[(frame["measure"] == "error") & (frame["split"] == "test")]
    means = errors.groupby(["run", "step"])["value"].mean()
    return pd.DataFrame(
        {
            "arm": chosen.arm,
            "lr": [specs[run]["lr"] for run in chosen.run],
            "weight_decay": [specs[run].get("weight_decay", 0.0) for run in chosen.run],
            "loss": chosen.select.mean(axis=1),
            "error": [means[key] for key in zip(chosen.run, chosen.step, strict=True)],
        }
    )


def main(experiment: str) -> None:
    """Print the accuracies of an experiment of docs/results/."""
    table = Table("arm", "learning rate", "decay", "runs", "accuracy", box=None)
    for row in accuracies(RESULTS / experiment).itertuples():
        shown = f"{row.accuracy:.4f} ± {row.half:.4f}"
        table.add_row(row.arm, f"{row.lr:g}", f"{row.weight_decay:g}", str(row.runs), shown)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
