"""Perceptrons: the body of networks for rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .architectures import Body


def perceptron(inputs: int, hidden: int, outputs: Sequence[int | None]) -> Body:
    """Two stages, each a linear layer of width `hidden` and a ReLU; heads are linear.

    outputs: of each task, (B, n); None for one number a row, (B,).
    """
    return Body(
        numbers=inputs,
        inputs=inputs,
        widths=(hidden, hidden),
        stage=lambda _, before, width: layer(before, width),
        again=lambda _, width: layer(width, width),
        mask=lambda _, before, width: mask(before, width),
        head=lambda features, task: _head(features, outputs[task]),
    )


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer and a ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


def mask(inputs: int, outputs: int) -> nn.Sequential:
    """Attention from features to features: two linear layers, a ReLU between, then a sigmoid."""
    return nn.Sequential(layer(inputs, outputs), nn.Linear(outputs, outputs), nn.Sigmoid())


def _head(features: int, outputs: int | None) -> nn.Module:
    if outputs is None:
        return nn.Sequential(nn.Linear(features, 1), nn.Flatten(0))
    return nn.Linear(features, outputs)
