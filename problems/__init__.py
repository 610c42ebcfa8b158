"""Problems: data, network and tasks that a sweep can train; one file a problem.

>>> problem = PROBLEMS["multidigits"](offset=4)
>>> [task.name for task in problem.tasks], len(problem.train)
(['left', 'right'], 2000)

One's own problem is any callable that returns a `Problem`; a config names it `module:callable`.
"""

from collections.abc import Callable

from .celeba import celeba
from .census import census
from .cifar100 import cifar100
from .cityscapes import cityscapes
from .concave import concave
from .data_checks import Overlap, refuse_bad_data, unfinite_rows
from .labels import LABEL_OPTIONS, with_label_options
from .landscape import landscape
from .linear_bottleneck import linear_bottleneck
from .missing import known, labelled_share, over_labelled, partly_labelled
from .movielens import movielens
from .mt10 import mt10
from .multidigits import multidigits
from .multimnist import multi_fashion_mnist, multifashion, multimnist
from .nyuv2 import nyuv2
from .problem import Decode, Measure, Pooled, Problem, ProblemError, Split, Task
from .pymoo_family import pymoo_problem
from .qm9 import qm9
from .quadratics import quadratics
from .translation import translation
from .truth import Truth
from .yeast import yeast

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "celeba": celeba,
    "census": census,
    "cifar100": cifar100,
    "cityscapes": cityscapes,
    "concave": concave,
    "landscape": landscape,
    "linear_bottleneck": linear_bottleneck,
    "movielens": movielens,
    "mt10": mt10,
    "multi_fashion_mnist": multi_fashion_mnist,
    "multidigits": multidigits,
    "multifashion": multifashion,
    "multimnist": multimnist,
    "nyuv2": nyuv2,
    "qm9": qm9,
    "quadratics": quadratics,
    "translation": translation,
    "yeast": yeast,
}
"""Registry: the key a config names -> what makes the problem; its keywords are the options."""

FAMILIES: dict[str, Callable[..., Problem]] = {"pymoo": pymoo_problem}
"""The prefix in a config's prefix:NAME -> what makes the problem of a name and its options."""

__all__ = [
    "FAMILIES",
    "LABEL_OPTIONS",
    "PROBLEMS",
    "Decode",
    "Measure",
    "Overlap",
    "Pooled",
    "Problem",
    "ProblemError",
    "Split",
    "Task",
    "Truth",
    "known",
    "labelled_share",
    "over_labelled",
    "partly_labelled",
    "refuse_bad_data",
    "unfinite_rows",
    "with_label_options",
]
