"""Demonstrations of Meta-World's ten tasks, by the scripted experts that come with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .problem import ProblemError

TASKS = (
    *("reach", "push", "pick_place", "door_open", "drawer_open"),
    *("drawer_close", "button_press", "peg_insert", "window_open", "window_close"),
)
"""MT10 in the order of its paper; names without the version and the side of a movement."""
ENVIRONMENTS = {
    **{task: f"{task.replace('_', '-')}-v3" for task in TASKS},
    "button_press": "button-press-topdown-v3",
    "peg_insert": "peg-insert-side-v3",
}
OBSERVATION, ACTION = 39, 4
SEEDS = (0, 1)
"""Each gives fifty positions of goal and object for every task."""
EPISODES = 50 * len(SEEDS) * len(TASKS)


def demonstrated(listen: Callable[[int], None]) -> dict[str, NDArray[Any]]:
    """TASK_observations (n, 39) and TASK_actions (n, 4), float32, and TASK_episodes (n,), int32.

    Of a hundred episodes a task the steps up to the first success; those that end without one are
    left out. Observations hold hand, gripper, object, the same one step before, and goal; actions
    are clipped to [-1, 1] before they are done and kept. Nothing is drawn but the positions.

    listen: told how many episodes are done. Raises ProblemError if metaworld is not installed.
    """
    try:
        import metaworld
        from metaworld.policies import ENV_POLICY_MAP
    except ImportError as error:
        raise ProblemError(
            f"the demonstrations of mt10 are made by metaworld, which cannot be imported "
            f"({error}): pip install 'mtofront[mt10]'; training needs only what it has made"
        ) from None
    episodes: dict[str, list[Episode]] = {task: [] for task in TASKS}
    done = 0
    for seed in SEEDS:
        benchmark = metaworld.MT10(seed=seed)
        for task in TASKS:
            name = ENVIRONMENTS[task]
            environment, expert = benchmark.train_classes[name](), ENV_POLICY_MAP[name]()
            for variant in benchmark.train_tasks:
                if variant.env_name != name:
                    continue
                environment.set_task(variant)
                if (episode := _episode(environment, expert)) is not None:
                    episodes[task].append(episode)
                done += 1
                listen(done)
            environment.close()
    arrays: dict[str, NDArray[Any]] = {}
    for task, own in episodes.items():
        arrays[f"{task}_observations"] = np.concatenate([one[0] for one in own])
        arrays[f"{task}_actions"] = np.concatenate([one[1] for one in own])
        lengths = [len(one[0]) for one in own]
        arrays[f"{task}_episodes"] = np.repeat(np.arange(len(own), dtype=np.int32), lengths)
    return arrays


Episode = tuple[NDArray[np.float32], NDArray[np.float32]]


def _episode(environment: Any, expert: Any) -> Episode | None:
    """Observations and actions up to the first success; None if there is none."""
    observation, _ = environment.reset()
    seen, acted = [], []
    ended = False
    while not ended:
        with warnings.catch_warnings():  # experts say that more than 1 will be clipped; it is
            warnings.filterwarnings("ignore", "Constant.* may be too high")
            action = np.clip(expert.get_action(observation), -1, 1)
        seen.append(np.asarray(observation, dtype=np.float32))
        acted.append(np.asarray(action, dtype=np.float32))
        observation, _, _, ended, told = environment.step(action)
        if told["success"]:
            return np.stack(seen), np.stack(acted)
    return None
