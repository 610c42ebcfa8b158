"""MT10: rows against the written steps, no episode in two splits, generation with a small arm."""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from packs import assert_same_alone_and_in_a_pack
from small_data import MT10, write_mt10
from test_engine import spec

from mtofront.cli import main
from mtofront.problems import PROBLEMS, Problem, ProblemError, Split, refuse_bad_data
from mtofront.problems.generated import GENERATED, digest_of
from mtofront.problems.mt10_demonstrations import ENVIRONMENTS, demonstrated
from mtofront.problems.networks import ARCHITECTURES
from mtofront.sweep.train import train_pack

pytestmark = pytest.mark.usefixtures("small_data")
Steps = list[tuple[int, int, int]]


def written(folder: Path) -> dict[str, NDArray[Any]]:
    with np.load(folder / "mt10" / "mt10.npz") as kept:
        return {name: kept[name] for name in kept.files}


def steps_of(problem: Problem) -> dict[str, list[Steps]]:
    """Of each split's rows and tasks the written (task, episode, step), in their true units."""
    train = problem.train.inputs
    # of every task 10 episodes are written; which ones are in training decides the scale
    low = {n: min(float(s.inputs[..., n].min()) for s in problem.splits().values()) for n in (1, 2)}
    high = {
        n: max(float(s.inputs[..., n].max()) for s in problem.splits().values()) for n in (1, 2)
    }
    assert train.shape[2] == 39

    def decoded(split: Split) -> list[Steps]:
        episode = (split.inputs[..., 1] - low[1]) / (high[1] - low[1]) * 9
        step = (split.inputs[..., 2] - low[2]) / (high[2] - low[2]) * 18
        return [
            [(t, round(float(e)), round(float(s))) for e, s in zip(*pair, strict=True)]
            for t, pair in enumerate(zip(episode.mT, step.mT, strict=True))
        ]

    return {name: decoded(split) for name, split in problem.splits().items()}


def test_actions_are_those_that_were_done_at_the_observation(small_data: Path) -> None:
    problem, arrays = PROBLEMS["mt10"](), written(small_data)
    assert tuple(task.name for task in problem.tasks) == MT10
    for name, split in problem.splits().items():
        for t, own in enumerate(steps_of(problem)[name]):
            task = MT10[t]
            place = [episode * (10 + t) + step for _, episode, step in own]
            assert np.array_equal(split.targets[t], arrays[f"{task}_actions"][place])
            seen = arrays[f"{task}_observations"][place]
            assert np.corrcoef(seen[:, 8], split.inputs[:, t, 8])[0, 1] == pytest.approx(1)
    refuse_bad_data(problem)


def test_no_episode_is_in_two_splits_and_no_step_comes_twice() -> None:
    problem = PROBLEMS["mt10"]()
    # seven, one and two of ten episodes, of which the first task's are the shortest: ten steps
    assert [len(split) for split in problem.splits().values()] == [70, 10, 20]
    owner: dict[tuple[int, int], str] = {}
    for name, tasks in steps_of(problem).items():
        for own in tasks:
            assert max(Counter(own).values()) == 1
            for t, episode, _ in own:
                assert owner.setdefault((t, episode), name) == name
    assert Counter(owner.values()) == {"train": 70, "val": 10, "test": 20}


def test_observations_are_standardised_over_training_rows_of_all_tasks() -> None:
    rows = PROBLEMS["mt10"]().train.inputs.flatten(0, 1)
    changing = [n for n in range(39) if n != 5]
    assert rows.mean(0) == pytest.approx(np.zeros(39), abs=1e-5)
    assert rows.std(0, correction=0)[changing] == pytest.approx(np.ones(38), abs=1e-4)
    assert rows[:, 5].unique().tolist() == [0.0]


def test_fewer_rows_and_tasks_are_a_part_of_all() -> None:
    whole = PROBLEMS["mt10"]()
    part = PROBLEMS["mt10"](tasks=["window_close", "reach"], train=20, test=3)
    assert torch.equal(part.train.inputs, whole.train.inputs[:20][:, [9, 0]])
    assert torch.equal(part.test.targets[0], whole.test.targets[9][:3])
    assert torch.equal(part.val.targets[1], whole.val.targets[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_task_answers_for_its_own_observation_only(architecture: str) -> None:
    problem = PROBLEMS["mt10"](tasks=MT10[:3], hidden=8, network=architecture)
    net = problem.model()
    rows = problem.train.inputs[:5]
    answers = net(rows)
    assert [tuple(answer.shape) for answer in answers] == [(5, 4)] * 3
    changed = rows.clone()
    changed[:, 1] += 1
    for task, (before, after) in enumerate(zip(answers, net(changed), strict=True)):
        assert torch.allclose(before, after, atol=1e-6) == (task != 1)


@pytest.mark.parametrize("method", ["linear", "pcgrad"])
def test_it_is_bit_for_bit_the_same_alone_and_in_a_pack(method: str) -> None:
    assert_same_alone_and_in_a_pack(PROBLEMS["mt10"](tasks=MT10[:3], hidden=16), method)


def test_gradients_of_a_representation_are_refused_as_tasks_share_none() -> None:
    problem = PROBLEMS["mt10"](tasks=MT10[:2], hidden=8)
    one = spec("pcgrad", problem="mt10", treatment={"level": "features"})
    with pytest.raises(ProblemError, match="one row an example"):
        train_pack(problem, [one])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["reach"]}, "two or more different ones"),
        ({"tasks": ["reach", "walk"]}, "two or more different ones .*'walk'"),
        ({"train": 71}, r"split 'train' has 1 … 70 rows to give; train=71"),
        ({"network": "resnet"}, "network must be one of"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        PROBLEMS["mt10"](**options)


def test_demonstrations_that_are_absent_or_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    with pytest.raises(ProblemError, match=r"pip install 'mtofront\[mt10\]' && mtofront data get"):
        PROBLEMS["mt10"]()
    write_mt10(tmp_path / "mt10", episodes=2)
    with pytest.raises(ProblemError, match="three episodes or more of 'reach'"):
        PROBLEMS["mt10"]()
    path = tmp_path / "mt10" / "mt10.npz"
    np.savez(path, reach_observations=np.zeros((3, 38)))
    with pytest.raises(
        ProblemError, match=r"'reach_observations'.*found \[\(3, 38\), None, None\]"
    ):
        PROBLEMS["mt10"]()
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ProblemError, match=r"mt10\.npz cannot be read: .*--again"):
        PROBLEMS["mt10"]()


@dataclass
class Variant:
    env_name: str
    number: int


class SmallArm:
    """Ends in success after as many steps as its variant says; never within the third one's."""

    def set_task(self, variant: Variant) -> None:
        self.variant = variant

    def reset(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        self.step_number = 0
        return self._seen(), {}

    def _seen(self) -> NDArray[np.float64]:
        return np.full(39, self.variant.number + self.step_number / 10)

    def step(self, action: NDArray[np.float64]) -> tuple[Any, float, bool, bool, dict[str, float]]:
        assert np.abs(action).max() <= 1
        self.step_number += 1
        able = self.variant.number % 50 != 3
        success = able and self.step_number == 2 + self.variant.number % 2
        return self._seen(), 0.0, False, self.step_number == 5, {"success": float(success)}

    def close(self) -> None:
        """Nothing is held."""


class SmallExpert:
    def get_action(self, seen: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([seen[0], -seen[0], 0.5, 2.0])


class SmallBenchmark:
    def __init__(self, seed: int) -> None:
        names = ENVIRONMENTS.values()
        self.train_classes = dict.fromkeys(names, SmallArm)
        pairs = itertools.product(names, range(50))
        self.train_tasks = [Variant(name, 50 * seed + n) for name, n in pairs]


@pytest.fixture
def metaworld(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name with the same calls, whose arms are arithmetic."""
    package, policies = ModuleType("metaworld"), ModuleType("metaworld.policies")
    package.MT10 = SmallBenchmark  # type: ignore[attr-defined]
    experts = dict.fromkeys(ENVIRONMENTS.values(), SmallExpert)
    policies.ENV_POLICY_MAP = experts  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "metaworld", package)
    monkeypatch.setitem(sys.modules, "metaworld.policies", policies)


@pytest.mark.usefixtures("metaworld")
def test_episodes_end_at_their_first_success_and_failures_are_left_out() -> None:
    told: list[int] = []
    arrays = demonstrated(told.append)
    assert told == list(range(1, GENERATED["mt10"].parts + 1))
    able = [n for n in range(100) if n % 50 != 3]
    lengths = [2 + n % 2 for n in able]
    seen = np.concatenate([n + np.arange(k) / 10 for n, k in zip(able, lengths, strict=True)])
    acted = np.stack([seen, -seen, np.full_like(seen, 0.5), np.full_like(seen, 2)], axis=1)
    for task in MT10:
        assert np.array_equal(arrays[f"{task}_episodes"], np.repeat(np.arange(len(able)), lengths))
        np.testing.assert_allclose(arrays[f"{task}_observations"][:, 7], seen, rtol=1e-6)
        np.testing.assert_allclose(arrays[f"{task}_actions"], acted.clip(-1, 1), rtol=1e-6)
        assert arrays[f"{task}_actions"].dtype == np.float32


@pytest.mark.usefixtures("metaworld")
def test_get_makes_the_set_once_and_says_that_its_content_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mtofront", "data", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return (int(end.value.code or 0), *capsys.readouterr())

    code, out, err = call("where", "mt10")
    assert (code, out) == (0, f"{tmp_path / 'mt10'}\n") and "data get mt10" in err
    assert not json.loads(call("where", "mt10", "--json")[1])["here"]
    code, _, err = call("get", "mt10", "--from", "a.npz")
    assert code == 2 and "mt10 is computed" in err
    code, out, err = call("get", "mt10")
    assert code == 0, err
    assert "other content than" in out and "Licence: MIT" in out and str(tmp_path) in out
    path = tmp_path / "mt10" / "mt10.npz"
    assert list(path.parent.iterdir()) == [path]
    made = path.stat().st_mtime_ns
    with np.load(path) as kept:
        again = {**GENERATED["mt10"].__dict__, "sha256": digest_of(dict(kept))}
    monkeypatch.setitem(GENERATED, "mt10", type(GENERATED["mt10"])(**again))  # type: ignore[arg-type]
    assert "the same content as" in call("get", "mt10")[1]
    assert path.stat().st_mtime_ns == made
    row = json.loads(call("get", "mt10", "--again", "--json")[1])
    assert row["here"] and row["extra"] == "mt10" and path.stat().st_mtime_ns != made


def test_without_the_extra_get_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(ProblemError, match=r"pip install 'mtofront\[mt10\]'"):
        demonstrated(lambda done: None)


def test_the_digest_knows_names_types_shapes_and_values() -> None:
    base = {"a": np.zeros(4, dtype=np.float32)}
    others = [
        {"b": base["a"]},
        {"a": np.zeros(4, dtype=np.int32)},
        {"a": np.zeros((2, 2), dtype=np.float32)},
        {"a": np.array([0, 0, 0, 1], dtype=np.float32)},
    ]
    assert len({digest_of(arrays) for arrays in (base, *others)}) == 5
