"""Does it pay to read minibatches ahead from memory-mapped rows? Ways side by side, bit for bit.

    python benchmarks/reading.py            # four ways, rows in the page cache and not

Rows are pictures as bytes in a file that is mapped, as `cityscapes`, `nyuv2` and `celeba` have
them. A step gathers a minibatch, makes numbers of it and trains a small network. The ways: gather
when it is needed, as the engine does; one thread that gathers the next minibatch meanwhile; one or
two worker processes of torch's DataLoader. All must end with the same losses, to the last bit.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mtofront.problems import Split
from mtofront.problems.mapped import decoded

Batches = Iterator[Split]


def written(folder: Path, rows: int, side: int) -> Path:
    """A file of rows (n, 3, side, side) of bytes."""
    path = folder / "rows.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (rows, 3, side, side))
    generator = np.random.default_rng(0)
    for start in range(0, rows, 1000):
        part = array[start : start + 1000]
        part[:] = generator.integers(0, 256, part.shape, dtype=np.uint8)
    array.flush()
    return path


def opened(path: Path) -> Split:
    """The file as a split whose rows are decoded when they are gathered."""
    rows = torch.from_numpy(np.load(path, mmap_mode="c"))
    return Split(rows, (torch.arange(len(rows)) % 2,), decoded)


def when_needed(split: Split, orders: list[Tensor]) -> Batches:
    """Gather, train, gather, train."""
    for rows in orders:
        yield split.rows(rows)


def thread(split: Split, orders: list[Tensor]) -> Batches:
    """While a minibatch trains, a thread gathers the next; torch lets go of the GIL for it."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(split.rows, orders[0])
        for rows in orders[1:]:
            current, following = following, reader.submit(split.rows, rows)
            yield current.result()
        yield following.result()


class Minibatches(Dataset[tuple[Tensor, Tensor]]):
    """Minibatch number -> bytes and targets; they are decoded where they train, being smaller."""

    def __init__(self, split: Split, orders: list[Tensor]) -> None:
        self.split, self.orders = split, orders

    def __len__(self) -> int:
        return len(self.orders)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        torch.set_num_threads(1)
        rows = self.orders[number]
        return self.split.inputs[rows], self.split.targets[0][rows]


def workers(count: int) -> Callable[[Split, list[Tensor]], Batches]:
    """So many processes, two minibatches each ahead; pinned memory where there is a GPU."""

    def batches(split: Split, orders: list[Tensor]) -> Batches:
        loader = DataLoader(
            Minibatches(split, orders),
            batch_size=None,
            num_workers=count,
            pin_memory=torch.cuda.is_available(),
        )
        for inputs, target in loader:
            yield Split(*decoded(inputs, (target,)))

    return batches


WAYS: dict[str, Callable[[Split, list[Tensor]], Batches]] = {
    "when needed": when_needed,
    "one thread ahead": thread,
    "1 worker process": workers(1),
    "2 worker processes": workers(2),
}


def trained(batches: Batches, channels: int, side: int) -> list[float]:
    """Losses of a small network at every step. It is initialised first: DataLoader draws, too."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(
            nn.Conv2d(3, channels, 4, stride=4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(channels * (side // 4) ** 2, 2),
        )
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for batch in batches:
        loss = nn.functional.cross_entropy(net(batch.inputs), batch.targets[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def evict(path: Path) -> None:
    """Take a file's pages out of the page cache, so that they come from the disk again."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--channels", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), given.rows, given.side)
        order = torch.randperm(given.rows, generator=torch.Generator().manual_seed(0))
        orders = list(order[: given.batch * given.steps].split(given.batch))
        print(f"{path.stat().st_size / 2**20:,.0f} MiB, {given.steps} steps of {given.batch} rows")
        for cold in (False, True):
            ratios(path, orders, given.repetitions, given.channels, cold)


def ratios(path: Path, orders: list[Tensor], repetitions: int, channels: int, cold: bool) -> None:
    """Print each way's time and its ratio to gathering when needed: medians over repetitions."""
    walls: dict[str, list[float]] = {name: [] for name in WAYS}
    expected: list[float] = []
    for _ in range(repetitions):
        for name, way in WAYS.items():
            split = opened(path)
            if cold:
                evict(path)
            start = time.perf_counter()
            losses = trained(way(split, orders), channels, split.inputs.shape[-1])
            walls[name].append(time.perf_counter() - start)
            expected = expected or losses
            assert losses == expected, f"{name}: other losses"
    print("\nrows from the disk" if cold else "\nrows in the page cache")
    plain = np.array(walls["when needed"])
    for name, own in walls.items():
        each = np.array(own) / plain
        print(
            f"{name:20} {np.median(own):7.3f} s  ratio {np.median(each):.2f} "
            f"({each.min():.2f} … {each.max():.2f})"
        )


if __name__ == "__main__":
    main()
