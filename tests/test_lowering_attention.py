"""Attention, embeddings and normalisation in packs, against plain modules and plain torch loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from test_engine import final_losses, plain_loop, runs_of, settings, spec
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

import mtofront.sweep.network as network_file
from mtofront.problems import Problem, Split, Task
from mtofront.sweep.lowering import PackedLayers
from mtofront.sweep.network import network
from mtofront.sweep.train import train_pack

LENGTH, WIDTH, HEADS = 5, 8, 2
CAUSAL = nn.Transformer.generate_square_subsequent_mask(LENGTH, dtype=torch.float64)
FUTURE = torch.isinf(CAUSAL)


class Masked(nn.Module):
    """torch's own layer of attention on one sequence, with masks. Answers with its weights too."""

    def __init__(self, options: dict[str, Any] | None = None, **masks: Any) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, HEADS, **(options or {}))
        self.masks = masks

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        masks = {
            name: mask(x) if callable(mask) and not isinstance(mask, Tensor) else mask
            for name, mask in self.masks.items()
        }
        return tuple(part for part in self.layer(x, x, x, **masks) if part is not None)


class Across(nn.Module):
    """Attention of some positions to others, keys and values of their own widths if they differ."""

    def __init__(self, apart: bool, same: bool) -> None:
        super().__init__()
        self.narrow = nn.Linear(WIDTH, 6 if apart else WIDTH)
        sizes = {"kdim": 6, "vdim": 6} if apart else {}
        self.layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, **sizes)
        self.same = same

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        key = self.narrow(x)
        value = key if self.same else key.tanh()
        return (self.layer(x[:, :2], key, value, need_weights=False)[0],)


class Product(nn.Module):
    """Scaled dot-product attention as a function, with a mask that each run may learn."""

    def __init__(self, learned: tuple[int, ...] = (), given: Any = None, **options: Any) -> None:
        super().__init__()
        self.parts = nn.Linear(WIDTH, 3 * WIDTH)
        self.learned = nn.Parameter(torch.randn(learned)) if learned else None
        self.given, self.options = given, options

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]
            for part in self.parts(x).chunk(3, -1)
        )
        if self.options.get("enable_gqa"):
            k, v = k[:, :1], v[:, :1]
        mask = self.learned if self.learned is not None else self.given
        y = F.scaled_dot_product_attention(q, k, v, mask, **self.options)
        return (y.transpose(1, 2).flatten(2),)


class Flat(Product):
    """The same of three dimensions, (B, L, D), and of two."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        q, k, v = self.parts(x).chunk(3, -1)
        whole = F.scaled_dot_product_attention(q, k, v, self.given)
        return whole, F.scaled_dot_product_attention(q[0], k[0], v[0])


def padded(x: Tensor) -> Tensor:
    """The last two places of every other row are left out."""
    places = torch.arange(LENGTH) >= LENGTH - 2
    return places & (torch.arange(len(x)) % 2 == 0).unsqueeze(1)


def apart(x: Tensor) -> Tensor:
    """A mask for every row and head."""
    return torch.linspace(-1, 1, len(x) * HEADS * LENGTH**2, dtype=x.dtype).view(-1, LENGTH, LENGTH)


FIRST = {"batch_first": True}
MODULES: dict[str, Callable[[], nn.Module]] = {
    "weights shown": lambda: Masked(FIRST),
    "weights of each head": lambda: Masked(FIRST, average_attn_weights=False, attn_mask=CAUSAL),
    "weights hidden": lambda: Masked(FIRST, need_weights=False),
    "sequence first": lambda: Masked(need_weights=False),
    "no bias": lambda: Masked({"bias": False, **FIRST}, need_weights=False),
    "causal": lambda: Masked(FIRST, attn_mask=FUTURE, is_causal=True, need_weights=False),
    "causal, shown": lambda: Masked(FIRST, attn_mask=CAUSAL, is_causal=True),
    "mask": lambda: Masked(FIRST, attn_mask=FUTURE, need_weights=False),
    "padding": lambda: Masked(FIRST, key_padding_mask=padded, need_weights=False),
    "both": lambda: Masked(
        FIRST, attn_mask=FUTURE, is_causal=True, key_padding_mask=padded, need_weights=False
    ),
    "mask a row": lambda: Masked(FIRST, attn_mask=apart, need_weights=False),
    "more keys": lambda: Masked(
        {"add_bias_kv": True, "add_zero_attn": True, **FIRST}, need_weights=False
    ),
    "across": lambda: Across(False, True),
    "across, values apart": lambda: Across(False, False),
    "across, widths apart": lambda: Across(True, False),
    "product": lambda: Product(),
    "product, causal": lambda: Product(is_causal=True),
    "product, scaled": lambda: Product(scale=0.3, given=~FUTURE),
    "product, grouped": lambda: Product(enable_gqa=True),
    "product, learned mask": lambda: Product((LENGTH, LENGTH)),
    "product, learned mask a head": lambda: Product((HEADS, LENGTH, LENGTH)),
    "product, mask of rows": lambda: Product(given=apart(torch.ones(4, 1)).view(4, 2, 5, 5) > 0.1),
    "flat": lambda: Flat(given=CAUSAL),
    "encoder": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(WIDTH, HEADS, 12, dropout=0.0, **FIRST)
    ),
    "encoder, norm first": lambda: nn.Sequential(
        nn.TransformerEncoderLayer(WIDTH, HEADS, 12, 0.0, "gelu", norm_first=True)
    ),
    "decoder": lambda: Decoder(),
}


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 12, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x[:, 1:], tgt_mask=CAUSAL, tgt_is_causal=True)


def outputs_and_gradients(
    call: Callable[[], Any], leaves: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """What is answered, and two backward passes through the same graph, added."""
    found = call()
    outputs = list(found) if isinstance(found, tuple) else [found]
    waves = [torch.linspace(0, 9, y[0].numel(), dtype=y.dtype).view_as(y[0]) for y in outputs]
    first = sum((y * wave.sin()).sum() for y, wave in zip(outputs, waves, strict=True))
    second = sum((y * wave.cos()).sum() for y, wave in zip(outputs, waves, strict=True))
    once = torch.autograd.grad(first, leaves, retain_graph=True)
    again = torch.autograd.grad(second, leaves)
    return outputs, [a + 2 * b for a, b in zip(once, again, strict=True)]


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("processor", [True, False], ids=["processor", "elsewhere"])
@pytest.mark.parametrize("name", MODULES)
def test_three_runs_answer_as_three_modules_do(name: str, processor: bool) -> None:
    torch.manual_seed(0)
    modules = [MODULES[name]().double() for _ in range(3)]
    params, buffers = stack_module_state(modules)
    x = torch.randn(3, 4, LENGTH, WIDTH, dtype=torch.float64, requires_grad=True)
    if name == "sequence first" or "norm first" in name:
        x = x.detach().transpose(1, 2).contiguous().requires_grad_()

    def one(params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
        with PackedLayers(None, processor):
            return functional_call(modules[0], (params, buffers), (x,))

    leaves = [*params.values(), x]
    found, gradients = outputs_and_gradients(lambda: vmap(one)(params, buffers, x), leaves)
    for n, module in enumerate(modules):
        own = x[n].detach().requires_grad_()
        leaves = [*module.parameters(), own]

        def alone(module: nn.Module = module, own: Tensor = own) -> tuple[Tensor, ...]:
            answer = module(own)
            parts = answer if isinstance(answer, tuple) else (answer,)
            return tuple(part.unsqueeze(0) for part in parts)

        expected, slopes = outputs_and_gradients(alone, leaves)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine[n], theirs[0], rtol=0, atol=1e-13)
        for mine, theirs in zip(gradients, slopes, strict=True):
            torch.testing.assert_close(mine[n], theirs, rtol=0, atol=1e-12)


class Reader(nn.Module):
    """Words or numbers in, a layer on sequences, its mean, two heads."""

    def __init__(self, layer: nn.Module, words: nn.Module | None = None) -> None:
        super().__init__()
        self.words = words or nn.Linear(1, WIDTH)
        self.layer = layer
        self.heads = nn.ModuleList([nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 1)])
        self.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        of_words = isinstance(self.words, nn.Embedding)
        z = self.layer(self.words(x.long() if of_words else x.unsqueeze(-1) / 9)).mean(1)
        return [head(z).squeeze(-1) for head in self.heads]


class Swapped(nn.Module):
    """A layer on (B, features, L)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mT).mT


class Itself(Masked):
    """Attention to itself, added: what is shown of the weights is left."""

    def forward(self, x: Tensor) -> Any:
        return x + super().forward(x)[0]


def encoder(drop: float = 0.0, **options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 12, drop, batch_first=True, **options)


READERS: dict[str, Callable[[], nn.Module]] = {
    "encoder": lambda: Reader(encoder()),
    "encoder, norm first": lambda: Reader(encoder(norm_first=True)),
    "attention, causal": lambda: Reader(Itself(FIRST, attn_mask=FUTURE, is_causal=True)),
    "embedding": lambda: Reader(nn.Tanh(), nn.Embedding(10, WIDTH)),
    "embedding, padded": lambda: Reader(encoder(), nn.Embedding(10, WIDTH, padding_idx=-7)),
    "layer norm": lambda: Reader(nn.Sequential(nn.LayerNorm(WIDTH), nn.Tanh())),
    "group norm": lambda: Reader(Swapped(nn.GroupNorm(2, WIDTH))),
    # a bias just before it would have gradients of rounding errors, which Adam makes large
    "batch norm": lambda: Reader(nn.Sequential(nn.Tanh(), Swapped(nn.BatchNorm1d(WIDTH)))),
}


def sentences(model: Callable[[], nn.Module]) -> Problem:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 10, (64, LENGTH), generator=generator).double()
    split = Split(x, (x.mean(1).sin(), (x[:, 0] - x[:, 2]) / 5))
    tasks = tuple(Task(name, F.mse_loss) for name in ("mean", "first"))
    return Problem("sentences", tasks, split, split, split, model)


@pytest.mark.parametrize("name", READERS)
def test_a_pack_trains_as_a_plain_torch_loop_does(name: str) -> None:
    problem = sentences(READERS[name])
    run = spec(epochs=25, optimizer=settings("adam"))  # 100 steps
    specs = [run, replace(run, seed=1)]
    pack = train_pack(problem, specs)
    assert pack.notice == ""
    for place, run in enumerate(specs):
        expected = plain_loop(problem, run, lambda p: torch.optim.Adam(p, lr=0.01))
        np.testing.assert_allclose(final_losses(pack)[place][-2:], expected, rtol=0, atol=1e-10)


def test_attention_is_lowered() -> None:
    assert network(sentences(READERS["encoder"]), spec()).lowered


DROPPING: dict[str, Callable[[], nn.Module]] = {
    "encoder": lambda: Reader(encoder(0.2)),
    "attention": lambda: Reader(Itself({"dropout": 0.3, **FIRST}, need_weights=False)),
    "attention, shown": lambda: Reader(Itself({"dropout": 0.3, **FIRST}, attn_mask=CAUSAL)),
}


@pytest.mark.parametrize("name", [*READERS, *(f"dropping {name}" for name in DROPPING)])
def test_a_run_is_bit_for_bit_the_same_in_packs_of_1_2_and_64(name: str) -> None:
    make = {**READERS, **{f"dropping {name}": make for name, make in DROPPING.items()}}[name]
    problem = sentences(make)
    specs = [replace(run, seed=n // 8) for n, run in enumerate(runs_of("linear", 8) * 8)]
    pack = train_pack(problem, specs)
    assert pack.notice == ""
    parts = [final_losses(train_pack(problem, specs[a:b])) for a, b in pairwise((0, 1, 3))]
    assert np.array_equal(final_losses(pack)[:3], np.concatenate(parts))


@pytest.mark.parametrize("level", ["parameters", "features"])
@pytest.mark.parametrize("method", ["pcgrad", "mgda"])
def test_gradient_methods_find_in_a_pack_what_they_find_run_by_run(
    method: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = sentences(READERS["encoder"])
    treatment = {} if level == "parameters" else {"level": level}
    specs = [replace(run, treatment=treatment) for run in runs_of(method, 3)]
    pack = train_pack(problem, specs)
    monkeypatch.setattr(network_file, "why_not_batched", lambda *_: "so that it is not")
    one_by_one = train_pack(problem, specs)
    assert (pack.notice, one_by_one.notice) == ("", "so that it is not")
    np.testing.assert_allclose(final_losses(pack), final_losses(one_by_one), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shown", [False, True])
def test_attention_drops_weights_by_torchs_law(shown: bool) -> None:
    rows, drop = 4000, 0.25
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(WIDTH, HEADS, drop, **FIRST)
    x = torch.randn(1, LENGTH, WIDTH).expand(rows, -1, -1)
    params = dict(layer.named_parameters())

    def one(seed: Tensor) -> Tensor:
        with PackedLayers(seed, processor=True):
            answer = functional_call(layer, params, (x, x, x), {"need_weights": shown})
            return answer[0]  # type: ignore[no-any-return]

    with torch.no_grad():
        found = vmap(one)(torch.arange(2))
        samples = layer(x, x, x)[0]
        exact = layer.eval()(x[:1], x[:1], x[:1])[0]
    torch.testing.assert_close(found.mean(1), exact.expand(2, -1, -1), rtol=0, atol=0.02)
    torch.testing.assert_close(found.std(1)[0], samples.std(0), rtol=0.15, atol=0)
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0, 0], found[0, 1])
