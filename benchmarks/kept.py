"""Results of a claim kept small: what a report and its verdicts are made of, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mtofront.analysis import judge, load, load_manifest, schema, write_report
from mtofront.analysis.settings import Settings
from mtofront.analysis.verdict import Comparison

OF_A_RUN = ("arm", "seed", "lr", "weights", "hyper")
"""What a report says of a run; the config says the rest."""
COMPACT = (",", ":")
FIGURES = ("front", "margins")
WIDTH = 1100
COLOURS = 255
"""Of a kept figure, a third of the bytes; a median cut would merge the rare colours of arms."""


def judged(folder: Path) -> Comparison:
    """The comparison that a results folder's report shows."""
    return judge(load(folder), _settings(load_manifest(folder)))


def judged_in_training(folder: Path) -> Comparison:
    """The comparison on training losses at each run's end: of optimisation alone."""
    return judge(load(folder), _in_training(_settings(load_manifest(folder))))


def _settings(manifest: dict[str, Any]) -> Settings:
    return Settings(**manifest["report"])


def _in_training(settings: Settings) -> Settings:
    return replace(settings, select_on="train", report_on="train", checkpoint="last")


def keep(folder: Path, target: Path) -> None:
    """Write the results of a finished sweep to a folder of some hundred KB that reports the same.

    Kept are each run's records at its first and last evaluation and at the checkpoint that counts,
    the figures, the verdicts; of the manifest what the report shows. Raises as `judge` does.
    """
    manifest, frame = load_manifest(folder), load(folder)
    settings = _settings(manifest)
    few = _few(frame, judge(frame, settings))
    training = judge(frame, _in_training(settings)).rows
    write_report(folder)
    shutil.rmtree(target, ignore_errors=True)
    (target / "records").mkdir(parents=True)
    manifest["runs"] = {run: _few_settings(spec) for run, spec in manifest["runs"].items()}
    manifest["packs"] = []
    (target / "manifest.json").write_text(_lines(manifest), encoding="utf-8")
    shutil.copy(folder / "config.yaml", target)
    table = pa.Table.from_pandas(few, schema(manifest["tasks"]), preserve_index=False)
    _write(table, target / "records" / "kept.parquet")
    shutil.copy(folder / "report" / "verdicts.csv", target)
    training.to_csv(target / "training.csv", index=False)
    shutil.copy(folder / "report" / "tables" / "effort.csv", target)
    for name in FIGURES:
        _small(folder / "report" / f"{name}.png", target / f"{name}.png")


def _write(table: pa.Table, path: Path) -> None:
    """Bytes of the same rank stand together, which takes a fifth off numbers that repeat little."""
    words = [name for name in table.column_names if name != "value"]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=words,
        use_byte_stream_split=["value"],
    )


def _few_settings(spec: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a run's spec; a weight decay where there is one."""
    decay = spec.get("optimizer", {}).get("weight_decay", 0.0)
    kept = {name: spec[name] for name in OF_A_RUN if name in spec}
    return kept | ({"weight_decay": decay} if decay else {})


def _few(frame: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """The records that a report needs, in an order that compresses."""
    chosen = pd.Series(comparison.runs.step, index=comparison.runs.run)
    chosen = chosen.groupby(level=0).first().rename("chosen")
    steps = frame.groupby("run")["step"].agg(["min", "max"]).join(chosen)
    known = steps.loc[frame["run"]].reset_index(drop=True)
    step = frame["step"].reset_index(drop=True)
    few = known.eq(step, axis=0).any(axis=1) | frame["task"].eq("").to_numpy()
    columns = ["measure", "split", "task"]  # runs stay in their order, which is that of arms
    return frame[few.to_numpy()].sort_values(columns, kind="stable")


def _lines(manifest: dict[str, Any]) -> str:
    """JSON with a run a line, so that two versions can be compared."""
    runs = manifest.pop("runs")
    rest = json.dumps(manifest, indent=1).removesuffix("\n}")
    rows = ",\n".join(
        f"  {json.dumps(run)}: {json.dumps(spec, separators=COMPACT)}" for run, spec in runs.items()
    )
    return f'{rest},\n "runs": {{\n{rows}\n }}\n}}\n'


def _small(source: Path, target: Path) -> None:
    """The picture in few colours, no wider than a page shows it."""
    with Image.open(source) as picture:
        small = picture.convert("RGB")
        small.thumbnail((WIDTH, picture.height))
        small.quantize(COLOURS, Image.Quantize.FASTOCTREE).save(target, optimize=True)
