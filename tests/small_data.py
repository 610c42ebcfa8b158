"""Small data sets in the formats of the real ones, with made-up rows that can be told apart."""

from __future__ import annotations

import csv
import gzip
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from small_pictures import SMALL_PICTURES, write_pictures

SMALL = {
    **SMALL_PICTURES,
    "census": {"train": 100, "val": 10, "test": 50},
    "yeast": {"train": 30, "val": 10, "test": 20},
    "movielens": {"train": 150, "val": 20, "test": 40},
    "mt10": {"train": 60, "val": 10, "test": 20},
    "qm9": {"train": 60, "val": 6, "test": 6},
    "multimnist": {"train": 60, "val": 20, "test": 30},
    "multifashion": {"train": 60, "val": 20, "test": 30},
    "multi_fashion_mnist": {"train": 60, "val": 20, "test": 30},
    "translation": {"train": 60, "val": 10, "test": 10},
}
"""Options with which a problem needs no more rows than are written here."""

COLLEGE = ["High school graduate", "Some college but no degree", "Bachelors degree(BA AB BS)"]


def write_all(folder: Path) -> None:
    """Every data set that a problem reads, as `mtofront data get` leaves it."""
    write_mnist(folder / "mnist")
    write_idx(folder / "fashion_mnist", train=180, test=60)
    write_census(folder / "census", train=200, test=80)
    write_yeast(folder / "yeast", rows=80)
    write_movielens(folder / "movielens", users=30, films=40)
    write_qm9(folder / "qm9", molecules=90)
    write_mt10(folder / "mt10", episodes=10)
    for language in WORDS:
        write_help(folder / f"libreoffice_help_{language}", help_pages(language, 60))
    write_pictures(folder)


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    """Pictures (count, 28, 28) of noise, no two alike."""
    return np.random.default_rng(seed).integers(0, 256, size=(count, 28, 28), dtype=np.uint8)


def write_mnist(folder: Path, each: int = 10) -> None:
    """Ten JSON files, one a digit, with ink / 255 to three places."""
    folder.mkdir(parents=True, exist_ok=True)
    for digit in range(10):
        values = (pictures(each, digit).reshape(-1) / 255).round(3).tolist()
        with gzip.open(folder / f"{digit}.json.gz", "wt", 1) as file:
            json.dump({"data": values}, file)


def idx(array: NDArray[np.uint8]) -> bytes:
    """The bytes of an idx file: two zeros, type 8, dimensions, sizes, content."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def write_idx(folder: Path, train: int, test: int, packed: bool = True) -> None:
    """The four files of MNIST or Fashion-MNIST; the n-th picture shows class n mod 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count, seed in (("train", train, 101), ("t10k", test, 102)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", pictures(count, seed)), ("labels-idx1", labels)):
            name, content = f"{part}-{kind}-ubyte", idx(array)
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (folder / name).write_bytes(content)


def census_line(n: int, rng: np.random.Generator, state: str = "") -> str:
    """One row of 42 cells; the age tells rows apart. state: a category for column 21."""
    cells = ["Not in universe"] * 42
    for column in (5, 16, 17, 18, 30, 39):
        cells[column] = str(int(rng.integers(0, 50)))
    cells[0], cells[24] = str(n), "1700.09"
    cells[4], cells[7] = str(rng.choice(COLLEGE)), str(rng.choice(["Never married", "Widowed"]))
    cells[21] = state or str(rng.choice(["Utah", "Ohio", "?"]))
    cells[41] = str(rng.choice(["- 50000.", "50000+."]))
    return ", ".join(cells)


def write_census(folder: Path, train: int, test: int) -> None:
    """Two files without a head; the last training rows repeat the first ones."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    lines = [census_line(n, rng) for n in range(train - 20)]
    later = [census_line(1000 + n, rng, "Guam" if n == 0 else "") for n in range(test)]
    for part, content in (("train", lines + lines[:20]), ("test", later)):
        with gzip.open(folder / f"{part}.csv.gz", "wt") as file:
            file.write("\n".join(content) + "\n")


def write_yeast(folder: Path, rows: int) -> None:
    """One file with a head, 103 features and 14 labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(8)
    head = [f"Att{n + 1}" for n in range(103)] + [f"Class{n + 1}" for n in range(14)]
    values = rng.normal(size=(rows, 103)).round(6).tolist()
    labels = rng.integers(0, 2, size=(rows, 14)).tolist()
    lines = [",".join(map(str, [*row, *own])) for row, own in zip(values, labels, strict=True)]
    with gzip.open(folder / "yeast.csv.gz", "wt") as file:
        file.write("\n".join([",".join(head), *lines]) + "\n")


def write_movielens(folder: Path, users: int, films: int) -> None:
    """Three tables: 300 ratings in a mixed order, no time twice; numbers of users have gaps.

    The last user and the last film come late, so that training does not know them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(9)
    cells = rng.permutation((users - 1) * (films - 1))[:300]
    pairs = [(2 * (cell // (films - 1)) + 1, cell % (films - 1) + 1) for cell in cells]
    pairs[-20:] = [(2 * users - 1, n + films - 19) for n in range(20)]
    ratings = [
        f"{user}\t{film}\t{rng.integers(1, 6)}\t{1000 + 7 * n}"
        for n, (user, film) in enumerate(pairs)
    ]
    tables = {
        "inter": [ratings[n] for n in rng.permutation(len(ratings))],
        "user": [f"{2 * n + 1}\t{20 + n}\t{'MF'[n % 2]}\twriter\t1" for n in range(users)],
        "item": [
            f"{n + 1}\tFilm {n}\t{1990 + n % 5}\t{'Comedy Drama' if n % 2 else 'War'}"
            for n in range(films)
        ],
    }
    heads = {
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token",
        "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
    }
    for kind, lines in tables.items():
        with gzip.open(folder / f"ml-100k.{kind}.gz", "wt") as file:
            file.write("\n".join([heads[kind], *lines]) + "\n")


QM9_HEAD = (
    "XYZ_file,Index,SMILES,InChi,N_atoms,Stoichiometry,Elements,XYZ_Ang,Mulliken_pop,"
    "Harmonic_Freq_cmi,RotA_GHz,RotB_GHz,RotC_GHz,Dipole_debye,Polarizability_bohr3,HOMO_au,"
    "LUMO_au,HOMO_LUMO_gap_au,R2_bohr2,ZPVE_au,InternalEnergy_0K_au,InternalEnergy_298K_au,"
    "Enthalphy_298K_au,GibbsFreeEnergy_298K_au,Heatcapacity_Cv_cal_mol_K"
)


def qm9_molecule(n: int) -> tuple[str, list[list[float]]]:
    """Elements and places of 2 to 7 atoms on a lattice, first coordinates whole."""
    rng = np.random.default_rng([11, n])
    cells = rng.permutation(27)[: 2 + n % 6]
    places = [
        [1.0 * (cell % 3), 1.25 * (cell // 3 % 3), 1.5 * (cell // 9)] for cell in cells.tolist()
    ]
    return "".join(rng.choice(list("HCNOF"), size=len(cells))), places


def write_qm9(folder: Path, molecules: int) -> None:
    """Three tables of as many molecules; whole numbers are written like 1., as in the real ones.

    The dipole moment is the number of the molecule; the energy U0 its square less 400.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(3):
        with gzip.open(folder / f"part{part + 1}.csv.gz", "wt", 1, newline="") as file:
            writer = csv.writer(file)
            writer.writerow(QM9_HEAD.split(","))
            for n in range(part, molecules, 3):
                writer.writerow(_qm9_cells(n))


def _qm9_cells(n: int) -> list[object]:
    elements, places = qm9_molecule(n)
    values = np.random.default_rng([12, n]).normal(size=12).round(6).tolist()
    values[0], values[7] = n, n**2 - 400.0
    names = ",".join(f"'{element}'" for element in elements)
    xyz = ",".join(f"[{','.join(str(value).removesuffix('0') for value in p)}]" for p in places)
    return [
        *(f"dsgdb9nsd_{n}.xyz", n, "C#N", "InChI=1S/CHN/c1-2/h1H", len(elements), "[1,1,1]"),
        *(f"[{names}]", f"[{xyz}]", "[0.1,0.2]", "[799.,800.1]", 1.0, 1.0, 1.0),
        *values,
    ]


MT10 = (
    *("reach", "push", "pick_place", "door_open", "drawer_open"),
    *("drawer_close", "button_press", "peg_insert", "window_open", "window_close"),
)


def write_mt10(folder: Path, episodes: int) -> None:
    """Demonstrations of 10 steps an episode and 1 more of each later task, as they are generated.

    Of every step the first observed number is that of the task, the second the episode's, the
    third the step's; the sixth never changes. The action is clipped arithmetic of the others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for n, task in enumerate(MT10):
        rng = np.random.default_rng([13, n])
        steps = 10 + n
        own = rng.normal(size=(episodes * steps, 39)).astype(np.float32)
        own[:, 0], own[:, 5] = n, 1
        own[:, 1] = np.repeat(np.arange(episodes), steps)
        own[:, 2] = np.tile(np.arange(steps), episodes)
        arrays[f"{task}_observations"] = own
        arrays[f"{task}_actions"] = (own[:, 6:10] + own[:, 10:14] * (n % 3)).clip(-1, 1)
        arrays[f"{task}_episodes"] = own[:, 1].astype(np.int32)
    np.savez(folder / "mt10.npz", **arrays)  # type: ignore[arg-type]


WORDS = {
    "en": ("the page", "the button", "the table", "opens", "closes", "moves", "."),
    "fr": ("la page", "le bouton", "la table", "ouvre", "ferme", "déplace", "."),
    "zh": ("页面", "按钮", "表格", "打开", "关闭", "移动", "。"),
    "de": ("die Seite", "die Taste", "die Tabelle", "öffnet", "schließt", "bewegt", "."),
}
"""A small language each: three things, three deeds, a full stop."""


def help_sentence(language: str, n: int) -> str:
    """Something does something to a thing with a number, digit by digit, in any language."""
    *words, stop = WORDS[language]
    text = " ".join([words[n % 3], words[3 + n // 3 % 3], words[n // 9 % 3], *str(n)])
    return text[0].upper() + text[1:] + stop


def help_page(paragraphs: Mapping[str, str]) -> str:
    """A page of LibreOffice's help with these paragraphs by id."""
    lines = [
        f'<p id="{name}" class="paragraph" dir="auto">{t}</p>' for name, t in paragraphs.items()
    ]
    return "<html><body><div><p>no id</p>\n" + "\n<br>\n".join(lines) + "\n</div></body></html>"


def help_pages(language: str, count: int) -> dict[str, str]:
    """Pages of two paragraphs of two sentences; no sentence is on two pages."""
    return {
        f"shared/{page:03}.html": help_page(
            {
                f"par_id{part}": " ".join(
                    help_sentence(language, 4 * page + 2 * part + n) for n in range(2)
                )
                for part in range(2)
            }
        )
        for page in range(count)
    }


def write_help(folder: Path, pages: Mapping[str, str]) -> None:
    """One zip archive of pages by name."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "pages.zip", "w") as archive:
        for name, text in pages.items():
            archive.writestr(name, text)
