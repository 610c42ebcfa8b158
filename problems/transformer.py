"""Transformer: an encoder and a decoder that all target languages share, a table of tokens each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

PADDING = 0
"""The token that fills a source sentence up; no position attends to it."""


@dataclass(frozen=True)
class Sizes:
    """Of the network: layers of encoder and of decoder each, width, heads, dropout on residuals."""

    layers: int
    width: int
    heads: int
    dropout: float


class Attention(nn.Module):
    """Multi-head attention of states (B, L, W) to a memory (B, S, W), which may be the states."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.mix = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, states: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """mask: (B, 1, 1, S), False where nobody looks; None: nobody looks ahead."""
        (query,) = self._apart(self.query(states), 1)
        key, value = self._apart(self.key_value(memory), 2)
        seen = functional.scaled_dot_product_attention(
            query, key, value, mask, is_causal=mask is None
        )
        return self.mix(seen.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _apart(self, projected: Tensor, parts: int) -> Sequence[Tensor]:
        """Parts of a projection, each (B, heads, L, W / heads)."""
        split = projected.unflatten(-1, (parts, self.heads, -1))  # type: ignore[no-untyped-call]
        return [part.transpose(1, 2) for part in split.unbind(2)]


class Layer(nn.Module):
    """A pre-LN layer: attention to the states, in a decoder to a memory, and a perceptron."""

    def __init__(self, sizes: Sizes, decodes: bool) -> None:
        super().__init__()
        width, heads = sizes.width, sizes.heads
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3 if decodes else 2)])
        self.own = Attention(width, heads)
        self.across = Attention(width, heads) if decodes else None
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, states: Tensor, mask: Tensor, memory: Tensor | None = None) -> Tensor:
        """mask: of the source, (B, 1, 1, S)."""
        normal = self.norms[0](states)
        seen = self.own(normal, normal, mask if self.across is None else None)
        states = states + self.drop(seen)
        if self.across is not None:
            states = states + self.drop(self.across(self.norms[1](states), memory, mask))
        return states + self.drop(self.perceptron(self.norms[-1](states)))  # type: ignore[no-any-return]


class Translator(nn.Module):
    """One encoder, one decoder, and a table of tokens for the source and for every target language.

    Its input is (B, S + T_1 + T_2 + …), integers: the source's tokens, then what the decoder reads
    in each language, the first of which is that language's own token. Its outputs are logits
    (B, V, T) a language. A language's table is used for reading and, transposed, for its logits
    (Press & Wolf 2017); as no other task depends on it, it is no shared parameter.

    tokens: size of each table, the source's first. lengths: S, T_1, T_2, …
    """

    places: Tensor

    def __init__(self, tokens: Sequence[int], lengths: Sequence[int], sizes: Sizes) -> None:
        super().__init__()
        self.lengths, self.scale = list(lengths), math.sqrt(sizes.width)
        self.tables = nn.ParameterList(
            [nn.Parameter(torch.randn(count, sizes.width) / self.scale) for count in tokens]
        )
        self.encoder, self.decoder = (
            nn.ModuleList([Layer(sizes, decodes) for _ in range(sizes.layers)])
            for decodes in (False, True)
        )
        self.encoded, self.decoded = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.register_buffer("places", _waves(max(lengths), sizes.width))
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor) -> list[Tensor]:
        source, *targets = torch.split(tokens, self.lengths, dim=1)
        mask = (source != PADDING)[:, None, None]
        memory = self._read(0, source)
        for layer in self.encoder:
            memory = layer(memory, mask)
        memory = self.encoded(memory)
        return [self._decoded(n, target, memory, mask) for n, target in enumerate(targets, 1)]

    def _decoded(self, language: int, target: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        states = self._read(language, target)
        for layer in self.decoder:
            states = layer(states, mask, memory)
        rows = self.decoded(states).flatten(0, 1)
        logits = self.tables[language] @ rows.mT  # classes first, as a pack's cross-entropy has it
        return logits.unflatten(1, target.shape).transpose(0, 1)  # type: ignore[no-any-return]

    def _read(self, language: int, tokens: Tensor) -> Tensor:
        read = functional.embedding(tokens, self.tables[language]) * self.scale
        read = read + self.places[: tokens.shape[1]]
        return self.drop(read)  # type: ignore[no-any-return]


def _waves(length: int, width: int) -> Tensor:
    """Sines and cosines of each position (Vaswani et al. 2017, §3.5), (length, width)."""
    rates = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
