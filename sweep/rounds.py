"""Rounds: what is planned when runs before it are measured, of adaptive arms and of controls.

The manifest grows by whole rounds. What a round trains follows from the config and from the records
of an arm's runs, so that it does not matter when, where or in which order they were trained: an
adaptive arm's from its own earlier rounds, a control's from all runs of the arm that it repeats.
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
from .controls import Control, control_specs
from .document import read_document
from .folder import Folder, write_json
from .front_search import propose
from .layout import MANIFEST
from .mean_weights import mean_weights
from .planning import packed, round_specs
from .settings import arm_settings
from .spec import RunSpec, spec_from_dict

Rows = NDArray[np.float64]


def next_packs(folder: Folder) -> list[int]:
    """Plan the next round of every search, and every control, for which the records are there.

    Returns the numbers of the new packs, which are in the manifest then; none if everything is
    planned or waits for packs. Raises StorageError if the manifest cannot be written.
    """
    manifest = folder.read_manifest()
    if not any(unplanned(manifest).values()):
        return []
    config = validated(read_document(folder.config))
    first, grown = len(manifest["packs"]), False
    for arm, search in manifest["searches"].items():
        if not _is_whole(search) and _measured(folder, manifest, arm):
            search["rounds"].append(_extended(manifest, _round(folder, manifest, config, arm)))
            grown = True
    for name, control in manifest.get("controls", {}).items():
        search = manifest["searches"].get(control["repeats"])
        whole = search is None or _is_whole(search)
        if control["packs"] is None and whole and _measured(folder, manifest, control["repeats"]):
            control["packs"] = _extended(manifest, _second_phase(folder, manifest, name))
            grown = True
    if grown:
        for place in folder.places:
            write_json(place / MANIFEST, manifest)
    return list(range(first, len(manifest["packs"])))


def unplanned(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Adaptive arm or control -> runs of it that are not in the manifest yet."""
    searches, controls = manifest.get("searches", {}), manifest.get("controls", {})
    left = {
        arm: search["runs"] - sum(len(runs) for runs in _packs_of(manifest, arm).values())
        for arm, search in searches.items()
    }
    return left | {
        name: control["runs"] if control["packs"] is None else 0
        for name, control in controls.items()
    }


def first_rounds(manifest: Mapping[str, Any]) -> set[str]:
    """The runs that were planned before anything was measured."""
    rounds = [n for one in manifest.get("searches", {}).values() for n in one["rounds"][1:]]
    rounds += [one["packs"] or [] for one in manifest.get("controls", {}).values()]
    later = {identity for n in rounds for number in n for identity in manifest["packs"][number]}
    return set(manifest["runs"]) - later


def _is_whole(search: Mapping[str, Any]) -> bool:
    return len(search["rounds"]) == len(search["sizes"])


def _extended(manifest: dict[str, Any], specs: list[RunSpec]) -> list[int]:
    """Put runs into the manifest, in packs; the packs' numbers."""
    runs = {spec.id: spec for spec in specs}
    packs = packed(runs, manifest["pack_limit"])
    begin = len(manifest["packs"])
    manifest["packs"] += packs
    manifest["runs"].update({identity: spec.as_dict() for identity, spec in runs.items()})
    return list(range(begin, begin + len(packs)))


def _packs_of(manifest: Mapping[str, Any], arm: str) -> dict[int, tuple[str, ...]]:
    """Number -> runs of the packs of an arm."""
    runs = manifest["runs"]
    return {n: tuple(p) for n, p in enumerate(manifest["packs"]) if runs[p[0]]["arm"] == arm}


def _specs_of(manifest: Mapping[str, Any], arm: str) -> list[RunSpec]:
    """The runs of an arm that are planned."""
    packs = _packs_of(manifest, arm).values()
    return [spec_from_dict(manifest["runs"][identity]) for runs in packs for identity in runs]


def _measured(folder: Folder, manifest: Mapping[str, Any], arm: str) -> bool:
    packs = _packs_of(manifest, arm)
    there = all(folder.records(number).exists() for number in packs)  # before any is read
    return there and folder.finished(packs) == set(packs)


def _second_phase(folder: Folder, manifest: Mapping[str, Any], name: str) -> list[RunSpec]:
    """The runs of a control."""
    found = manifest["controls"][name]
    control = Control(found["kind"], tuple(found["of"]), found["repeats"], found["epochs"])
    numbers = list(_packs_of(manifest, control.repeats))
    weights = {}
    if control.kind != "longer":
        weights = mean_weights([folder.records(n) for n in numbers], manifest["tasks"])
    return control_specs(name, control, _specs_of(manifest, control.repeats), weights)


def _round(folder: Folder, manifest: Mapping[str, Any], config: Config, arm: str) -> list[RunSpec]:
    """The runs of the next round of an arm."""
    sizes, done = manifest["searches"][arm]["sizes"], len(manifest["searches"][arm]["rounds"])
    tasks = manifest["tasks"]
    specs = _specs_of(manifest, arm)
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
