"""Tables as files: CSV for programs, Markdown and LaTeX for texts."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from .atomic import replace_text

LONGEST = 200
"""Longer tables are for programs: CSV only."""
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "∞": r"$\infty$", "−∞": r"$-\infty$", "–": "--",
}  # fmt: skip


def write_table(table: pd.DataFrame, stem: Path) -> None:
    """Write stem.csv, and for at most LONGEST rows stem.md and stem.tex, each whole or not at all.

    The CSV has every digit. Markdown (GitHub's tables) and LaTeX (booktabs) have four significant
    digits and a dash for NaN.
    """
    replace_text(stem.with_suffix(".csv"), table.to_csv(index=False))
    if len(table) <= LONGEST:
        replace_text(stem.with_suffix(".md"), markdown(table))
        replace_text(stem.with_suffix(".tex"), latex(table))


def number(value: str | float | bool) -> str:
    """Return a table cell: four significant digits or a whole number, – for NaN, ∞, words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    whole = float(value).is_integer() or abs(value) >= 10_000
    return f"{round(value):,}" if whole else f"{value:.4g}"


def markdown(table: pd.DataFrame) -> str:
    """Return a GitHub table: words to the left, numbers to the right, | and line ends escaped."""
    sides = [":--" if side == "l" else "--:" for side in _sides(table)]
    rows = [[str(name) for name in table.columns], sides, *_cells(table)]
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def latex(table: pd.DataFrame) -> str:
    """Return a tabular with booktabs rules; special characters are escaped."""
    head = " & ".join(_escaped(str(name)) for name in table.columns)
    body = "".join(" & ".join(_escaped(cell) for cell in row) + " \\\\\n" for row in _cells(table))
    return (
        f"\\begin{{tabular}}{{{''.join(_sides(table))}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
        f"{body}\\bottomrule\n\\end{{tabular}}\n"
    )


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return [[number(value) for value in row.values()] for row in table.to_dict("records")]


def _sides(table: pd.DataFrame) -> list[str]:
    return ["r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in table.columns]


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)
