"""The Balancer in a plain training loop, against gradients combined by hand."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from mtofront.methods import METHODS, Balancer, aggregate

STEPWISE = [name for name, method in METHODS.items() if not method.scheme]
"""Methods that a Balancer can be: the others train several networks."""


class TwoHeads(nn.Module):
    """A trunk of two layers, one head a task, one parameter that nothing uses."""

    def __init__(self, tasks: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(tasks))
        self.unused = nn.Parameter(torch.zeros(2))
        self.double()
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def losses(self, seed: int = 0) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        targets = torch.randn(len(self.heads), 6, 1, generator=generator, dtype=torch.float64)
        features = self.trunk(inputs)
        return [
            (head(features) - target).square().mean()
            for head, target in zip(self.heads, targets, strict=True)
        ]


def flat(gradients: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients if g is not None])


def gradients_by_hand(model: TwoHeads, losses: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The Jacobian (T, P) of the trunk and each head's own gradient."""
    rows, own = [], []
    for loss, head in zip(losses, model.heads, strict=True):
        trunk, mine = list(model.trunk.parameters()), list(head.parameters())
        grads = torch.autograd.grad(loss, trunk + mine, retain_graph=True)
        rows.append(flat(grads[: len(trunk)]))
        own.append(flat(grads[len(trunk) :]))
    return torch.stack(rows), own


def grads(parameters: Iterable[nn.Parameter]) -> Tensor:
    return flat(p.grad for p in parameters)


@pytest.mark.parametrize("tasks", [1, 2, 3])
@pytest.mark.parametrize("name", STEPWISE)
def test_the_trunk_gets_the_methods_direction_and_the_heads_their_own(
    name: str, tasks: int
) -> None:
    model, method = TwoHeads(tasks), METHODS[name]
    jacobian, own = gradients_by_hand(model, model.losses())
    balancer = Balancer(name, tasks, model.trunk.parameters(), seed=0)
    balancer.backward(model.losses())
    if method.answers != "weights":
        assert balancer.weights is None
        values = torch.stack([loss.detach() for loss in model.losses()])
        expected = aggregate(name, jacobian, values)
    else:
        assert balancer.weights is not None
        expected = balancer.weights @ jacobian
    torch.testing.assert_close(grads(model.trunk.parameters()), expected)
    for task, head in enumerate(model.heads):
        factor = 1.0
        if method.heads == "weighted":
            assert balancer.weights is not None
            factor = balancer.weights[task].item()
        torch.testing.assert_close(grads(head.parameters()), factor * own[task])
    assert model.unused.grad is None
    assert balancer.steps == 1


@pytest.mark.parametrize("name", STEPWISE)
def test_the_direction_is_what_aggregate_makes_of_the_jacobian(name: str) -> None:
    model, method = TwoHeads(3), METHODS[name]
    jacobian, _ = gradients_by_hand(model, model.losses())
    losses = torch.stack([loss.detach() for loss in model.losses()])
    balancer = Balancer(name, 3, model.trunk.parameters(), seed=0)
    balancer.backward(model.losses())
    if method.layer == "last":
        # what the last layer's Gramian decides is checked where its weights move
        assert balancer.weights is not None
        expected = balancer.weights @ jacobian
    else:
        expected = aggregate(name, jacobian, losses)
    torch.testing.assert_close(grads(model.trunk.parameters()), expected)


def test_linear_unit_weights_are_loss_backward_step_by_step() -> None:
    plain, balanced = TwoHeads(), TwoHeads()
    balancer = Balancer("linear", 2, balanced.trunk.parameters(), weights=[1, 1])
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05) for m in (plain, balanced)]
    for step in range(5):
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(plain.losses(step))
        balancer.backward(balanced.losses(step))
        for optimizer in optimizers:
            optimizer.step()
    for mine, theirs in zip(balanced.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["linear", "pcgrad", "gradnorm"])
def test_gradients_accumulate_as_backward_does(name: str) -> None:
    once, twice = TwoHeads(), TwoHeads()
    Balancer(name, 2, once.trunk.parameters()).backward(once.losses())
    for _ in range(2):
        Balancer(name, 2, twice.trunk.parameters()).backward(twice.losses())
    for first, second in zip(once.parameters(), twice.parameters(), strict=True):
        if first.grad is not None:
            assert second.grad is not None
            torch.testing.assert_close(second.grad, 2 * first.grad)


def test_losses_may_come_as_one_tensor() -> None:
    apart, together = TwoHeads(), TwoHeads()
    Balancer("mgda", 2, apart.trunk.parameters()).backward(apart.losses())
    Balancer("mgda", 2, together.trunk.parameters()).backward(torch.stack(together.losses()))
    torch.testing.assert_close(grads(together.parameters()), grads(apart.parameters()))


def test_gradnorm_looks_at_the_last_shared_layer_only() -> None:
    model = TwoHeads()
    balancer = Balancer("gradnorm", 2, model.trunk.parameters(), alpha=0.0, optimizer="sgd")
    layer = list(model.trunk.parameters())[-2:]
    assert [tuple(p.shape) for p in layer] == [(4, 5), (4,)]
    lengths = torch.stack(
        [
            flat(torch.autograd.grad(loss, layer, retain_graph=True)).norm()
            for loss in model.losses()
        ]
    )
    balancer.backward(model.losses())
    balancer.backward(model.losses())
    signs = torch.sign(lengths - lengths.mean())
    moved = (1 - 0.025 * signs * lengths).clamp_min(1e-4)
    assert balancer.weights is not None
    torch.testing.assert_close(balancer.weights, 2 * moved / moved.sum())


def test_a_shared_parameter_that_one_task_misses_counts_as_zero_there() -> None:
    first, second = (nn.Parameter(torch.tensor([v], dtype=torch.float64)) for v in (1.0, 2.0))
    Balancer("mgda", 2, [first, second]).backward([3 * first.sum(), 2 * second.sum()])
    expected = aggregate("mgda", torch.tensor([[3.0, 0.0], [0.0, 2.0]], dtype=torch.float64))
    torch.testing.assert_close(grads([first, second]), expected)


@pytest.mark.parametrize("name", ["linear", "pcgrad", "gradnorm", "graddrop"])
def test_a_shared_parameter_that_no_loss_reaches_gets_no_gradient(name: str) -> None:
    model = TwoHeads()
    Balancer(name, 2, [model.unused, *model.trunk.parameters()]).backward(model.losses())
    assert model.unused.grad is None
    assert all(p.grad is not None for p in model.trunk.parameters())


def test_a_head_that_one_loss_uses_twice_gets_its_gradient_once() -> None:
    trunk, head = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (2.0, 3.0))
    Balancer("pcgrad", 1, [trunk]).backward([trunk * head + head])
    assert head.grad is not None
    assert head.grad.item() == 3


def test_a_head_that_two_tasks_share_gets_both_gradients() -> None:
    trunk, head = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (2.0, 3.0))
    Balancer("pcgrad", 2, [trunk]).backward([trunk * head, 5 * trunk * head])
    assert head.grad is not None
    assert head.grad.item() == 12


def test_a_frozen_shared_parameter_is_refused_before_any_gradient_flows() -> None:
    model = TwoHeads()
    model.trunk[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="every shared parameter must be trainable"):
        Balancer("pcgrad", 2, model.trunk.parameters())


@pytest.mark.parametrize("name", ["random", "uncertainty", "gradnorm", "pcgrad"])
def test_a_resumed_run_goes_on_as_if_never_interrupted(name: str) -> None:
    model = TwoHeads(3)
    balancer = Balancer(name, 3, model.trunk.parameters(), seed=4)
    for step in range(3):
        balancer.backward(model.losses(step))
    saved = pickle.loads(pickle.dumps(balancer.state_dict()))
    model.zero_grad()
    resumed_model = copy.deepcopy(model)
    resumed = Balancer(name, 3, resumed_model.trunk.parameters(), seed=99)
    resumed.load_state_dict(saved)
    assert resumed.steps == 3
    for step in range(3, 6):
        balancer.backward(model.losses(step))
        resumed.backward(resumed_model.losses(step))
        assert balancer.weights is not None
        assert resumed.weights is not None
        assert torch.equal(balancer.weights, resumed.weights)
    assert torch.equal(grads(model.parameters()), grads(resumed_model.parameters()))


def test_a_saved_state_does_not_change_with_the_run() -> None:
    model = TwoHeads()
    balancer = Balancer("uncertainty", 2, model.trunk.parameters())
    saved = balancer.state_dict()
    before = pickle.dumps(saved)
    balancer.backward(model.losses())
    assert pickle.dumps(saved) == before


def test_famo_learns_from_the_losses_after_the_step() -> None:
    model = TwoHeads()
    balancer = Balancer("famo", 2, model.trunk.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    balancer.backward(model.losses())
    with pytest.raises(ValueError, match=r"call after\(losses\)"):
        balancer.backward(model.losses())
    optimizer.step()
    effect = [loss.item() for loss in model.losses()]
    balancer.after(model.losses())
    balancer.backward(model.losses())
    assert balancer.weights is not None
    share = balancer.weights * torch.tensor(effect, dtype=torch.float64)
    # the first step of Adam moves both logits by the learning rate, one up and one down
    assert (share / share.sum()).sort().values.tolist() == pytest.approx(
        [0.487503, 0.512497], rel=1e-4
    )


def test_dwa_counts_the_epochs_it_is_told() -> None:
    model = TwoHeads()
    balancer = Balancer("dwa", 2, model.trunk.parameters())
    for epoch in range(3):
        balancer.backward(model.losses(epoch), epoch=epoch)
        balancer.after(model.losses(epoch))
        assert balancer.weights is not None
        assert (balancer.weights.tolist() == [1, 1]) == (epoch < 2)


def test_another_methods_state_is_refused() -> None:
    model = TwoHeads()
    saved = Balancer("pcgrad", 2, model.trunk.parameters()).state_dict()
    with pytest.raises(ValueError, match=r"\('mgda', 2\); found \('pcgrad', 2\)"):
        Balancer("mgda", 2, model.trunk.parameters()).load_state_dict(saved)


def test_wrong_losses_are_refused_with_what_was_found() -> None:
    model = TwoHeads()
    balancer = Balancer("pcgrad", 2, model.trunk.parameters())
    with pytest.raises(ValueError, match=r"a step has 2 scalar losses; found shapes \[\(\)\]"):
        balancer.backward(model.losses()[:1])
    with pytest.raises(ValueError, match=r"found shapes \[\(4,\), \(4,\)\]"):
        balancer.backward([torch.ones(4), torch.ones(4)])
    with pytest.raises(ValueError, match="loss 1 requires no gradient"):
        balancer.backward([model.losses()[0], model.losses()[1].detach()])
    assert all(p.grad is None for p in model.parameters())


def test_a_balancer_without_tasks_or_shared_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="tasks=2 and 0 parameters"):
        Balancer("pcgrad", 2, [])
    with pytest.raises(ValueError, match="tasks=0 and 1 parameters"):
        Balancer("pcgrad", 0, [nn.Parameter(torch.ones(1))])


def test_single_precision_parameters_get_single_precision_gradients() -> None:
    model = TwoHeads().float()
    balancer = Balancer("cagrad", 2, model.trunk.parameters())
    features = model.trunk(torch.ones(2, 3))
    balancer.backward([head(features).square().mean() for head in model.heads])
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
