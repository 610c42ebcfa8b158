"""From records to a verdict.

>>> from mtofront.analysis import coverage, judge, load, write_report
>>> frame = load("results/my-sweep")           # one row a measured number
>>> coverage("results/my-sweep")               # is it complete?
>>> comparison = judge(frame)                  # or compare(frame): only the verdict rows
>>> comparison.rows                            # arm, verdict, margin, low, high, ...
>>> comparison.margins                         # the same, seed by seed
>>> comparison.normalisation                   # ideal, nadir, reference point: the units
>>> write_report("results/my-sweep")           # figures, tables, report/index.html

Everything is minimised. Runs are chosen on the validation split and reported on the test split.
"""

from __future__ import annotations

from .controls import explanations
from .coverage import coverage, failures
from .distance import signed_distance
from .errors import ComparisonError, RecordsError, RecordsWarning
from .export import verdict_rows
from .front import front, hypervolume, is_nondominated
from .normalisation import Normalisation
from .records import load, load_manifest, schema
from .report import write_report
from .settings import Settings
from .table import compare_table, judge_table, read_table
from .verdict import Comparison, compare, judge
from .wording import reservations

__all__ = [
    "Comparison",
    "ComparisonError",
    "Normalisation",
    "RecordsError",
    "RecordsWarning",
    "Settings",
    "compare",
    "compare_table",
    "coverage",
    "explanations",
    "failures",
    "front",
    "hypervolume",
    "is_nondominated",
    "judge",
    "judge_table",
    "load",
    "load_manifest",
    "read_table",
    "reservations",
    "schema",
    "signed_distance",
    "verdict_rows",
    "write_report",
]
