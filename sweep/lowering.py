"""Layers whose batched form is written by hand: vmap's own is slower, wrong, or there is none.

A pack's convolution is one convolution with a group for every run. On a processor, with the
channels of all runs last in memory, it takes half the time that vmap's takes, and pooling keeps
that layout. Attention takes runs as rows of its minibatch, where vmap calls the kernel run by run.
Dropout draws each run's mask from that run's own seed, in attention too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mtofront.methods import GOLDEN, mixed, signed

from .attention import (
    ATTENTION,
    MULTI_HEAD,
    can_be_packed,
    dropped_attention,
    is_plain,
    multi_head_attention,
)
from .entropy import is_mean_over_labels, packed_entropy
from .linear import packed_linear
from .packed import InDims, Layer, Packed, first


def packed_conv2d(
    runs: int,
    in_dims: InDims,
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    """torch.conv2d of all runs, (N, B, C, H, W), the channels of all runs last in memory."""
    kernels = first(weight, in_dims[1], runs).flatten(0, 1)
    biases = None if bias is None else first(bias, in_dims[2], runs).flatten()
    together, groups_of_all = inputs, 1
    if in_dims[0] is not None:
        together, groups_of_all = _channels_together(inputs, in_dims[0]), runs * groups
    elif groups > 1:  # else every run's kernels read the same channels
        together, groups_of_all = inputs.repeat(1, runs, 1, 1), runs * groups
    outputs = torch.conv2d(
        together.contiguous(memory_format=torch.channels_last),
        kernels.contiguous(memory_format=torch.channels_last),
        biases,
        stride,
        padding,
        dilation,
        groups_of_all,
    )
    return _runs_apart(outputs, runs)


def packed_max_pool2d(runs: int, in_dims: InDims, inputs: Tensor, *options: Any) -> Tensor:
    """torch.max_pool2d of all runs, (N, B, C, H, W), in the layout that a convolution leaves."""
    assert in_dims[0] is not None
    return _runs_apart(torch.max_pool2d(_channels_together(inputs, in_dims[0]), *options), runs)


CONV2D = Layer(torch.conv2d, packed_conv2d)
ENTROPY = Layer(nn.functional.cross_entropy, packed_entropy)
LINEAR = Layer(nn.functional.linear, packed_linear)
MAX_POOL2D = Layer(torch.max_pool2d, packed_max_pool2d)


class PackedLayers(TorchFunctionMode):
    """Within a pack's vmap, the layers of this file take their hand-batched forms.

    seed: of one run at one step, an int64 scalar; None where nothing is dropped. used: whether any
    of these layers was met. draws: whether a layer dropped something.
    """

    def __init__(self, seed: Tensor | None, processor: bool) -> None:
        super().__init__()
        self._seed, self._processor = seed, processor
        self._dropped = 0
        self.used = self.draws = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What `func` answers."""
        given = dict(kwargs or {})
        if func in DROPOUTS:
            return self._dropout(func, *args, **given)
        if func is nn.functional.scaled_dot_product_attention:
            return self._attention(*args, **given)
        if func is nn.functional.multi_head_attention_forward:
            return self._multi_head_attention(*args, **given)
        if func is nn.functional.embedding:
            return self._embedding(*args, **given)
        if not self._processor:
            return func(*args, **given)
        if func is nn.functional.linear:
            self.used = True
            if args[0].ndim > 1 and _is_batched(args[0]):
                return Packed.apply(LINEAR, *_linear_arguments(*args, **given))  # type: ignore[no-untyped-call]
            return func(*args, **given)
        if (
            func is nn.functional.cross_entropy
            and _is_batched(args[0])
            and is_mean_over_labels(*args, **given)
        ):
            return Packed.apply(ENTROPY, args[0], args[1])  # type: ignore[no-untyped-call]
        if func is torch.conv2d and args[0].ndim == 4:
            self.used = True
            return Packed.apply(CONV2D, *_conv_arguments(*args, **given))  # type: ignore[no-untyped-call]
        if _pools(func, given) and args[0].ndim == 4 and _is_batched(args[0]):
            options = _pool_options(*args[1:], **given)
            return Packed.apply(MAX_POOL2D, args[0], *options)  # type: ignore[no-untyped-call]
        return func(*args, **given)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Attention whose weights are a run's own to drop."""
        arguments = (query, key, value, attn_mask, is_causal, scale, enable_gqa)
        if dropout_p > 0:
            return dropped_attention(
                *arguments, lambda weights: self._dropout(nn.functional.dropout, weights, dropout_p)
            )
        if not can_be_packed(query, key, value, attn_mask):
            return ATTENTION.single(*arguments)
        self.used = True
        return Packed.apply(ATTENTION, *arguments)  # type: ignore[no-untyped-call, no-any-return]

    def _multi_head_attention(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Multi-head attention, its own linear layers, attention and dropout lowered as well."""
        given = MULTI_HEAD.bind(*args, **kwargs)
        given.apply_defaults()
        if not is_plain(given.arguments):
            return nn.functional.multi_head_attention_forward(*args, **kwargs)
        self.used = True
        with self:
            return multi_head_attention(given.arguments)

    def _embedding(
        self, input: Tensor, weight: Tensor, padding_idx: int | None = None, *args: Any, **kw: Any
    ) -> Tensor:
        """Rows of a table, padding not trained. vmap would see to that in the first run only."""
        rows = nn.functional.embedding(input, weight, None, *args, **kw)
        if padding_idx is None:
            return rows
        self.used = True
        padding = input == padding_idx % len(weight)
        return torch.where(padding.unsqueeze(-1), rows.detach(), rows)

    def _dropout(
        self,
        func: Callable[..., Any],
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        """A run's own mask, each entry kept with probability 1 − p and then divided by it."""
        if not training or p == 0:
            return input
        if self._seed is None:
            raise RuntimeError("a layer draws random numbers in evaluation, where there are none")
        self.used = self.draws = True
        self._dropped += 1
        by_channel = DROPOUTS[func]
        shape = input.shape[:2] + (1,) * (input.ndim - 2) if by_channel else input.shape
        if p == 1:
            return input * 0
        words = drawn(self._seed, self._dropped, math.prod(shape)).view(shape)
        below = min(round(p * 2**32) - 2**31, 2**31 - 1)  # as many words of 2³² are less
        return input * (words >= below).to(input.dtype).div_(1 - p)


DROPOUTS: Mapping[Callable[..., Any], bool] = {
    nn.functional.dropout: False,
    nn.functional.dropout1d: True,
    nn.functional.dropout2d: True,
    nn.functional.dropout3d: True,
}
"""Functions that drop, and whether they drop whole channels."""


def drawn(seed: Tensor, stream: int, count: int) -> Tensor:
    """Random words (count,), int32, each of all values alike, that follow from seed and stream.

    Halves of SplitMix64's words, started at the place to which the seed and the stream are mixed.
    """
    position = torch.arange(1, (count + 1) // 2 + 1, device=seed.device)
    start = mixed(seed + signed(stream * STREAMS % 2**64))
    return mixed(start + position * GOLDEN).view(torch.int32)[:count]


STREAMS = 0xD1342543DE82EF95
"""An odd constant that sets the streams of one seed far apart."""


def _conv_arguments(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, ...]:
    return input, weight, bias, stride, padding, dilation, groups


def _linear_arguments(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Any, ...]:
    return input, weight, bias


def _pools(func: Callable[..., Any], given: dict[str, Any]) -> bool:
    """Whether this is a pooling that answers with maxima only, not with their places."""
    pools = func is torch.max_pool2d or func is nn.functional.max_pool2d
    return pools and not given.get("return_indices", False)


def _pool_options(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Any, ...]:
    return kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode


def _is_batched(value: Tensor) -> bool:
    return bool(torch._C._functorch.is_batchedtensor(value))


def _channels_together(inputs: Tensor, dim: int) -> Tensor:
    """(N, B, C, H, W) as (B, N·C, H, W)."""
    return inputs.movedim(dim, 0).transpose(0, 1).flatten(1, 2)


def _runs_apart(outputs: Tensor, runs: int) -> Tensor:
    """(B, N·C, H, W) as (N, B, C, H, W)."""
    return outputs.unflatten(1, (runs, -1)).transpose(0, 1)  # type: ignore[no-untyped-call, no-any-return]
