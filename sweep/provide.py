"""From a problem's name in a config to the problem: a registry key, or module:callable."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from mtofront.problems import (
    FAMILIES,
    LABEL_OPTIONS,
    PROBLEMS,
    Problem,
    ProblemError,
    Split,
    with_label_options,
)

from .config import Config, load_config
from .document import Document, nearest, with_settings
from .errors import RequestError

SHARE = 16
"""A problem's data may take one part in so many of an accelerator's memory; several packs share
it, and each holds its own. More is left where it is."""


def provide(config: Config) -> Problem:
    """The problem that a config names, made with its options.

    Raises RequestError, with the config's line, if there is none or it cannot be made.
    """
    try:
        return make_problem(config.problem, config.problem_options)
    except (LookupError, ImportError) as error:
        raise config.error(("problem",), str(error.args[0] if error.args else error)) from error
    except (TypeError, ValueError) as error:
        place = ("problem_options",) if config.problem_options else ("problem",)
        raise config.error(place, f"{config.problem} cannot be made: {error}") from error


def named_problem(name: str, settings: Iterable[str]) -> Problem:
    """The problem of a name, or the one that a config file names, with KEY=VALUE options.

    Raises RequestError if there is none or it cannot be made.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return provide(load_config(Path(name), [f"problem_options.{one}" for one in settings]))
    options = with_settings(Document(name, {}, {}), settings).values
    try:
        return make_problem(name, options)
    except (LookupError, ImportError, TypeError, ValueError) as error:
        raise RequestError(str(error.args[0] if error.args else error)) from error


def make_problem(name: str, options: Mapping[str, Any]) -> Problem:
    """The problem of a registry key or `module:callable`, called with the options.

    Options of labels that the callable does not take itself are seen to by `with_label_options`.
    Raises LookupError for an unknown name, ImportError for a module that cannot be imported,
    TypeError or ValueError for what the callable refuses or if it does not return a Problem.
    """
    maker = _maker(name)
    taken = inspect.signature(maker).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in taken.values())
    outside = set() if takes_any else LABEL_OPTIONS.keys() - taken.keys()
    own = {key: value for key, value in options.items() if key not in outside}
    try:
        inspect.signature(maker).bind(**own)
    except TypeError as error:
        known = ", ".join([*taken, *(key for key in LABEL_OPTIONS if key in outside)]) or "none"
        raise TypeError(f"{error}; its options: {known}") from None
    problem = maker(**own)
    if not isinstance(problem, Problem):
        raise ProblemError(f"it must return a mtofront Problem; found {type(problem).__name__}")
    of_labels = {key: value for key, value in options.items() if key in outside}
    return with_label_options(problem, **of_labels) if of_labels else problem


@lru_cache(maxsize=1)
def placed_problem(name: str, options: str, device: str) -> Problem:
    """The problem with data and networks on a device; the last one is kept for the next pack.

    options: the options as JSON, which can be remembered by.
    """
    problem = make_problem(name, json.loads(options))
    if device == "cpu":
        return problem
    place = torch.device(device)
    granted = torch.cuda.get_device_properties(place).total_memory // SHARE
    return placed(problem, place, granted)


def placed(problem: Problem, device: torch.device, granted: int) -> Problem:
    """The problem with networks on a device, and its data if they take no more than granted bytes.

    Larger data stay where they are, and gathered rows are sent.
    """
    fits = sum(split.nbytes for split in problem.splits().values()) <= granted

    def on(split: Split) -> Split:
        if not fits:
            return replace(split, to=device)
        targets = tuple(target.to(device) for target in split.targets)
        return replace(split, inputs=split.inputs.to(device), targets=targets)

    return replace(
        problem,
        train=on(problem.train),
        val=on(problem.val),
        test=on(problem.test),
        model=lambda: problem.model().to(device),
    )


def _maker(name: str) -> Callable[..., Problem]:
    if ":" not in name:
        if name not in PROBLEMS:
            raise LookupError(
                f"unknown problem {name!r}; {nearest(name, PROBLEMS)}; or module:callable for "
                "one's own"
            )
        return PROBLEMS[name]
    module_name, _, attribute = name.partition(":")
    if module_name in FAMILIES:
        return partial(FAMILIES[module_name], attribute)
    here = str(Path.cwd())
    if here not in sys.path:  # an installed command does not look in the working folder by itself
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ImportError(
            f"problem {name!r}: module {module_name!r} cannot be imported from {here}: {error}"
        ) from error
    maker: Callable[..., Problem] | None = getattr(module, attribute, None)
    if not callable(maker):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise LookupError(
            f"problem {name!r}: module {module_name!r} has no callable {attribute!r}; "
            f"{nearest(attribute, known)}"
        )
    return maker
