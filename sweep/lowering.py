"""Layers whose batched form is written by hand: vmap's own is slower, or there is none.

A pack's convolution is one convolution with a group for every run. On a processor, with the
channels of all runs last in memory, it takes half the time that vmap's takes, and pooling keeps
that layout. Dropout draws each run's mask from that run's own seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class PackedConv2d(torch.autograd.Function):
    """torch.conv2d of all runs at once; autograd sees the operations of its batched form."""

    generate_vmap_rule = False

    @staticmethod
    def forward(
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> Tensor:
        """A single run's layer."""
        return torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: see `backward`."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Never reached: within a pack, autograd sees the operations of `vmap`."""
        raise NotImplementedError

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> tuple[Tensor, int]:
        """Outputs (N, B, C, H, W), in memory (B, H, W, N, C)."""
        runs = info.batch_size
        kernels = _first(weight, in_dims[1], runs).flatten(0, 1)
        biases = None if bias is None else _first(bias, in_dims[2], runs).flatten()
        if in_dims[0] is None:
            if groups == 1:  # every run's kernels read the same channels
                together, groups_of_all = inputs, 1
            else:
                together, groups_of_all = inputs.repeat(1, runs, 1, 1), runs * groups
        else:
            together, groups_of_all = _channels_together(inputs, in_dims[0]), runs * groups
        output = torch.conv2d(
            together.contiguous(memory_format=torch.channels_last),
            kernels.contiguous(memory_format=torch.channels_last),
            biases,
            stride,
            padding,
            dilation,
            groups_of_all,
        )
        return _runs_apart(output, runs), 0


class PackedMaxPool2d(torch.autograd.Function):
    """torch.max_pool2d of all runs at once, in the layout that a packed convolution leaves."""

    generate_vmap_rule = False

    @staticmethod
    def forward(inputs: Tensor, options: tuple[Any, ...]) -> Tensor:
        """A single run's layer."""
        return torch.max_pool2d(inputs, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: see `backward`."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Never reached: within a pack, autograd sees the operations of `vmap`."""
        raise NotImplementedError

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], inputs: Tensor, options: tuple[Any, ...]
    ) -> tuple[Tensor, int]:
        """Outputs (N, B, C, H, W)."""
        assert in_dims[0] is not None
        pooled = torch.max_pool2d(_channels_together(inputs, in_dims[0]), *options)
        return _runs_apart(pooled, info.batch_size), 0


class PackedLayers(TorchFunctionMode):
    """Within a pack's vmap, convolutions, pooling and dropout take their hand-batched forms.

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
        if not self._processor:
            return func(*args, **given)
        if func is torch.conv2d and args[0].ndim == 4:
            self.used = True
            return PackedConv2d.apply(*_conv_arguments(*args, **given))  # type: ignore[no-untyped-call]
        if _pools(func, given) and args[0].ndim == 4 and _is_batched(args[0]):
            return PackedMaxPool2d.apply(args[0], _pool_options(*args[1:], **given))  # type: ignore[no-untyped-call]
        return func(*args, **given)

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
        self.used = self.draws = True
        self._dropped += 1
        assert self._seed is not None
        whole = DROPOUTS[func] == 0
        shape = input.shape if whole else input.shape[:2] + (1,) * (input.ndim - 2)
        kept = uniform(self._seed, self._dropped, math.prod(shape)).view(shape) >= p
        return input * kept / (1 - p) if p < 1 else input * 0


DROPOUTS: Mapping[Callable[..., Any], int] = {
    nn.functional.dropout: 0,
    nn.functional.dropout1d: 1,
    nn.functional.dropout2d: 2,
    nn.functional.dropout3d: 3,
}
"""Functions that drop, and over how many trailing dimensions an entry of the mask reaches."""


def uniform(seed: Tensor, stream: int, count: int) -> Tensor:
    """Numbers in [0, 1) (count,), float32 with 24 random bits, that follow from seed and stream.

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) started at the seed's own place: integer
    arithmetic, so the same on every device, in every batch.
    """
    position = torch.arange(1, count + 1, device=seed.device)
    start = mixed(seed + stream * _signed(0xD1342543DE82EF95))
    bits = mixed(start + position * _signed(0x9E3779B97F4A7C15))
    return ((bits >> 40) & 0xFFFFFF).float() * 2.0**-24


def mixed(bits: Tensor) -> Tensor:
    """Sixty-four bits, thoroughly mixed; int64, as torch has no unsigned shifts."""
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return bits ^ ((bits >> 31) & 0x1FFFFFFFF)


def _signed(constant: int) -> int:
    """The int64 with the same bits as an unsigned constant."""
    return constant - (1 << 64) if constant >= 1 << 63 else constant


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


def _first(value: Tensor, dim: int | None, runs: int) -> Tensor:
    """The value with the runs as its first dimension."""
    return value.expand(runs, *value.shape) if dim is None else value.movedim(dim, 0)
