# A residual network in torchvision's manner, with BatchNorm: which digit, and turned how far?
import torch
from sklearn.datasets import load_digits
from torch import nn

from mtofront.problems import Problem, Split, Task


class Block(nn.Module):
    def __init__(self, inside, outside, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.skip = nn.Sequential(
            nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
        )

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.skip(x))


class TwoHeads(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.trunk = nn.Sequential(Block(1, width, 1), Block(width, 2 * width, 2))
        self.digit, self.turn = nn.Linear(2 * width, 10), nn.Linear(2 * width, 4)

    def forward(self, images):
        z = self.trunk(images).mean((2, 3))  # pooling, in a form that batches well
        return self.digit(z), self.turn(z)


def error(logits, labels):
    return (logits.argmax(-1) != labels).float().mean()


def make(width=8, rows=1797):
    scans = load_digits()
    images = torch.tensor(scans.images[:rows, None] / 16, dtype=torch.float32)
    digit = torch.tensor(scans.target[:rows])
    turn = torch.randint(4, (len(digit),), generator=torch.Generator().manual_seed(0))
    images = torch.stack(
        [image.rot90(int(k), (1, 2)) for image, k in zip(images, turn, strict=True)]
    )
    order = torch.randperm(len(digit), generator=torch.Generator().manual_seed(1))
    parts = order.tensor_split([len(order) * 3 // 5, len(order) * 4 // 5])
    splits = [Split(images[part], (digit[part], turn[part])) for part in parts]
    tasks = tuple(
        Task(name, nn.functional.cross_entropy, {"error": error}) for name in ("digit", "turn")
    )
    return Problem("small_cnn", tasks, *splits, model=lambda: TwoHeads(width))
