"""Hyper-parameters: what is refused, with which words, and what reaches a method's step."""

from __future__ import annotations

import re

import pytest
import torch
from jacobians import CONFLICT

from mtofront.methods import METHODS, HyperError, aggregate, check_hyper, make, values_for


def test_defaults_fill_what_is_not_given() -> None:
    configured = make("cagrad", c=0.2)
    assert configured.method is METHODS["cagrad"]
    assert dict(configured.values) == {"c": 0.2, "rescale": 0.0}
    assert dict(make("mgda").values) == {"normalization": "none"}
    assert dict(make("linear").values) == {"weights": None, "normalization": "none"}


def test_an_unknown_method_names_the_nearest_and_all_known() -> None:
    with pytest.raises(ValueError, match=r"'pcgrda'; did you mean 'pcgrad'\?") as caught:
        make("pcgrda")
    assert all(name in str(caught.value) for name in METHODS)


@pytest.mark.parametrize(
    ("name", "parameter", "found", "words"),
    [
        ("cagrad", "d", 0.4, "cagrad has no hyper-parameter 'd'; known: c, rescale"),
        ("gradnorm", "alfa", 1.0, "did you mean 'alpha'?"),
        ("pcgrad", "c", 1.0, "pcgrad has no hyper-parameter 'c'; it has none"),
        ("cagrad", "c", 1.5, "`c` must be a number from 0 to 1; found 1.5"),
        ("cagrad", "c", float("nan"), "`c` must be a number from 0 to 1; found nan"),
        ("cagrad", "c", "0.4", "`c` must be a number from 0 to 1; found '0.4'"),
        ("cagrad", "c", True, "found True"),
        ("cagrad", "rescale", 0.5, "`rescale` must be a whole number from 0 to 2; found 0.5"),
        ("gradnorm", "alpha", float("inf"), "`alpha` must be a number from 0 to inf; found inf"),
        ("mgda", "normalization", "l3", "`normalization` must be one of none, l2, loss, loss+;"),
        ("mgda", "normalization", 1, "found 1"),
        ("linear", "weights", [1, -1], "none negative or infinite, not all zero; found [1, -1]"),
        ("linear", "weights", [0, 0], "not all zero"),
        ("linear", "weights", [1, float("nan")], "`weights` must be one number a task"),
        ("linear", "weights", 0.5, "`weights` must be one number a task"),
        ("linear", "weights", "equal", "`weights` must be one number a task"),
        ("linear", "weights", [], "`weights` must be one number a task"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    name: str, parameter: str, found: object, words: str
) -> None:
    with pytest.raises(HyperError, match=re.escape(words)) as caught:
        make(name, **{parameter: found})
    assert caught.value.parameter == parameter
    assert caught.value.message == str(caught.value)


def test_task_weights_are_counted_where_the_tasks_are_known() -> None:
    check_hyper(METHODS["linear"], {"weights": [1, 2, 3]})
    check_hyper(METHODS["linear"], {"weights": (1, 2, 3)}, tasks=3)
    with pytest.raises(HyperError, match="`weights` must be 2 numbers, one a task"):
        check_hyper(METHODS["linear"], {"weights": [1, 2, 3]}, tasks=2)
    with pytest.raises(HyperError, match="`weights` must be 2 numbers, one a task"):
        aggregate("linear", CONFLICT, weights=[1, 2, 3])


@pytest.mark.parametrize("name", ["grad_similarity", "metabalance"])
def test_a_main_task_that_does_not_exist_is_refused(name: str) -> None:
    aggregate(name, CONFLICT, main=1)
    words = "`main` must be a whole number from 0 to 1; found 2"
    with pytest.raises(HyperError, match=words) as caught:
        aggregate(name, CONFLICT, main=2)
    assert caught.value.parameter == "main"
    with pytest.raises(HyperError, match="whole number"):
        make(name, main=0.5)


def test_values_have_the_shape_of_the_batch() -> None:
    values = values_for(make("cagrad", c=0.2), tasks=3, batch=(4, 2))
    for value in values.values():
        assert isinstance(value, torch.Tensor)
        assert (value.shape, value.dtype) == ((4, 2), torch.float64)
    weights = values_for(make("linear"), tasks=4, batch=(5,))["weights"]
    assert isinstance(weights, torch.Tensor)
    assert torch.equal(weights, torch.full((5, 4), 0.25, dtype=torch.float64))


def test_a_jacobian_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one row a task; found torch.float64 of shape \(2,\)"):
        aggregate("pcgrad", CONFLICT[0])
    with pytest.raises(ValueError, match=r"found torch.int64"):
        aggregate("pcgrad", CONFLICT.long())
    with pytest.raises(ValueError, match=r"shape \(2,\); found \(3,\)"):
        aggregate("pcgrad", CONFLICT, losses=torch.ones(3))
