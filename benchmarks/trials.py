"""The same small sweep as one Ray Tune trial a run, and as packs through the sweep's own engine."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

SEEDS, RATES, POINTS, EPOCHS, BATCH = 8, (1e-3, 3e-3), 8, 20, 64
"""128 runs of 640 steps."""


def compare(processes: int) -> None:
    """Print both wall times, Ray's start and end counted."""
    runs = SEEDS * len(RATES) * POINTS
    steps = EPOCHS * 2048 // BATCH
    print(
        f"\ntrials: {runs} runs of mlp128, {steps} steps and 5 evaluations each, {processes} CPUs"
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    with (
        tempfile.TemporaryDirectory() as scratch,
        contextlib.redirect_stdout(io.StringIO()),  # Tune greets
    ):
        one = _seconds(_a_trial_a_run, processes, scratch)
        packs = _seconds(_packs, processes, scratch)
    for name, seconds in (("Ray Tune, a trial a run", one), ("packs under Ray Tune", packs)):
        print(f"{name:34s}{seconds:9.1f} s{runs * steps / seconds:12,.0f} model-steps a second")
    print(f"  packs: {one / packs:.1f} times as fast")


def _seconds(function: Any, *arguments: Any) -> float:
    begin = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - begin


def trial(config: dict[str, Any]) -> None:
    """One run of the lean loop with its own seed, learning rate and weight."""
    from loops import Batches, losses_of, measured
    from ray import tune
    from workloads import mlp128

    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    problem = mlp128()
    model = problem.model().train()
    optimizer = torch.optim.Adam(model.parameters(), config["lr"], fused=True)
    weights = torch.tensor([config["weight"], 1 - config["weight"]])
    supply = Batches(problem.train, BATCH).forever()
    found = measured(problem, model)
    for epoch in range(1, EPOCHS + 1):
        for inputs, targets in itertools.islice(supply, 2048 // BATCH):
            loss = torch.dot(weights, torch.stack(losses_of(model(inputs), targets)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % (EPOCHS // 5) == 0:
            found = measured(problem, model)
    tune.report({"loss": sum(found)})


def _a_trial_a_run(processes: int, scratch: str) -> None:
    import ray
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ray.init(
        address="local",
        num_cpus=processes,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    space = {
        "seed": tune.grid_search(list(range(SEEDS))),
        "lr": tune.grid_search(list(RATES)),
        "weight": tune.grid_search([(n + 0.5) / POINTS for n in range(POINTS)]),
    }
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(name="single", storage_path=scratch, verbose=0),
    )
    try:
        tuner.fit()
    finally:
        ray.shutdown()


def _packs(processes: int, scratch: str) -> None:
    from mtofront.sweep import load_config, run

    path = Path(scratch) / "packs.yaml"
    path.write_text(
        f"name: packs\nproblem: workloads:mlp128\n"
        f"budget: {{epochs: {EPOCHS}, batch_size: {BATCH}, evaluations: 5}}\n"
        f"optimizer: {{name: adam, lr: [{', '.join(map(str, RATES))}]}}\n"
        f"seeds: {SEEDS}\n"
        f"arms:\n  scalarization:\n    method: linear\n"
        f"    weights: {{grid: log_odds, points: {POINTS}}}\n"
        f"resources: {{cpus: {processes}}}\n"
    )
    outcome = run(load_config(path), Path(scratch) / "packs")
    if outcome.failed:
        sys.exit(f"packs failed: {outcome.failed}")
