"""The rounds of adaptive arms: what is planned when the rounds before are measured.

The manifest grows by whole rounds. What a round trains follows from the config and from the records
of the same arm's earlier rounds, so that it does not matter when, where or in which order they were
trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .config import Config, validated
from .document import read_document
from .folder import Folder, write_json
from .front_search import propose
from .layout import MANIFEST
from .planning import arm_settings, packed, round_specs
from .spec import RunSpec, spec_from_dict

Rows = NDArray[np.float64]


def next_packs(folder: Folder) -> list[int]:
    """Plan the next round of every search whose earlier rounds have their records.

    Returns the numbers of the new packs, which are in the manifest then; none if every search is
    complete or waits for packs. Raises StorageError if the manifest cannot be written.
    """
    manifest = folder.read_manifest()
    if not any(unplanned(manifest).values()):
        return []
    config = validated(read_document(folder.config))
    first = len(manifest["packs"])
    for arm, search in manifest["searches"].items():
        if len(search["rounds"]) == len(search["sizes"]) or not _measured(folder, manifest, arm):
            continue
        runs = {spec.id: spec for spec in _round(folder, manifest, config, arm)}
        packs = packed(runs, manifest["pack_limit"])
        begin = len(manifest["packs"])
        search["rounds"].append(list(range(begin, begin + len(packs))))
        manifest["packs"] += packs
        manifest["runs"].update({identity: spec.as_dict() for identity, spec in runs.items()})
    if len(manifest["packs"]) > first:
        for place in folder.places:
            write_json(place / MANIFEST, manifest)
    return list(range(first, len(manifest["packs"])))


def unplanned(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Adaptive arm -> runs of its rounds that are not in the manifest yet."""
    searches = manifest.get("searches", {})
    return {
        arm: search["runs"] - sum(len(runs) for runs in _packs_of(manifest, arm).values())
        for arm, search in searches.items()
    }


def first_rounds(manifest: Mapping[str, Any]) -> set[str]:
    """The runs that were planned before anything was measured."""
    later = {
        identity
        for search in manifest.get("searches", {}).values()
        for numbers in search["rounds"][1:]
        for number in numbers
        for identity in manifest["packs"][number]
    }
    return set(manifest["runs"]) - later


def _packs_of(manifest: Mapping[str, Any], arm: str) -> dict[int, tuple[str, ...]]:
    numbers = [n for one in manifest["searches"][arm]["rounds"] for n in one]
    return {number: tuple(manifest["packs"][number]) for number in numbers}


def _measured(folder: Folder, manifest: Mapping[str, Any], arm: str) -> bool:
    packs = _packs_of(manifest, arm)
    return folder.finished(packs) == set(packs)


def _round(folder: Folder, manifest: Mapping[str, Any], config: Config, arm: str) -> list[RunSpec]:
    """The runs of the next round of an arm."""
    sizes, done = manifest["searches"][arm]["sizes"], len(manifest["searches"][arm]["rounds"])
    tasks = manifest["tasks"]
    specs = [
        spec_from_dict(manifest["runs"][identity])
        for runs in _packs_of(manifest, arm).values()
        for identity in runs
    ]
    losses = _losses(folder, list(_packs_of(manifest, arm)), tasks)
    weights, reached, seeds = judged(specs, losses)
    vectors = propose(weights, reached, sizes[done], seeds=seeds)
    settings = arm_settings(config, len(tasks))[arm]
    return round_specs(config, arm, settings, sum(sizes[:done]), vectors)


def _losses(folder: Folder, numbers: list[int], tasks: list[str]) -> dict[str, list[float]]:
    """Run -> validation losses (T,) at its last evaluation; diverged runs are absent."""
    parts = []
    for number in numbers:
        columns = ["run", "step", "split", "task", "measure", "value"]
        table = pq.read_table(folder.records(number), columns=columns)
        of_loss = pc.and_(pc.equal(table["split"], "val"), pc.equal(table["measure"], "loss"))
        parts.append(table.filter(pc.or_(of_loss, pc.equal(table["measure"], "diverged"))))
    frame = pd.concat([part.to_pandas() for part in parts])
    diverged = set(frame.loc[frame["measure"] == "diverged", "run"])
    frame = frame[~frame["run"].isin(diverged)]
    frame = frame[frame["step"] == frame.groupby("run")["step"].transform("max")]
    wide = frame.pivot_table(index="run", columns="task", values="value")
    return {str(run): [float(row[task]) for task in tasks] for run, row in wide.iterrows()}


def judged(
    specs: list[RunSpec], losses: Mapping[str, list[float]]
) -> tuple[Rows, Rows, NDArray[np.int64]]:
    """Weights (R, T), losses (R, T) and seeds (R,) of the runs that a search looks at.

    For each weight vector those of one setting, learning rate and all else that is tuned: the one
    whose mean over seeds these weights value most. Restarts count as seeds. A run without losses,
    diverged, has NaN. In an order that does not depend on the order of the runs.
    """
    groups: dict[tuple[float, ...], dict[str, dict[tuple[int, int], list[float]]]] = {}
    nothing = [float("nan")] * len(specs[0].weights or ())
    for spec in sorted(specs, key=lambda one: one.id):
        assert spec.weights is not None
        setting = json.dumps([spec.lr, spec.optimizer, spec.hyper], sort_keys=True)
        runs = groups.setdefault(spec.weights, {}).setdefault(setting, {})
        runs[spec.seed, spec.restart] = losses.get(spec.id, nothing)
    names = sorted({(spec.seed, spec.restart) for spec in specs})
    weights, reached, seeds = [], [], []
    for place in sorted(groups):
        best = min(
            sorted(groups[place].items()),
            key=lambda one: float(np.nan_to_num(_value(place, one[1]), nan=np.inf)),
        )[1]
        for name, found in sorted(best.items()):
            weights.append(place)
            reached.append(found)
            seeds.append(names.index(name))
    return np.array(weights), np.array(reached), np.array(seeds, dtype=np.int64)


def _value(weights: tuple[float, ...], runs: Mapping[tuple[int, int], list[float]]) -> float:
    """Weighted sum of the mean losses; NaN if a run diverged."""
    return float(np.mean(list(runs.values()), axis=0) @ np.array(weights))
