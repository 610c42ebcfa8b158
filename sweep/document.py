"""YAML documents that know on which line every field stands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import RequestError

Place = tuple["str | int", ...]
"""Where a value stands: keys and list positions from the top."""


class _Loader(yaml.SafeLoader):
    """YAML's safe subset, with 1e-3 read as a number (YAML 1.1 wants 1.0e-3, else it is text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A parsed file: its values and the line of each place."""

    name: str
    values: dict[str, Any]
    lines: Mapping[Place, int]

    def error(self, place: Place, message: str) -> RequestError:
        """An error that begins with file, line and field; unknown places take a parent's line."""
        known = place
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        field = ".".join(str(part) for part in place)
        return RequestError(f"{self.name}{line}: {field + ': ' if field else ''}{message}")


def read_document(path: Path) -> Document:
    """The YAML mapping in a file.

    Raises RequestError if the file cannot be read, is no YAML, holds no mapping or a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise RequestError(f"{path}: cannot read the config: {reason}") from None
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> Document:
    """The YAML mapping in a text; `name` is how errors call it."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        if node is not None:
            _collect(node, (), lines, name)
        values = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"{name}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RequestError(f"{name}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        found = "an empty file" if values is None else type(values).__name__
        raise RequestError(f"{name}:1: a config is a mapping of fields to values; found {found}")
    return Document(name, values, lines)


def _collect(node: yaml.Node, place: Place, lines: dict[Place, int], name: str) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _collect(item, (*place, position), lines, name)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            line = key.start_mark.line + 1
            if here in lines:
                raise RequestError(
                    f"{name}:{line}: {'.'.join(map(str, here))}: a field may stand only once; "
                    f"it stands on line {lines[here]} already"
                )
            lines[here] = line
            _collect(value, here, lines, name)


def with_settings(document: Document, settings: Iterable[str]) -> Document:
    """The document with `--set key.path=value` overrides, values read as YAML."""
    values = document.values
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise RequestError(
                f"--set {setting}: write it as KEY=VALUE with dots between nested fields, "
                "like --set budget.epochs=3"
            )
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError:
            raise RequestError(f"--set {setting}: the value is not valid YAML") from None
        values = _replaced(values, path.split("."), value, setting)
    return Document(document.name, values, document.lines)


def _replaced(values: Any, keys: list[str], value: Any, setting: str) -> Any:
    if not keys:
        return value
    if values is not None and not isinstance(values, dict):
        raise RequestError(f"--set {setting}: {keys[0]!r} stands below a field that is no mapping")
    inner = (values or {}).get(keys[0])
    return {**(values or {}), keys[0]: _replaced(inner, keys[1:], value, setting)}


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean …?' if something similar is known, and what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}allowed: {', '.join(names)}"
