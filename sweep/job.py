"""One pack's job, the same under every engine: train, write records, tell how it goes."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoints
from .decisions import read_decision
from .errors import StorageError
from .folder import read_manifest, write_json, write_table
from .layout import checkpoint_name, failure_name, records_name
from .memory import keep_freed_memory
from .prepared import first_alone
from .provide import placed_problem
from .records import record_table
from .spec import spec_from_dict
from .stored_path import Location, location
from .timing import one_thread
from .train import Ask, train_pack
from .trained import Progress, Waiting


@dataclass(frozen=True)
class News:
    """What a pack tells the driver, in plain values.

    points: the runs' validation losses, NaN where diverged. steps: that its runs have taken
    together. notices: what the user is to know.
    stopped: runs that a scheduler has ended. waits: the pack stands at a rung, its points are those
    of the runs that have not ended, and it is to be run again when the rung is decided.
    training, evaluating: seconds that its worker has spent on either.
    failed: one line if the pack could not be trained. storage: one line if nothing can be written.
    """

    pack: int
    runs: int
    epoch: int = 0
    epochs: int = 1
    diverged: int = 0
    points: tuple[tuple[float, ...], ...] = ()
    steps: int = 0
    done: bool = False
    notices: tuple[str, ...] = ()
    training: float = 0.0
    evaluating: float = 0.0
    failed: str = ""
    storage: str = ""
    stopped: int = 0
    waits: bool = False


Tell = Callable[[News], None]


def run_pack(
    root: str, number: int, home: str, device: str, checkpoint_seconds: float, tell: Tell
) -> bool:
    """Train pack `number` of the sweep in folder or storage `root` and write its records.

    Returns whether it waits at a rung instead, to be run again when that is decided.

    home: where the user's own modules are found. checkpoint_seconds: how far apart checkpoints are
    at least; what an earlier attempt left is gone on from. A pack that raises becomes a failure
    file and news; other packs go on.
    """
    try:
        place = location(root)
        manifest = read_manifest(place)
    except StorageError as error:
        tell(News(number, 0, storage=str(error.strerror)))
        return False
    identities = manifest["packs"][number]
    try:
        (place / failure_name(number)).unlink(missing_ok=True)
        checkpoints = Checkpoints(place / checkpoint_name(number), checkpoint_seconds)
        return _train_and_write(place, manifest, number, home, device, checkpoints, tell)
    except StorageError as error:
        tell(News(number, len(identities), storage=str(error.strerror)))
    except Exception as error:
        line = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        text = traceback.format_exc()
        with contextlib.suppress(StorageError):
            write_failure(place, number, identities, line, text)
        tell(News(number, len(identities), failed=line))
    return False


def write_failure(
    place: Location, number: int, identities: list[str], error: str, text: str
) -> None:
    """Keep why a pack failed, for status and report."""
    path = place / failure_name(number)
    write_json(path, {"runs": identities, "error": error, "traceback": text})


def _train_and_write(
    place: Location,
    manifest: dict[str, object],
    number: int,
    home: str,
    device: str,
    checkpoints: Checkpoints,
    tell: Tell,
) -> bool:
    packs, runs, tasks = manifest["packs"], manifest["runs"], manifest["tasks"]
    assert isinstance(packs, list) and isinstance(runs, dict) and isinstance(tasks, list)
    specs = [spec_from_dict(runs[identity]) for identity in packs[number]]
    if home not in sys.path:
        sys.path.insert(0, home)
    about = specs[0].problem, specs[0].options_text
    with first_alone(f"{place} {manifest.get('created')}", " ".join(about)):
        problem = placed_problem(*about, device)

    latest = News(number, len(specs), epochs=specs[0].epochs)

    def listen(progress: Progress) -> None:
        nonlocal latest
        latest = _news(number, progress, tuple(checkpoints.notices))
        tell(latest)

    keep_freed_memory()
    with one_thread():
        trained = train_pack(
            problem,
            specs,
            listen,
            checkpoints,
            _asked(place, specs[0].arm),
            bool(manifest.get("diagnostics")),
        )
    if isinstance(trained, Waiting):
        points = _plain(trained.points)
        tell(replace(latest, runs=len(specs), epoch=trained.epoch, points=points, waits=True))
        return True
    write_table(place / records_name(number), record_table(trained, tasks))
    checkpoints.clear()
    batching = f"runs of this problem train one by one: {trained.notice}"
    tell(
        replace(
            latest,
            runs=len(specs),
            epoch=latest.epochs,
            diverged=int((trained.diverged_at >= 0).sum()),
            stopped=int(trained.stopped.sum()),
            points=(),
            steps=int(trained.steps.sum()),
            done=True,
            notices=(*checkpoints.notices, *([batching] if trained.notice else [])),
        )
    )
    return False


def _asked(place: Location, arm: str) -> Ask:
    """Answers from the folder or storage which runs stop at a rung of the arm."""

    def ask(rung: int) -> frozenset[str] | None:
        decision = read_decision(place, arm, rung)
        return None if decision is None else frozenset(decision.stopped)

    return ask


def _plain(points: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in points)


def _news(number: int, progress: Progress, notices: tuple[str, ...]) -> News:
    """What a pack in training tells."""
    return News(
        number,
        progress.runs,
        progress.epoch,
        progress.epochs,
        progress.diverged,
        _plain(progress.points),
        progress.steps,
        notices=notices,
        training=progress.training,
        evaluating=progress.evaluating,
        stopped=progress.stopped,
    )
