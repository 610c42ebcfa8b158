"""The sweep over tastes: who is first, and where the ranking flips."""

from __future__ import annotations

import numpy as np
import pytest
from tables import Run, frame_of, run

from mtofront.analysis import judge
from mtofront.analysis.utility import flips, shares, utility_sweep, utility_table


def runs_of(seeds: int = 2) -> list[Run]:
    """A flat baseline from (0, 1) to (1, 0); x is better where the tasks weigh alike."""
    runs = []
    for seed in range(seeds):
        runs += [run(f"s{seed}a", "scalarization", seed, (0, 1), weights=(1, 0))]
        runs += [run(f"s{seed}b", "scalarization", seed, (1, 0), weights=(0, 1))]
        runs += [run(f"x{seed}", "x", seed, (0.25, 0.25))]
    return runs


def test_first_place_changes_where_the_lines_cross() -> None:
    sweep = utility_sweep(judge(frame_of(runs_of())))
    # The baseline offers min(u, 1 - u), x always 0.25: equal at a quarter and three quarters.
    first, second = sweep.weights[:, 0], sweep.weights[:, 1]
    assert np.allclose(sweep.gain[:, 1], np.minimum(first, second) - 0.25)
    assert np.array_equal(sweep.gain[:, 0], np.zeros(101))
    (up, *names), (down, *back) = flips(sweep)
    assert (up, down) == (pytest.approx(0.255), pytest.approx(0.745))
    assert (names, back) == (["scalarization", "x"], ["x", "scalarization"])


def test_shares_say_how_often_an_arm_is_first_and_what_it_gains() -> None:
    sweep = utility_sweep(judge(frame_of(runs_of())))
    base, own = shares(sweep).to_dict("records")
    # 26 to 74 hundredths: 49 of 101 weights.
    assert own["first"] == own["clear"] == pytest.approx(49 / 101)
    assert base["first"] == pytest.approx(52 / 101) and np.isnan(base["clear"])
    assert (own["least"], own["most"]) == (pytest.approx(-0.25), pytest.approx(0.25))
    table = utility_table(sweep)
    assert list(table.columns) == ["u_a", "u_b", "best", "gain_scalarization", "gain_x"]
    assert table["best"].iloc[[0, 50, 100]].tolist() == ["scalarization", "x", "scalarization"]


def test_runs_are_chosen_on_validation_and_valued_on_test() -> None:
    runs = [
        *runs_of(1)[:2],
        run("x1", "x", 0, (0.1, 0.1), (0.6, 0.6)),
        run("x2", "x", 0, (0.2, 0.2)),
    ]
    sweep = utility_sweep(judge(frame_of(runs)))
    assert sweep.gain[50, 1] == pytest.approx(0.5 - 0.6)
    assert np.isnan(sweep.error).all()


def test_an_arm_is_compared_over_the_seeds_that_both_have() -> None:
    runs = [*runs_of(2), run("y5", "y", 5, (0, 0))]
    sweep = utility_sweep(judge(frame_of(runs)))
    assert np.isnan(sweep.gain[:, 2]).all()
    assert set(sweep.best()) == {0, 1}


def test_three_tasks_have_shares_but_no_flips() -> None:
    corners = np.eye(3)
    runs = [run(f"s{k}", "scalarization", 0, 1 - corners[k], weights=corners[k]) for k in range(3)]
    sweep = utility_sweep(
        judge(frame_of([*runs, run("x", "x", 0, (0.1, 0.1, 0.1))], ("a", "b", "c")))
    )
    assert flips(sweep) == []
    assert shares(sweep)["first"].sum() == pytest.approx(1)
