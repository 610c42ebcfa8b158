"""Two processes with half of every minibatch each take the steps of one process with the whole."""

from __future__ import annotations

import datetime
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtofront.methods import Balancer

ROWS, STEPS, PATIENCE = 8, 4, 60
CASES: dict[str, tuple[str, dict[str, object]]] = {
    "linear": ("linear", {"weights": [1.0, 2.0, 0.5]}),
    "uncertainty": ("uncertainty", {}),
    "uncertainty on logarithms": ("uncertainty", {"losses": "log"}),
    "famo": ("famo", {}),
    "gradnorm": ("gradnorm", {}),
    "pcgrad": ("pcgrad", {}),
    "pcgrad on weighted logarithms": ("pcgrad", {"losses": "log", "weights": [1.0, 2.0, 0.5]}),
    "nash_mtl": ("nash_mtl", {}),
    "nash_mtl with its heads": ("nash_mtl", {"heads": "scaled", "norm": "scalarization"}),
    "gradvac by tensors": ("gradvac", {"granularity": "tensor"}),
    "graddrop": ("graddrop", {}),
}


class Net(nn.Module):
    """A trunk and three heads, in double precision, the same in every process."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(3))
        self.double()

    def forward(self, inputs: Tensor) -> list[Tensor]:
        features = self.trunk(inputs)
        return [head(features) for head in self.heads]


def minibatch(step: int, part: slice) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(ROWS, 4, generator=generator, dtype=torch.float64)
    targets = torch.randn(3, ROWS, 1, generator=generator, dtype=torch.float64)
    return inputs[part], targets[:, part]


def trained(
    case: str, part: slice, group: object = None, parallel: bool = False
) -> dict[str, Tensor]:
    """The parameters after a few steps of Adam on a part of every minibatch."""
    name, options = CASES[case]
    net = Net()
    model = DistributedDataParallel(net, process_group=group) if parallel else net
    balancer = Balancer(name, 3, net.trunk.parameters(), seed=5, group=group, **options)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)

    def losses(step: int) -> list[Tensor]:
        inputs, targets = minibatch(step, part)
        with model.no_sync() if parallel else nullcontext():
            outputs = model(inputs)
        return [(y - t).square().mean() for y, t in zip(outputs, targets, strict=True)]

    for step in range(STEPS):
        optimizer.zero_grad()
        balancer.backward(losses(step))
        optimizer.step()
        with torch.no_grad():
            balancer.after(losses(step))
    return {key: value.detach() for key, value in net.named_parameters()}


def one_of_two(rank: int, folder: str) -> None:
    """One process: every case with its half of the rows, plainly and wrapped."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=PATIENCE),
    )
    group = torch.distributed.group.WORLD
    half = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    found = {
        (case, wrapped): trained(case, half, group, wrapped)
        for case in CASES
        for wrapped in (False, True)
    }
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def results(folder: Path) -> list[dict[tuple[str, bool], dict[str, Tensor]]]:
    """What both processes found. They meet through a file, so no port can be taken already."""
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=one_of_two, args=(k, str(folder))) for k in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        for process in processes:
            process.start()
    for process in processes:
        process.join(PATIENCE)
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{k}.pt") for k in range(2)]


# one test for all cases, because two processes take seconds to start
def test_two_halves_are_one_whole(tmp_path: Path) -> None:
    first, second = results(tmp_path)
    start = dict(Net().named_parameters())
    for case in CASES:
        whole = trained(case, slice(None))
        for wrapped in (False, True):
            mine, other = first[case, wrapped], second[case, wrapped]
            for key, expected in whole.items():
                where = f"{case}, wrapped: {wrapped}, {key}"
                assert torch.equal(mine[key], other[key]), where
                assert not torch.equal(expected, start[key]), where
                assert torch.allclose(mine[key], expected, rtol=1e-9, atol=1e-11), where
