"""The report: one HTML page that stands alone, with the figures and tables beside it."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from .atomic import replace_text
from .attainment import attainment_table
from .budget import budget_curves
from .controls import compare_controls, explanations
from .coverage import coverage, failures, solver_misses
from .effort import effort
from .export import best_runs, normalisation_table, prices, runs_table, verdict_rows
from .figure_data import arms_data, front_data, margin_data
from .figures import arms_figure, front_figure, margins_figure, save
from .front import is_exact
from .indicators import indicator_means, indicator_table
from .interactive import as_json, page_data
from .records import load, load_manifest
from .relative import delta_m
from .seeds_figures import attainment_figure, budget_figure, utility_figure
from .selection import points_apart, run_table
from .settings import Settings
from .table_files import number, write_table
from .utility import Utility, flips, shares, utility_sweep, utility_table
from .verdict import Comparison, judge
from .why import explain
from .wording import reservations, sentence, signed, status, summary


def write_report(folder: str | Path) -> Path:
    """Analyse a results folder and return the path of its report, DIR/report/index.html.

    Also written: front, arms, margins, attainment, utility, budget, variance, and gradients and
    task_weights where they were recorded, as .png, .svg and .pdf; verdicts.csv, .json, .md and
    .tex; notes.json (`reservations`); tables/*.csv, the short ones as .md and .tex too. Each file
    is replaced whole. The page needs no network: figures, style, numbers and plotly are in it.
    Partial results are reported as such in its first line, and other reservations right after it.

    Raises RecordsError for a folder that cannot be read, ComparisonError for one without a finished
    run of the baseline.
    """
    source = Path(folder)
    manifest, frame, table = load_manifest(source), load(source), coverage(source)
    controls = manifest.get("controls", {})
    comparison = judge(frame, Settings(**manifest["report"], controls=tuple(controls)))
    target, sweep = source / "report", utility_sweep(comparison)
    curves = budget_curves(
        comparison.runs,
        run_table(points_apart(frame)),
        comparison.normalisation,
        comparison.settings.baseline,
    )
    figures = _figures(comparison, frame, sweep)
    figures["budget"] = budget_figure(curves, comparison.settings.baseline)
    explanation = explain(comparison, frame, manifest["runs"])
    figures |= explanation.figures
    drawn = {name: inline(save(figure, target / name), name) for name, figure in figures.items()}
    relative = delta_m(comparison, frame)
    tables = _tables(comparison, table, manifest, sweep)
    tables |= {"solvers": solver_misses(frame), "delta_m": relative.rows, "budget": curves}
    tables |= explanation.tables
    if controls:
        tables["controls"] = compare_controls(comparison, controls)
    for name, content in tables.items():
        write_table(content, target / "tables" / name)
    write_table(comparison.rows, target / "verdicts")
    notes = reservations(comparison)
    replace_text(target / "notes.json", json.dumps(notes, indent=1) + "\n")
    replace_text(target / "verdicts.json", json.dumps(verdict_rows(comparison), indent=1) + "\n")
    data = page_data(comparison, frame, manifest["runs"])
    page = render(
        **_facts(source, comparison, prices(frame, comparison.settings.baseline)),
        manifest=manifest,
        status=status(table),
        notes=notes,
        partial=bool(table["failed"].sum() + table["missing"].sum()),
        tables=tables,
        figures=drawn,
        flips=flips(sweep),
        explanations=explanations(tables["controls"]) if controls else [],
        delta_source=relative.source,
        approximate=not is_exact(len(comparison.runs.run), len(comparison.runs.tasks)),
        data=data,
        json=as_json(data),
        plotly=_plotly(),
    )
    replace_text(target / "index.html", page)
    return target / "index.html"


def render(**values: Any) -> str:
    """Return the page. Text is escaped; an absent value is an error, not a blank."""
    own = {name: _own_file(f"report.{name}") for name in ("html.j2", "css", "js")}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["signed"] = signed
    environment.filters["is_text"] = lambda column: not pd.api.types.is_numeric_dtype(column)
    template = environment.from_string(own["html.j2"])
    return template.render(style=own["css"], script=own["js"], **values)


def inline(svg: str, name: str) -> str:
    """Return an SVG's element for use within HTML, its ids made unique by the figure's name."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'href="#', f'href="#{name}-', element)
    return re.sub(r"url\(#", f"url(#{name}-", element)


def _own_file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The plotting library of the page, plotly.js, as the plotly package carries it."""
    # Here, because it takes a third of a second that no other command should wait for.
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _figures(comparison: Comparison, frame: pd.DataFrame, sweep: Utility) -> dict[str, Figure]:
    """The figures for print and for papers, by file name."""
    return {
        "front": front_figure(front_data(comparison, frame)),
        "arms": arms_figure(arms_data(comparison)),
        "margins": margins_figure(margin_data(comparison)),
        "attainment": attainment_figure(comparison),
        "utility": utility_figure(sweep),
    }


def _tables(
    comparison: Comparison, table: pd.DataFrame, manifest: dict[str, Any], sweep: Utility
) -> dict[str, pd.DataFrame]:
    """The tables beside the verdicts, by file name."""
    indicators = indicator_table(comparison)
    return {
        "coverage": table,
        "best": best_runs(comparison, manifest["runs"]),
        "margins": comparison.margins,
        "statistics": comparison.statistics,
        "effort": effort(
            comparison.margins,
            [str(arm) for arm in comparison.rows["arm"]],
            comparison.settings.confidence,
        ),
        "normalisation": normalisation_table(comparison.normalisation),
        "runs": runs_table(comparison.runs, comparison.normalisation),
        "indicators": indicators,
        "indicator_means": indicator_means(indicators),
        "attainment": attainment_table(comparison),
        "utility": utility_table(sweep),
        "tastes": shares(sweep),
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
