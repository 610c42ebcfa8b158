"""How many model-steps a second packs of runs reach, against loops of one run at a time.

    make bench                                    # or, with what that installs:
    python benchmarks/throughput.py [--quick] [--only mlp128] [--processes 1 --clock cpu]

Every alternative runs in as many processes at once as there are cores, one thread each, and the
sum of their rates counts. Alternatives of one table take turns, round after round; a rate is the
median over the rounds, ± half the range between the quartiles; a ratio is the median of the rounds'
ratios. "step": the time of a step in scalarized steps of the same pack. Peers: a lean loop of plain
torch, scalarized; LibMTL's trainer; TorchJD's loop; Ray Tune with a trial a run.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator

import torch
from rounds import CLOCKS, Alternative, Rates, Team, Timing, middle, ratio, team
from trials import compare
from workloads import WORKLOADS, Workload

METHODS = {
    # ours, then LibMTL's and TorchJD's name
    "linear": ("EW", "Mean"),
    "pcgrad": ("PCGrad", "PCGrad"),
    "mgda": ("MGDA", "MGDA"),
    "cagrad": ("CAGrad", "CAGrad"),
    "nash_mtl": ("Nash_MTL", "NashMTL"),
}
DETAILED = ("mlp128", "mlp128t8", "mlp128t40")
"""Workloads on which all methods are timed."""
DETAILED_PACKS = (16, 64)
PACK = 64
"""The pack that targets are about."""
CUDA_WORKLOADS = ("mlp32", "mlp128", "mlp512", "lenet32", "lenet256")
CUDA_PACKS = (1, 16, 64, 256, 1024)
COST_LIMITS = {2: (1.6, 1.1), 8: (3.3, 1.9), 40: (9.0, 2.7)}
"""T -> a gradient method's step in scalarized steps: of parameters, of features."""


def ours(runs: int, method: str = "linear", level: str = "parameters") -> str:
    """The label of a pack."""
    return f"pack N={runs} {method}" + (" (features)" if level == "features" else "")


def alternatives(key: str, device: str) -> Iterator[Alternative]:
    """What is timed of one workload."""
    workload, detailed = WORKLOADS[key], key in DETAILED and device == "cpu"
    sizes = CUDA_PACKS if device == "cuda" else workload.packs
    for runs in sizes:
        yield Alternative(
            ours(runs), key, "pack", {"runs": runs}, quick=runs in (1, PACK) or runs == max(sizes)
        )
    for runs in DETAILED_PACKS if detailed else ():
        for method in list(METHODS)[1:]:
            for level in ("parameters", "features"):
                options = {"runs": runs, "method": method, "level": level}
                quick = runs == PACK and method in ("pcgrad", "nash_mtl")
                yield Alternative(ours(runs, method, level), key, "pack", options, quick)
    yield Alternative("lean loop", key, "lean", quick=True)
    for method in METHODS if detailed else ("linear",):
        theirs, jd = METHODS[method]
        quick = method in ("linear", "pcgrad")
        yield Alternative(f"LibMTL {theirs}", key, "libmtl", {"weighting": theirs}, quick)
        yield Alternative(f"TorchJD {jd}", key, "torchjd", {"aggregator": jd}, quick)
    options = {"weighting": "EW", "ready": True}
    yield Alternative("LibMTL EW, batches ready", key, "libmtl", options)
    if key.startswith("mlp") and workload.tasks == 2:
        yield Alternative(f"only products N={PACK}", key, "products", {"runs": PACK}, quick=True)
    if key == "mlp128":
        yield Alternative(
            ours(PACK) + ", evaluated", key, "pack", {"runs": PACK, "evaluated": True}
        )
        yield Alternative("lean loop, evaluated", key, "lean", {"evaluated": True})


def main() -> None:
    """Print a table a model, Ray Tune's comparison and the targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer and shorter")
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help=f"{', '.join(WORKLOADS)} or trials"
    )
    parser.add_argument("--processes", type=int, help="default: one a core; one on cuda")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    processes = options.processes or (1 if options.device == "cuda" else cores or 1)
    timing = Timing(
        options.clock,
        options.device,
        options.seconds or (0.2 if options.quick else 0.4),
        options.rounds or (3 if options.quick else 5),
    )
    known = WORKLOADS if options.device == "cpu" else CUDA_WORKLOADS
    keys = [key for key in known if re.search(options.only, key)]
    if options.quick and not options.only:
        keys = ["mlp128", "mlp128t8", "lenet32"]
    print(
        f"torch {torch.__version__}, {options.device}; {processes} process(es) of one thread, "
        f"{options.clock} clock, {timing.rounds} rounds of {timing.seconds} s"
    )
    results: dict[str, Rates] = {}
    for key in keys:
        # fresh processes for every table: nothing that ran before is in the way
        with team(processes, timing) as workers:
            results[key] = table(workers, key, options.quick)
    if options.device == "cpu" and not options.quick and re.search(options.only, "trials"):
        compare(processes)
    if options.device == "cpu":
        targets(results)


def table(workers: Team, key: str, quick: bool) -> Rates:
    """Time one workload's alternatives and print their rows."""
    workload = WORKLOADS[key]
    chosen = [a for a in alternatives(key, workers.timing.device) if a.quick or not quick]
    rates, left_out = workers.rates(chosen)
    print(f"\n{key}: {workload.name}, minibatches of {workload.batch}; model-steps a second")
    heads = (("rate", 9), ("±", 6), ("step", 8), ("× lean", 9), ("× LibMTL", 10), ("× TorchJD", 11))
    print(" " * 34 + "".join(f"{head:>{width}s}" for head, width in heads))
    for label in rates:
        print(row(rates, label).rstrip(), flush=True)
    for note in (*shares(rates, workload), *(f"left out: {line}" for line in left_out)):
        print(f"  {note}"[:100])
    return rates


def row(rates: Rates, label: str) -> str:
    """A rate; for a pack its step in scalarized steps of the same pack, and its gain over peers."""
    rate, spread = middle(rates[label])
    cells = f"{label:34s}{rate:9,.0f}{spread:6.0%}"
    if not label.startswith("pack") or "evaluated" in label:
        return cells
    _, size, method = label.split()[:3]
    theirs, jd = METHODS[method]
    cost = ratio(rates, f"pack {size} linear", label)
    cells += _cell(cost if method != "linear" else None, 8, 2)
    for peer, width in (("lean loop", 9), (f"LibMTL {theirs}", 10), (f"TorchJD {jd}", 11)):
        cells += _cell(ratio(rates, label, peer), width, 1)
    return cells


def _cell(value: float | None, width: int, digits: int) -> str:
    return " " * width if value is None else f"{value:{width},.{digits}f}"


def shares(rates: Rates, workload: Workload) -> Iterator[str]:
    """What share of time evaluation takes, and what share of its products' peak a pack reaches."""
    from loops import operations

    for label in (ours(PACK), "lean loop"):
        part = ratio(rates, f"{label}, evaluated", label)
        if part is not None:
            yield f"{label}: 5 evaluations on all splits in 20 epochs take {1 - part:.0%} of a run"
    peak = rates.get(f"only products N={PACK}")
    share = ratio(rates, ours(PACK), f"only products N={PACK}")
    if peak and share is not None:
        flops = middle(peak)[0] * operations(workload) / 1e9
        yield f"{ours(PACK)} reaches {share:.0%} of its products' peak of {flops:,.0f} GFLOP/s"


def targets(results: dict[str, Rates]) -> None:
    """Say of every target that was measured whether it is met."""
    print("\ntargets")
    for text, found, wanted, at_least in goals(results):
        if found is not None:
            met = found >= wanted if at_least else found <= wanted
            sign = "≥" if at_least else "≤"
            print(f"  {'met   ' if met else 'missed'} {text:62s} {found:8.2f} {sign} {wanted:g}")


def goals(results: dict[str, Rates]) -> Iterator[tuple[str, float | None, float, bool]]:
    """What is claimed, what was found, the limit, and whether that is a lower one."""
    for key in ("mlp32", "mlp128"):
        rates = results.get(key, {})
        for peer, wanted in (("LibMTL EW", 10), ("TorchJD Mean", 9), ("lean loop", 4)):
            yield (
                f"{key}: scalarization, times {peer}",
                ratio(rates, ours(PACK), peer),
                wanted,
                True,
            )
    for method in list(METHODS)[1:]:
        rates = results.get("mlp128", {})
        for package, name in zip(("LibMTL", "TorchJD"), METHODS[method], strict=True):
            found = ratio(rates, ours(PACK, method), f"{package} {name}")
            wanted = 60 if method == "nash_mtl" else 8
            yield f"mlp128: {method}, times {package} {name}", found, wanted, True
    for key in DETAILED:
        rates = results.get(key, {})
        for level, limit in zip(
            ("parameters", "features"), COST_LIMITS[WORKLOADS[key].tasks], strict=True
        ):
            for method in list(METHODS)[1:]:
                found = ratio(rates, ours(PACK), ours(PACK, method, level))
                yield f"{key}: {method} at {level}, in scalarized steps", found, limit, False
    for key in ("mlp32", "mlp128"):
        share = ratio(results.get(key, {}), ours(PACK), f"only products N={PACK}")
        yield f"{key}: share of the products' peak", share, 0.6, True


if __name__ == "__main__":
    main()
