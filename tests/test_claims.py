"""The published claims: pages say what was kept, what is kept gives these verdicts again."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
from tables import Run, write_folder

from mtofront.analysis import load
from mtofront.analysis.coverage import solver_misses
from mtofront.problems import PROBLEMS
from mtofront.sweep import load_config, plan

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import claims  # noqa: E402
import gpu_hours  # noqa: E402
import kept  # noqa: E402
import reproduce  # noqa: E402

EXPERIMENTS = sorted({name for claim in claims.claims() for name in claim.experiments})


@pytest.mark.parametrize("path", claims.PAGES)
def test_a_page_says_what_was_kept(path: str) -> None:
    """Else `make pages` writes it again."""
    assert (ROOT / path).read_text(encoding="utf-8") == claims.pages()[ROOT / path]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_a_config_that_says_what_to_expect(name: str) -> None:
    path = claims.config_of(name)
    assert load_config(path).name == name
    head = path.read_text(encoding="utf-8").partition(f"name: {name}")[0]
    assert "Expected" in head and "TODO" not in head


@pytest.mark.parametrize(("name", "settings"), claims.full_sizes().items())
def test_a_full_size_is_a_config_too(name: str, settings: list[str]) -> None:
    small, full = (load_config(claims.config_of(name), given) for given in ([], settings))
    assert full.problem == small.problem and list(full.arms) == list(small.arms)
    assert full.budget.epochs > small.budget.epochs


def test_the_operations_of_a_perceptron_are_those_of_its_products() -> None:
    problem = PROBLEMS["multidigits"]()
    widths = [p.shape for p in problem.model().parameters() if p.dim() == 2]
    products = sum(2 * rows * columns for rows, columns in widths)
    first = 2 * widths[0].numel()
    forward, backward = gpu_hours.passes(problem, 32)
    assert forward.operations == products
    assert backward.operations == 2 * products - first  # nobody asks for the inputs' gradients
    assert forward.calls > 0 and backward.calls > 0


def test_the_cost_of_a_plan_counts_each_methods_passes() -> None:
    settings = ["seeds=1", "optimizer.lr=0.1", "budget={epochs: 2, batch_size: 100}"]
    settings += ["arms={scalarization: {method: linear}, pcgrad: {}}", "resources.pack=2"]
    problem = PROBLEMS["multidigits"]()
    planned = plan(load_config(ROOT / "configs/quickstart.yaml", settings))
    runs, operations, hours = gpu_hours.cost(planned, problem)
    forward, backward = (work.operations for work in gpu_hours.passes(problem, 100))
    trained, measured = 2 * 2000, 3 * (2000 + 1000 + 2000)
    each = (trained + measured) * forward
    assert runs == 2
    assert operations == pytest.approx(2 * each + trained * (1 + 2) * backward)
    assert hours > operations / gpu_hours.RATE / 3600


def test_every_ready_claim_is_told_of() -> None:
    assert {path.stem for path in (ROOT / "configs/claims").glob("*.yaml")} <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", ["gradops-census", "landscape"])
def test_kept_results_give_the_kept_verdicts(name: str) -> None:
    found = kept.judged(claims.RESULTS / name).rows
    rows = reproduce.compared(claims.recorded(name), found)
    assert rows["agrees"].all()
    difference = rows["margin_kept"] - rows["margin_found"]
    assert difference.abs().max() < 1e-6


def test_kept_results_give_the_kept_verdicts_on_training_losses() -> None:
    name = "xin-multifashion"
    found = kept.judged_in_training(claims.RESULTS / name).rows
    rows = reproduce.compared(pd.read_csv(claims.RESULTS / name / "training.csv"), found)
    assert (rows["margin_kept"] - rows["margin_found"]).abs().max() < 1e-6


def sweep() -> list[Run]:
    """Three seeds, nine weights and an arm; runs are best at their second of four evaluations."""
    runs = []
    for seed in range(3):
        for place in range(9):
            weights = (1 - place / 8, place / 8)
            first = (0.2 + weights[1], 1.2 - weights[1])
            runs.append(Run(f"w{seed}-{place}", "scalarization", seed, course(first), weights))
        runs.append(
            Run(f"p{seed}", "pcgrad", seed, course((0.4 + seed / 500, 0.4)), lr=0.1, unsolved=0.0)
        )
    return runs


def course(best: tuple[float, float]) -> tuple[tuple[int, list[float], list[float]], ...]:
    gains = {0: 3.0, 10: 0.0, 20: 0.5, 30: 0.25}
    losses = {step: [loss + gain for loss in best] for step, gain in gains.items()}
    return tuple(
        (step, values, [value + 0.01 for value in values]) for step, values in losses.items()
    )


def test_what_is_kept_reports_the_same_in_fewer_records(tmp_path: Path) -> None:
    whole, small = write_folder(tmp_path / "whole", sweep()), tmp_path / "small"
    kept.keep(whole, small)
    expected, found = (kept.judged(folder) for folder in (whole, small))
    pd.testing.assert_frame_equal(found.rows, expected.rows, check_exact=True)
    pd.testing.assert_frame_equal(found.margins, expected.margins, check_exact=True)
    pd.testing.assert_frame_equal(solver_misses(load(small)), solver_misses(load(whole)))
    steps = load(small).loc[lambda frame: frame["task"].ne(""), "step"]
    assert set(steps) == {0, 10, 30} and set(load(whole)["step"]) >= {0, 10, 20, 30}
    assert {"config.yaml", "front.png", "effort.csv"} <= {path.name for path in small.iterdir()}


ROW = {"arm": "a", "verdict": "matches", "margin": 0.01, "low": -0.01, "high": 0.03}


@pytest.mark.parametrize(
    ("changes", "agrees"),
    [
        ({}, True),
        ({"margin": 0.0105, "verdict": "inconclusive"}, True),
        ({"margin": 0.02, "low": 0.0, "high": 0.04}, True),
        ({"margin": 0.02, "low": 0.0, "high": 0.06, "verdict": "inconclusive"}, False),
        ({"margin": 0.045, "low": 0.04, "high": 0.049}, False),
    ],
)
def test_two_runs_agree_by_margin_or_by_verdict_and_interval(
    changes: dict[str, object], agrees: bool
) -> None:
    rows = reproduce.compared(pd.DataFrame([ROW]), pd.DataFrame([{**ROW, **changes}]))
    assert list(rows["agrees"]) == [agrees]


def test_an_unknown_experiment_is_told_what_there_is() -> None:
    with pytest.raises(FileNotFoundError, match=r"there are: .*landscape"):
        claims.config_of("landscap")
