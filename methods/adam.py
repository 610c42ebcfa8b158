"""Adam for the few scalars that a method trains beside the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .method import State

DECAY_MEAN, DECAY_SQUARE, EPSILON = 0.9, 0.999, 1e-8


def adam_state(zeros: Tensor) -> State:
    """Adam's moments before the first step, for scalars of shape (..., T)."""
    return {
        "adam_mean": torch.zeros_like(zeros),
        "adam_square": torch.zeros_like(zeros),
        "adam_count": torch.zeros_like(zeros[..., :1]),
    }


def adam_change(gradient: Tensor, state: State, rate: Tensor) -> tuple[Tensor, State]:
    """The change that Adam makes for a gradient (..., T), and its next moments.

    rate: (..., 1). Kingma and Ba, "Adam", ICLR 2015, Algorithm 1, with its default decay rates.
    """
    count = state["adam_count"] + 1
    mean = DECAY_MEAN * state["adam_mean"] + (1 - DECAY_MEAN) * gradient
    square = DECAY_SQUARE * state["adam_square"] + (1 - DECAY_SQUARE) * gradient * gradient
    unbiased = mean / (1 - torch.exp(count * math.log(DECAY_MEAN)))
    size = (square / (1 - torch.exp(count * math.log(DECAY_SQUARE)))).sqrt()
    moments = {"adam_mean": mean, "adam_square": square, "adam_count": count}
    return -rate * unbiased / (size + EPSILON), moments
