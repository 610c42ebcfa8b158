"""An adaptive weight search as a config asks for it: how many weight vectors, in which rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .config import Config
from .document import Place, nearest
from .front_search import LOW, batch_size, start_size
from .weights import Vector, weight_grid

SEARCHES = ("front",)
FIELDS = ("search", "points", "start", "batch", "low")


@dataclass(frozen=True)
class Search:
    """start: weights that are laid out before anything is measured.

    sizes: how many weight vectors each round has; the first round is `start`.
    """

    start: tuple[Vector, ...]
    sizes: tuple[int, ...]


def weight_search(config: Config, place: Place, found: Mapping[str, Any], tasks: int) -> Search:
    """The search in an arm's `weights`. Raises RequestError for unknown or wrong fields."""
    for key in found:
        if key not in FIELDS:
            message = f"unknown field {key!r}; {nearest(str(key), FIELDS)}"
            raise config.error((*place, key), message)
    if found["search"] not in SEARCHES:
        name = str(found["search"])
        message = f"unknown search {name!r}; {nearest(name, SEARCHES)}"
        raise config.error((*place, "search"), message)
    points = _whole(config, place, found, "points", tasks + 1, None)
    start = _whole(config, place, found, "start", tasks, start_size(points, tasks))
    if start > points:
        message = f"a search cannot start with more than its {points} points; found {start}"
        raise config.error((*place, "start"), message)
    low = found.get("low", LOW)
    if not isinstance(low, int | float) or isinstance(low, bool):
        raise config.error((*place, "low"), f"`low` must be a number; found {low!r}")
    try:
        laid_out = weight_grid("log_odds", start, tasks, low)
    except ValueError as error:
        raise config.error(place, str(error)) from None
    batch = _whole(config, place, found, "batch", 1, batch_size(points, len(laid_out)))
    rest = points - len(laid_out)
    later = [min(batch, rest - done) for done in range(0, rest, batch)]
    return Search(tuple(laid_out), (len(laid_out), *later))


def _whole(
    config: Config, place: Place, found: Mapping[str, Any], key: str, low: int, default: int | None
) -> int:
    value = found.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        here = (*place, key) if key in found else place
        raise config.error(here, f"`{key}` must be a whole number from {low}; found {value!r}")
    return value
