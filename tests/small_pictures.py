"""Small sets in the formats of those that only the user can bring, with made-up pictures."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SCENE = (16, 32)
"""Height and width of the pictures of Cityscapes and NYUv2 here."""
DENSE: dict[str, Any] = {"size": list(SCENE), "channels": [2, 3]}
SMALL_PICTURES: dict[str, dict[str, Any]] = {
    "celeba": {"size": 8, "width": 1, "attributes": ["A0", "A3", "A20", "A39"]},
    "cifar100": {"width": 1},
    "cityscapes": DENSE,
    "nyuv2": DENSE,
}
"""Options with which a problem needs no more than is written here."""


def write_pictures(folder: Path) -> None:
    """Every set that the user brings, in one of its layouts."""
    write_celeba(folder / "celeba")
    write_cifar_python(folder / "cifar100")
    write_cityscapes(folder / "cityscapes")
    write_npy(folder / "nyuv2", {"label": 13, "depth": 0, "normal": 0})


def noise(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Bytes, no two pictures of them alike."""
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def attributes_of(face: int) -> list[int]:
    """1 or −1 for 40 attributes of a face."""
    return [1 if (face + 3 * n) % 5 < 2 else -1 for n in range(40)]


def write_celeba(folder: Path, folders: bool = False) -> None:
    """24 faces of 20×16 pixels: 14 to train with, 5 and 5."""
    anno, parts, img = (folder / part if folders else folder for part in ("Anno", "Eval", "Img"))
    for place in (anno, parts, img / "img_align_celeba"):
        place.mkdir(parents=True, exist_ok=True)
    names = [f"{n + 1:06}.jpg" for n in range(24)]
    lines = ["24", " ".join(f"A{n}" for n in range(40)) + " "]
    lines += [
        f"{name} " + " ".join(f"{v:2}" for v in attributes_of(n)) for n, name in enumerate(names)
    ]
    (anno / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    given = [0 if n < 14 else 1 if n < 19 else 2 for n in range(24)]
    text = "".join(f"{name} {part}\n" for name, part in zip(names, given, strict=True))
    (parts / "list_eval_partition.txt").write_text(text)
    for n, name in enumerate(names):
        Image.fromarray(noise((20, 16, 3), n)).save(img / "img_align_celeba" / name, quality=95)


def cifar(count: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]:
    """Groups, classes and pictures: so many of every class; class c is in group 7·c mod 20."""
    fine = np.tile(np.arange(100), count)
    order = np.random.default_rng(seed).permutation(len(fine))
    return (7 * fine[order]) % 20, fine[order], noise((len(fine), 3072), seed)


def write_cifar_binary(folder: Path, train: int = 4, test: int = 2) -> None:
    """train.bin and test.bin."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 1), ("test", test, 2)):
        coarse, fine, pixels = cifar(count, seed)
        rows = np.concatenate([coarse[:, None], fine[:, None], pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.astype(np.uint8).tobytes())


def write_cifar_python(folder: Path, train: int = 4, test: int = 2) -> None:
    """train and test, as Python 2 pickled them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", train, 1), ("test", test, 2)):
        coarse, fine, pixels = cifar(count, seed)
        (folder / name).write_bytes(python2_pickle(coarse.tolist(), fine.tolist(), pixels))


def python2_pickle(coarse: list[int], fine: list[int], pixels: NDArray[np.uint8]) -> bytes:
    """Protocol 2 with Python 2's strings, and NumPy under its name of then."""

    def word(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    def numbers(values: list[int]) -> bytes:
        return b"](" + b"".join(b"K" + bytes([v]) for v in values) + b"e"

    shape = b"".join(b"J" + struct.pack("<i", side) for side in pixels.shape)
    kind = b"cnumpy\ndtype\n(" + word(b"u1") + b"K\x00K\x01tR(K\x03" + word(b"|") + b"NNN"
    kind += 2 * (b"J" + struct.pack("<i", -1)) + b"K\x00tb"
    content = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + word(b"b") + b"tR"
    array += b"(K\x01" + b"(" + shape + b"t" + kind + b"\x89"
    array += b"T" + struct.pack("<I", len(content)) + content + b"tb"
    items = [(b"data", array), (b"fine_labels", numbers(fine)), (b"coarse_labels", numbers(coarse))]
    return b"\x80\x02}(" + b"".join(word(key) + value for key, value in items) + b"u."


class Harm:
    """Pickles as a call of a function that leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "harm")


def harmful_pickle(path: Path) -> bytes:
    """A pickle that writes a file when it is loaded with Python's own loader."""
    return pickle.dumps({b"data": Harm(path), b"fine_labels": [], b"coarse_labels": []})


def scene(seed: int) -> dict[str, NDArray[Any]]:
    """Official ids, instances and disparity of a scene; each kind has pixels without a value."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 34, size=SCENE).astype(np.uint8)
    ids[0, :3] = 255, 0, 9
    instances = ids.astype(np.int32)
    instances[4:8, 5:15] = 26_001
    instances[9:14, 20:22] = 26_002
    instances[10, 25] = 24_000
    disparity = rng.integers(1, 20_000, size=SCENE).astype(np.uint16)
    disparity[:2] = 0
    return {"labelIds": ids, "instanceIds": instances.astype(np.uint16), "disparity": disparity}


def write_cityscapes(folder: Path, train: int = 10, val: int = 4) -> None:
    """The official layout with two cities a part; scene n of all has the maps of `scene(n)`."""
    count = 0
    for part, scenes in (("train", train), ("val", val)):
        for n in range(scenes):
            city = ("aachen", "zurich")[2 * n // scenes] if part == "train" else "ulm"
            stem = f"{city}_{n:06}_000019"
            maps = scene(count)
            pixels = noise((*SCENE, 3), count)
            _save(folder / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png", pixels)
            fine = folder / "gtFine" / part / city
            for kind in ("labelIds", "instanceIds"):
                _save(fine / f"{stem}_gtFine_{kind}.png", maps[kind])
            _save(folder / "disparity" / part / city / f"{stem}_disparity.png", maps["disparity"])
            count += 1


def _save(path: Path, values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def npy_map(kind: str, row: int, labels: int = 0) -> NDArray[Any]:
    """A map as MTAN's folders hold it, with pixels that have no value. labels: how many classes."""
    rng = np.random.default_rng([len(kind), row])
    if kind.startswith("label"):
        return rng.integers(-1, labels, size=SCENE).astype(np.float64)
    if kind == "depth":
        depth = rng.uniform(0.5, 9.0, size=(*SCENE, 1))
        depth[:3] = 0
        return depth
    normal = rng.normal(size=(*SCENE, 3))
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    normal[:, :4] = 0
    return normal


def write_npy(folder: Path, kinds: dict[str, int], train: int = 10, val: int = 4) -> None:
    """train and val with image and the kinds; row n of all has the maps `npy_map(…, n)`."""
    count = 0
    for part, rows in (("train", train), ("val", val)):
        for n in range(rows):
            pixels = noise((*SCENE, 3), count) / 255
            maps = {kind: npy_map(kind, count, labels) for kind, labels in kinds.items()}
            for kind, values in {"image": pixels, **maps}.items():
                (folder / part / kind).mkdir(parents=True, exist_ok=True)
                np.save(folder / part / kind / f"{n}.npy", values)
            count += 1
