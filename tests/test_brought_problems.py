"""Sets that the user brings: targets and splits against what was written, and refusals."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from small_pictures import (
    DENSE,
    SCENE,
    SMALL_PICTURES,
    attributes_of,
    cifar,
    harmful_pickle,
    noise,
    npy_map,
    scene,
    write_celeba,
    write_cifar_binary,
    write_cifar_python,
    write_cityscapes,
    write_npy,
)
from test_engine import final_losses, spec

from mtofront.problems import PROBLEMS, Problem, ProblemError
from mtofront.problems.missing import known
from mtofront.sweep.provide import make_problem
from mtofront.sweep.train import train_pack

THREE: dict[str, Any] = {**DENSE, "tasks": ["segmentation", "depth", "instance"]}
FORMATS: dict[str, tuple[str, Callable[[Path], None], dict[str, Any]]] = {
    "celeba": ("celeba", write_celeba, SMALL_PICTURES["celeba"]),
    "celeba-folders": ("celeba", lambda f: write_celeba(f, True), SMALL_PICTURES["celeba"]),
    "cifar100-python": ("cifar100", write_cifar_python, {"width": 1, "groups": [3, 17]}),
    "cifar100-binary": ("cifar100", write_cifar_binary, {"width": 1, "groups": [3, 17]}),
    "cityscapes-official": ("cityscapes", write_cityscapes, THREE),
    "cityscapes-npy-7": ("cityscapes", lambda f: write_npy(f, {"label": 7, "depth": 0}), DENSE),
    "cityscapes-npy-19": (
        "cityscapes",
        lambda f: write_npy(f, {"label_19": 19, "depth": 0}),
        {**DENSE, "classes": 19},
    ),
    "nyuv2": ("nyuv2", lambda f: write_npy(f, {"label": 13, "depth": 0, "normal": 0}), DENSE),
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder."""
    monkeypatch.setenv("MTOFRONT_DATA", str(tmp_path))
    return tmp_path


def made(case: str, data: Path, **changes: Any) -> Problem:
    """The problem of a format, whose files are written first."""
    name, write, options = FORMATS[case]
    write(data / name)
    return PROBLEMS[name](**{**options, **changes})


@pytest.mark.parametrize("case", FORMATS)
def test_every_format_trains_two_steps_in_a_pack_as_in_single_runs(case: str, data: Path) -> None:
    problem = made(case, data)
    batch = len(problem.train) // 2
    equal = tuple(1 / len(problem.tasks) for _ in problem.tasks)
    specs = [
        spec(seed=n, lr=0.01 * (n + 1), epochs=1, batch_size=batch, weights=equal) for n in range(3)
    ]
    trained = train_pack(problem, specs)
    assert trained.notice == "" and trained.steps.tolist() == [2, 2, 2]
    pack = final_losses(trained)
    alone = np.concatenate([final_losses(train_pack(problem, [one])) for one in specs])
    np.testing.assert_allclose(pack, alone, rtol=1e-4, atol=1e-5)
    losses = [m.values for m in trained.measurements if m.measure == "loss"]
    assert (losses[0] != losses[-len(problem.splits()) * len(problem.tasks)]).all()


@pytest.mark.parametrize("case", ["celeba", "cifar100-python", "nyuv2"])
def test_rows_from_disk_train_as_the_same_rows_held_decoded(case: str, data: Path) -> None:
    problem = made(case, data)
    held = replace(problem, **{k: s.rows(slice(None)) for k, s in problem.splits().items()})
    assert held.train.decode is None and held.train.inputs.dtype == torch.float32
    equal = tuple(1 / len(problem.tasks) for _ in problem.tasks)
    specs = [spec(seed=n, batch_size=4, weights=equal) for n in range(2)]
    assert np.array_equal(
        final_losses(train_pack(problem, specs)), final_losses(train_pack(held, specs))
    )


def test_the_loss_of_every_map_falls_on_the_pictures_that_are_trained_on(data: Path) -> None:
    problem = made("nyuv2", data, channels=[8])
    weights = (0.3, 0.3, 0.4)
    specs = [spec(seed=n, lr=0.02, epochs=40, batch_size=4, weights=weights) for n in range(2)]
    trained = train_pack(problem, specs)
    losses = {
        (m.task, m.step): m.values.mean()
        for m in trained.measurements
        if m.split == "train" and m.measure == "loss"
    }
    last = max(step for _, step in losses)
    for task in problem.tasks:
        assert losses[task.name, last] < 0.97 * losses[task.name, 0], task.name


def row_of(pictures: torch.Tensor, count: int) -> list[int]:
    """The number of the written scene that each picture shows."""
    known = {noise((*SCENE, 3), n).transpose(2, 0, 1).tobytes(): n for n in range(count)}
    return [known[picture.numpy().tobytes()] for picture in pictures]


@pytest.mark.parametrize("case", ["cityscapes-official", "cityscapes-npy-19", "nyuv2"])
def test_no_scene_is_lost_or_in_two_splits_and_the_official_val_is_the_test(
    case: str, data: Path
) -> None:
    problem = made(case, data)
    rows = {name: row_of(split.inputs, 14) for name, split in problem.splits().items()}
    assert sorted(rows["train"] + rows["val"]) == list(range(10))
    assert sorted(rows["test"]) == [10, 11, 12, 13]
    assert len(rows["val"]) == 2


def middles(instances: NDArray[Any]) -> NDArray[np.float64]:
    """(3, H, W): from each pixel to its object's middle, and whether it has one; pixel by pixel."""
    answer = np.zeros((3, *SCENE))
    for row in range(SCENE[0]):
        for column in range(SCENE[1]):
            if instances[row, column] >= 1000:
                rows, columns = np.nonzero(instances == instances[row, column])
                answer[:, row, column] = rows.mean() - row, columns.mean() - column, 1
    return answer


@pytest.mark.parametrize("classes", [7, 19])
def test_official_scenes_have_their_classes_disparities_and_objects(
    classes: int, data: Path
) -> None:
    problem = made("cityscapes-official", data, classes=classes)
    split = problem.test.rows(slice(None))
    # from the table of the official scripts: id, class of 19, category of 7 less one
    some = {7: (0, 0), 11: (2, 1), 13: (4, 1), 17: (5, 2), 22: (9, 3), 23: (10, 4), 25: (12, 5)}
    some |= {26: (13, 6), 33: (18, 6)}
    some |= dict.fromkeys((0, 3, 9, 14, 18, 29, 30, 255), (-1, -1))
    for n, number in enumerate(row_of(problem.test.inputs, 14)):
        written = scene(number)
        for one, both in some.items():
            found = split.targets[0][n][torch.from_numpy(written["labelIds"] == one)]
            assert set(found.tolist()) <= {both[classes == 7]}
        disparity = (written["disparity"].astype(float) - 1) / 256 / 128
        disparity[written["disparity"] == 0] = 0
        np.testing.assert_allclose(split.targets[1][n, 0], disparity, rtol=1e-6)
        np.testing.assert_allclose(split.targets[2][n], middles(written["instanceIds"]), atol=0.01)
    assert set(split.targets[0].unique().tolist()) == set(range(-1, classes))


def test_npy_maps_are_those_of_the_files_and_are_shrunk_together(data: Path) -> None:
    problem = made("nyuv2", data)
    split = problem.val.rows(slice(None))
    for n, number in enumerate(row_of(problem.val.inputs, 14)):
        np.testing.assert_array_equal(split.targets[0][n], npy_map("label", number, 13))
        depth = npy_map("depth", number)[:, :, 0]
        np.testing.assert_allclose(split.targets[1][n, 0], depth, rtol=1e-6)
        normals = npy_map("normal", number).transpose(2, 0, 1)
        np.testing.assert_allclose(split.targets[2][n], normals, atol=5e-4)
    half = PROBLEMS["nyuv2"](**{**DENSE, "size": [8, 16]}).val
    assert half.inputs.shape[1:] == (3, 8, 16)
    whole = problem.val.inputs.float()
    # antialiased: the mean of a picture stays
    assert half.inputs.float().mean((1, 2, 3)) == pytest.approx(whole.mean((1, 2, 3)), abs=4)
    for own, large in zip(half.targets, problem.val.targets, strict=True):
        assert torch.equal(own, large[..., 1::2, 1::2])


def test_faces_have_their_attributes_and_official_parts(data: Path) -> None:
    problem = made("celeba", data, attributes=None, size=16)
    assert [len(split) for split in problem.splits().values()] == [14, 5, 5]
    assert [task.name for task in problem.tasks] == [f"A{n}" for n in range(40)]
    faces = [noise((20, 16, 3), n).mean() for n in range(24)]
    start = 0
    for split in problem.splits().values():
        rows = split.rows(slice(None))
        expected = [attributes_of(start + n) for n in range(len(split))]
        found = torch.stack(rows.targets, dim=1) * 2 - 1
        assert found.tolist() == expected
        means = rows.inputs.mean((1, 2, 3)).numpy() * 255
        np.testing.assert_allclose(means, faces[start : start + len(split)], atol=3)
        start += len(split)
    few = PROBLEMS["celeba"](attributes=["A39", "A0"], size=16, train=3)
    assert len(few.train) == 3
    assert torch.equal(few.test.targets[0], problem.test.targets[39])


@pytest.mark.parametrize("case", ["cifar100-python", "cifar100-binary"])
def test_a_row_of_cifar_is_one_picture_of_every_task(case: str, data: Path) -> None:
    problem = made(case, data, groups=list(range(20)))
    both = [*zip(*cifar(4, 1), strict=True), *zip(*cifar(2, 2), strict=True)]
    written = {pixels.tobytes(): (coarse, fine) for coarse, fine, pixels in both}
    test = {pixels.tobytes() for pixels in cifar(2, 2)[2]}
    owner: dict[bytes, str] = {}
    for name, split in problem.splits().items():
        for row, pictures in enumerate(split.inputs.numpy()):
            for group, pixels in enumerate(pictures):
                known = sorted(c for c in range(100) if (7 * c) % 20 == group)
                label = int(split.targets[group][row])
                assert written[pixels.tobytes()] == (group, known[label])
                assert owner.setdefault(pixels.tobytes(), name) == name
                assert (pixels.tobytes() in test) == (name == "test")
    assert len(owner) == len(written) == 600
    assert [len(split) for split in problem.splits().values()] == [15, 5, 10]
    for split in problem.splits().values():
        for target in split.targets:
            assert len(set(torch.bincount(target.long()).tolist())) == 1
    some = PROBLEMS["cifar100"](width=1, groups=[17, 3])
    assert torch.equal(some.val.inputs[:, 1], problem.val.inputs[:, 3])
    assert torch.equal(some.val.targets[0], problem.val.targets[17])


def broken(data: Path, case: str, path: str, content: bytes | None, reason: str) -> None:
    """A format with one file replaced or removed is refused by its name."""
    name, write, options = FORMATS[case]
    write(data / name)
    file = data / name / path
    whole = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    before = set(data.glob("prepared/*"))
    with pytest.raises(ProblemError, match=reason) as found:
        PROBLEMS[name](**options)
    assert str(file) in str(found.value)
    assert set(data.glob("prepared/*")) == before
    file.write_bytes(whole)
    PROBLEMS[name](**options)


FACE = "img_align_celeba/000009.jpg"
FINE = "gtFine/train/aachen/aachen_000002_000019_gtFine_labelIds.png"
VIEW = "leftImg8bit/train/aachen/aachen_000002_000019_leftImg8bit.png"


@pytest.mark.parametrize(
    ("case", "path", "reason"),
    [
        ("celeba", FACE, "cannot be read: No such file"),
        ("cityscapes-official", FINE, "cannot be read: No such file"),
        ("cityscapes-npy-7", "train/depth/3.npy", "is missing; every kind"),
        ("nyuv2", "val/normal/0.npy", "is missing; every kind"),
    ],
)
def test_a_missing_file_is_named(case: str, path: str, reason: str, data: Path) -> None:
    broken(data, case, path, None, reason)


def png(values: NDArray[Any], folder: Path) -> bytes:
    Image.fromarray(values).save(folder / "x.png")
    content = (folder / "x.png").read_bytes()
    (folder / "x.png").unlink()
    return content


def npy(values: NDArray[Any], folder: Path) -> bytes:
    np.save(folder / "x.npy", values)
    content = (folder / "x.npy").read_bytes()
    (folder / "x.npy").unlink()
    return content


def test_broken_pictures_are_named(data: Path) -> None:
    broken(data, "celeba", FACE, b"no picture", r"cannot be read: cannot identify")
    whole = (data / "celeba" / FACE).read_bytes()
    broken(data, "celeba", FACE, whole[:400], r"cannot be read: .*[Tt]runcated")
    view = png(noise((*SCENE, 3), 1), data)
    broken(data, "cityscapes-official", VIEW, view[: len(view) // 2], r"cannot be read")
    reason = r"must have one channel; found shape \(16, 32, 3\)"
    broken(data, "cityscapes-official", FINE, view, reason)


def test_labels_out_of_range_and_wrong_shapes_are_named(data: Path) -> None:
    ids = np.full(SCENE, 77, dtype=np.uint8)
    reason = r"label ids 0 … 33, or 255; found 77"
    broken(data, "cityscapes-official", FINE, png(ids, data), reason)
    for wrong in (13, -2, 0.5):
        values = npy_map("label", 0, 13)
        values[5, 5] = wrong
        reason = rf"must hold labels 0 … 12, or -1 where there is none; found {wrong}"
        broken(data, "nyuv2", "train/label/2.npy", npy(values, data), reason)
    wrong_shape = npy(np.zeros((*SCENE, 2)), data)
    broken(data, "nyuv2", "val/normal/1.npy", wrong_shape, r"\(H, W, 3\); found \(16, 32, 2\)")
    broken(data, "nyuv2", "val/depth/1.npy", wrong_shape, r"shape \(H, W\); found \(16, 32, 2\)")
    large = npy(np.full((*SCENE, 3), 255.0), data)
    broken(data, "nyuv2", "train/image/1.npy", large, r"a picture in \[0, 1\]; found 255 … 255")
    unknown = npy(np.full(SCENE, np.nan), data)
    broken(data, "nyuv2", "train/depth/1.npy", unknown, r"finite numbers; found NaN")
    harm = data / "harm"
    hidden = pickle.dumps(np.array([1, None], dtype=object)) + harmful_pickle(harm)
    broken(data, "nyuv2", "train/depth/1.npy", hidden, r"cannot be read: .*allow_pickle")


def test_lists_of_faces_that_do_not_fit_are_named_by_line(data: Path) -> None:
    write_celeba(data / "celeba")
    attributes = data / "celeba" / "list_attr_celeba.txt"
    parts = data / "celeba" / "list_eval_partition.txt"
    lines = attributes.read_text().splitlines()
    for wrong, reason in (
        (
            [*lines[:5], lines[5][:-2], *lines[6:]],
            r"celeba.txt, line 6: .*each of 40 attributes",
        ),
        ([*lines[:5], lines[5].replace("-1", " 0"), *lines[6:]], "line 6"),
        (lines[:2], "must hold a count"),
    ):
        attributes.write_text("\n".join(wrong))
        with pytest.raises(ProblemError, match=reason):
            PROBLEMS["celeba"](size=8)
    attributes.write_text("\n".join(lines))
    whole = parts.read_text()
    for text, reason in (
        (whole.replace("000003.jpg 0", "000003.jpg 3"), r"line 3: .*0, 1 or 2 is needed"),
        (whole.replace("000003.jpg 0\n", ""), r"every picture.*000003\.jpg is missing"),
    ):
        parts.write_text(text)
        with pytest.raises(ProblemError, match=reason):
            PROBLEMS["celeba"](size=8)


def test_a_pickle_that_wants_more_than_arrays_is_refused_and_nothing_is_called(data: Path) -> None:
    harm = data / "harm"
    reason = r"UnpicklingError: it asks for \S+, which such a file does not; nothing was called"
    broken(data, "cifar100-python", "train", harmful_pickle(harm), reason)
    assert not harm.exists()
    content = harmful_pickle(harm)
    pickle.loads(content)
    assert harm.exists()  # the oracle: it does harm elsewhere


def test_cifar_files_that_do_not_fit_are_named(data: Path) -> None:
    broken(data, "cifar100-python", "test", b"\x80\x02}.", "Python version: KeyError")
    coarse, fine, pixels = cifar(2, 2)
    rows = np.concatenate([coarse[:, None], fine[:, None], pixels], axis=1).astype(np.uint8)
    folder = data / "cifar100"
    for name in ("train", "test"):
        (folder / name).unlink()
    broken(data, "cifar100-binary", "test.bin", rows.tobytes()[:-1], "3074 bytes for every picture")
    other = rows.copy()
    other[0, 1] = (other[0, 1] + 1) % 100
    broken(data, "cifar100-binary", "test.bin", other.tobytes(), "20 groups, 0 … 19, with 5")
    broken(data, "cifar100-binary", "test.bin", rows[:-1].tobytes(), "as many pictures of every")
    other = rows.copy()
    other[:, 0] = other[:, 0] ^ 1
    broken(data, "cifar100-binary", "test.bin", other.tobytes(), "must have the groups of")


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("cityscapes", {"classes": 8}, "classes must be 7 or 19; found 8"),
        ("cityscapes", {"size": [100, 256]}, "multiples of 16 for a network of 4 levels; found"),
        ("cityscapes", {"tasks": ["depth", "depth"]}, "tasks must be different ones of segment"),
        ("cityscapes", {"channels": []}, "channels must be one number or more"),
        ("cityscapes", {**DENSE, "train": 9}, "'train' has 1 … 8 rows to give; train=9 asked"),
        (
            "nyuv2",
            {"tasks": "depth"},
            "must be different ones of segmentation, depth, normal",
        ),
        (
            "celeba",
            {"size": 8, "attributes": ["Bald"]},
            "must be different ones of A0, A1",
        ),
        ("celeba", {"size": 4}, "size must be 8 pixels or more; found 4"),
        ("cifar100", {"groups": [0, 20]}, "groups must be different ones of 0 … 19"),
    ],
)
@pytest.mark.usefixtures("small_data")
def test_options_that_cannot_be_met_are_refused(name: str, options: Any, reason: str) -> None:
    with pytest.raises(ProblemError, match=reason):
        PROBLEMS[name](**options)


def test_objects_need_the_official_files(data: Path) -> None:
    with pytest.raises(ProblemError, match="the task 'instance' needs Cityscapes' official files"):
        made("cityscapes-npy-7", data, tasks=["segmentation", "instance"])


@pytest.mark.parametrize(("case", "task"), [("nyuv2", "segmentation"), ("celeba", "A3")])
def test_a_task_with_half_of_the_labels_is_measured_on_their_rows(
    case: str, task: str, data: Path
) -> None:
    plain = made(case, data)
    name, _, options = FORMATS[case]
    fewer = make_problem(name, {**options, "labelled": {task: 0.5}})
    n = [one.name for one in plain.tasks].index(task)
    target = fewer.train.targets[n]
    kept = known(target).flatten(1).any(1) if target.ndim > 1 else known(target)
    assert kept.sum() == round(len(target) / 2)
    rows = kept.nonzero()[:, 0]
    targets = tuple(own[rows] for own in plain.train.targets)
    expected = replace(
        plain, train=replace(plain.train, inputs=plain.train.inputs[rows], targets=targets)
    )
    equal = tuple(1 / len(plain.tasks) for _ in plain.tasks)
    specs = [spec(seed=n, weights=equal, epochs=1, batch_size=2) for n in range(2)]
    found, known_values = (
        {
            m.measure: m.values
            for m in train_pack(problem, specs).measurements
            if (m.step, m.split, m.task) == (0, "train", task)
        }
        for problem in (fewer, expected)
    )
    for measure in plain.tasks[n].metrics:
        assert found[measure] == pytest.approx(known_values[measure], rel=1e-5)
