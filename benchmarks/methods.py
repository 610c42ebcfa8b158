"""Times one aggregation of a ready Jacobian, ours against TorchJD's and LibMTL's.

    pip install 'torchjd[full]>=0.18' LibMTL==1.1.5 && python benchmarks/methods.py

Prints a table for every number of tasks T: microseconds a run of `aggregate` on a batch of N
Jacobians, of a call of TorchJD's aggregator and of LibMTL's weighting, which take one Jacobian a
call (timed beside N = 1), and how many times faster a run of ours is. One process, one thread; each
call in turn with its rivals; medians of processor time, so that what else runs on the machine
matters less. A peer that is not installed, or a method of it that fails, is named at the end.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from peers import libmtl_module
from torch import Tensor

from mtofront.methods import aggregate

Call = Callable[[], object]

PEERS: dict[str, tuple[dict[str, Any], str | None, dict[str, Any], str | None, dict[str, Any]]] = {
    # ours, TorchJD's and LibMTL's name with their settings; LibMTL's losses-only weightings have
    # nothing to aggregate, and its GradDrop works on representations
    "linear": ({}, "Mean", {}, None, {}),
    "random": ({}, "Random", {}, None, {}),
    "pcgrad": ({}, "PCGrad", {}, "PCGrad", {}),
    "gradvac": ({"beta": 0.5}, "GradVac", {}, "GradVac", {"beta": 0.5}),
    "graddrop": ({}, "GradDrop", {}, None, {}),
    "mgda": ({}, "MGDA", {}, "MGDA", {"mgda_gn": "none"}),
    "cagrad": ({"c": 0.4}, "CAGrad", {"c": 0.4}, "CAGrad", {"calpha": 0.4, "rescale": 0}),
    "imtl_g": ({}, "IMTLG", {}, "IMTL", {}),
    "nash_mtl": ({}, "NashMTL", {"n_tasks": True}, None, {}),
    "fairgrad": ({"alpha": 2.0}, "FairGrad", {"alpha": 2.0}, None, {}),
    "aligned_mtl": ({}, "AlignedMTL", {}, None, {}),
    "upgrad": ({}, "UPGrad", {}, None, {}),
    "dualproj": ({}, "DualProj", {}, None, {}),
    "config": ({}, "ConFIG", {}, None, {}),
}


def jacobians(runs: int, tasks: int, parameters: int) -> Tensor:
    """Gradients (runs, T, P) float32: half of each is common to ten directions; norms spread."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(runs, tasks, 10, generator=generator)
    directions = torch.randn(runs, 10, parameters, generator=generator) / 10**0.5
    own = torch.randn(runs, tasks, parameters, generator=generator)
    sizes = torch.exp(0.5 * torch.randn(runs, tasks, 1, generator=generator))
    return (shared @ directions + own) * sizes


def torchjd_call(name: str, options: dict[str, Any], pool: Tensor) -> Call:
    """A call of TorchJD's aggregator on the next Jacobian of the pool."""
    import torchjd.aggregation

    if options.get("n_tasks"):
        options = {"n_tasks": pool.shape[1]}
    aggregator = getattr(torchjd.aggregation, name)(**options)
    supply = itertools.cycle(pool)
    return lambda: aggregator(next(supply))


def libmtl_call(name: str, options: dict[str, Any], pool: Tensor) -> Call:
    """A call of LibMTL's weighting that is handed the next Jacobian in place of backward passes."""
    module = libmtl_module(f"weighting.{name}")
    weighting = getattr(module, name)()
    weighting.task_num, weighting.rep_grad, weighting.device = pool.shape[1], False, "cpu"
    supply = itertools.cycle(pool)
    weighting._compute_grad_dim = lambda: None
    weighting._compute_grad = weighting._get_grads = lambda *_, **__: next(supply)
    weighting._reset_grad = lambda gradient: gradient
    weighting.init_param()
    losses = torch.ones(pool.shape[1])
    return lambda: weighting.backward(losses, **options)


def medians(ours: Call, rivals: dict[str, Call], runs: int, seconds: float) -> dict[str, float]:
    """Median seconds a run; all take turns, a rival with as many calls in a row as there are runs.

    Fewer if they take longer than a tenth of the time.
    """
    repeats: dict[str, int] = {}
    for name, call in rivals.items():
        call()
        repeats[name] = max(1, min(runs, int(seconds / 10 / max(elapsed(call, 1), 1e-9))))
    ours()
    taken: dict[str, list[float]] = {name: [] for name in ("ours", *rivals)}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["ours"]) < 5:
        taken["ours"].append(elapsed(ours, 1) / runs)
        for name, call in rivals.items():
            taken[name].append(elapsed(call, repeats[name]))
    return {name: statistics.median(times) for name, times in taken.items()}


def elapsed(call: Call, repeats: int) -> float:
    """Processor time of a call, on average."""
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def measured(name: str, tasks: int, options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The cells of a method's row, and what had to be left out."""
    ours, torchjd, torchjd_options, libmtl, libmtl_options = PEERS[name]
    pool = jacobians(max(options.runs), tasks, options.parameters)
    rivals, left_out = {}, []
    for peer, make, theirs, given in (
        ("TorchJD", torchjd_call, torchjd, torchjd_options),
        ("LibMTL", libmtl_call, libmtl, libmtl_options),
    ):
        if theirs is not None:
            try:
                call = make(theirs, given, pool)
                call()
                rivals[peer] = call
            except Exception as error:
                left_out.append(f"{peer}'s {theirs}, T = {tasks}: {type(error).__name__}: {error}")
    own, ratios = [], {peer: [] for peer in ("TorchJD", "LibMTL")}
    first: dict[str, float] = {}
    for runs in options.runs:
        batch = pool[:runs] if runs > 1 else pool[0]
        call = functools.partial(aggregate, name, batch, **ours)
        times = medians(call, rivals, runs, options.seconds)
        first = first or times
        own.append(f"{times['ours'] * 1e6:8.0f}")
        for peer in ratios:
            known = peer in times
            ratios[peer].append(f"{times[peer] / times['ours']:7.1f}" if known else 7 * " ")
    cells = [f"{name:12s}", *own]
    for peer, found in ratios.items():
        cells += [f"{first[peer] * 1e6:8.0f}" if peer in first else 8 * " ", *found]
    return cells, left_out


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 8, 40])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--parameters", type=int, default=1000)
    parser.add_argument("--methods", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    batches = "".join(f"{f'N={runs}':>9s}" for runs in options.runs)
    gains = "".join(f"{f'×N={runs}':>8s}" for runs in options.runs)
    missing: list[str] = []
    for tasks in options.tasks:
        print(
            f"\nT = {tasks}, P = {options.parameters}: µs a run; ×: times a run of ours is faster"
        )
        print(f"{'':12s}{batches}  TorchJD{gains}   LibMTL{gains}")
        for name in options.methods:
            cells, left_out = measured(name, tasks, options)
            print(" ".join(cells).rstrip(), flush=True)
            missing += left_out
    print("\nleft out:", *(missing or ["nothing"]), sep="\n  ")


if __name__ == "__main__":
    main()
