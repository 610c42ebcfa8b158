"""From a config to records: make the folder, train what is missing, say how it went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from .config import Config, validated
from .document import parse_document, read_document, with_settings
from .engines import ENGINES
from .errors import Interrupted, RequestError
from .folder import Folder, Pack, read_manifest, write_json, write_whole
from .job import News
from .layout import CONFIG, MANIFEST, records_name
from .logged import check_logging, log_of
from .manifest import manifest_of
from .mirror import adopt, arrived, gather, held
from .planning import plan
from .refusals import check_alike, check_foreign, check_place, check_same
from .rounds import next_packs, unplanned
from .rungs import Rungs, heal
from .stored_path import Location, check_storage, stored
from .tracker import Tracker
from .work import Work


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. failed: pack -> what went wrong. notices: told once, for the user.

    evaluation_share: of the workers' time, None if nothing was trained.
    """

    folder: Path
    runs: int
    diverged: int
    failed: dict[int, str]
    notices: tuple[str, ...]
    evaluation_share: float | None = None


def run(
    config: Config,
    out: str | Path | None = None,
    *,
    address: str | None = None,
    listen: Callable[[Tracker], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> Outcome:
    """Train every run of a config that has no records yet in folder `out` (default results/NAME).

    address: of a Ray cluster. listen: called with the tracker whenever a pack tells something.
    note: called with each of the plan's notes before anything trains; without it the outcome's
    notices hold them. Raises RequestError if the config is wrong or the folder holds something else
    (nothing is touched then), StorageError if it cannot be written, Interrupted if stopped from
    outside.
    """
    check_logging(config)
    planned = plan(config)
    folder = Folder(Path(out) if out is not None else Path("results") / config.name)
    check_same(folder, config)
    check_place(folder.root, planned)
    folder = _with_storage(folder, config.resources.storage)
    check_place(folder.shared, planned)
    if note:
        for line in planned.notes:
            note(line)
    with held(folder):
        if not folder.manifest.exists():
            _write_config(folder.config, config)
        adopt(folder)
        if not folder.manifest.exists():
            manifest = manifest_of(planned)
            if folder.storage:
                _write_config(folder.storage / CONFIG, config)
            for place in folder.places:
                write_json(place / MANIFEST, manifest)
        outcome = _train(folder, config, address, listen)
    return outcome if note else replace(outcome, notices=(*planned.notes, *outcome.notices))


def resume(
    directory: str | Path,
    *,
    storage: str | None = None,
    address: str | None = None,
    listen: Callable[[Tracker], None] | None = None,
) -> Outcome:
    """Train what a sweep's folder misses; what is done is not done again. Raises as `run` does.

    storage: URI of the sweep's storage, for a folder that is new or of a sweep whose storage moved.
    """
    folder = Folder(Path(directory))
    if storage:
        folder = _with_storage(folder, storage)
        config = _stored_config(folder, storage)
    else:
        folder.read_manifest()
        config = validated(read_document(folder.config))
        folder = _with_storage(folder, config.resources.storage)
    check_logging(config)
    check_alike(folder)
    with held(folder):
        if storage:
            _write_config(folder.config, config)
        adopt(folder)
        return _train(folder, config, address, listen)


def _with_storage(folder: Folder, uri: str | None) -> Folder:
    """The folder with the storage at a URI, where files can be written and read."""
    if uri is None:
        return folder
    storage = stored(uri)
    check_storage(storage)
    return replace(folder, storage=storage)


def _stored_config(folder: Folder, uri: str) -> Config:
    """The config of the sweep in the folder's storage, which is to be found at this URI from now.

    Raises RequestError if there is none, or if the folder holds something that is no sweep.
    """
    assert folder.storage is not None
    read_manifest(folder.storage)
    if not folder.manifest.exists():
        check_foreign(folder.root)
    path = folder.storage / CONFIG
    try:
        document = parse_document(path.read_text(), str(path))
    except FileNotFoundError:
        raise RequestError(f"{path}: the sweep's config is not there") from None
    return validated(with_settings(document, [f"resources.storage={uri}"]))


def _write_config(path: Location, config: Config) -> None:
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_whole(path, lambda file: file.write(text.encode()))


def _train(
    folder: Folder,
    config: Config,
    address: str | None,
    listen: Callable[[Tracker], None] | None,
) -> Outcome:
    flaws = gather(folder, _packs(folder.read_manifest()))
    new = next_packs(folder)  # what a driver that died had no time to plan
    manifest = folder.read_manifest()
    packs = _packs(manifest)
    flaws |= gather(folder, {number: packs[number] for number in new})
    todo = [number for number, flaw in flaws.items() if flaw != ""]
    folder.tidy(packs.keys() - todo)
    tracker = Tracker(folder, manifest, todo)

    def tell(news: News) -> None:
        tracker.hear(arrived(folder, packs, news) if folder.storage else news)
        if listen:
            listen(tracker)

    def grow() -> list[int]:
        new = next_packs(folder)
        if new:
            grown = folder.read_manifest()
            packs.update(_packs(grown))
            tracker.extend(grown, new)
        return new

    def say(line: str) -> None:
        tracker.say(line)
        if listen:
            listen(tracker)

    if listen:
        listen(tracker)
    mended: list[str] = []
    if todo:
        rungs = None
        if _is_scheduled(manifest):
            mended = heal(folder, manifest, todo)
            rungs = Rungs(folder, manifest, todo)
        work = Work(
            folder,
            todo,
            config.resources,
            Path.cwd(),
            address,
            grow if any(unplanned(manifest).values()) else None,
            rungs,
            say,
            log_of(config, manifest, tracker),
        )
        try:
            with tracker.saving():
                ENGINES[config.resources.engine](work, tell)
        except KeyboardInterrupt:  # at any moment, also when a first one is being seen to
            raise Interrupted(str(folder.root)) from None
        _collect(folder, packs, tracker)
    return Outcome(
        folder.root,
        sum(tracker.sizes.values()),
        tracker.diverged,
        tracker.failed,
        (*_retrained(folder, flaws), *mended, *tracker.notices),
        tracker.evaluation_share,
    )


def _packs(manifest: Mapping[str, Any]) -> dict[int, Pack]:
    return {number: tuple(runs) for number, runs in enumerate(manifest["packs"])}


def _collect(folder: Folder, packs: Mapping[int, Pack], tracker: Tracker) -> None:
    """Bring what did not arrive while packs trained. Raises StorageError if it still does not."""
    if folder.storage:
        late = {n for n, news in tracker.latest.items() if news.done}
        for number in late:
            if not folder.records(number).exists():
                tracker.hear(arrived(folder, packs, tracker.latest[number], patient=False))


def _is_scheduled(manifest: Mapping[str, Any]) -> bool:
    return any("scheduler" in run for run in manifest["runs"].values())


def _retrained(folder: Folder, flaws: Mapping[int, str | None]) -> list[str]:
    """One line for each records file that was there and of no use."""
    return [
        f"{folder.shared / records_name(number)} was {flaw}; its runs were trained again"
        for number, flaw in flaws.items()
        if flaw
    ]
