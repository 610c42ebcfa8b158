"""Plans: ids, grids of weights, equal budgets and packs."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtofront.methods import METHODS, Choice
from mtofront.sweep import Plan, RequestError, load_config, plan
from mtofront.sweep.arms import arm_trials
from mtofront.sweep.middle import weight_notes
from mtofront.sweep.spec import spec_from_dict
from mtofront.sweep.weights import weight_grid


def planned(path: Path, *settings: str) -> Plan:
    return plan(load_config(path, settings))


def test_ids_are_hashes_of_specs_and_the_same_in_another_process(bowls: Path) -> None:
    runs = planned(bowls).runs
    code = (
        "import sys; from mtofront.sweep import load_config, plan; "
        "print(*plan(load_config(sys.argv[1])).runs)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(bowls)]
    environment = {"PYTHONHASHSEED": "77", "PYTHONPATH": str(Path(__file__).parents[1])}
    other = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.split() == list(runs)
    for identity, spec in runs.items():
        assert spec.id == identity
        assert spec_from_dict(spec.as_dict()) == spec
        assert replace(spec, seed=99).id != identity


def test_adding_an_arm_or_a_seed_leaves_the_ids_of_the_others_alone(bowls: Path) -> None:
    before = set(planned(bowls).runs)
    after = set(planned(bowls, "arms.mgda={}", "seeds=3").runs)
    assert before < after


def test_every_arm_gets_the_same_number_of_runs_by_finer_learning_rates(bowls: Path) -> None:
    result = planned(bowls)
    assert result.arm_runs() == {"scalarization": 20, "pcgrad": 20, "cagrad": 20}
    rates = sorted({s.lr for s in result.runs.values() if s.arm == "pcgrad"})
    assert len(rates) == 10
    assert (rates[0], rates[-1]) == (0.01, 0.02)
    assert {s.restart for s in result.runs.values()} == {0}
    kept = {s.lr for s in result.runs.values() if s.arm == "scalarization"}
    assert kept == {0.01, 0.02}


def test_numbers_of_a_grid_that_do_not_fit_together_are_refused(bowls: Path) -> None:
    planned(bowls, "arms.pmtl={vectors: [3, 4], vector: [0, 2]}")
    with pytest.raises(RequestError, match=r"pmtl\.vector: .*below `vectors`, which is 3; found 3"):
        planned(bowls, "arms.pmtl={vectors: [3, 4], vector: [0, 3]}")
    with pytest.raises(RequestError, match=r"pmtl\.vector: .*which is 5; found 5"):
        planned(bowls, "arms.pmtl={vector: 5}")


def test_halves_of_a_minibatch_need_a_row_each(bowls: Path) -> None:
    with pytest.raises(RequestError, match=r"modo compares the two halves .* found 1"):
        planned(bowls, "arms.modo={}", "budget.batch_size=1")
    assert planned(bowls, "arms.modo={}", "budget.batch_size=2").runs


def test_with_one_learning_rate_arms_are_filled_with_restarts(bowls: Path) -> None:
    result = planned(bowls, "optimizer.lr=0.01")
    assert set(result.arm_runs().values()) == {10}
    restarts = [s.restart for s in result.runs.values() if s.arm == "pcgrad" and s.seed == 0]
    assert restarts == [0, 1, 2, 3, 4]


def test_equal_backward_passes_gives_gradient_methods_fewer_runs(bowls: Path) -> None:
    result = planned(bowls, "tuning.runs_per_arm=equal_backward_passes")
    assert len(set(result.arm_passes().values())) == 1
    assert result.arm_runs() == {"scalarization": 20, "pcgrad": 10, "cagrad": 10}


def test_as_given_leaves_arms_as_they_are_written(bowls: Path) -> None:
    result = planned(bowls, "tuning.runs_per_arm=as_given")
    assert result.arm_runs() == {"scalarization": 20, "pcgrad": 4, "cagrad": 8}


def test_packs_hold_every_run_once_of_one_arm_with_the_same_choices(bowls: Path) -> None:
    result = planned(bowls, "arms.mgda={normalization: [none, l2]}")
    ids = [identity for pack in result.packs for identity in pack]
    assert sorted(ids) == sorted(result.runs)
    for pack in result.packs:
        specs = [result.runs[identity] for identity in pack]
        hyper = METHODS[specs[0].method].hyper
        named = {tuple(s.hyper[k] for k in hyper if isinstance(hyper[k], Choice)) for s in specs}
        assert len({s.arm for s in specs}) == len(named) == 1
        assert len(pack) <= 7


@given(st.sampled_from(["log_odds", "uniform"]), st.integers(2, 60), st.floats(1e-4, 0.4))
def test_two_task_grids_are_distinct_simplex_points_from_low_to_high(
    grid: str, points: int, low: float
) -> None:
    rows = weight_grid(grid, points, 2, low)
    assert len({row[0] for row in rows}) == points
    assert all(abs(sum(row) - 1) < 1e-9 and min(row) > 0 for row in rows)
    assert rows[0][0] == pytest.approx(low, abs=1e-9)
    assert rows[-1][1] == pytest.approx(low, abs=1e-9)


def test_the_log_odds_grid_is_densest_at_its_ends() -> None:
    first = [row[0] for row in weight_grid("log_odds", 15, 2)]
    gaps = [b - a for a, b in itertools.pairwise(first)]
    assert gaps[0] < gaps[7] / 5
    assert gaps[-1] < gaps[7] / 5


@pytest.mark.parametrize("tasks", range(2, 9))
@pytest.mark.parametrize(
    ("grid", "points"),
    [(grid, n) for grid in ("lattice", "log_odds", "dirichlet") for n in (8, 21, 40)]
    + [("riesz", 12)],
)
def test_many_task_grids_are_distinct_simplex_points_and_no_more_than_asked(
    grid: str, points: int, tasks: int
) -> None:
    rows = weight_grid(grid, points, tasks)
    assert 0 < len(rows) <= points
    assert len(rows) == points or grid in ("lattice", "log_odds")
    assert len(set(rows)) == len(rows)
    assert all(abs(sum(row) - 1) < 1e-9 and min(row) >= 0 for row in rows)
    assert weight_grid(grid, points, tasks) == rows
    apart = [math.dist(a, b) for a, b in itertools.combinations(rows, 2)]
    assert min(apart) > 1e-3


@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
def test_log_odds_grids_of_many_tasks_are_lattices_in_log_ratios_with_low_corners(
    tasks: int,
) -> None:
    rows = weight_grid("log_odds", 4 * tasks * tasks, tasks, 0.02)
    assert min(min(row) for row in rows) == pytest.approx(0.02)
    step = math.log(1 / 0.02 - tasks + 1) / (
        max(p for p in range(1, 4 * tasks * tasks) if math.comb(p + tasks - 1, p) <= len(rows))
    )
    for row in rows:
        ratios = [math.log(weight / row[0]) / step for weight in row]
        assert all(abs(ratio - round(ratio)) < 1e-6 for ratio in ratios)


def test_riesz_points_keep_their_distance_better_than_random_ones() -> None:
    def closest(grid: str) -> float:
        rows = weight_grid(grid, 30, 3)
        return min(math.dist(a, b) for a, b in itertools.combinations(rows, 2))

    assert closest("riesz") > 5 * closest("dirichlet")


def test_grids_are_refused_where_they_do_not_exist() -> None:
    with pytest.raises(ValueError, match="two tasks"):
        weight_grid("uniform", 5, 3)
    with pytest.raises(ValueError, match="needs at least 4 points; found 3"):
        weight_grid("riesz", 3, 4)
    with pytest.raises(ValueError, match=r"between 0 and 0\.25; found 0\.3"):
        weight_grid("log_odds", 9, 4, 0.3)


def noted(path: Path, grid: str, points: int, tasks: int, arm: str = "scalarization") -> str:
    """What is said of an arm's grid for so many tasks, without the line's common end."""
    weights = f"arms.{arm}.weights={{grid: {grid}, points: {points}, low: 0.02}}"
    config = load_config(path, [weights])
    lines = weight_notes(config, {arm: arm_trials(config, arm, tasks)})
    return "".join(lines).partition(", the others")[0]


@pytest.mark.parametrize("tasks", range(2, 9))
def test_grids_of_which_hardly_a_vector_weighs_all_tasks_are_noted(bowls: Path, tasks: int) -> None:
    few = noted(bowls, "riesz", 2 * tasks, tasks)
    corners = noted(bowls, "lattice", tasks, tasks)
    assert corners == f"scalarization: none of the {tasks} weight vectors weighs all tasks"
    # two tasks: both ends and two between them
    count, verb = ("2", "weigh") if tasks == 2 else ("none", "weighs")
    assert few == f"scalarization: {count} of the {2 * tasks} weight vectors {verb} all tasks"
    assert noted(bowls, "log_odds", 2 * tasks, tasks) == ""
    assert noted(bowls, "dirichlet", 2 * tasks, tasks) == ""


def test_a_lattice_is_fine_when_it_has_inner_vectors(bowls: Path) -> None:
    assert noted(bowls, "lattice", 5, 2) == noted(bowls, "lattice", 15, 3) == ""
    assert noted(bowls, "riesz", 20, 3) == ""
    assert noted(bowls, "lattice", 84, 4) == ""
    assert noted(bowls, "lattice", 125, 5).startswith("scalarization: none of the 70")
    assert noted(bowls, "lattice", 35, 4) == (
        "scalarization: 1 of the 35 weight vectors weighs all tasks"
    )


def test_arms_with_the_same_grid_share_a_note_and_listed_weights_are_meant_so(bowls: Path) -> None:
    lattice = "weights={grid: lattice, points: 2}"
    both = planned(bowls, f"arms.scalarization.{lattice}", f"arms.pcgrad.{lattice}")
    (note,) = both.notes
    assert note == (
        "scalarization, pcgrad: none of the 2 weight vectors weighs all tasks, the others leave "
        "some task untrained, so that verdicts rest on a front without a middle; use weights: "
        "{grid: log_odds, points: N, low: 0.02}, or more points"
    )
    assert planned(bowls, "arms.single={method: linear, weights: [[1, 0], [0, 1]]}").notes == ()
    (listed,) = planned(bowls, "arms.scalarization.weights=[[1, 0], [0, 1]]").notes
    assert listed.startswith("scalarization: none of the 2 weight vectors")
    assert planned(bowls, "arms.scalarization.weights=equal").notes == ()
