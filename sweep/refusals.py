"""What a folder or a storage may not hold if an experiment is to begin or go on there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .config import Config, validated
from .document import read_document
from .errors import RequestError
from .folder import Folder, read_manifest
from .layout import CONFIG, MANIFEST, OWNER
from .planning import Plan
from .rounds import first_rounds
from .stored_path import PROBE, Location

OWN_FILES = frozenset({"lock", CONFIG, OWNER})
"""What a start that was cut off may leave in a folder or storage before its manifest."""


def check_same(folder: Folder, config: Config) -> None:
    """Refuse other storage, diagnostics or controls than the folder's sweep began with."""
    if not (folder.manifest.exists() and folder.config.exists()):
        return
    known = validated(read_document(folder.config))
    if known.diagnostics != config.diagnostics:
        raise RequestError(
            f"{folder.root}: this sweep began with diagnostics: {str(known.diagnostics).lower()}; "
            f"found {str(config.diagnostics).lower()}. What is trained cannot record more or less "
            f"afterwards; go on as it began with: mtofront resume {folder.root}, or choose another "
            "--out"
        )
    if known.controls != config.controls:
        raise RequestError(
            f"{folder.root}: this sweep began with controls: {_listed(known)}; found "
            f"{_listed(config)}. Controls are part of an experiment, declared before it is looked "
            f"at; go on as it began with: mtofront resume {folder.root}, or choose another --out"
        )
    found = known.resources.storage
    if found != config.resources.storage:
        raise RequestError(
            f"{folder.root}: this sweep has resources.storage: {found or 'none'}; found "
            f"{config.resources.storage or 'none'}. If its storage was moved, go on with: mtofront "
            f"resume {folder.root} --from URI"
        )


def _listed(config: Config) -> str:
    """The controls of a config in one line."""
    kinds = config.controls.items()
    return (
        ", ".join(k if arms is None else f"{k} ({' '.join(arms)})" for k, arms in kinds) or "none"
    )


def check_place(place: Location, planned: Plan) -> None:
    """Refuse a folder or storage that holds anything but this experiment."""
    if not (place / MANIFEST).exists():
        check_foreign(place)
        return
    known, *later = _experiment(read_manifest(place))
    sizes = {arm: list(rounds.sizes) for arm, rounds in planned.rounds.items()}
    controls = {name: _told(asdict(one)) for name, (one, _) in planned.controls.items()}
    if known != set(planned.runs) or [sizes, controls] != later:
        raise RequestError(
            f"{place}: this {_kind(place)} holds another experiment ({len(known)} runs, "
            f"{len(known & set(planned.runs))} of them among the {len(planned.runs)} asked "
            f"for); choose another {_option(place)}, or remove the {_kind(place)} if its results "
            "are not needed"
        )


def check_alike(folder: Folder) -> None:
    """Refuse a folder and a storage that hold different experiments."""
    found = [
        _experiment(read_manifest(place)) for place in folder.places if (place / MANIFEST).exists()
    ]
    if any(one != found[0] for one in found):
        raise RequestError(
            f"{folder.root}: this folder and the storage {folder.storage} hold different "
            "experiments; choose another folder, or another storage"
        )


def _experiment(manifest: Mapping[str, Any]) -> tuple[set[str], Any, Any]:
    """What was to be trained: first runs, sizes of the rounds of searches, and controls."""
    sizes = {arm: one["sizes"] for arm, one in manifest.get("searches", {}).items()}
    controls = {name: _told(one) for name, one in manifest.get("controls", {}).items()}
    return first_rounds(manifest), sizes, controls


def _told(control: Mapping[str, Any]) -> list[Any]:
    """What a control is, whether or not it has been planned."""
    return [control["kind"], list(control["of"]), control["repeats"], control["epochs"]]


def check_foreign(place: Location) -> None:
    """Refuse a folder or storage that holds what no sweep leaves there."""
    names = {entry.name for entry in place.glob("*")} - OWN_FILES
    foreign = sorted(name for name in names if not name.startswith(PROBE))
    if foreign:
        raise RequestError(
            f"{place}: this {_kind(place)} holds something that is no sweep ({foreign[0]}); "
            f"choose an empty or new one with {_option(place)}"
        )


def _kind(place: Location) -> str:
    return "folder" if isinstance(place, Path) else "storage"


def _option(place: Location) -> str:
    return "--out" if isinstance(place, Path) else "resources.storage"
