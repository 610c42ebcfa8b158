"""A results folder on disk: its manifest and its records."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import RecordsError, RecordsWarning

FORMAT = 2
"""The manifest format that this version reads."""

PASSES, DIVERGED, UNSOLVED = "backward_passes", "diverged", "unsolved_steps"
STOPPED = "stopped"
"""Measures that describe a run instead of a task; their rows have an empty task."""

GRADIENTS = ("conflict_rate", "gradient_cosine", "magnitude_similarity")
NORM, WEIGHT = "gradient_norm", "task_weight"
"""What a config's `diagnostics` record beside losses and metrics; the first three are of a run."""


def schema(tasks: Sequence[str]) -> pa.Schema:
    """Return the columns of a records file, in order, with their types."""
    return pa.schema(
        [
            *((name, pa.string()) for name in ("run", "arm", "method", "problem")),
            ("seed", pa.int64()),
            ("lr", pa.float64()),
            *((f"w_{task}", pa.float64()) for task in tasks),
            ("step", pa.int64()),
            ("epoch", pa.int64()),
            *((name, pa.string()) for name in ("split", "task", "measure")),
            ("value", pa.float64()),
        ]
    )


def load_manifest(folder: str | Path) -> dict[str, Any]:
    """Return DIR/manifest.json: the plan, the versions, the machine and the report's settings.

    Raises RecordsError if the file is absent, is not JSON or has another format.
    """
    path = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecordsError(
            f"{path} is not there: a results folder starts with a manifest. Check the folder's "
            f"name; if it is right, `mtofront resume {folder}` mends it"
        ) from error
    except (OSError, ValueError) as error:
        raise RecordsError(
            f"{path} cannot be read ({error}). `mtofront resume {folder}` mends it"
        ) from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        versions = manifest.get("versions", {}) if isinstance(manifest, dict) else {}
        raise RecordsError(
            f"{path}: this version reads manifests of format {FORMAT}; found format {found}. "
            f"Use the version of mtofront that wrote it, {versions.get('mtofront', '(unknown)')}"
        )
    return dict(manifest)


def load(folder: str | Path) -> pd.DataFrame:
    """Return every record of a results folder, one row a measured number.

    Columns: run, arm, method, problem, seed, lr, w_<task> for each task in the problem's order (NaN
    for arms without fixed weights), step, epoch, split, task, measure, value. A run that two files
    hold (its pack was run again after a crash) is taken once, from the first file by name: a run's
    result depends on its spec alone, so the copies agree. Records of an unfinished sweep are fine;
    a sweep without any gives an empty table. A damaged file gives a RecordsWarning, and its runs
    are left out as if they were missing.

    Raises RecordsError for a missing manifest or for files with wrong columns.
    """
    expected = schema(load_manifest(folder)["tasks"])
    seen: set[str] = set()
    tables = [expected.empty_table()]
    for path in sorted((Path(folder) / "records").glob("[!.]*.parquet")):
        table = _read(path, expected, folder)
        if table is None:
            continue
        runs = set(pc.unique(table["run"]).to_pylist())
        again = runs & seen
        if again:
            table = table.filter(pc.invert(pc.is_in(table["run"], pa.array(sorted(again)))))
        seen |= runs
        tables.append(table)
    frame: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return frame


def _read(path: Path, expected: pa.Schema, folder: str | Path) -> pa.Table | None:
    """One records file with the expected columns and types; None, with a warning, if damaged."""
    try:
        table = _checked(path)
    except (OSError, pa.ArrowException, ValueError):
        warnings.warn(
            f"{path} is damaged or half-written: its runs count as missing; "
            f"`mtofront resume {folder}` trains them again",
            RecordsWarning,
            stacklevel=3,
        )
        return None
    if set(table.column_names) != set(expected.names):
        raise RecordsError(
            f"{path}: a records file has the columns {expected.names}; found {table.column_names}. "
            f"Move it out of the folder, then `mtofront resume {folder}` mends it"
        )
    return table.select(expected.names).cast(expected)


def _checked(path: Path) -> pa.Table:
    """All of a records file: its checksums compared, and its columns with what it says of them."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        table = file.read()
    said = (table.schema.metadata or {}).get(b"columns")
    if said is not None and table.schema.remove_metadata().to_string().encode() != said:
        raise ValueError(f"{path}: columns are not what was written")
    return table
