"""What every test stands on: one thread, a temporary working folder, small configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from small_data import write_all

# A loaded machine makes any example slow: how long one takes says nothing about what is tested.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

QUADRATICS = """\
name: bowls
problem: quadratics
budget: {epochs: 2, batch_size: 16, evaluations: 2}
optimizer: {name: sgd, lr: [0.01, 0.02]}
seeds: 2
arms:
  scalarization: {method: linear, weights: {grid: log_odds, points: 5}}
  pcgrad:
  cagrad: {c: [0.2, 0.6]}
resources: {engine: inline, pack: 7}
"""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered about this machine and its data sets stay out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MTOFRONT_DATA", str(tmp_path_factory.mktemp("no-data")))
        yield


@pytest.fixture(scope="session")
def written_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small set of made-up rows in the place of each real one."""
    folder = tmp_path_factory.mktemp("data")
    write_all(folder)
    return folder


@pytest.fixture
def small_data(written_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the one in which problems look."""
    monkeypatch.setenv("MTOFRONT_DATA", str(written_data))
    return written_data


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bowls(workdir: Path) -> Path:
    """A config that trains in about a second, in the working folder."""
    path = workdir / "bowls.yaml"
    path.write_text(QUADRATICS)
    return path
