"""The registry: what every entry must say about itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import mtofront.methods
from mtofront.methods import METHODS, Number


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_file_that_says_where_it_comes_from(name: str) -> None:
    method = METHODS[name]
    file = Path(mtofront.methods.__file__).parent / f"{name}.py"
    assert method.name == name
    assert file.is_file()
    assert str(method.paper.year) in file.read_text(encoding="utf-8").split('"""')[1]
    assert method.summary
    assert method.summary[0] == method.summary[0].lower() or method.summary[1].isupper()
    assert not method.summary.endswith(".")


@pytest.mark.parametrize("name", METHODS)
def test_heads_are_weighted_exactly_where_one_backward_pass_serves_all(name: str) -> None:
    method = METHODS[name]
    one_pass = method.needs == "losses" or method.layer == "last"
    assert (method.heads == "weighted") == one_pass
    if method.layer == "last":
        assert method.needs == "gramian"


@pytest.mark.parametrize("name", METHODS)
def test_what_the_docstring_calls_a_reconstruction_is_announced_to_the_user(name: str) -> None:
    method = METHODS[name]
    text = (Path(mtofront.methods.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    is_reconstruction = "reconstruction" in text.split('"""')[1].lower()
    assert ("reconstruction" in method.deviations) == is_reconstruction
    assert ("reconstruction" in method.summary) == is_reconstruction


def test_the_reconstructions_are_the_methods_whose_papers_could_not_be_read() -> None:
    found = {name for name, method in METHODS.items() if "reconstruction" in method.deviations}
    assert found == {"gradops", "weighted_pcgrad", "emtl", "merge_doge", "cr_mogm"}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_lie_within_their_ranges(name: str) -> None:
    for kind in METHODS[name].hyper.values():
        assert kind.help
        if isinstance(kind, Number):
            assert kind.low <= kind.default <= kind.high
