"""The wheel: every module, config and template is in it, and it works from another folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sweep", "methods", "problems", "analysis", "configs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that the checkout stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            folder,
            source,
        ],
        check=True,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_module_config_and_template(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"mtofront/{path.name}" for path in (ROOT / "mtofront").glob("*.py")}
    for folder in FOLDERS:
        for pattern in ("*.py", "*.yaml", "*.j2", "*.css", "*.js"):
            expected |= {f"mtofront/{folder}/{p.name}" for p in (ROOT / folder).glob(pattern)}
    assert expected | {"mtofront/py.typed"} <= inside
    tops = {name.split("/")[0] for name in inside}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mtofront"}


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
        "import mtofront.cli\n"
        "from mtofront.sweep import load_config, plan\n"
        "from importlib.resources import files\n"
        "config = files('mtofront.configs') / 'quickstart.yaml'\n"
        "open('copy.yaml', 'w').write(config.read_text())\n"
        "assert mtofront.cli.__file__.startswith(sys.path[0]), mtofront.cli.__file__\n"
        "print(len(plan(load_config('copy.yaml')).runs))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 1000
