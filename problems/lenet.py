"""LeNet: the three networks that go by this name in the multi-task literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .architectures import Body
from .perceptrons import layer, mask


@dataclass(frozen=True)
class Kind:
    """side: of the square picture. kernel: of the first convolution. flat: features after both.

    hidden: a head has a layer of 50 before its output. dropout: between the convolutions' ends,
    whole channels at once.
    """

    side: int
    kernel: int
    flat: int
    hidden: bool
    dropout: bool


LENETS = {
    # Sener & Koltun 2018: conv 10@5×5, conv 20@5×5 with dropout, 320 -> 50; heads 50 -> 50 -> 10
    "lenet_mgda": Kind(side=28, kernel=5, flat=320, hidden=True, dropout=True),
    # Lin et al. 2019 (Pareto MTL): conv 10@9×9, conv 20@5×5, 500 -> 50; heads 50 -> 10
    "lenet_pmtl": Kind(side=36, kernel=9, flat=500, hidden=False, dropout=False),
    # Dimitriadis et al. 2023 (PaMaL): as Lin's, with heads 50 -> 50 -> 10
    "lenet_pamal": Kind(side=36, kernel=9, flat=500, hidden=True, dropout=False),
}


class LeNet(nn.Module):
    """A shared trunk of two convolutions and a layer of 50, and one head a task."""

    def __init__(self, kind: Kind, classes: Sequence[int]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_convolution(kind, 0, 1, 10), *_convolution(kind, 1, 10, 20), *_flat(kind, 20, 50)
        )
        self.heads = nn.ModuleList([_head(kind.hidden, 50, count) for count in classes])

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def lenet_body(kind: Kind, classes: Sequence[int]) -> Body:
    """A LeNet's two convolutions and its layer of 50 as three stages, and its heads.

    What is added behind a convolution is one of 3×3 pixels; masks there are convolutions of one.
    """
    return Body(
        numbers=kind.side**2,
        inputs=1,
        widths=(10, 20, 50),
        stage=lambda position, before, width: nn.Sequential(
            *(
                _flat(kind, before, width)
                if position == 2
                else _convolution(kind, position, before, width)
            )
        ),
        again=lambda position, width: (
            layer(width, width)
            if position == 2
            else nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        ),
        mask=lambda position, before, width: (
            mask(before, width) if position == 2 else _mask_of_pixels(before, width)
        ),
        head=lambda features, task: _head(kind.hidden, features, classes[task]),
    )


def _convolution(kind: Kind, position: int, before: int, channels: int) -> list[nn.Module]:
    """The first or the second convolution, with what follows it."""
    drop = [nn.Dropout2d()] if kind.dropout and position == 1 else []
    kernel = kind.kernel if position == 0 else 5
    return [nn.Conv2d(before, channels, kernel), *drop, nn.MaxPool2d(2), nn.ReLU()]


def _flat(kind: Kind, channels: int, features: int) -> list[nn.Module]:
    pixels = kind.flat // 20
    return [nn.Flatten(), nn.Linear(channels * pixels, features), nn.ReLU()]


def _mask_of_pixels(before: int, channels: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(before, channels, 1), nn.ReLU()),
        *(nn.Conv2d(channels, channels, 1), nn.Sigmoid()),
    )


def _head(hidden: bool, features: int, classes: int) -> nn.Module:
    if not hidden:
        return nn.Linear(features, classes)
    return nn.Sequential(nn.Linear(features, 50), nn.ReLU(), nn.Linear(50, classes))
