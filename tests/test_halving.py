"""Front halving as pure functions, against a brute-force reading of the rule."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_engine import spec

from mtofront.sweep.decisions import DecisionError, decide, read_decision, write_decision
from mtofront.sweep.folder import Folder
from mtofront.sweep.halving import cut, epochs_spent, ranked, survivors, work_share

Losses = dict[str, tuple[float, ...]]


@st.composite
def groups(draw: st.DrawFn) -> Losses:
    """Few values, so that ties and duplicates are common."""
    tasks = draw(st.integers(1, 4))
    point = st.tuples(*[st.integers(0, 6).map(float)] * tasks)
    points = draw(st.lists(point, min_size=1, max_size=14))
    return {f"run{n:02d}": point for n, point in enumerate(points)}


def dominates(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def peeled(losses: Losses) -> list[list[str]]:
    """Fronts by the definition: who is dominated by nobody that is left."""
    left, fronts = dict(losses), []
    while left:
        front = [
            n for n, a in left.items() if not any(dominates(b, a) for b in left.values())
        ]  # fmt: skip
        fronts.append(sorted(front))
        left = {name: point for name, point in left.items() if name not in front}
    return fronts


def unit_of(losses: Losses, task: int) -> float:
    """A task's range over the best front; over all runs if that has none."""
    first = [losses[name][task] for name in peeled(losses)[0]]
    everyone = [point[task] for point in losses.values()]
    return (max(first) - min(first)) or (max(everyone) - min(everyone)) or 1.0


def by_hand(losses: Losses) -> list[str]:
    """The whole rule, one run at a time."""
    fronts = peeled(losses)
    tasks = len(next(iter(losses.values())))
    span = [unit_of(losses, t) for t in range(tasks)]
    order: list[str] = []
    for front in fronts:
        chosen: list[str] = []
        for t in range(tasks):
            best = min(front, key=lambda name, t=t: (losses[name][t], name))
            chosen += [best] if best not in chosen else []

        def distance(a: str, b: str) -> float:
            pairs = zip(losses[a], losses[b], span, strict=True)
            return math.sqrt(sum(((x - y) / unit) ** 2 for x, y, unit in pairs))

        while len(chosen) < len(front):
            rest = [name for name in front if name not in chosen]
            far = {name: min(distance(name, other) for other in chosen) for name in rest}
            most = max(far.values())
            chosen.append(next(name for name in rest if far[name] >= most - 1e-12))
        order += chosen
    return order


@given(groups())
def test_the_order_is_the_rule_read_by_hand(losses: Losses) -> None:
    found = ranked(losses)
    expected = by_hand(losses)
    sizes = [len(front) for front in peeled(losses)]
    ends = list(itertools.accumulate(sizes))
    for begin, end in zip([0, *ends], ends, strict=False):
        assert set(found[begin:end]) == set(expected[begin:end])
    assert found == expected or _only_rounding(losses, found, expected)


def _only_rounding(losses: Losses, found: list[str], expected: list[str]) -> bool:
    """Whether the first difference is between two runs as far from all before, but for bits."""
    k = next(n for n, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
    front = next(front for front in peeled(losses) if found[k] in front)
    before = [losses[name] for name in found[:k] if name in front]
    unit = np.array([unit_of(losses, t) for t in range(len(losses[found[0]]))])
    near = [
        min(float(np.linalg.norm((np.array(losses[n]) - p) / unit)) for p in map(np.array, before))
        for n in (found[k], expected[k])
    ]
    return math.isclose(near[0], near[1], rel_tol=1e-12)


@given(groups(), st.floats(0.05, 0.95), st.randoms(use_true_random=False))
def test_a_cut_depends_on_nothing_but_the_losses(
    losses: Losses, keep: float, random_: random.Random
) -> None:
    shuffled = list(losses.items())
    random_.shuffle(shuffled)
    found = cut(losses, keep)
    assert cut(dict(shuffled), keep) == found
    assert sorted(found.kept + found.stopped) == sorted(losses)
    assert len(found.kept) == math.ceil(keep * len(losses) - 1e-9) >= 1


@given(groups(), st.sampled_from([0.25, 2.0, 1024.0]))
def test_units_of_the_losses_do_not_matter(losses: Losses, scale: float) -> None:
    scaled = {name: (point[0] * scale, *point[1:]) for name, point in losses.items()}
    assert ranked(scaled) == ranked(losses)


@given(groups(), st.floats(0.05, 0.95))
def test_nobody_goes_on_whom_a_stopped_run_dominates(losses: Losses, keep: float) -> None:
    found = cut(losses, keep)
    for kept, stopped in itertools.product(found.kept, found.stopped):
        assert not dominates(losses[stopped], losses[kept])


@given(groups(), st.floats(0.05, 0.95))
def test_the_hypervolume_share_is_what_is_left_of_the_volume(losses: Losses, keep: float) -> None:
    """Volume by counting unit cells' corners, on losses that are whole numbers."""
    found = cut(losses, keep)
    rows = np.array(list(losses.values()))
    first = np.array([losses[name] for name in peeled(losses)[0]])
    low = first.min(0)
    unit = np.array([unit_of(losses, t) for t in range(rows.shape[1])])

    def volume(names: tuple[str, ...]) -> float:
        points = (np.array([losses[name] for name in names]) - low) / unit
        axes = [sorted({*points[:, t], 1.1} - {x for x in points[:, t] if x > 1.1}) for t in
                range(points.shape[1])]  # fmt: skip
        total = 0.0
        for corner in itertools.product(*[range(len(axis) - 1) for axis in axes]):
            place = np.array([axes[t][i] for t, i in enumerate(corner)])
            size = math.prod(axes[t][i + 1] - axes[t][i] for t, i in enumerate(corner))
            total += size * bool((points <= place).all(axis=1).any())
        return total

    if len(rows) <= 8 and rows.shape[1] <= 3:
        whole = volume(tuple(losses))
        assert found.hypervolume_share == pytest.approx(volume(found.kept) / whole, abs=1e-9)
    assert 0 <= found.hypervolume_share <= 1 + 1e-12


def test_the_ends_of_a_front_go_on_first_and_then_its_middle() -> None:
    line = {f"r{k}": (float(k), 8.0 - k) for k in range(9)}
    assert ranked(line)[:5] == ["r0", "r8", "r4", "r2", "r6"]
    bad = {"a": (20.0, 20.0), "b": (1e9, 1e9)}  # a unit for nobody
    assert ranked({**line, **bad})[:5] == ranked(line)[:5]


@pytest.mark.parametrize(("count", "keep", "left"), [(30, 0.1, 3), (21, 0.5, 11), (1, 0.01, 1)])
def test_survivors_are_rounded_up(count: int, keep: float, left: int) -> None:
    assert survivors(count, keep) == left


@given(st.integers(1, 40), st.integers(4, 50), st.floats(0.1, 0.9), st.data())
def test_epochs_are_counted_as_they_are_trained(
    runs: int, epochs: int, keep: float, data: st.DataObject
) -> None:
    rungs = sorted(data.draw(st.sets(st.integers(1, epochs - 1), min_size=1, max_size=3)))
    alive, total = runs, 0
    for epoch in range(1, epochs + 1):
        total += alive
        if epoch in rungs:
            alive = survivors(alive, keep)
    assert epochs_spent(runs, epochs, rungs, keep) == total
    shares = [work_share(epoch, epochs, rungs, keep) for epoch in range(epochs + 1)]
    assert shares[0] == 0 and shares[-1] == pytest.approx(1.0)
    assert shares == sorted(shares)


RULE = {"name": "front_halving", "rungs": [1, 2], "keep": 0.5}


def test_seeds_are_compared_apart_and_failed_runs_are_in_neither_list(tmp_path: Path) -> None:
    specs = [
        replace(spec(seed=seed, lr=lr), scheduler=RULE)
        for seed in (0, 1)
        for lr in (0.1, 0.2, 0.3, 0.4)
    ]
    losses = {s.id: (s.lr + 10 * s.seed, s.lr) for s in specs[:-1]}
    found = decide("linear", 1, specs, losses)
    by_id = {s.id: s for s in specs}
    assert [(by_id[r].seed, by_id[r].lr) for r in found.kept] == [
        (0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2),
    ]  # fmt: skip
    assert len(found.stopped) == 3 and specs[-1].id not in found.kept + found.stopped
    assert found.epochs_saved == sum(by_id[run].epochs - 1 for run in found.stopped)
    write_decision(Folder(tmp_path), found)
    assert read_decision(tmp_path, "linear", 1) == found
    assert read_decision(tmp_path, "linear", 2) is None


def test_a_damaged_decision_is_never_taken_for_one(tmp_path: Path) -> None:
    specs = [replace(spec(seed=0, lr=lr), scheduler=RULE) for lr in (0.1, 0.2)]
    folder = Folder(tmp_path)
    write_decision(folder, decide("linear", 1, specs, {s.id: (s.lr, s.lr) for s in specs}))
    path = folder.rung("linear", 1)
    whole = path.read_text()
    values = json.loads(whole)
    swapped = {**values, "kept": values["stopped"], "stopped": values["kept"]}
    for text in ("", whole[:-20], "[]", json.dumps({**values, "arm": "x"}), json.dumps(swapped)):
        path.write_text(text)
        with pytest.raises(DecisionError, match="decision"):
            read_decision(folder.root, "linear", 1)
