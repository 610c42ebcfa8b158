"""What was decided at a rung, as a file of the sweep's folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import StorageError
from .folder import Folder, read_table, write_json
from .halving import Cut, cut
from .layout import rung_name
from .spec import RunSpec
from .stored_path import Location


class DecisionError(ValueError):
    """A decision that cannot be read, and why."""


@dataclass(frozen=True)
class Decision:
    """What a rung made of an arm's runs. Runs in neither list have ended before, or had failed.

    epochs_saved: what the stopped runs would still have trained, together. hypervolume_share: of
    all compared runs' validation losses, that the kept ones still have, seed -> share.
    """

    arm: str
    epoch: int
    kept: tuple[str, ...]
    stopped: tuple[str, ...]
    epochs_saved: int
    hypervolume_share: Mapping[str, float]


def decide(
    arm: str, epoch: int, specs: Iterable[RunSpec], losses: Mapping[str, Sequence[float]]
) -> Decision:
    """Compare the runs that have losses at the rung, each with those of its own seed."""
    seeds: dict[int, dict[str, RunSpec]] = {}
    for spec in specs:
        if spec.id in losses:
            seeds.setdefault(spec.seed, {})[spec.id] = spec
    cuts: dict[int, Cut] = {}
    saved = 0
    for seed, runs in sorted(seeds.items()):
        rule = next(iter(runs.values())).scheduler
        assert rule is not None
        cuts[seed] = cut({run: losses[run] for run in runs}, rule["keep"])
        saved += sum(runs[run].epochs - epoch for run in cuts[seed].stopped)
    return Decision(
        arm,
        epoch,
        tuple(run for one in cuts.values() for run in one.kept),
        tuple(run for one in cuts.values() for run in one.stopped),
        saved,
        {str(seed): one.hypervolume_share for seed, one in cuts.items()},
    )


def write_decision(folder: Folder, decision: Decision) -> None:
    """Put a decision into the folder. Raises StorageError."""
    values = asdict(decision)
    for place in folder.places:
        path = place / rung_name(decision.arm, decision.epoch)
        write_json(path, {**values, "digest": _digest(values)})


def read_decision(root: Location, arm: str, epoch: int) -> Decision | None:
    """The decision in a sweep's folder or storage on an arm at a rung, None if there is none yet.

    Raises DecisionError if it cannot be read, StorageError if a storage fails.
    """
    path = root / rung_name(arm, epoch)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        digest = values.pop("digest")
        lists = {name: tuple(values[name]) for name in ("kept", "stopped")}
        decision = Decision(**{**values, **lists})
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DecisionError(f"{path}: this decision cannot be read ({error})") from error
    if (digest, decision.arm, decision.epoch) != (_digest(values), arm, epoch):
        raise DecisionError(f"{path}: this decision is damaged or about another rung")
    return decision


def losses_at(records: Path, epoch: int, tasks: int) -> dict[str, list[float]]:
    """Validation losses (T,) at a rung of the runs of a pack that were compared there.

    They went on, were stopped there, or diverged later; others had ended by themselves. Of several
    networks that a run shows, its middle one.
    """
    frame = read_table(records).to_pandas()
    after = frame["measure"].isin(("stopped", "diverged")) | (frame["epoch"] > epoch)
    compared = frame["run"].isin(frame.loc[after, "run"])
    there = (frame["epoch"] == epoch) & (frame["split"] == "val") & (frame["measure"] == "loss")
    shown = {
        str(run): group["value"].to_numpy().reshape(-1, tasks)
        for run, group in frame[compared & there].groupby("run")
    }
    return {run: values[len(values) // 2].tolist() for run, values in shown.items()}


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
