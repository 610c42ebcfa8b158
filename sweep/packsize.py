"""How many runs a pack should hold on this machine: measured once, then remembered."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from mtofront import __version__
from mtofront.problems import Problem

from .network import network
from .spec import RunSpec
from .timing import MOST, one_thread, seconds_of_epoch, short_problem, short_run
from .train import is_out_of_memory, start_course

CANDIDATES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""A pack of one trains as twins, so two is the smallest that wastes nothing."""
STEPS = 5
"""Steps timed for each candidate, after one to warm up."""
FEWEST = 5
"""So many candidates are tried however long that takes: a busy machine must not decide by one."""
SECONDS = 10.0
"""After so long no larger candidate is tried."""
NEARLY = 0.95
"""The smallest pack with this share of the best rate is taken: small packs lose less to a crash."""
WORTH_IT = 50_000
"""Steps of all runs together below which a sweep is over before measuring would pay."""


@dataclass(frozen=True)
class PackSize:
    """limit: most runs in a pack. rates: size -> steps of single runs a second, where measured.

    origin: "given" in the config, "measured" now, perhaps "on a busy machine", "remembered" from
    before, or a "rule" of thumb.
    """

    limit: int
    origin: str
    rates: Mapping[int, float] = field(default_factory=dict)

    def sentence(self) -> str:
        """One line for `mtofront plan`."""
        runs = "1 run" if self.limit == 1 else f"{self.limit} runs"
        if not self.rates:
            reason = "as given" if self.origin == "given" else "a rule of thumb: a short sweep"
            return f"Packs of at most {runs} ({reason})."
        tried = ", ".join(f"{size}: {rate:,.0f}" for size, rate in self.rates.items())
        return (
            f"Packs of at most {runs} ({self.origin}; steps a second on one worker by "
            f"pack size: {tried})."
        )


def fitting_pack(problem: Problem, spec: RunSpec, steps: int, device: str) -> PackSize:
    """The pack size for a sweep of so many single-run steps in all.

    spec: one of its runs. device: where it trains.
    """
    if steps < WORTH_IT:
        return PackSize(rule_of_thumb(problem), "rule")
    path = _memory(problem, spec, device)
    rates = _remembered(path)
    origin = "remembered"
    if not rates:
        busy = is_busy()
        rates, origin = measured_rates(problem, spec), "measured"
        if busy:
            origin = "measured on a busy machine, so not remembered"
        else:
            _remember(path, rates)
    return PackSize(best_size(rates), origin, rates)


def best_size(rates: Mapping[int, float]) -> int:
    """The smallest size whose rate is nearly the best."""
    return min(size for size, rate in rates.items() if rate >= NEARLY * max(rates.values()))


def measured_rates(problem: Problem, spec: RunSpec) -> dict[int, float]:
    """Size -> steps of single runs a second, from a few steps of packs of this run's kind.

    Sizes are tried upwards until time or memory is used up, or twice in a row nothing is gained.
    """
    short, spec = short_problem(problem, spec.batch_size, STEPS), short_run(problem, spec, STEPS)
    rates: dict[int, float] = {}
    start = time.perf_counter()
    try:
        for size in CANDIDATES:
            best = max(rates.values(), default=0.0)
            stale = len(rates) > 2 and max(list(rates.values())[-2:]) < NEARLY * best
            late = len(rates) >= FEWEST and time.perf_counter() - start > SECONDS
            if late or stale:
                break
            with one_thread():  # as packs train
                rates[size] = _rate(short, [replace(spec, seed=n, lr=1e-4) for n in range(size)])
    except (MemoryError, RuntimeError) as error:
        if not rates or not is_out_of_memory(error):
            raise
    return rates


def is_busy() -> bool:
    """Whether processes waited for a processor in the last minute: what is timed may be wrong."""
    try:
        return os.getloadavg()[0] > (os.cpu_count() or 1)
    except OSError:
        return False


def rule_of_thumb(problem: Problem) -> int:
    """A size whose parameters, gradients and moments fit a processor's last cache, 4 … 64."""
    parameters = sum(p.numel() for p in problem.model().parameters())
    return max(4, min(64, 32 * 2**20 // (16 * max(parameters, 1))))


def _rate(problem: Problem, specs: list[RunSpec]) -> float:
    course = start_course(network(problem, specs[0]), specs)
    return len(specs) * STEPS / seconds_of_epoch(course, 0)


def _memory(problem: Problem, spec: RunSpec, device: str) -> Path:
    """The file that remembers the rates for this problem on this machine."""
    parameters = sum(p.numel() for p in problem.model().parameters())
    about = [
        __version__,
        torch.__version__,
        platform.node(),
        os.cpu_count(),
        device if device == "cpu" else torch.cuda.get_device_name(),
        spec.problem,
        spec.options_text,
        parameters,
        len(problem.train),
        spec.batch_size,
        spec.optimizer["name"],
        spec.precision,
        MOST,
    ]
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "mtofront" / "packs" / f"{name}.json"


def _remembered(path: Path) -> dict[int, float]:
    try:
        return {int(size): float(rate) for size, rate in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _remember(path: Path, rates: Mapping[int, float]) -> None:
    """Keep the rates if there is a place to keep them: a read-only home is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(rates))
        temporary.replace(path)
    except OSError:
        return
