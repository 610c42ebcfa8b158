"""Whether each arm's method fits the problem and its minibatches."""

from __future__ import annotations

from mtofront.problems import Problem, ProblemError

from .arms import arm_method
from .config import Config
from .sharing import refuse_unfit


def check_methods(config: Config, problem: Problem, batch: int) -> None:
    """Raises RequestError for an arm whose method cannot train this problem in such minibatches."""
    for arm in config.arms:
        method = arm_method(config, arm)
        if method.independent and batch < 2:
            raise config.error(
                ("arms", arm),
                f"{method.name} compares the two halves of every minibatch, so a minibatch needs "
                f"at least 2 rows; found {batch}. Raise budget.batch_size, or leave the arm out",
            )
        try:
            refuse_unfit(problem, method)
        except ProblemError as error:
            raise config.error(("arms", arm), f"{error}, or leave the arm out") from None
