"""Brought: data sets that only the user can bring, as nobody else may hand them on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Brought:
    """A data set that the user puts into its folder.

    layouts: name of a layout -> what must lie in the folder for it, files or folders; any one of
    the layouts will do. contents: the same for people. origin: where it is to be had.
    """

    name: str
    title: str
    layouts: Mapping[str, tuple[str, ...]]
    contents: str
    origin: str
    licence: str
    citation: str


_NPY = ("train/image", "val/image")
_ALL = (
    Brought(
        name="celeba",
        title="CelebA: 202,599 faces with 40 attributes",
        layouts={
            "flat": ("list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"),
            "folders": (
                "Anno/list_attr_celeba.txt",
                "Eval/list_eval_partition.txt",
                "Img/img_align_celeba",
            ),
        },
        contents="list_attr_celeba.txt, list_eval_partition.txt and img_align_celeba/*.jpg, side "
        "by side or in Anno, Eval and Img",
        origin="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        licence="non-commercial research only, not to be handed on; see there",
        citation="Liu, Luo, Wang & Tang 2015, Deep learning face attributes in the wild",
    ),
    Brought(
        name="cifar100",
        title="CIFAR-100: 60,000 pictures, 32×32, of 100 classes in 20 groups",
        layouts={"python": ("train", "test"), "binary": ("train.bin", "test.bin")},
        contents="train and test of cifar-100-python.tar.gz, or train.bin and test.bin of "
        "cifar-100-binary.tar.gz",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none is stated there",
        citation="Krizhevsky 2009, Learning multiple layers of features from tiny images",
    ),
    Brought(
        name="cityscapes",
        title="Cityscapes: 3,475 street scenes with labels, disparity and instances",
        layouts={"official": ("leftImg8bit", "gtFine"), "npy": _NPY},
        contents="leftImg8bit, gtFine and disparity with their folders train and val, of the "
        "packages *_trainvaltest.zip; or, as the authors of MTAN hand it out, train and val with "
        "image, label_7 (or label) or label_19, and depth, of N.npy each",
        origin="https://www.cityscapes-dataset.com (registration), or by "
        "https://github.com/lorenmt/mtan",
        licence="Cityscapes licence: non-commercial, not to be handed on; see there",
        citation="Cordts et al. 2016, The Cityscapes dataset for semantic urban scene "
        "understanding; prepared: Liu, Johns & Davison 2019, End-to-end multi-task learning with "
        "attention",
    ),
    Brought(
        name="nyuv2",
        title="NYUv2: 1,449 rooms with 13 classes, depth and surface normals",
        layouts={"npy": _NPY},
        contents="train and val with image, label, depth and normal, of N.npy each, as the authors "
        "of MTAN hand it out (nyu_depth_v2_labeled.mat has neither the 13 classes nor normals)",
        origin="https://github.com/lorenmt/mtan",
        licence="none is stated there",
        citation="Silberman, Hoiem, Kohli & Fergus 2012, Indoor segmentation and support inference "
        "from RGBD images; prepared: Liu, Johns & Davison 2019",
    ),
)

BROUGHT: dict[str, Brought] = {one.name: one for one in _ALL}
"""Name of a data set -> what to put where, and where it is to be had."""
