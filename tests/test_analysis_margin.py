"""An arm against one seed's front, by hand: where it stands, and what a placebo explains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mtofront.analysis.attained import Standing, attained, furthest, held_out, reported, standing
from mtofront.analysis.margin import baseline_of, measure
from mtofront.analysis.placebo import Gaps, expected, gaps
from mtofront.analysis.selection import Runs

LINE = [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)]
BENT = [(t * t, (1 - t) ** 2) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
RIM = [(0.0, 1.0), (0.01, 0.99), (0.02, 0.98), (0.98, 0.02), (0.99, 0.01), (1.0, 0.0)]
"""A concave part: the weights crowd at both of its ends."""


def runs_at(
    select: Sequence[Sequence[float]],
    report: Sequence[Sequence[float]] | None = None,
    group: Sequence[str] | None = None,
) -> Runs:
    n = len(select)
    names = np.array([f"r{i}" for i in range(n)], dtype=object)
    return Runs(
        tasks=("a", "b", "c")[: len(select[0])],
        run=names,
        arm=np.array(["x"] * n, dtype=object),
        seed=np.zeros(n, dtype=np.int64),
        group=names if group is None else np.array(group, dtype=object),
        step=np.zeros(n, dtype=np.int64),
        select=np.array(select, dtype=np.float64),
        report=np.array(select if report is None else report, dtype=np.float64),
    )


def place(*losses: float) -> np.ndarray:
    return np.array(losses)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_front_is_chosen_on_one_split_and_reported_on_the_other() -> None:
    front = attained(runs_at([(0, 1), (1, 0), (2, 2)], [(5, 6), (6, 5), (0, 0)]))
    assert front.members.tolist() == [0, 1]
    assert reported(place(5.0, 5.0), front, None) == pytest.approx(1.05 / 1.1)


def test_ends_are_no_inner_weights() -> None:
    front = attained(runs_at(LINE))
    assert front.inner == {"r1", "r2", "r3"} and front.surrounded
    # The widest gap that a weight was seen to fill is 0.25 to either side.
    assert front.reach == pytest.approx(1.75 * 0.25)


def test_a_run_on_a_straight_front_is_level_with_its_chords() -> None:
    front = attained(runs_at(LINE))
    for x in (0.3, 0.4, 0.5, 0.6):
        assert standing(place(x, 1 - x), front).select == pytest.approx(0.0)
    assert standing(place(0.3, 0.5), front).select == pytest.approx(0.1)


def test_a_bent_front_lies_below_its_chords_in_proportion_to_the_spread() -> None:
    front = attained(runs_at(BENT))
    known = gaps([held_out(front)] * 2)
    for t in (0.3, 0.4, 0.45, 0.6):
        here = standing(place(t * t, (1 - t) ** 2), front)
        assert here.near is not None and here.select > 0.02
        share = here.spread / known.spread[here.near]
        assert share * known.select[here.near] == pytest.approx(here.select, rel=0.05)


def test_a_hole_that_no_weight_fills_is_not_bridged() -> None:
    front = attained(runs_at(RIM))
    assert front.reach < 0.05
    assert standing(place(0.6, 0.6), front).select == pytest.approx((0.38 - 0.05 * 0.2) / 1.1)


def test_beyond_an_end_nothing_is_left_out() -> None:
    front = attained(runs_at(LINE))
    beyond = standing(place(-0.1, 1.0), front)
    assert beyond.out is None
    assert beyond.select == pytest.approx((0.1 + 0.05 * 0.1) / 1.1)


def test_a_weight_is_held_out_with_all_its_learning_rates() -> None:
    twice = [*BENT, *((a + 0.01, b + 0.01) for a, b in BENT)]
    alone, both = attained(runs_at(BENT)), attained(runs_at(twice, group=list("pqrst") * 2))
    assert [far for _, far in held_out(both).values()] == pytest.approx(
        [far for _, far in held_out(alone).values()]
    )


@pytest.mark.parametrize("tasks", [2, 3])
def test_the_placebo_is_the_best_of_each_weights_runs(tasks: int) -> None:
    draws = np.random.default_rng(tasks)
    weights = draws.dirichlet(np.ones(tasks), 12)
    losses = np.tile((weights - 1) ** 2, (3, 1)) + draws.normal(0, 0.03, (36, tasks))
    front = attained(runs_at(losses.tolist(), group=[str(k % 12) for k in range(36)]))
    found = held_out(front)
    assert len(found) > 3
    for weight in front.inner:
        mine = [standing(losses[k], front, weight) for k in range(int(weight), 36, 12)]
        seen = [one.select for one in mine if one.out is not None]
        assert ([found[weight][0].select] if weight in found else []) == sorted(seen)[-1:]


def test_only_runs_that_can_still_win_are_looked_at_and_the_best_come_first() -> None:
    front = attained(runs_at(BENT))
    cloud = np.random.default_rng(3).random((40, 2))
    every = sorted((standing(run, front).select for run in cloud), reverse=True)
    found = furthest(cloud, front, 7)
    assert [one.select for _, one in found] == pytest.approx(every[:7])
    assert [standing(cloud[index], front) for index, _ in found] == [one for _, one in found]


def test_gaps_that_chance_explains_are_drawn_together_and_real_ones_are_kept() -> None:
    def seed(values: Sequence[float]) -> dict[str, tuple[Standing, float]]:
        return {f"w{k}": (Standing(v, f"w{k}", f"w{k}", 1.0), v) for k, v in enumerate(values)}

    steady = gaps([seed([0.1, 0.2, 0.3])] * 3)
    assert list(steady.report.values()) == pytest.approx([0.1, 0.2, 0.3])
    noise = np.random.default_rng(0).normal(0.2, 0.1, (4, 3))
    noise[3] = 0.6 - noise[:3].sum(axis=0)  # equal means: whatever differs is chance
    drawn = gaps([seed(row) for row in noise + np.array([0.0, 1e-3, -1e-3])])
    assert list(drawn.report.values()) == pytest.approx([0.15] * 3)


def test_weights_that_no_two_seeds_share_have_one_gap_for_all() -> None:
    one = {"p": (Standing(0.1, "p", "p", 1.0), 0.1), "q": (Standing(0.3, "q", "q", 1.0), 0.3)}
    assert gaps([one]).report == pytest.approx({"p": 0.2, "q": 0.2})


def test_luck_grows_with_the_number_of_tries() -> None:
    luck = np.random.default_rng(1).normal(0, 0.1, 12)
    placebo = {f"w{k}": (Standing(v, f"w{k}", f"w{k}", 1.0), v) for k, v in enumerate(luck)}
    level = dict.fromkeys(placebo, 0.0)
    known = Gaps(level, level, dict.fromkeys(placebo, 1.0))
    arm = [Standing(0.0, "w0", "w0", 1.0)]
    one, several, every = (expected(arm * n, placebo, known, random())[1] for n in (1, 4, 12))
    assert one == pytest.approx(luck.mean(), abs=0.02)
    assert one < several < every == pytest.approx(luck.max())


def test_luck_on_validation_that_does_not_last_is_worth_nothing() -> None:
    luck = np.random.default_rng(1).normal(0, 0.1, 12)
    placebo = {f"w{k}": (Standing(v, f"w{k}", f"w{k}", 1.0), 0.0) for k, v in enumerate(luck)}
    level = dict.fromkeys(placebo, 0.0)
    known = Gaps(level, level, dict.fromkeys(placebo, 1.0))
    assert expected([Standing(0.0, "w0", "w0", 1.0)] * 12, placebo, known, random()) == (0, 0)


def test_the_arms_run_is_chosen_on_validation_and_its_test_distance_counts() -> None:
    baseline = baseline_of({0: attained(runs_at([(0, 1), (1, 0)]))})
    arm = runs_at([(0.4, 0.4), (0.9, 0.9), (2, 2)], [(3, 3), (0.8, 0.8), (0, 0)])
    margin = measure(arm, baseline, 0, random())
    assert margin.run == 0
    assert margin.distance == pytest.approx((-2 - 0.05 * 5) / 1.1)


def test_without_inner_weights_nothing_is_explained() -> None:
    for points in ([(0, 1), (1, 0)], [(0.5, 0.5)]):
        baseline = baseline_of({0: attained(runs_at(points, group=["p"] * len(points)))})
        margin = measure(runs_at([(0.3, 0.3)]), baseline, 0, random())
        assert (margin.gap, margin.luck) == (0.0, 0.0)
        assert margin.value == margin.distance > 0


def test_an_arm_that_repeats_the_baseline_gains_nothing() -> None:
    fronts = {seed: attained(runs_at(BENT)) for seed in range(3)}
    margin = measure(runs_at(BENT), baseline_of(fronts), 0, random())
    assert margin.value == pytest.approx(0.0, abs=1e-9)


def test_three_tasks_are_compared_like_two() -> None:
    corners = [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.6, 0.6, 0.6)]
    front = attained(runs_at(corners))
    assert front.inner == {"r3"}
    # The plane through the corners is two thirds away along the diagonal.
    assert standing(place(0.5, 0.5, 0.5), front).select == pytest.approx(2 / 3 - 0.5)
