"""LeNet: the three networks that go by this name in the multi-task literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


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
        drop = [nn.Dropout2d()] if kind.dropout else []
        self.trunk = nn.Sequential(
            *(nn.Conv2d(1, 10, kind.kernel), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Conv2d(10, 20, 5), *drop, nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(kind.flat, 50), nn.ReLU()),
        )
        self.heads = nn.ModuleList([_head(kind.hidden, count) for count in classes])

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.trunk(images)
        return [head(features) for head in self.heads]


def _head(hidden: bool, classes: int) -> nn.Module:
    if not hidden:
        return nn.Linear(50, classes)
    return nn.Sequential(nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, classes))
