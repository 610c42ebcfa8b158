"""The width of a network's arithmetic: which layers compute in bfloat16, and which never do.

It is torch.autocast's division of labour, on functions in place of kernels: under vmap autocast
passes over linear layers with a bias, convolutions and normalisations, and they stay in float32.
Here a pack, a run by itself and every device follow the same list. Parameters stay float32, and so
do their gradients, as those of a cast are cast back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

Precision = Literal["float32", "bfloat16"]

PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.linear,
        F.bilinear,
        F.multi_head_attention_forward,
        F.scaled_dot_product_attention,
        *(getattr(torch, f"conv{d}d") for d in (1, 2, 3)),
        *(getattr(torch, f"conv_transpose{d}d") for d in (1, 2, 3)),
        *(getattr(torch, name) for name in ("matmul", "mm", "mv", "bmm", "addmm", "baddbmm")),
        *(getattr(Tensor, name) for name in ("matmul", "__matmul__", "__rmatmul__")),
        *(getattr(Tensor, name) for name in ("mm", "mv", "bmm", "addmm", "baddbmm")),
        torch.einsum,
    }
)
"""Sums of products: in bfloat16, and what they answer is bfloat16."""

_ALSO_METHODS = (
    *("exp", "expm1", "log", "log1p", "log2", "log10", "pow", "rsqrt", "reciprocal"),
    *("sum", "prod", "cumsum", "cumprod", "norm", "logsumexp", "softmax", "log_softmax"),
)
WIDE: frozenset[Callable[..., Any]] = frozenset(
    {
        *(getattr(place, name) for place in (torch, Tensor) for name in _ALSO_METHODS),
        *(Tensor.__pow__, Tensor.__rpow__, torch.cdist),
        *(F.softmax, F.log_softmax, F.softmin, F.gumbel_softmax, F.softplus, F.cosine_similarity),
        *(F.layer_norm, F.group_norm, F.batch_norm, F.instance_norm, F.local_response_norm),
        *(F.rms_norm, F.normalize),
        *(torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu),
    }
)
"""In float32: what autocast widens on a GPU, all normalisations, and recurrent layers, which have
no bfloat16 form everywhere. All other functions take what they are given."""


def narrowed(precision: str) -> AbstractContextManager[object]:
    """Where a network computes in this precision."""
    return nullcontext() if precision == "float32" else Narrowed()


class Narrowed(TorchFunctionMode):
    """Within it, products of float32 tensors are computed in bfloat16; float64 stays as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What `func` answers."""
        given = dict(kwargs or {})
        if func in PRODUCTS:
            args, given = _narrow(args), _narrow(given)
        elif func in WIDE:
            args, given = widened(args), widened(given)
        return func(*args, **given)


def widened(values: Any) -> Any:
    """The values, whatever holds them, with float32 tensors in place of bfloat16 ones."""
    return _cast(values, torch.bfloat16, torch.float32)


def _narrow(values: Any) -> Any:
    return _cast(values, torch.float32, torch.bfloat16)


def _cast(values: Any, found: torch.dtype, wanted: torch.dtype) -> Any:
    return tree_map_only(Tensor, lambda t: t.to(wanted) if t.dtype == found else t, values)
