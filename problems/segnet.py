"""SegNet, small: a shared encoder and decoder, and one head a task that answers with a map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from .problem import ProblemError


class SegNet(nn.Module):
    """After Badrinarayanan et al. 2017, shared as in Liu et al. 2019 ("Split"), and smaller.

    Each level of the encoder is two 3×3 convolutions with BatchNorm, then halves the sides; each
    of the decoder doubles them, then is one convolution. A head is a 3×3 and a 1×1 convolution.
    Deviation: sides are doubled by repeating pixels, not by the places of the maxima.
    """

    def __init__(self, channels: Sequence[int], outputs: Sequence[int]) -> None:
        super().__init__()
        widths = [3, *channels]
        encoder = [
            nn.Sequential(_convolution(before, width), _convolution(width, width), nn.MaxPool2d(2))
            for before, width in zip(widths, channels, strict=False)
        ]
        back = [*channels[::-1], channels[0]]
        decoder = [
            nn.Sequential(nn.Upsample(scale_factor=2), _convolution(before, width))
            for before, width in pairwise(back)
        ]
        self.trunk = nn.Sequential(*encoder, *decoder)
        self.heads = nn.ModuleList([_head(channels[0], count) for count in outputs])

    def forward(self, pictures: Tensor) -> list[Tensor]:
        features = self.trunk(pictures)
        return [head(features) for head in self.heads]


def _convolution(before: int, width: int) -> nn.Module:
    layer = nn.Conv2d(before, width, 3, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(width), nn.ReLU())


def _head(width: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, outputs, 1))


def check_shape(size: Sequence[int], channels: Sequence[int]) -> tuple[int, int]:
    """Height and width. Raises ProblemError if the network cannot halve them at every level."""
    part = 2 ** len(channels)
    if not channels or min(channels) < 1:
        raise ProblemError(f"channels must be one number or more, from 1; found {list(channels)}")
    if len(size) != 2 or any(side < part or side % part for side in size):
        raise ProblemError(
            f"size must be a height and a width, multiples of {part} for a network of "
            f"{len(channels)} levels; found {list(size)}"
        )
    return int(size[0]), int(size[1])
