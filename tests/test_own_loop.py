"""Every example of docs/own-loop.md, run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import blocks
from torch import Tensor, nn

from mtofront.methods import TREATMENTS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own-loop.md").read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """Heading -> its python block; the network comes before the first one, under ""."""
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.M)
    named = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    found = {name: blocks(text, "python") for name, text in named.items()}
    assert all(len(own) <= 1 for own in found.values())
    return {name: own[0] for name, own in found.items() if own}


BLOCKS = sections()
PROCESSES = "DistributedDataParallel"
HERE = [name for name in BLOCKS if name not in ("", PROCESSES)]


@pytest.fixture
def network(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's own module, importable from the working folder, every seed set."""
    Path("two_tasks.py").write_text(BLOCKS[""])
    monkeypatch.syspath_prepend(workdir)
    monkeypatch.delitem(sys.modules, "two_tasks", raising=False)
    torch.manual_seed(0)
    import two_tasks

    yield two_tasks
    del sys.modules["two_tasks"]


def losses(network: Any, model: nn.Module) -> list[float]:
    x, *targets = network.table().tensors
    with torch.no_grad():
        return [loss.item() for loss in network.losses_of(model(x), *targets)]


def check(network: Any, start: nn.Module, end: nn.Module) -> None:
    """Both losses fell by a tenth and more, and every parameter moved."""
    for before, after in zip(losses(network, start), losses(network, end), strict=True):
        assert after < 0.9 * before
    for old, new in zip(start.parameters(), end.parameters(), strict=True):
        assert not torch.equal(old, new)


def first_of(network: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What an example leaves behind, and a copy of the first network that it made as "start"."""
    made: list[dict[str, Tensor]] = []
    original = network.Net.__init__

    def remembered(self: nn.Module) -> None:
        original(self)
        made.append({name: value.clone() for name, value in self.state_dict().items()})

    monkeypatch.setattr(network.Net, "__init__", remembered)
    found: dict[str, Any] = {"__name__": "example"}
    exec(compile(run, "docs/own-loop.md", "exec"), found)
    start = network.Net()
    start.load_state_dict(made[0])
    return {**found, "start": start}


# Lightning advises more workers for loading data, and calls what torch 2.13 has deprecated;
# an example could change neither
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
)
@pytest.mark.parametrize("name", HERE)
def test_the_example_lowers_both_losses(
    name: str, network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = first_of(network, BLOCKS[name], monkeypatch)
    check(network, found["start"], getattr(found["model"], "net", found["model"]))


def test_the_example_for_processes_lowers_both_losses_on_each(network: Any, workdir: Path) -> None:
    keep = "\nimport os\ntorch.save(model.module.state_dict(), f\"end{os.environ['RANK']}.pt\")\n"
    begin = "model = DistributedDataParallel(Net())\n"
    code = BLOCKS[PROCESSES]
    assert code.count(begin) == 1
    seeded = code.replace(begin, f"torch.manual_seed(0)\n{begin}")
    Path("ddp.py").write_text(seeded + keep)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*torchrun, "ddp.py"], env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    start = network.Net()
    ends = [torch.load(workdir / f"end{rank}.pt") for rank in range(2)]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    end = network.Net()
    end.load_state_dict(ends[0])
    check(network, start, end)


def test_accumulated_losses_are_those_of_the_whole_minibatch(network: Any) -> None:
    found: dict[str, Any] = {"__name__": "example"}
    exec(BLOCKS["Gradient accumulation"].split("\nmodel = Net()")[0], found)
    model = network.Net().double()
    x, *targets = (t.double() if t.is_floating_point() else t for t in network.table(64).tensors)
    parts = list(zip(x.split(16), *(t.split(16) for t in targets), strict=True))
    parameters = list(model.parameters())
    mine = found["whole_losses"](model, parts)
    expected = network.losses_of(model(x), *targets)
    torch.testing.assert_close(torch.stack(mine), torch.stack(expected))
    for first, second in zip(mine, expected, strict=True):
        rows = [
            torch.autograd.grad(
                loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for loss in (first, second)
        ]
        torch.testing.assert_close(rows[0], rows[1])


def test_the_page_lists_every_setting() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", PAGE, re.M)
    expected = [
        (option, setting, words)
        for option, settings in TREATMENTS.items()
        for setting, words in settings.items()
    ]
    assert rows == expected


def test_the_two_lines_are_the_examples_own() -> None:
    two = re.findall(r"```\n(balancer = .*)\n(balancer\.backward\(\w+).*\n```", PAGE)
    assert len(two) == 1
    assert all(line in BLOCKS["Plain PyTorch"] or line in BLOCKS[PROCESSES] for line in two[0])
