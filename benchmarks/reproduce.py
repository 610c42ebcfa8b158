"""Runs a published claim's experiment again and sets its verdicts beside those that were kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from claims import RESULTS, ROOT, config_of, pages, recorded
from kept import keep
from rich.console import Console
from rich.table import Table

from mtofront.analysis import write_report
from mtofront.sweep import load_config, run

SAME = 1e-3
"""Margins that differ by less are the same: other processors round otherwise."""
app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("run")
def run_again(
    claim: Annotated[str, typer.Argument(help="An experiment of docs/results/.")],
) -> None:
    """Train an experiment, report, and compare; exit status 1 if a verdict is another."""
    try:
        config = config_of(claim)
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    outcome = run(load_config(config), ROOT / "results" / "claims" / claim)
    page = write_report(outcome.folder)
    if not (RESULTS / claim / "verdicts.csv").is_file():
        sys.exit(f"Report: {page}\nerror: nothing was kept of {claim} to compare it with")
    rows = compared(recorded(claim), pd.read_csv(page.parent / "verdicts.csv"))
    Console().print(_shown(rows), f"Report: {page}", sep="\n")
    sys.exit(int((~rows["agrees"]).any()))


@app.command("keep")
def keep_results(folder: Path) -> None:
    """Keep a finished results folder under docs/results/, by its name."""
    keep(folder, RESULTS / folder.name)


@app.command("pages")
def write_pages() -> None:
    """Write the pages that hold kept results."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


def compared(kept: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Both runs' verdicts, one row an arm, and whether they agree.

    agrees: margins are the same, or the verdict is and the intervals overlap.
    """
    both = kept.merge(found, on="arm", suffixes=("_kept", "_found"), how="outer", sort=False)
    same = (both["margin_kept"] - both["margin_found"]).abs() < SAME
    overlap = both["low_kept"].le(both["high_found"]) & both["low_found"].le(both["high_kept"])
    return both.assign(agrees=same | (overlap & both["verdict_kept"].eq(both["verdict_found"])))


def _shown(rows: pd.DataFrame) -> Table:
    table = Table("arm", "kept", "margin", "found", "margin", "agrees", box=None)
    for row in rows.itertuples():
        table.add_row(
            row.arm,
            row.verdict_kept,
            f"{row.margin_kept:+.3f}",
            row.verdict_found,
            f"{row.margin_found:+.3f}",
            "yes" if row.agrees else "no",
        )
    return table


if __name__ == "__main__":
    app()
