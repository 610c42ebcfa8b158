"""How the tasks' gradients lie to each other in a network, and how its method weighs them."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from mtofront.methods import cosines, norms

from .chunks import granted_bytes, part_sizes
from .course import Shown
from .evaluate import Measurement
from .network import Network
from .pack import gathered
from .streamed import HELD, in_blocks

MINIBATCHES = 4
"""On how many minibatches the gradients are compared: with two tasks one alone would give a
conflict rate of 0 or 1."""
CONFLICTS, COSINE, SIMILARITY = "conflict_rate", "gradient_cosine", "magnitude_similarity"
NORM, WEIGHT = "gradient_norm", "task_weight"
MEASURES = (CONFLICTS, COSINE, SIMILARITY, NORM, WEIGHT)
"""What they are called in the records; the first three are of a run, the others of a task."""


def measure_gradients(
    net: Network, shown: Shown, batch_size: int, step: int, epoch: int
) -> list[Measurement]:
    """What the gradients of the tasks' losses in the shared parameters have to do with each other.

    Means over MINIBATCHES disjoint minibatches of training rows, or as many as there are: the same
    rows for all runs, at all times. Losses are as measured, before weights and logarithms; layers
    behave as in training, but running statistics are left alone, and so are the runs' own random
    numbers. Each minibatch costs one forward pass and T backward passes.

    conflict_rate: the share of pairs of tasks with a negative cosine (Yu et al. 2020, definition
    1). gradient_cosine: the mean cosine over pairs; 0 with a zero gradient.
    magnitude_similarity: the mean over pairs of 2 ‖g_i‖ ‖g_j‖ / (‖g_i‖² + ‖g_j‖²), 1 for equal
    lengths (definition 2); 0 for two zero gradients. gradient_norm: ‖g_i‖ of each task. Nothing
    where no two tasks share a parameter.
    """
    tasks = [task.name for task in net.problem.tasks]
    if len(tasks) < 2 or not net.sharing.shared:
        return []
    grams = torch.stack([_gramians(net, shown, k, rows) for k, rows in _rows(net, batch_size)])
    first, second = torch.triu_indices(len(tasks), len(tasks), 1, device=grams.device)
    cosine, lengths = cosines(grams)[..., first, second], norms(grams)
    one, other = lengths[..., first], lengths[..., second]
    squares = one.square() + other.square()
    similarity = torch.where(squares > 0, 2 * one * other / squares, 0.0)
    found = [
        ("", CONFLICTS, (cosine < 0).double().mean((0, -1))),
        ("", COSINE, cosine.mean((0, -1))),
        ("", SIMILARITY, similarity.mean((0, -1))),
        *((task, NORM, length) for task, length in zip(tasks, lengths.mean(0).mT, strict=True)),
    ]
    return [_measurement(*one, step, epoch, shown.weights) for one in found]


def measure_weights(
    net: Network, weights: Tensor | None, step: int, epoch: int
) -> list[Measurement]:
    """How the method weighed the tasks, (N, T) as `WeightTally` gives them; nothing for None."""
    if weights is None:
        return []
    names = [task.name for task in net.problem.tasks]
    return [
        _measurement(task, WEIGHT, own, step, epoch, None)
        for task, own in zip(names, weights.mT, strict=True)
    ]


def _measurement(
    task: str,
    measure: str,
    values: Tensor,
    step: int,
    epoch: int,
    place: tuple[float, ...] | None,
) -> Measurement:
    return Measurement(step, epoch, "train", task, measure, values.cpu().numpy(), place)


def _rows(net: Network, batch_size: int) -> list[tuple[int, Tensor]]:
    """Numbered minibatches of rows, drawn once and for all."""
    count = len(net.problem.train)
    batch = min(batch_size, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    minibatches = min(MINIBATCHES, count // batch)
    return [(k, order[k * batch : (k + 1) * batch]) for k in range(minibatches)]


def _gramians(net: Network, shown: Shown, number: int, rows: Tensor) -> Tensor:
    """Products of the tasks' gradients on the same rows (B,) for all runs, (N, T, T) float64."""
    shared, train = net.sharing.shared, net.problem.train
    runs, tasks = len(shown.params[shared[0]]), len(net.problem.tasks)
    numbers = sum(shown.params[name][0].numel() for name in shared)
    # no more held than in a step, and as many at once whatever the pack: so the digits are the same
    block = min(tasks, max(1, HELD // numbers - 1))
    needed = (block + 1) * numbers * shown.params[shared[0]].element_size()
    sizes = part_sizes(runs, granted_bytes(train.device) // needed)
    found = []
    for start, end in pairwise([0, *accumulate(sizes)]):
        part = slice(start, end)
        params = {
            name: value.detach()[part].requires_grad_(name in shared)
            for name, value in shown.params.items()
        }
        buffers = {name: value[part].clone() for name, value in shown.buffers.items()}
        alike = rows.to(train.inputs.device).expand(end - start, -1)
        seeds = torch.full((end - start,), number, dtype=torch.int64, device=train.device)
        losses = net.losses(params, buffers, gathered(train, alike), seeds)
        nobody: list[list[Tensor]] = [[] for _ in losses]
        found.append(in_blocks(losses, [params[name] for name in shared], nobody, block).gramian)
    return torch.cat(found)
