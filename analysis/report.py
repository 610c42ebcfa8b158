"""The report: one HTML page that stands alone, with the figures and tables beside it."""

from __future__ import annotations

import json
import math
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from .atomic import replace_text
from .coverage import coverage, failures, solver_misses
from .export import best_runs, normalisation_table, prices, runs_table, verdict_rows
from .figure_data import arms_data, front_data, margin_data
from .figures import arms_figure, front_figure, margins_figure, save
from .records import load, load_manifest
from .settings import Settings
from .verdict import Comparison, judge
from .wording import sentence, signed, status, summary


def write_report(folder: str | Path) -> Path:
    """Analyse a results folder and return the path of its report, DIR/report/index.html.

    Also written: front, arms and margins as .png and .svg, verdicts.csv, verdicts.json and
    tables/*.csv. Each file is replaced whole. The page needs no network: figures and style are in
    it. Partial results are reported as such in its first line.

    Raises RecordsError for a folder that cannot be read, ComparisonError for one without a finished
    run of the baseline.
    """
    source = Path(folder)
    manifest, frame, table = load_manifest(source), load(source), coverage(source)
    comparison = judge(frame, Settings(**manifest["report"]))
    target = source / "report"
    figures = {
        "front": save(front_figure(front_data(comparison, frame)), target / "front"),
        "arms": save(arms_figure(arms_data(comparison)), target / "arms"),
        "margins": save(margins_figure(margin_data(comparison)), target / "margins"),
    }
    tables = _tables(comparison, table, manifest) | {"solvers": solver_misses(frame)}
    for name, content in tables.items():
        replace_text(target / "tables" / f"{name}.csv", content.to_csv(index=False))
    replace_text(target / "verdicts.csv", comparison.rows.to_csv(index=False))
    replace_text(target / "verdicts.json", json.dumps(verdict_rows(comparison), indent=1) + "\n")
    facts = _facts(source, comparison, prices(frame, comparison.settings.baseline))
    page = render(
        **facts,
        manifest=manifest,
        status=status(table),
        partial=bool(table["failed"].sum() + table["missing"].sum()),
        tables=tables,
        figures={name: inline(svg, name) for name, svg in figures.items()},
    )
    replace_text(target / "index.html", page)
    return target / "index.html"


def render(**values: Any) -> str:
    """Return the page. Text is escaped; an absent value is an error, not a blank."""
    template = resources.files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["signed"] = signed
    environment.filters["is_text"] = lambda column: not pd.api.types.is_numeric_dtype(column)
    return environment.from_string(template).render(**values)


def number(value: str | float | bool) -> str:
    """Return a table cell: four significant digits, a dash for NaN, words as they are."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4g}"


def inline(svg: str, name: str) -> str:
    """Return an SVG's element for use within HTML, its ids made unique by the figure's name."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'href="#', f'href="#{name}-', element)
    return re.sub(r"url\(#", f"url(#{name}-", element)


def _tables(
    comparison: Comparison, table: pd.DataFrame, manifest: dict[str, Any]
) -> dict[str, pd.DataFrame]:
    """The tables beside the verdicts, by file name."""
    return {
        "coverage": table,
        "best": best_runs(comparison, manifest["runs"]),
        "margins": comparison.margins,
        "statistics": comparison.statistics,
        "normalisation": normalisation_table(comparison.normalisation),
        "runs": runs_table(comparison.runs, comparison.normalisation),
    }


def _facts(source: Path, comparison: Comparison, price: dict[str, float]) -> dict[str, Any]:
    """What the page says about the comparison and the folder it came from."""
    rows = comparison.rows.to_dict("records")
    config = source / "config.yaml"
    return {
        "comparison": comparison,
        "rows": [
            {**row, "words": sentence(row, comparison, price[str(row["arm"])])} for row in rows
        ],
        "summary": summary(comparison),
        "failures": failures(source),
        "config": config.read_text(encoding="utf-8") if config.is_file() else "",
    }
