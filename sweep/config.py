"""The fields of a config, what each may hold, and the errors for those that are wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from .document import Document, Place, nearest, read_document, with_settings
from .errors import RequestError
from .optimizers import OPTIMIZERS, SCHEDULES
from .precision import Precision

Value = float | int | str
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
CONTROLS = ("mean_weights", "update_norm", "longer")
"""What a second phase may repeat; see `controls`."""
TRACKERS = ("tensorboard", "mlflow", "wandb")
"""Experiment trackers that may be told how packs go."""


class Section(BaseModel):
    """A part of a config: unknown fields are refused and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Budget(Section):
    """How long a run trains. evaluations: how often it is measured, beside once untrained.

    patience: after so many evaluations in a row in which no validation loss fell, a run ends.
    precision: in which the network's layers compute while training; see `precision.Narrowed`.
    """

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    evaluations: Annotated[int, Field(ge=1)] = 5
    patience: Annotated[int, Field(ge=1)] | None = None
    precision: Precision = "float32"


class Rates(Section):
    """How the learning rate changes over a run; see `optimizers.Schedule`. A name alone will do."""

    name: str = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    every: Annotated[float, Field(gt=0, lt=1)] = 1 / 3
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @field_validator("name")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        return _known(name, SCHEDULES, "schedule")


class Optimizer(Section):
    """The optimiser of every run, and the learning rates and decays that every arm is tuned over.

    clip: the longest that a run's gradient may be, for all arms alike. beta2: Adam's memory of
    squared gradients, for all arms alike; 0.999 unless given.
    """

    name: str = "adam"
    lr: tuple[float, ...]
    weight_decay: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = (0.0,)
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    beta2: Annotated[float, Field(gt=0, lt=1)] | None = None
    schedule: Rates = Rates()

    @field_validator("beta2")
    @classmethod
    def _of_adam(cls, beta2: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("name", "adam")
        if beta2 is not None and name not in ("adam", "adamw"):
            raise ValueError(f"only adam and adamw have a beta2; found it with {name}")
        return beta2

    @field_validator("lr", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("lr")
    @classmethod
    def _positive_and_distinct(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not rates:
            raise ValueError("at least one learning rate is needed; found an empty list")
        for rate in rates:
            if not (rate > 0 and math.isfinite(rate)):
                raise ValueError(f"a learning rate must be greater than 0; found {rate:g}")
        return _distinct(rates, "learning rate")

    @field_validator("name")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        return _known(name, OPTIMIZERS, "optimizer")

    @field_validator("weight_decay", mode="before")
    @classmethod
    def _one_decay_or_more(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("weight_decay")
    @classmethod
    def _distinct_decays(cls, decays: tuple[float, ...]) -> tuple[float, ...]:
        if not decays:
            raise ValueError("at least one weight decay is needed; found an empty list")
        return _distinct(decays, "weight decay")

    @field_validator("schedule", mode="before")
    @classmethod
    def _named_schedule(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Tuning(Section):
    """How arms are made comparable: the same runs, the same backward passes, or as written."""

    runs_per_arm: Literal["equal", "equal_backward_passes", "as_given"] = "equal"


class Scheduler(Section):
    """Which runs are stopped early; see `halving`. A name alone will do.

    rungs: shares of the epochs after which an arm's runs of one seed are compared. keep: the share
    of them that goes on at each.
    """

    name: Literal["front_halving"]
    rungs: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.2, 0.4)
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @field_validator("rungs")
    @classmethod
    def _ascending(cls, rungs: tuple[float, ...]) -> tuple[float, ...]:
        if not rungs:
            raise ValueError("at least one rung is needed; found an empty list")
        if list(rungs) != sorted(rungs):
            raise ValueError(f"rungs must ascend; found {list(rungs)}")
        return _distinct(rungs, "rung")


class Resources(Section):
    """What the sweep may use. pack: runs trained side by side. cpus: all unless given.

    checkpoint_seconds: how far apart a pack's checkpoints are at least; 0: at every evaluation.
    storage: URI of where packs put records and checkpoints, if not into the sweep's folder.
    """

    engine: Literal["ray", "inline"] = "ray"
    pack: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    cpus: Annotated[int, Field(ge=1)] | None = None
    gpus_per_pack: Annotated[float, Field(ge=0)] = 0.0
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    storage: str | None = None


class Report(Section):
    """What is compared, and the margin within which two results count as the same."""

    objective: str = "loss"
    select_on: Literal["train", "val", "test"] = "val"
    report_on: Literal["train", "val", "test"] = "test"
    baseline: str = "scalarization"
    equivalence: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Config(Section):
    """A whole experiment. Arms hold a method's name and its hyper-parameters, checked by `plan`.

    diagnostics: whether runs record how their tasks' gradients and weights go; see `diagnostics`.
    controls: which controls follow, and of which arms: None for all that they have a meaning for.
    """

    name: Name
    problem: str
    problem_options: dict[str, Any] = {}
    budget: Budget
    optimizer: Optimizer
    seeds: tuple[int, ...]
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    tuning: Tuning = Tuning()
    scheduler: Scheduler | None = None
    resources: Resources = Resources()
    report: Report = Report()
    logging: tuple[str, ...] = ()
    diagnostics: bool = False
    controls: dict[str, tuple[Name, ...] | None] = {}
    _document: Document | None = PrivateAttr(default=None)

    def error(self, place: Place, message: str) -> RequestError:
        """An error about one field, with file and line if the config came from a file."""
        document = self._document or Document("config", {}, {})
        return document.error(place, message)

    @property
    def follows_weights(self) -> bool:
        """Whether runs record their diagnostics: where asked for, or where a control needs them."""
        return self.diagnostics or bool(self.controls.keys() & {"mean_weights", "update_norm"})

    @field_validator("controls", mode="before")
    @classmethod
    def _kinds_or_kinds_with_arms(cls, value: Any) -> Any:
        """`[longer]` means `{longer: null}`, and `{longer: pcgrad}` means `{longer: [pcgrad]}`."""
        kinds = (value,) if isinstance(value, str) else value
        if isinstance(kinds, list | tuple) and all(isinstance(kind, str) for kind in kinds):
            return dict.fromkeys(_distinct(tuple(kinds), "control"))
        if isinstance(value, dict):
            return {k: [arms] if isinstance(arms, str) else arms for k, arms in value.items()}
        raise ValueError(
            f"controls are some of {', '.join(CONTROLS)}, as a list, or as a mapping to arms like "
            f"{{{CONTROLS[0]}: [pcgrad]}}; found {value!r}"
        )

    @field_validator("controls")
    @classmethod
    def _known_controls(
        cls, value: dict[str, tuple[str, ...] | None]
    ) -> dict[str, tuple[str, ...] | None]:
        for kind, arms in value.items():
            _known(kind, CONTROLS, "control")
            if arms is not None:
                if not arms:
                    raise ValueError(f"{kind} needs at least one arm; found an empty list")
                _distinct(arms, "arm of a control")
        return value

    @field_validator("logging", mode="before")
    @classmethod
    def _one_tracker_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("logging")
    @classmethod
    def _known_trackers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _known(name, TRACKERS, "experiment tracker")
        return _distinct(names, "experiment tracker")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_or_list(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError(f"at least one seed is needed; found {value}")
            return list(range(value))
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("at least one seed is needed; found an empty list")
        return _distinct(seeds, "seed")

    @field_validator("scheduler", mode="before")
    @classmethod
    def _named_scheduler(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("arms", mode="before")
    @classmethod
    def _empty_arms(cls, value: Any) -> Any:
        """`pcgrad:` with nothing after it means `pcgrad: {}`."""
        if isinstance(value, dict):
            return {name: {} if arm is None else arm for name, arm in value.items()}
        return value


def _distinct(values: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"every {what} may be given only once; found {value} twice")
    return values


def _known(name: str, known: Iterable[str], what: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; {nearest(name, known)}")
    return name


def load_config(path: str | Path, settings: Iterable[str] = ()) -> Config:
    """The validated config in a YAML file.

    settings: `key.path=value` overrides. Raises RequestError with file, line, what was found and
    what is allowed, for the first thing that is wrong. Arms are checked by `plan`, which knows the
    problem's tasks.
    """
    return validated(with_settings(read_document(Path(path)), settings))


def validated(document: Document) -> Config:
    """The config in a document. Raises RequestError as `load_config` does."""
    try:
        config = Config.model_validate(document.values)
        config._document = document
        return config
    except ValidationError as error:
        # a misspelt field is also a missing one: the spelling is what helps
        found = error.errors(include_url=False)
        first = min(found, key=lambda e: e["type"] != "extra_forbidden")
        place = tuple(part for part in first["loc"] if _is_field(part, document))
        raise document.error(place, _message(first, place, document)) from None


def _is_field(part: str | int, document: Document) -> bool:
    """Pydantic's places name union members and `[key]` too; a document has only fields."""
    return isinstance(part, int) or not (
        part.startswith(("constrained", "literal")) or part in ("int", "float", "[key]")
    )


def _message(error: Any, place: Place, document: Document) -> str:
    kind, found = error["type"], error["input"]
    if kind == "extra_forbidden":
        known = _fields_at(place[:-1])
        return f"unknown field {place[-1]!r}; {nearest(str(place[-1]), known)}"
    if kind == "missing":
        return "this field is required and was not found"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    rule = error["msg"][0].lower() + error["msg"][1:]
    return f"{rule}; found {found!r}"


def _fields_at(place: Place) -> list[str]:
    """The fields that the section at `place` has."""
    section: Any = Config
    for part in place:
        found = section.model_fields[str(part)].annotation
        section = next((one for one in get_args(found) if one is not NoneType), found)
    return list(section.model_fields)
