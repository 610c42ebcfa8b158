"""What a sweep's files are called, in its folder and in its storage alike."""

from __future__ import annotations

CONFIG = "config.yaml"
"""The config after defaults."""
MANIFEST = "manifest.json"
"""Every planned run, the packs, versions and machine."""
OWNER = "owner.json"
"""Which driver works with a storage."""
FOLDERS = RECORDS, CHECKPOINTS, RUNGS, FAILURES = "records", "checkpoints", "rungs", "failures"


def records_name(pack: int) -> str:
    """The records of one pack."""
    return f"{RECORDS}/pack-{pack:05d}.parquet"


def checkpoint_name(pack: int) -> str:
    """Where a pack in training stands; its halves' stand beside it."""
    return f"{CHECKPOINTS}/pack-{pack:05d}.ckpt"


def rung_name(arm: str, epoch: int) -> str:
    """What was decided on an arm's runs after an epoch."""
    return f"{RUNGS}/{arm}-epoch-{epoch:05d}.json"


def failure_name(pack: int) -> str:
    """Why a pack failed, if it did."""
    return f"{FAILURES}/pack-{pack:05d}.json"
