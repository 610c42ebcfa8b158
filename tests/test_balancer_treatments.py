"""The Balancer's options, each against values written out with plain autograd or the engine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_balancer import STEPWISE, TwoHeads, flat, gradients_by_hand, grads
from test_engine import regression, settings, spec
from test_treatment import losses_of
from torch import Tensor, nn

from mtofront.methods import METHODS, UNSOLVED, Balancer, HyperError
from mtofront.methods.method import Signals, State, Values
from mtofront.sweep.network import fresh_module, network
from mtofront.sweep.pack import start_pack, train_epoch
from mtofront.sweep.streams import minibatches, stream


def shortest(rows: Tensor) -> Tensor:
    """MGDA's weights for two tasks in closed form; both tasks must count."""
    gap = rows[0] - rows[1]
    share = (-gap @ rows[1]) / (gap @ gap)
    assert 0 < share < 1
    return torch.stack([share, 1 - share])


def surgery(rows: Tensor) -> Tensor:
    """PCGrad's weights for two tasks in closed form; the gradients must conflict."""
    cross = rows[0] @ rows[1]
    assert cross < 0
    return 1 - cross / rows.square().sum(1)


def conflicting(seed: int = 0) -> tuple[TwoHeads, list[Tensor]]:
    """A model whose two losses pull its trunk apart, and those losses."""
    model = TwoHeads()
    return model, model.losses(seed)


def compare(model: TwoHeads, trunk: Tensor, heads: list[Tensor]) -> None:
    torch.testing.assert_close(grads(model.trunk.parameters()), trunk)
    for head, expected in zip(model.heads, heads, strict=True):
        torch.testing.assert_close(grads(head.parameters()), expected)


def test_logarithms_are_trained_in_place_of_losses() -> None:
    model, losses = conflicting()
    rows, own = gradients_by_hand(model, [loss.log() for loss in losses])
    Balancer("mgda", 2, model.trunk.parameters(), losses="log").backward(losses)
    compare(model, shortest(rows) @ rows, own)


def test_weights_multiply_the_losses_of_a_method_that_takes_none() -> None:
    model, losses = conflicting()
    rows, own = gradients_by_hand(model, [0.2 * losses[0], 1.7 * losses[1]])
    Balancer("pcgrad", 2, model.trunk.parameters(), weights=[0.2, 1.7]).backward(losses)
    compare(model, surgery(rows) @ rows, own)


def test_weights_come_before_the_logarithm_which_forgets_them() -> None:
    first, second = TwoHeads(), TwoHeads()
    shared = first.trunk.parameters(), second.trunk.parameters()
    Balancer("mgda", 2, shared[0], losses="log").backward(first.losses())
    Balancer("mgda", 2, shared[1], losses="log", weights=[3, 5]).backward(second.losses())
    torch.testing.assert_close(grads(first.parameters()), grads(second.parameters()))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], "ab", [0.0, 0.0]], ids=str)
def test_wrong_weights_are_refused(weights: object) -> None:
    with pytest.raises(HyperError, match="`weights` must be 2 numbers"):
        Balancer("pcgrad", 2, TwoHeads().trunk.parameters(), weights=weights)


def at_features(model: TwoHeads, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """The trunk's output and the losses of `TwoHeads.losses`."""
    found: list[Tensor] = []
    hook = model.trunk.register_forward_hook(lambda _m, _i, output: found.append(output))
    losses = model.losses(seed)
    hook.remove()
    return found[0], losses


@pytest.mark.parametrize("heads", ["own", "weighted"])
def test_feature_level_combines_at_the_representation_and_goes_on_in_one_pass(heads: str) -> None:
    model = TwoHeads()
    features, losses = at_features(model)
    rows = torch.stack(
        [torch.autograd.grad(x, features, retain_graph=True)[0].flatten() for x in losses]
    )
    _, own = gradients_by_hand(model, losses)
    weights = shortest(rows)
    towards = (weights @ rows).view_as(features)
    trunk = torch.autograd.grad(
        features, list(model.trunk.parameters()), towards, retain_graph=True
    )
    balancer = Balancer("mgda", 2, model.trunk.parameters(), level="features", heads=heads)
    balancer.backward(losses, features=features)
    factors = weights if heads == "weighted" else torch.ones(2)
    compare(model, flat(trunk), [f * g for f, g in zip(factors, own, strict=True)])
    assert balancer.weights is not None
    torch.testing.assert_close(balancer.weights, weights)


def test_features_that_would_lose_a_gradient_are_refused() -> None:
    model = TwoHeads()
    features, losses = at_features(model)
    balancer = Balancer("mgda", 2, model.trunk.parameters(), level="features")
    with pytest.raises(ValueError, match="attached to its graph"):
        balancer.backward(losses)
    with pytest.raises(ValueError, match="attached to its graph"):
        balancer.backward(losses, features=features.detach().requires_grad_())
    with pytest.raises(ValueError, match="under level='features' only"):
        Balancer("mgda", 2, model.trunk.parameters()).backward(losses, features=features)
    late = model.heads[1].bias
    past = Balancer("mgda", 2, [*model.trunk.parameters(), late], level="features")
    with pytest.raises(ValueError, match=r"loss 1 reaches a shared parameter of shape \(1,\) past"):
        past.backward(losses, features=features)
    assert all(p.grad is None for p in model.parameters())


def test_every_tensor_gets_the_answer_for_its_own_gradients() -> None:
    model, losses = conflicting()
    expected = []
    for parameter in model.trunk.parameters():
        grad = [torch.autograd.grad(x, parameter, retain_graph=True)[0].flatten() for x in losses]
        rows = torch.stack(grad)
        cross = (rows[0] @ rows[1]).clamp_max(0)
        expected.append((1 - cross / rows.square().sum(1)) @ rows)
    _, own = gradients_by_hand(model, losses)
    Balancer("pcgrad", 2, model.trunk.parameters(), granularity="tensor").backward(losses)
    compare(model, torch.cat(expected), own)


@pytest.mark.parametrize("name", ["gradvac", "metabalance", "mgda"])
def test_tensors_apart_are_balancers_apart(name: str) -> None:
    """Memory too is each tensor's own, over several steps."""
    together = TwoHeads()
    one = Balancer(name, 2, together.trunk.parameters(), granularity="tensor")
    places = range(len(list(together.trunk.parameters())))
    models = [TwoHeads() for _ in places]
    alone = [list(model.trunk.parameters())[k] for k, model in enumerate(models)]
    many = [Balancer(name, 2, [parameter]) for parameter in alone]
    for step in range(3):
        together.zero_grad()
        one.backward(together.losses(step))
        for model, balancer in zip(models, many, strict=True):
            model.zero_grad()
            balancer.backward(model.losses(step))
        torch.testing.assert_close(grads(together.trunk.parameters()), grads(alone))


@pytest.mark.parametrize(("heads", "total"), [("weighted", None), ("scaled", 2.0)])
def test_heads_follow_the_weights(heads: str, total: float | None) -> None:
    model, losses = conflicting()
    rows, own = gradients_by_hand(model, losses)
    weights = surgery(rows)
    factors = weights if total is None else total * weights / weights.sum()
    Balancer("pcgrad", 2, model.trunk.parameters(), heads=heads).backward(losses)
    compare(model, weights @ rows, [f * g for f, g in zip(factors, own, strict=True)])


def test_a_matched_update_is_as_long_as_the_mean_gradient() -> None:
    model, losses = conflicting()
    rows, own = gradients_by_hand(model, losses)
    towards = shortest(rows) @ rows
    Balancer("mgda", 2, model.trunk.parameters(), norm="scalarization").backward(losses)
    compare(model, towards * rows.mean(0).norm() / towards.norm(), own)


def register(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """A method of the test's own, called "probe"."""
    method = replace(METHODS["mgda"], name="probe", hyper={}, **changes)  # type: ignore[arg-type]
    monkeypatch.setitem(METHODS, "probe", method)


def of_rows(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    """Weights that tell the two halves apart: what each row of their products sums to."""
    assert signals.independent is not None
    return signals.independent.sum(-1) * signals.losses, state


def test_two_samples_are_compared_and_both_count_half(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, independent=True, step=of_rows)
    model = TwoHeads()
    first, second = model.losses(0), model.losses(1)
    (rows, own), (others, owns) = (gradients_by_hand(model, x) for x in (first, second))
    values = torch.stack([(a + b).detach() / 2 for a, b in zip(first, second, strict=True)])
    weights = (rows @ others.T).sum(1) * values
    Balancer("probe", 2, model.trunk.parameters()).backward(first, independent=second)
    heads = [(a + b) / 2 for a, b in zip(own, owns, strict=True)]
    compare(model, weights @ (rows + others) / 2, heads)


def test_one_sample_is_seen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, independent=True, step=of_rows)
    model, losses = conflicting()
    rows, own = gradients_by_hand(model, losses)
    weights = (rows @ rows.T).sum(1) * torch.stack(losses).detach()
    Balancer("probe", 2, model.trunk.parameters()).backward(losses)
    compare(model, weights @ rows, own)


def directed(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    assert signals.jacobian is not None
    weights, _ = of_rows(signals, state, values)
    return (weights.unsqueeze(-1) * signals.jacobian).sum(-2), state


@pytest.mark.parametrize("kind", ["gramian", "jacobian"])
def test_two_samples_are_compared_tensor_by_tensor(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    changes = (
        {"answers": "direction", "step": directed} if kind == "jacobian" else {"step": of_rows}
    )
    register(monkeypatch, independent=True, needs=kind, **changes)
    model = TwoHeads()
    first, second = model.losses(0), model.losses(1)
    values = torch.stack([(a + b).detach() / 2 for a, b in zip(first, second, strict=True)])
    expected = []
    for p in model.trunk.parameters():
        rows, others = (
            torch.stack([torch.autograd.grad(x, p, retain_graph=True)[0].flatten() for x in losses])
            for losses in (first, second)
        )
        expected.append((rows @ others.T).sum(1) * values @ (rows + others) / 2)
    balancer = Balancer("probe", 2, model.trunk.parameters(), granularity="tensor")
    balancer.backward(first, independent=second)
    torch.testing.assert_close(grads(model.trunk.parameters()), torch.cat(expected))


def test_a_second_sample_that_nobody_would_look_at_is_refused() -> None:
    model = TwoHeads()
    with pytest.raises(ValueError, match="pcgrad looks at one sample a step"):
        Balancer("pcgrad", 2, model.trunk.parameters()).backward(
            model.losses(0), independent=model.losses(1)
        )


class Fixed:
    """A GradScaler that never changes its mind."""

    def scale(self, outputs: Tensor) -> Tensor:
        return outputs * 1024.0


SCALED = [
    ("pcgrad", {}),
    ("nash_mtl", {}),
    ("graddrop", {"norm": "scalarization"}),
    ("mgda", {"level": "features"}),
    ("cagrad", {"heads": "scaled", "granularity": "whole"}),
    ("gradvac", {"granularity": "tensor"}),
    ("gradnorm", {}),
    ("uncertainty", {"losses": "log"}),
    ("famo", {}),
]


@pytest.mark.parametrize(("name", "options"), SCALED, ids=str)
def test_a_scaler_multiplies_the_gradients_and_changes_nothing_else(
    name: str, options: dict[str, object]
) -> None:
    plain, scaled = TwoHeads(3), TwoHeads(3)
    balancers = [Balancer(name, 3, m.trunk.parameters(), **options) for m in (plain, scaled)]
    for step in range(3):
        for model, balancer, scaler in zip(
            (plain, scaled), balancers, (None, Fixed()), strict=True
        ):
            features, losses = at_features(model, step)
            model.zero_grad()
            given = features if options.get("level") == "features" else None
            balancer.backward(losses, features=given, scaler=scaler)
            balancer.after(losses)
        torch.testing.assert_close(grads(scaled.parameters()), 1024 * grads(plain.parameters()))
        if balancers[0].weights is not None:
            assert balancers[1].weights is not None
            torch.testing.assert_close(balancers[0].weights, balancers[1].weights)


REMEMBERING = ["gradvac", "metabalance", "gradnorm", "uncertainty", "famo", "dwa"]


def memory(balancer: Balancer) -> list[Tensor]:
    return list(balancer.state_dict()["state"].values())


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["pcgrad", *REMEMBERING])
def test_torchs_gradient_scaler_skips_an_overflow_and_the_memory_stays(name: str) -> None:
    plain, scaled = TwoHeads(), TwoHeads()
    # 2^127, the largest power of two there is in single precision: a gradient beyond 2 overflows
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-100)
    plain.float()
    scaled.float()
    balancers = [Balancer(name, 2, m.trunk.parameters()) for m in (plain, scaled)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in (plain, scaled)]
    batch = [2.0 * x for x in single(scaled, 0)]
    before, start = memory(balancers[1]), flat(scaled.parameters()).detach().clone()
    balancers[1].backward(batch, scaler=scaler)
    assert not grads(scaled.trunk.parameters()).isfinite().all()
    scaler.step(optimizers[1])
    scaler.update()
    balancers[1].after(batch)
    assert equal(memory(balancers[1]), before)
    assert torch.equal(flat(scaled.parameters()), start)
    assert scaler.get_scale() == 2.0**27
    for step in range(3):
        for model, balancer, optimizer in zip((plain, scaled), balancers, optimizers, strict=True):
            optimizer.zero_grad()
            mine = scaler if model is scaled else None
            balancer.backward(single(model, step), scaler=mine)
            if mine is None:
                optimizer.step()
            else:
                mine.step(optimizer)
                mine.update()
            with torch.no_grad():
                balancer.after(single(model, step))
    assert not torch.equal(flat(scaled.parameters()), start)
    torch.testing.assert_close(flat(scaled.parameters()), flat(plain.parameters()))


def single(model: TwoHeads, seed: int) -> list[Tensor]:
    """Losses of a model in single precision."""
    generator = torch.Generator().manual_seed(seed)
    features = model.trunk(torch.randn(6, 3, generator=generator))
    return [
        (head(features) - torch.randn(6, 1, generator=generator)).square().mean()
        for head in model.heads
    ]


def broken(model: TwoHeads, kind: str) -> list[Tensor]:
    """Losses of which the second is NaN in value, or in gradient."""
    losses = model.losses(1)
    if kind == "loss":
        return [losses[0], losses[1] + torch.nan, losses[2]]
    zero = model.trunk[2].weight[0, 0] - model.trunk[2].weight[0, 0].detach()
    return [losses[0], losses[1] + zero.abs().sqrt(), losses[2]]


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("name", STEPWISE)
def test_broken_numbers_leave_the_memory_alone(name: str, kind: str) -> None:
    model = TwoHeads(3)
    balancer = Balancer(name, 3, model.trunk.parameters())
    balancer.backward(model.losses(0))
    balancer.after(model.losses(0))
    before = memory(balancer)
    model.zero_grad()
    balancer.backward(broken(model, kind))
    balancer.after(model.losses(1))
    assert equal(memory(balancer), before)
    model.zero_grad()
    balancer.backward(model.losses(2))
    assert grads(model.parameters()).isfinite().all()
    if name in REMEMBERING:
        assert not equal(memory(balancer), before)


def test_a_step_is_told_of_once_and_only_if_it_was_taken() -> None:
    model = TwoHeads()
    balancer = Balancer("famo", 2, model.trunk.parameters())
    with pytest.raises(ValueError, match="once after every backward"):
        balancer.after(model.losses())
    balancer.backward(model.losses())
    resumed = Balancer("famo", 2, model.trunk.parameters())
    resumed.load_state_dict(balancer.state_dict())
    for each in (balancer, resumed):
        each.after(model.losses(1))
        with pytest.raises(ValueError, match="once after every backward"):
            each.after(model.losses(1))
    assert equal(memory(balancer), memory(resumed))


def counting(signals: Signals, state: State, values: Values) -> tuple[Tensor, State]:
    missed = (signals.losses.amax(-1, keepdim=True) > 10).double()
    return torch.ones_like(signals.losses), {UNSOLVED: state[UNSOLVED] + missed}


def test_steps_that_a_solver_missed_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(losses: Tensor) -> State:
        return {UNSOLVED: torch.zeros_like(losses[..., :1])}

    register(monkeypatch, step=counting, init=init)
    model = TwoHeads()
    whole = Balancer("probe", 2, model.trunk.parameters())
    assert whole.unsolved == 0
    for values in ([1.0, 2.0], [30.0, 2.0], [3.0, 40.0], [5.0, 6.0]):
        losses = model.losses()
        whole.backward([x - x.detach() + v for x, v in zip(losses, values, strict=True)])
    assert whole.unsolved == 2
    tensors = Balancer("probe", 2, model.trunk.parameters(), granularity="tensor")
    tensors.backward([11 + x for x in model.losses()])
    assert tensors.unsolved == len(list(model.trunk.parameters()))
    assert Balancer("linear", 2, model.trunk.parameters()).unsolved == 0


def test_a_shared_parameter_that_is_named_twice_counts_once() -> None:
    once, twice = TwoHeads(), TwoHeads()
    Balancer("mgda", 2, once.trunk.parameters()).backward(once.losses())
    double = [*twice.trunk.parameters(), twice.trunk[0].weight]
    Balancer("mgda", 2, double).backward(twice.losses())
    assert torch.equal(grads(once.parameters()), grads(twice.parameters()))


def test_a_state_of_another_treatment_is_refused() -> None:
    model = TwoHeads()
    saved = Balancer("gradvac", 2, model.trunk.parameters()).state_dict()
    other = Balancer("gradvac", 2, model.trunk.parameters(), granularity="tensor")
    with pytest.raises(ValueError, match="same treatment and shared parameters"):
        other.load_state_dict(saved)


@pytest.mark.parametrize("name", ["linear", "gradnorm", "mgda", "graddrop"])
def test_backward_passes_are_exact_where_autocast_is_still_on(name: str) -> None:
    outside, inside = TwoHeads().float(), TwoHeads().float()
    for model in (outside, inside):
        losses = single(model, 0)
        with torch.autocast("cpu", torch.bfloat16, enabled=model is inside):
            Balancer(name, 2, model.trunk.parameters()).backward(losses)
    assert torch.equal(grads(inside.parameters()), grads(outside.parameters()))


@pytest.mark.parametrize(
    ("name", "options"),
    [("uncertainty", {}), ("gradnorm", {}), ("mgda", {"weights": [1e-3, 1.0]})],
    ids=str,
)
def test_half_precision_losses_give_half_precision_gradients(
    name: str, options: dict[str, object]
) -> None:
    half, single = nn.Linear(3, 2).to(torch.bfloat16), nn.Linear(3, 2)
    single.load_state_dict(half.state_dict())
    for model in (half, single):
        losses = model(torch.ones(1, 3, dtype=model.weight.dtype)).square().squeeze(0)
        Balancer(name, 2, model.parameters(), **options).backward(losses)
    assert half.weight.grad is not None
    assert half.weight.grad.dtype == torch.bfloat16
    torch.testing.assert_close(half.weight.grad.float(), single.weight.grad, rtol=2e-2, atol=1e-3)


def test_the_logarithm_of_a_tiny_half_precision_loss_is_finite() -> None:
    parameter = nn.Parameter(torch.tensor([1e-4, 1.0], dtype=torch.float16))
    losses = (parameter * torch.tensor([1e-4, 1.0], dtype=torch.float16)).unbind()
    assert losses[0].item() == 0
    Balancer("mgda", 2, [parameter], losses="log").backward(losses)
    assert parameter.grad is not None
    assert parameter.grad.isfinite().all()


RATE = 0.05
ENGINE = [
    ("linear", {}, None),
    ("linear", {"losses": "log"}, None),
    ("uncertainty", {}, None),
    ("dwa", {}, None),
    ("famo", {}, None),
    ("gradnorm", {}, None),
    ("mgda", {"heads": "weighted"}, None),
    ("mgda", {"level": "features"}, (0.3, 2.0)),
    ("nash_mtl", {"granularity": "tensor"}, None),
    ("gradvac", {"norm": "scalarization", "losses": "log"}, None),
    ("cagrad", {"heads": "scaled"}, (0.3, 2.0)),
    ("aligned_mtl", {}, None),
    ("sdmgrad", {"norm": "scalarization"}, None),
    ("modo", {}, (0.3, 2.0)),
]


def engine_and_loop(
    name: str, treatment: dict[str, str], weights: tuple[float, ...] | None, batch: int, epochs: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters after the same steps, by the engine and by a Balancer in a loop of torch's."""
    own = spec(name).weights
    run = spec(
        name,
        treatment=treatment,
        weights=weights or own,
        optimizer=settings("sgd"),
        lr=RATE,
        epochs=epochs,
        batch_size=batch,
    )
    problem = regression()
    net = network(problem, run)
    pack = start_pack(net, [run, run])
    module = fresh_module(problem, run)
    options: dict[str, object] = {} if run.weights is None else {"weights": run.weights}
    seed = stream(run, "method").initial_seed()
    balancer = Balancer(name, 2, module.trunk.parameters(), seed=seed, **options, **treatment)  # type: ignore[union-attr]
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    found: list[Tensor] = []
    module.trunk.register_forward_hook(lambda _m, _i, output: found.append(output))  # type: ignore[union-attr]

    def losses_at(rows: Tensor) -> list[Tensor]:
        targets = [target[rows] for target in problem.train.targets]
        return losses_of(module, problem, problem.train.inputs[rows], targets)

    for epoch in range(epochs):
        train_epoch(net, pack, [run, run], epoch)
        for rows in minibatches([run], len(problem.train), batch, epoch)[:, 0]:
            optimizer.zero_grad()
            if METHODS[name].independent:
                losses, second = (losses_at(half) for half in rows.chunk(2))
                balancer.backward(losses, epoch=epoch, independent=second)
            else:
                losses = losses_at(rows)
                features = found[-1] if treatment.get("level") == "features" else None
                balancer.backward(losses, epoch=epoch, features=features)
            optimizer.step()
            balancer.after(losses_at(rows))
    expected = [pack.params[key][0].detach() for key, _ in module.named_parameters()]
    return expected, [p.detach() for p in module.parameters()]


@pytest.mark.parametrize(("name", "treatment", "weights"), ENGINE, ids=str)
def test_a_loop_with_a_balancer_takes_the_engines_steps(
    name: str, treatment: dict[str, str], weights: tuple[float, ...] | None
) -> None:
    expected, mine = engine_and_loop(name, treatment, weights, batch=16, epochs=3)
    torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


NOISY: list[tuple[str, dict[str, str]]] = [
    ("pcgrad", {}),
    ("random", {}),
    ("graddrop", {}),
    ("graddrop", {"granularity": "tensor"}),
    ("pcgrad", {"granularity": "tensor"}),
]


@pytest.mark.parametrize(("name", "treatment"), NOISY, ids=str)
def test_a_loop_with_a_balancer_draws_the_engines_numbers(
    name: str, treatment: dict[str, str]
) -> None:
    expected, mine = engine_and_loop(name, treatment, None, batch=64, epochs=1)
    torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)
