"""Sweeps: config -> plan -> packs -> Ray Tune -> records.

The life of a run: `load_config` reads a YAML file; `plan` turns it into runs, each defined by a
`RunSpec` whose hash is its id, and divides them into packs that can train side by side; `run` hands
the packs to an engine (Ray Tune, or this process), where `job.run_pack` trains each with
`train.train_pack` and writes its records whole or not at all; `resume` trains what is missing.

>>> from mtofront.sweep import load_config, plan, run
"""

from .config import Config, load_config
from .costs import mean_passes_per_step, passes_per_step
from .errors import EngineError, Interrupted, RequestError, StorageError
from .estimate import Estimate, estimate
from .examine import Examination, examine
from .folder import Folder, is_locked
from .launch import Outcome, resume, run
from .planning import Plan, plan
from .provide import named_problem
from .spec import RunSpec
from .standing import ArmStanding, Standing
from .tracker import Tracker, standing, status

__all__ = [
    "ArmStanding",
    "Config",
    "EngineError",
    "Estimate",
    "Examination",
    "Folder",
    "Interrupted",
    "Outcome",
    "Plan",
    "RequestError",
    "RunSpec",
    "Standing",
    "StorageError",
    "Tracker",
    "estimate",
    "examine",
    "is_locked",
    "load_config",
    "mean_passes_per_step",
    "named_problem",
    "passes_per_step",
    "plan",
    "resume",
    "run",
    "standing",
    "status",
]
