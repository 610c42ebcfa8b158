"""NumPy code on tensors: an array whose NumPy calls are torch's, so that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin
from torch import Tensor

UFUNCS: dict[str, Callable[..., Tensor]] = {
    "absolute": torch.abs,
    "fabs": torch.abs,
    "divide": torch.div,
    "power": torch.pow,
    "negative": torch.neg,
    **{
        name: getattr(torch, name)
        for name in (
            *("add", "subtract", "multiply", "matmul", "square", "sqrt", "exp", "log"),
            *("sin", "cos", "tan", "floor", "ceil", "sign", "maximum", "minimum"),
            *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
            *("logical_and", "logical_or"),
        )
    },
}
"""NumPy's name of an element-wise function -> the same in torch."""


class TorchArray(NDArrayOperatorsMixin):
    """A tensor that NumPy functions take for an array (NEP 13 and NEP 18), under vmap too.

    What has no counterpart here raises TypeError, as NumPy does for what it cannot dispatch.
    Assignment to a part makes a new tensor, so nothing that a gradient needs is overwritten.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return self.tensor.ndim

    @property
    def T(self) -> TorchArray:
        return TorchArray(self.tensor.mT)

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, key: Any) -> TorchArray:
        return TorchArray(self.tensor[_index(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        value = _tensor(value, self.tensor)
        if isinstance(key, TorchArray):  # a mask: its number of hits must not decide on shapes
            self.tensor = torch.where(key.tensor, value, self.tensor)
            return
        self.tensor = self.tensor.clone()
        self.tensor[_index(key)] = value

    def sum(self, axis: int | None = None) -> TorchArray:
        return _sum(self, axis)

    def mean(self, axis: int | None = None) -> TorchArray:
        return _mean(self, axis)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a differentiable array cannot become an ordinary one")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        function = UFUNCS.get(ufunc.__name__)
        if function is None or method != "__call__" or set(options) - {"out"}:
            return NotImplemented
        return TorchArray(function(*(_tensor(value, self.tensor) for value in inputs)))

    def __array_function__(
        self, function: Any, types: Any, arguments: Sequence[Any], options: dict[str, Any]
    ) -> Any:
        known = FUNCTIONS.get(function)
        return NotImplemented if known is None else known(*arguments, **options)


def _index(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_index(part) for part in key)
    return key.tensor if isinstance(key, TorchArray) else key


def _tensor(value: Any, like: Tensor) -> Tensor:
    if isinstance(value, TorchArray):
        return value.tensor
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _sum(array: TorchArray, axis: int | None = None) -> TorchArray:
    return TorchArray(array.tensor.sum() if axis is None else array.tensor.sum(dim=axis))


def _prod(array: TorchArray, axis: int | None = None) -> TorchArray:
    return TorchArray(array.tensor.prod() if axis is None else array.tensor.prod(dim=axis))


def _mean(array: TorchArray, axis: int | None = None) -> TorchArray:
    return TorchArray(array.tensor.mean() if axis is None else array.tensor.mean(dim=axis))


def _tensors(arrays: Sequence[Any]) -> list[Tensor]:
    like = next(array.tensor for array in arrays if isinstance(array, TorchArray))
    return [_tensor(array, like) for array in arrays]


def _column_stack(arrays: Sequence[Any]) -> TorchArray:
    columns = [t if t.ndim > 1 else t.unsqueeze(-1) for t in _tensors(arrays)]
    return TorchArray(torch.cat(columns, dim=1))


def _vstack(arrays: Sequence[Any]) -> TorchArray:
    rows = [t if t.ndim > 1 else t.unsqueeze(0) for t in _tensors(arrays)]
    return TorchArray(torch.cat(rows, dim=0))


def _min(array: TorchArray, axis: int) -> TorchArray:
    return TorchArray(array.tensor.amin(dim=axis))


def _max(array: TorchArray, axis: int) -> TorchArray:
    return TorchArray(array.tensor.amax(dim=axis))


def _dot(array: TorchArray, vector: Any) -> TorchArray:
    return TorchArray(array.tensor @ _tensor(vector, array.tensor))


def _where(condition: TorchArray, yes: Any, no: Any) -> TorchArray:
    chosen = [v for v in (yes, no) if isinstance(v, TorchArray)]
    like = chosen[0].tensor if chosen else torch.zeros((), dtype=torch.float64)
    return TorchArray(torch.where(condition.tensor, _tensor(yes, like), _tensor(no, like)))


FUNCTIONS: dict[Any, Callable[..., TorchArray]] = {
    np.sum: _sum,
    np.prod: _prod,
    np.mean: _mean,
    np.dot: _dot,
    np.column_stack: _column_stack,
    np.vstack: _vstack,
    np.min: _min,
    np.max: _max,
    np.where: _where,
}
"""NumPy's function on whole arrays -> what answers for it."""


def differentiable(evaluate: Callable[[Any, dict[str, Any]], None], points: Tensor) -> Tensor:
    """What pymoo calls `_evaluate` writes into out["F"], as a tensor (n, T) with gradients.

    points: (n, n_var). Raises TypeError or the like if the code uses what is not covered.
    """
    out: dict[str, Any] = {}
    evaluate(TorchArray(points), out)
    values = out["F"]
    if not isinstance(values, TorchArray):
        raise TypeError("its objectives are no longer differentiable")
    return values.tensor
