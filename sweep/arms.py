"""From one arm of a config to its trials: every combination of weights and hyper-parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mtofront.methods import (
    TREATMENTS,
    Choice,
    Count,
    HyperError,
    Method,
    Number,
    TaskWeights,
    Treatment,
    check_hyper,
    check_together,
    method_named,
    treatment_of,
)

from .config import Config
from .costs import mean_passes_per_step
from .document import Place, nearest
from .searches import Search, weight_search
from .spec import RunSpec
from .weights import GRIDS, Vector, weight_grid


@dataclass(frozen=True)
class Trial:
    """One setting of an arm's method: fixed weights or None, hyper-parameters after defaults.

    method, treatment: as in a run's spec, the same for all trials of an arm. later: the place of
    weights among a search's vectors, if they are found when earlier ones are measured.
    """

    method: str
    treatment: Mapping[str, str]
    weights: Vector | None
    hyper: Mapping[str, float | str]
    later: int | None = None


def arm_method(config: Config, arm: str) -> Method:
    """The method of an arm: `method`, or the arm's own name.

    Raises RequestError for an unknown method.
    """
    name = config.arms[arm].get("method", arm)
    try:
        return method_named(str(name))
    except ValueError as error:
        place: Place = ("arms", arm, "method") if "method" in config.arms[arm] else ("arms", arm)
        raise config.error(place, str(error)) from None


def arm_treatment(config: Config, arm: str) -> Treatment:
    """How an arm's method is applied.

    Raises RequestError for settings that are unknown or have no meaning for the method.
    """
    method = arm_method(config, arm)
    given = {key: value for key, value in config.arms[arm].items() if key in TREATMENTS}
    try:
        return treatment_of(method, given)
    except HyperError as error:
        raise config.error(("arms", arm, error.parameter), error.message) from None


def arm_passes_per_step(config: Config, arm: str, tasks: int) -> float:
    """Backward passes of an arm's runs divided by their steps, the mean over its settings."""
    method, treatment = arm_method(config, arm), arm_treatment(config, arm)
    trials = arm_trials(config, arm, tasks)
    costs = [
        mean_passes_per_step(method, treatment, trial.hyper, tasks, config.budget.epochs)
        for trial in trials
    ]
    return sum(costs) / len(costs)


def arm_trials(config: Config, arm: str, tasks: int) -> list[Trial]:
    """All trials of an arm, in the order of the config: a list of values is a grid.

    Raises RequestError for unknown or wrong hyper-parameters, weights and grids.
    """
    method = arm_method(config, arm)
    treatment = arm_treatment(config, arm).as_dict()
    apart = ("method", *TREATMENTS)
    given = {key: value for key, value in config.arms[arm].items() if key not in apart}
    for key in given:
        if key not in method.hyper and key != "weights":
            known = [*method.hyper, "weights", *apart]
            raise config.error(
                ("arms", arm, key),
                f"unknown field {key!r} for {method.name}; {nearest(key, known)}",
            )
    axes = {
        name: _axis(config, arm, method, name, given[name], tasks)
        for name, hyper in method.hyper.items()
        if name in given and not isinstance(hyper, TaskWeights)
    }
    defaults = default_values(method)
    combinations = [
        {**defaults, **dict(zip(axes, values, strict=True))}
        for values in itertools.product(*axes.values())
    ]
    for combination in combinations:
        try:
            check_together(method, combination)
        except HyperError as error:
            place = ("arms", arm, error.parameter) if error.parameter in given else ("arms", arm)
            raise config.error(place, str(error)) from None
    places: list[tuple[Vector | None, int | None]] = [
        (weights, None) for weights in _weights(config, arm, method, given, tasks)
    ]
    search = arm_search(config, arm, tasks)
    if search:
        places += [(None, n) for n in range(len(search.start), sum(search.sizes))]
    return [
        Trial(method.name, treatment, weights, hyper, later)
        for weights, later in places
        for hyper in combinations
    ]


def arm_search(config: Config, arm: str, tasks: int) -> Search | None:
    """The adaptive search for weights that an arm asks for, if it does.

    Raises RequestError for wrong fields, and for methods whose runs show a whole front.
    """
    found = config.arms[arm].get("weights")
    if not isinstance(found, dict) or "search" not in found:
        return None
    place: Place = ("arms", arm, "weights")
    method = arm_method(config, arm)
    if method.scheme == "manifold":
        raise config.error(
            place,
            f"a run of {method.name} shows a whole front, so there are no gaps between weights to "
            "search; give it a grid, or leave `weights` out",
        )
    return weight_search(config, place, found, tasks)


def default_values(method: Method) -> dict[str, float | str]:
    """The hyper-parameters' defaults, as a spec holds them; task weights stand apart."""
    values: dict[str, float | str] = {}
    for name, hyper in method.hyper.items():
        if isinstance(hyper, Number | Count):
            values[name] = float(hyper.default)
        elif isinstance(hyper, Choice):
            values[name] = hyper.options[0]
    return values


def as_linear(spec: RunSpec, weights: Vector) -> RunSpec:
    """The run as linear scalarization with these weights."""
    hyper = default_values(method_named("linear"))
    return replace(spec, method="linear", weights=weights, hyper=hyper, treatment={})


def _axis(
    config: Config, arm: str, method: Method, name: str, given: Any, tasks: int
) -> list[float | str]:
    """The values of one hyper-parameter, checked one by one."""
    place = ("arms", arm, name)
    values = given if isinstance(given, list) else [given]
    if not values:
        raise config.error(place, "a grid needs at least one value; found an empty list")
    for position, value in enumerate(values):
        here: Place = (*place, position) if isinstance(given, list) else place
        if values.count(value) > 1:
            raise config.error(here, f"a grid names every value once; found {value!r} twice")
        try:
            check_hyper(method, {name: value}, tasks)
        except HyperError as error:
            raise config.error(here, str(error)) from None
    return [value if isinstance(value, str) else float(value) for value in values]


def _weights(
    config: Config, arm: str, method: Method, given: Mapping[str, Any], tasks: int
) -> list[Vector | None]:
    """The weight vectors of an arm: given, a grid or equal ones.

    None for a method that takes none, unless some are given: they weight the losses before it.
    """
    if not method.takes_weights and "weights" not in given:
        return [None]
    place: Place = ("arms", arm, "weights")
    found = given.get("weights", "equal")
    if found == "equal":
        return [(1 / tasks,) * tasks]
    if found == "unit":
        return [(1.0,) * tasks]
    if isinstance(found, dict) and "search" in found:
        return list(weight_search(config, place, found, tasks).start)
    if isinstance(found, dict):
        return list(_grid(config, place, found, tasks))
    if not isinstance(found, list) or not found:
        raise config.error(
            place,
            "weights are 'equal' (1/T each), 'unit' (1 each), a list with one number a task, a "
            f"list of such lists, a grid like {{grid: log_odds, points: 21}}, or a search like "
            f"{{search: front, points: 25}}; found {found!r}",
        )
    rows = found if isinstance(found[0], list) else [found]
    for position, row in enumerate(rows):
        here: Place = (*place, position) if rows is found else place
        _check_weights(config, here, row, tasks)
        if rows.count(row) > 1:
            raise config.error(here, f"every weight vector stands once; found {row} twice")
    return [tuple(map(float, row)) for row in rows]


def _check_weights(config: Config, place: Place, row: Any, tasks: int) -> None:
    rule = f"weights are {tasks} non-negative numbers, one a task, not all zero; found {row!r}"
    numbers = isinstance(row, list) and all(
        isinstance(w, int | float) and not isinstance(w, bool) for w in row
    )
    if not numbers or len(row) != tasks or not all(0 <= w < float("inf") for w in row):
        raise config.error(place, rule)
    if sum(row) <= 0:
        raise config.error(place, rule)


def _grid(config: Config, place: Place, found: Mapping[str, Any], tasks: int) -> list[Vector]:
    for key in found:
        if key not in ("grid", "points", "low"):
            allowed = nearest(str(key), ("grid", "points", "low"))
            raise config.error((*place, key), f"unknown field {key!r}; {allowed}")
    name, points, low = found.get("grid"), found.get("points"), found.get("low", 0.01)
    if name not in GRIDS:
        raise config.error((*place, "grid"), f"unknown grid {name!r}; {nearest(str(name), GRIDS)}")
    if not isinstance(points, int) or isinstance(points, bool):
        raise config.error((*place, "points"), f"`points` must be a whole number; found {points!r}")
    if not isinstance(low, int | float) or isinstance(low, bool):
        raise config.error((*place, "low"), f"`low` must be a number; found {low!r}")
    try:
        return weight_grid(name, points, tasks, low)
    except ValueError as error:
        raise config.error(place, str(error)) from None
