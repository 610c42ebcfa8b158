"""Attention of all runs of a pack: one kernel call, and projections that are not copied."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .packed import InDims, Layer, first


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """torch's scaled dot-product attention without dropout, (B, H, L, D)."""
    return functional.scaled_dot_product_attention(
        query, key, value, mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def packed_attention(
    runs: int,
    in_dims: InDims,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *options: Any,
) -> Tensor:
    """Attention of all runs, (N, B, H, L, D): the runs are so many more rows of a minibatch."""
    queries, keys, values = (
        first(part, dim, runs).flatten(0, 1)
        for part, dim in zip((query, key, value), in_dims, strict=False)
    )
    if mask is not None:
        mask = _mask_of_all(mask, in_dims[3], runs, len(queries) // runs)
    return attention(queries, keys, values, mask, *options).unflatten(0, (runs, -1))  # type: ignore[no-any-return, no-untyped-call]


def _mask_of_all(mask: Tensor, dim: int | None, runs: int, rows: int) -> Tensor:
    """A mask that broadcasts to (B, H, L, S) as one that broadcasts to (N·B, H, L, S)."""
    if dim is None and (mask.ndim < 4 or len(mask) == 1):
        return mask
    whole = first(mask, dim, runs)
    whole = whole.reshape(runs, *[1] * (5 - whole.ndim), *whole.shape[1:])
    return whole.expand(runs, rows, *whole.shape[2:]).flatten(0, 1)


ATTENTION = Layer(attention, packed_attention)


def can_be_packed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether these are (B, H, L, D) with one B, so that runs may be rows."""
    parts = (query, key, value)
    return all(part.ndim == 4 and len(part) == len(query) for part in parts) and (
        mask is None or mask.ndim <= 4
    )


def attention_weights(
    query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    """How much each query attends to each key, (B, H, L, S), the rows summing to one."""
    scores = query * (query.shape[-1] ** -0.5 if scale is None else scale) @ key.mT
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores + (_barring(~mask, scores.dtype) if mask.dtype == torch.bool else mask)
    return torch.softmax(scores, -1)


def dropped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
    drop: Callable[[Tensor], Tensor],
) -> Tensor:
    """Attention by its products: no kernel lets us say which of its weights it drops."""
    if enable_gqa:
        heads = query.shape[-3]
        key, value = (t.repeat_interleave(heads // t.shape[-3], -3) for t in (key, value))
    return drop(attention_weights(query, key, mask, is_causal, scale)) @ value


MULTI_HEAD = inspect.signature(functional.multi_head_attention_forward)


def is_plain(given: Mapping[str, Any]) -> bool:
    """Whether `multi_head_attention` knows all that these arguments ask for."""
    rare = ("bias_k", "bias_v", "static_k", "static_v")
    return (
        given["query"].ndim == 3
        and not given["add_zero_attn"]
        and all(given[name] is None for name in rare)
        and not (given["is_causal"] and given["attn_mask"] is None)
    )


def multi_head_attention(given: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
    """torch's multi_head_attention_forward, with its arguments by name: (L, B, E) in and out.

    It calls torch's functions where torch's own would, but the parts of the projection stay where
    the product has written them, the minibatch first.
    """
    query, key, value = _heads(given)
    mask, is_causal = _merged_mask(given, query)
    drop = given["dropout_p"] if given["training"] else 0.0
    weights = None
    if given["need_weights"]:
        weights = attention_weights(query, key, mask, False, None)
        weights = functional.dropout(weights, drop) if drop else weights
        attended = weights @ value
        weights = weights.mean(1) if given["average_attn_weights"] else weights
    else:
        attended = functional.scaled_dot_product_attention(query, key, value, mask, drop, is_causal)
    together = attended.transpose(1, 2).flatten(2)
    outputs = functional.linear(together, given["out_proj_weight"], given["out_proj_bias"])
    return outputs.transpose(0, 1), weights


def _heads(given: Mapping[str, Any]) -> Sequence[Tensor]:
    """Queries, keys and values (B, H, L, D)."""
    inputs = [given[name] for name in ("query", "key", "value")]
    bias, heads = given["in_proj_bias"], given["num_heads"]
    if not given["use_separate_proj_weight"]:
        whole = given["in_proj_weight"]
        if inputs[0] is inputs[1] and inputs[1] is inputs[2]:
            return _projected(inputs[0], whole, bias, 3, heads)
        weights = whole.chunk(3)
    else:
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return [_projected(*layer, 1, heads)[0] for layer in zip(inputs, weights, biases, strict=True)]


def _projected(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, parts: int, heads: int
) -> list[Tensor]:
    """The parts of a linear layer's outputs, each (B, H, L, D), from inputs (L, B, E)."""
    outputs = functional.linear(inputs.transpose(0, 1), weight, bias)
    split = outputs.unflatten(-1, (parts, heads, -1))  # type: ignore[no-untyped-call]
    return [part.transpose(1, 2) for part in split.unbind(-3)]


def _merged_mask(given: Mapping[str, Any], query: Tensor) -> tuple[Tensor | None, bool]:
    """What is added to the scores, (B, H, L, S) once broadcast, and whether they are causal."""
    mask, padding = given["attn_mask"], given["key_padding_mask"]
    if given["is_causal"] and padding is None and not given["need_weights"]:
        return None, True
    merged = None
    if mask is not None:
        merged = _barring(mask, query.dtype)
        if mask.ndim == 3:
            merged = merged.unflatten(0, (-1, query.shape[1]))  # type: ignore[no-untyped-call]
    if padding is not None:
        columns = _barring(padding, query.dtype)[:, None, None]
        merged = columns if merged is None else merged + columns
    return merged, False


def _barring(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to be added to scores; True in a boolean one leaves out."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -torch.inf)
