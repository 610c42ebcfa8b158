"""A call with literal arguments, written as text: read, never run."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """NAME(arguments): those given by position, and those given by keyword."""

    name: str
    positional: tuple[object, ...]
    keywords: Mapping[str, object]


def read_call(text: str) -> Call:
    """The call that a text spells out.

    Raises ValueError for anything but NAME(...) whose arguments are finite numbers, strings, True,
    False, None, or lists and tuples of these.
    """
    try:
        found = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, ast.Call) or not isinstance(found.func, ast.Name):
        raise ValueError("it is to read NAME(argument=value, ...), with () where there is none")
    keywords: dict[str, object] = {}
    for keyword in found.keywords:
        if keyword.arg is None:
            raise ValueError(_refusal(keyword.value))
        keywords[keyword.arg] = _literal(keyword.value)
    return Call(found.func.id, tuple(map(_literal, found.args)), keywords)


def write_call(name: str, arguments: Mapping[str, object]) -> str:
    """The text of a call with every argument by keyword; `read_call` gives the same back."""
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.List):
        return [_literal(element) for element in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(map(_literal, node.elts))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        size = _literal(node.operand)
        if isinstance(size, int | float) and not isinstance(size, bool):
            return -size
    elif isinstance(node, ast.Constant):
        value = node.value
        if value is None or isinstance(value, str | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
    raise ValueError(_refusal(node))


def _refusal(node: ast.expr) -> str:
    return (
        "an argument is a finite number, a string, True, False, None, or a list of these; "
        f"found {ast.unparse(node)}"
    )
