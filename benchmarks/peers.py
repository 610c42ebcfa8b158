"""How peers' code is imported where only a part of it is wanted."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


def libmtl_module(name: str) -> Any:
    """A module of LibMTL, without the trainers and vision models that its package imports.

    Raises ImportError if LibMTL is not installed.
    """
    if "LibMTL" not in sys.modules:
        spec = importlib.util.find_spec("LibMTL")
        if spec is None:
            raise ImportError("LibMTL is not installed")
        package = types.ModuleType("LibMTL")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["LibMTL"] = package
        # later versions import it for problems on graphs only
        sys.modules.setdefault("torch_geometric", types.ModuleType("torch_geometric"))
    return importlib.import_module(f"LibMTL.{name}")
