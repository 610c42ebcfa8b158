"""Sets larger than memory: prepared once, mapped, gathered by rows, measured as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_pictures import noise, write_celeba
from test_engine import Twin, final_losses, regression, runs_of, spec
from torch import Tensor, nn
from torch.func import vmap

from mtofront.problems import PROBLEMS, Pooled, Problem, ProblemError, Split, Task
from mtofront.problems.dense import depth, instance, normal, segmentation
from mtofront.problems.mapped import decoded, mapped
from mtofront.problems.segnet import SegNet
from mtofront.sweep import evaluate
from mtofront.sweep.evaluate import rows_at_once
from mtofront.sweep.examine import examine
from mtofront.sweep.provide import placed
from mtofront.sweep.timing import short_problem
from mtofront.sweep.train import train_pack

RECIPE = {"problem": "p", "version": 1}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a few files."""
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    (tmp_path / "own").mkdir()
    for n in range(5):
        (tmp_path / "own" / f"{n}.bin").write_bytes(noise((6,), n).tobytes())
    return tmp_path


def reader(seen: list[Path]) -> Callable[[Path], tuple[NDArray[Any], ...]]:
    def read(path: Path) -> tuple[NDArray[Any], ...]:
        seen.append(path)
        values = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        return values.reshape(2, 3), values[:1].astype(np.float16)

    return read


def test_rows_are_read_once_and_again_when_a_file_is_another(data: Path) -> None:
    files = sorted((data / "own").iterdir())
    rows = {"train": files[:3], "test": files[3:]}
    seen: list[Path] = []
    for _ in range(2):
        columns = mapped(RECIPE, files, rows, reader(seen))
        assert sorted(seen) == files
    for split, own in rows.items():
        inputs, target = columns[split]
        written = np.stack([np.frombuffer(f.read_bytes(), np.uint8) for f in own])
        assert np.array_equal(inputs, written.reshape(-1, 2, 3)) and inputs.dtype == torch.uint8
        assert np.array_equal(target, written[:, :1]) and target.dtype == torch.float16
    mapped({**RECIPE, "version": 2}, files, rows, reader(seen))
    assert len(seen) == 10
    os.utime(files[0], ns=(1, 1))
    mapped(RECIPE, files, rows, reader(seen))
    assert len(seen) == 15
    before = columns["test"][0].clone()
    kept = sorted((data / "prepared").iterdir())
    assert len(kept) == 3 and all(not path.name.startswith(".") for path in kept)
    for folder in kept:
        whole = (folder / "test-0.npy").read_bytes()
        (folder / "test-0.npy").write_bytes(whole[:-4])
    again = mapped(RECIPE, files, rows, reader(seen))
    assert len(seen) == 20 and torch.equal(again["test"][0], before)


def test_a_folder_that_cannot_be_written_to_is_named(data: Path) -> None:
    (data / "prepared").write_text("no folder")
    files = sorted((data / "own").iterdir())
    with pytest.raises(ProblemError, match=r"p-\w+ cannot be prepared in .*set MTOFRONT_DATA"):
        mapped(RECIPE, files, {"train": files}, reader([]))


def test_a_row_that_cannot_be_read_leaves_nothing_behind(data: Path) -> None:
    files = sorted((data / "own").iterdir())

    def read(path: Path) -> tuple[NDArray[Any], ...]:
        if path.stem == "4":
            raise ProblemError(f"{path} is bad")
        return (np.zeros(3),)

    with pytest.raises(ProblemError, match=r"4\.bin is bad"):
        mapped(RECIPE, files, {"train": files}, read)
    assert not list((data / "prepared").iterdir())


def halves() -> Problem:
    """A regression whose data are kept as half-precision numbers and decoded when gathered."""
    whole = regression()

    def decode(inputs: Tensor, targets: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        return inputs.double(), tuple(target.double() for target in targets)

    splits = {
        name: Split(s.inputs.half(), tuple(t.half() for t in s.targets), decode)
        for name, s in whole.splits().items()
    }
    return replace(whole, **splits)


@pytest.mark.parametrize("method", ["linear", "mgda", "pareto_manifold", "merge_average"])
def test_rows_that_are_decoded_or_sent_train_as_rows_that_are_held(method: str) -> None:
    problem = halves()
    held = replace(problem, **{k: s.rows(slice(None)) for k, s in problem.splits().items()})
    here = torch.device("cpu")
    all_bytes = sum(split.nbytes for split in problem.splits().values())
    assert all_bytes == 3 * 64 * 7 * 2
    sent = placed(problem, here, all_bytes - 1)
    assert sent.train.to == here and placed(problem, here, all_bytes).train.to is None
    specs = runs_of(method, 4)
    expected = final_losses(train_pack(held, specs))
    for other in (problem, sent):
        assert np.array_equal(final_losses(train_pack(other, specs)), expected)
    assert len(short_problem(sent, 16, 5).train.rows(slice(None))) == 80
    assert examine(sent).losses == examine(held).losses


def test_rows_of_large_pictures_are_measured_a_few_at_a_time() -> None:
    assert rows_at_once(Split(torch.zeros(5, 3), ())) == 1024
    assert rows_at_once(Split(torch.zeros(1, 3, 128, 256, dtype=torch.uint8), ())) == 21
    assert rows_at_once(Split(torch.zeros(1, 3, 1024, 2048, dtype=torch.uint8), ())) == 1


def maps(rows: int) -> tuple[Split, dict[str, NDArray[np.float64]]]:
    """Pictures with four kinds of maps, in which pixels are missing, unevenly over the rows."""
    rng = np.random.default_rng(3)
    labels = rng.integers(-1, 4, size=(rows, 8, 8))
    labels[: rows // 2, :6] = -1
    labels[labels == 2] = -1  # a class that is nowhere
    depths = rng.uniform(0.5, 2, size=(rows, 1, 8, 8))
    depths[rows // 2 :, :, 1:] = 0
    normals = rng.normal(size=(rows, 3, 8, 8))
    normals[1::2, :, :, 2:] = 0
    ways = rng.normal(size=(rows, 3, 8, 8))
    ways[:, 2] = rng.random((rows, 8, 8)) < np.linspace(0.1, 0.9, rows)[:, None, None]
    written = {"segmentation": labels, "depth": depths, "normal": normals, "instance": ways}
    inputs = torch.from_numpy(rng.integers(0, 256, size=(rows, 3, 8, 8), dtype=np.uint8))
    targets = tuple(
        torch.from_numpy(v.astype(np.int8 if v.dtype.kind == "i" else np.float32))
        for v in written.values()
    )
    return Split(inputs, targets, decoded), {k: v.astype(float) for k, v in written.items()}


def expected_of(output: dict[str, NDArray[np.float64]], target: dict[str, Any]) -> dict[Any, float]:
    """Every measure over all pixels with a target, by loops and boolean masks."""
    classes, guesses = target["segmentation"], output["segmentation"].argmax(1)
    known = classes >= 0
    shares = []
    for one in range(4):
        truth, guess = (classes == one) & known, (guesses == one) & known
        if (truth | guess).any():
            shares.append((truth & guess).sum() / (truth | guess).sum())
    d, t = output["depth"], target["depth"]
    off = np.abs(d - t)[t > 0]
    n, m = output["normal"], target["normal"]
    there = np.abs(m).max(axis=1) > 0
    lengths = np.linalg.norm(n, axis=1) * np.maximum(np.linalg.norm(m, axis=1), 1e-9)
    cosine = (n * m).sum(1) / lengths
    way = np.abs(output["instance"] - target["instance"][:, :2])
    return {
        ("segmentation", "error"): (guesses != classes)[known].mean(),
        ("segmentation", "miou_error"): 1 - float(np.mean(shares)),
        ("depth", "error"): off.mean(),
        ("depth", "relative_error"): (off / t[t > 0]).mean(),
        ("normal", "error"): np.degrees(np.arccos(cosine[there])).mean(),
        ("instance", "error"): np.swapaxes(way, 0, 1)[:, target["instance"][:, 2] == 1].mean(),
    }


def four_maps(split: Split) -> Problem:
    tasks = segmentation(4), depth(), normal(), instance()
    return Problem("maps", tasks, split, split, split, lambda: SegNet([4, 4], [4, 1, 3, 2]))


@pytest.mark.parametrize("batched", [True, False])
def test_measures_count_every_pixel_of_a_split_once_however_it_is_cut(
    batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, written = maps(10)
    problem = four_maps(split)
    if not batched:
        monkeypatch.setattr("mtofront.sweep.network.why_not_batched", lambda *_: "for a test")
    specs = [spec(seed=n, weights=(0.25,) * 4, epochs=1, evaluations=1) for n in range(2)]
    found = {}
    for rows in (10, 4, 3):
        monkeypatch.setattr(evaluate, "ROWS", rows)
        trained = train_pack(problem, specs)
        found[rows] = {
            (m.task, m.measure): m.values
            for m in trained.measurements
            if m.split == "test" and m.step == 0
        }
    for n, one in enumerate(specs):
        module = fresh(problem, one)
        outputs = module.eval()(split.rows(slice(None)).inputs)
        named = {k: o.detach().double().numpy() for k, o in zip(written, outputs, strict=True)}
        for key, value in expected_of(named, written).items():
            for rows in found:
                assert found[rows][key][n] == pytest.approx(value, rel=1e-5), (key, rows)


def fresh(problem: Problem, one: Any) -> nn.Module:
    from mtofront.sweep.network import fresh_module

    return fresh_module(problem, one)


def test_pixels_without_a_target_have_no_say_in_a_loss_or_its_gradient() -> None:
    split, written = maps(6)
    problem = four_maps(split)
    rows = split.rows(slice(None))
    torch.manual_seed(0)
    outputs = [output.detach() for output in problem.model()(rows.inputs)]
    missing = {
        "segmentation": (written["segmentation"] < 0)[:, None],
        "depth": written["depth"] == 0,
        "normal": (written["normal"] == 0).all(1, keepdims=True),
        "instance": written["instance"][:, 2:] == 0,
    }
    for task, output, target in zip(problem.tasks, outputs, rows.targets, strict=True):
        place = torch.from_numpy(missing[task.name]).expand_as(output)
        mine = output.clone().requires_grad_()
        loss = task.loss(mine, target)
        (gradient,) = torch.autograd.grad(loss, mine)
        assert (gradient[place] == 0).all() and (gradient[~place] != 0).float().mean() > 0.9
        assert torch.equal(task.loss(torch.where(place, 7.0, output), target), loss)
        both = vmap(task.loss, in_dims=(0, None))(torch.stack([output, output.flip(0)]), target)
        torch.testing.assert_close(both[0], loss.detach())
        nothing = target * 0 - (1 if task.name == "segmentation" else 0)
        (gradient,) = torch.autograd.grad(task.loss(mine, nothing), mine)
        assert (gradient == 0).all()


def test_losses_are_the_means_over_known_pixels() -> None:
    split, written = maps(6)
    rows = split.rows(slice(None))
    rng = np.random.default_rng(0)
    shapes = (4, 1, 3, 2)
    outputs = [rng.normal(size=(6, c, 8, 8)) for c in shapes]
    tasks = segmentation(4), depth(), normal(), instance()
    loss = {
        t.name: t.loss(torch.from_numpy(o).float(), target).item()
        for t, o, target in zip(tasks, outputs, rows.targets, strict=True)
    }
    s, d, n, i = outputs
    labels = written["segmentation"].astype(int)
    logs = s - np.log(np.exp(s).sum(1, keepdims=True))
    known = zip(*np.nonzero(labels >= 0), strict=True)
    nats = [-logs[b, labels[b, y, x], y, x] for b, y, x in known]
    assert loss["segmentation"] == pytest.approx(np.mean(nats), rel=1e-5)
    t = written["depth"]
    assert loss["depth"] == pytest.approx(np.abs(d - t)[t > 0].mean(), rel=1e-5)
    m = written["normal"]
    there = np.linalg.norm(m, axis=1) > 0
    product = (n * m).sum(1)[there]
    cosine = product / np.linalg.norm(n, axis=1)[there] / np.linalg.norm(m, axis=1)[there]
    assert loss["normal"] == pytest.approx(1 - cosine.mean(), rel=1e-4)
    way = np.abs(i - written["instance"][:, :2]).mean(1)
    assert loss["instance"] == pytest.approx(way[written["instance"][:, 2] == 1].mean(), rel=1e-5)


def test_a_pooled_measure_may_be_anything_of_a_mean() -> None:
    spread = Pooled(
        lambda output, target: torch.stack([target.mean(), target.square().mean()]),
        lambda moments: (moments[1] - moments[0] ** 2).sqrt(),
    )
    problem = regression()
    tasks = tuple(Task(t.name, t.loss, {"spread": spread}) for t in problem.tasks)
    trained = train_pack(replace(problem, tasks=tasks, model=Twin), [spec(epochs=1)])
    for m in trained.measurements:
        if m.measure == "spread":
            target = problem.splits()[m.split].targets[m.task == "product"]
            assert m.values == pytest.approx(target.std(correction=0).item())


TRAINS = """
import resource, sys
import numpy as np, torch
from torch import nn
from mtofront.problems import Problem, Split, Task
from mtofront.problems.mapped import _tensor
sys.path.insert(0, "tests")
from test_engine import spec
from mtofront.sweep.train import train_pack
from pathlib import Path

torch.set_num_threads(1)
whole = _tensor(Path(sys.argv[1]))
assert whole.nbytes >= 2**29
decode = lambda x, t: (x.flatten(1)[:, ::4096].float(), t)
targets = tuple(torch.arange(len(whole)) % 2 + 0.1 * k for k in range(2))
train = Split(whole, targets, decode)
small = Split(whole[:8], tuple(t[:8] for t in targets), decode)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(32, 2)
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)
    def forward(self, x):
        z = self.trunk(x)
        return self.a(z).squeeze(-1), self.b(z).squeeze(-1)
tasks = tuple(Task(n, nn.functional.mse_loss) for n in "ab")
problem = Problem("p", tasks, train, small, small, Net)
specs = [spec(seed=n, lr=1e-4, epochs=1, evaluations=1, batch_size=64) for n in range(2)]
train_pack(Problem("p", tasks, small, small, small, Net), specs)  # threads and libraries are there
now = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (now + 160 * 2**20,) * 2)
trained = train_pack(problem, specs)
print(int(trained.steps[0]), float(trained.measurements[-1].values[0]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a process as Linux does")
@pytest.mark.slow
def test_half_a_gibibyte_trains_in_less_than_a_third_of_it(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    shape = (2**12, 2, 2**16)  # zeros that take no room on the disk
    np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
    done = subprocess.run(
        [sys.executable, "-c", TRAINS, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    steps, loss = done.stdout.split()
    assert int(steps) == 64 and 0 < float(loss) < 10


def test_prepared_pictures_are_read_only_and_small_sets_too(data: Path) -> None:
    write_celeba(data / "celeba")
    problem = PROBLEMS["celeba"](size=8, width=1)
    array = problem.train.inputs.numpy()
    assert problem.train.inputs.dtype == torch.uint8
    kept = next((data / "prepared").glob("celeba-*/train-0.npy"))
    before = kept.read_bytes()
    rows = problem.train.rows(slice(0, 4))
    rows.inputs.zero_()
    assert kept.read_bytes() == before and array.any()
