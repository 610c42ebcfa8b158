"""Problems: data, network and tasks that a sweep can train; one file a problem.

>>> problem = PROBLEMS["multidigits"](offset=4)
>>> [task.name for task in problem.tasks], len(problem.train)
(['left', 'right'], 2000)

One's own problem is any callable that returns a `Problem`; a config names it `module:callable`.
"""

from collections.abc import Callable

from .census import census
from .concave import concave
from .landscape import landscape
from .linear_bottleneck import linear_bottleneck
from .multidigits import multidigits
from .multimnist import multi_fashion_mnist, multifashion, multimnist
from .problem import Measure, Problem, ProblemError, Split, Task
from .quadratics import quadratics
from .yeast import yeast

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "census": census,
    "concave": concave,
    "landscape": landscape,
    "linear_bottleneck": linear_bottleneck,
    "multi_fashion_mnist": multi_fashion_mnist,
    "multidigits": multidigits,
    "multifashion": multifashion,
    "multimnist": multimnist,
    "quadratics": quadratics,
    "yeast": yeast,
}
"""Registry: the key a config names -> what makes the problem; its keywords are the options."""

__all__ = ["PROBLEMS", "Measure", "Problem", "ProblemError", "Split", "Task"]
