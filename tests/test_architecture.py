"""The arrows between folders, who may import Ray and matplotlib, and how long a module may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("methods", "problems", "analysis", "sweep", "mtofront")
ALLOWED = {
    "methods": {"methods"},
    "problems": {"problems"},
    "analysis": {"analysis"},
    "sweep": {"sweep", "methods", "problems"},
    "mtofront": {"sweep", "methods", "problems", "analysis", "mtofront"},
}
CEILING = 350


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Absolute names of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def importers(package: str) -> list[str]:
    return [
        f"{folder}/{path.name}"
        for folder in FOLDERS
        for path in modules(folder)
        if any(name.split(".")[0] == package for name in imported(path))
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_arrows_between_folders_point_one_way(folder: str) -> None:
    for path in modules(folder):
        for name in imported(path):
            parts = name.split(".")
            if parts[0] == "mtofront" and len(parts) > 1:
                target = parts[1] if parts[1] in FOLDERS else "mtofront"
                assert target in ALLOWED[folder], f"{path} imports {name}"
            assert parts[0] not in FOLDERS[:4], f"{path}: import mtofront.{name} instead"


def test_ray_is_imported_in_files_that_say_so() -> None:
    assert importers("ray") == [
        "sweep/ray_cluster.py",
        "sweep/ray_engine.py",
        "sweep/ray_logging.py",
        "sweep/ray_scheduler.py",
        "sweep/ray_search.py",
    ]


def test_matplotlib_is_imported_in_analysis_only() -> None:
    assert importers("matplotlib")
    assert all(name.startswith("analysis/") for name in importers("matplotlib"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_are_short_and_say_what_they_know(folder: str) -> None:
    for path in modules(folder):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= CEILING, path
        assert text.startswith('"""'), path
        assert path.stem not in {"utils", "util", "helpers", "common", "misc", "manager"}, path


def test_nothing_asks_for_the_time_of_day_or_of_a_file() -> None:
    """A clock that is set back changes nothing; the manifest's date is for people.

    mapped.py asks whether a file's time is another than it was, not whether it is later.
    """
    asked = ("time.time(", "time_ns(", "_mtime", "_ctime", "getmtime", "datetime.now", "utcnow")
    found = {
        f"{folder}/{path.name}"
        for folder in FOLDERS
        for path in modules(folder)
        if any(word in path.read_text(encoding="utf-8") for word in asked)
    }
    assert found == {"sweep/manifest.py", "problems/mapped.py"}


def test_every_method_file_is_registered_under_its_own_name() -> None:
    from mtofront.methods import METHODS

    for name, method in METHODS.items():
        assert method.name == name
        assert (ROOT / "methods" / f"{name}.py").exists(), name
