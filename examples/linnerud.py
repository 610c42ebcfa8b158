# Linnerud: weight, waist and pulse of 20 men from three exercises (scikit-learn bundles the table)
import torch
from sklearn.datasets import load_linnerud
from torch import nn

from mtofront.problems import Problem, Split, Task

NAMES = ("weight", "waist", "pulse")


class Body(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, hidden), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(hidden, 1) for _ in NAMES])

    def forward(self, x):
        z = self.trunk(x)
        return [head(z).squeeze(-1) for head in self.heads]


def mean_absolute(output, target):
    return (output - target).abs().mean()


def make(hidden=4):
    table = load_linnerud()
    x, y = (torch.tensor(t, dtype=torch.float32) for t in (table.data, table.target))
    train = torch.arange(20) % 4 < 2  # 10 rows; then 5 for choosing and 5 for reporting
    parts = train, torch.arange(20) % 4 == 2, torch.arange(20) % 4 == 3
    x, y = ((t - t[train].mean(0)) / t[train].std(0) for t in (x, y))
    splits = [Split(x[part], tuple(y[part].T.contiguous())) for part in parts]
    tasks = tuple(Task(name, nn.functional.mse_loss, {"absolute": mean_absolute}) for name in NAMES)
    return Problem("linnerud", tasks, *splits, model=lambda: Body(hidden))
