"""Analysis of variance: how much of the spread of results each source explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Floats = NDArray[np.float64]

TOLERANCE = 1e-8
"""Singular values of a projected design below this are zero: its entries are 0 and 1."""
FAR = 1e4
"""A noncentral chi-squared variable as large as this is taken as the square of a normal one."""


@dataclass(frozen=True)
class Factor:
    """A source of differences. labels: (n,) the level of every value.

    chosen: its levels were chosen, like the settings of a grid, not drawn at random like seeds.
    given: the factors that it is adjusted for; with unequal counts they would be mixed up.
    within: for a factor drawn at random, the one nested in it, if any.
    """

    labels: Sequence[object]
    chosen: bool
    given: tuple[str, ...] = ()
    within: str = ""


@dataclass(frozen=True)
class Component:
    """One source's variance for each of m columns. low, high: the ends of its interval.

    levels: how many there are. freedom: degrees of freedom. All (m,) are NaN without any, and
    without any for the residual.
    """

    levels: int
    freedom: int
    variance: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class _Part:
    """What a factor has for itself: sums of squares (m,), and weights c in their expectation.

    E[squares] = own · variance + Σ of others' weights · variances + freedom · residual variance.
    """

    freedom: int
    squares: Floats
    weights: Mapping[str, float]


def components(
    values: ArrayLike, factors: Mapping[str, Factor], confidence: float
) -> dict[str, Component]:
    """Return the variance components of values (n, m), column by column, and of the "residual".

    The analysis-of-variance estimator: sums of squares of each factor adjusted for those that it
    names, equated with their expectations (Henderson 1953, Biometrics 9, method 3). With equal
    counts it is the classical one. Estimates below 0 are given as 0.

    Of a factor with chosen levels it is the variance of their means, Σ τ² / (levels - 1), and the
    interval says how well these values determine the spread over these very levels: that of the
    noncentrality of a chi-squared variable, with Student's quantile in the place of the normal one
    as the noise is itself estimated, and from 0 where the F test finds nothing. Of a factor drawn
    at random it is the variance of what levels are drawn from, with the interval of Tukey (1951)
    and Williams (1962), truncated at 0. Of the residual it is the chi-squared interval. All assume
    normal errors; with unequal counts the first two are approximate. confidence: in (0, 1).
    """
    table = np.asarray(values, dtype=np.float64)
    designs = {name: _design(factor.labels) for name, factor in factors.items()}
    random = [name for name, factor in factors.items() if not factor.chosen]
    parts = {name: _part(table, name, factor, designs, random) for name, factor in factors.items()}
    everything = np.hstack([np.ones((len(table), 1)), *designs.values()])
    basis = _basis(everything)
    freedom = len(table) - basis.shape[1]
    left = ((table - basis @ (basis.T @ table)) ** 2).sum(axis=0)
    noise = left / freedom if freedom else np.full(table.shape[1], math.nan)
    tail = (1 - confidence) / 2
    found: dict[str, Component] = {}
    for name, factor in reversed(list(factors.items())):
        found[name] = _component(
            parts[name], name, factor, designs[name].shape[1], found, parts, noise, freedom, tail
        )
    ends = [stats.chi2.isf(share, freedom) if freedom else math.nan for share in (tail, 1 - tail)]
    residual = Component(len(table), freedom, noise, *(left / end for end in ends))
    truncated = {
        name: Component(
            one.levels,
            one.freedom,
            *(np.maximum(numbers, 0) for numbers in (one.variance, one.low, one.high)),
        )
        for name, one in found.items()
    }
    return {**{name: truncated[name] for name in factors}, "residual": residual}


def _component(
    part: _Part,
    name: str,
    factor: Factor,
    levels: int,
    found: Mapping[str, Component],
    parts: Mapping[str, _Part],
    noise: Floats,
    freedom: int,
    tail: float,
) -> Component:
    """The estimate, not truncated, from those of the factors after it."""
    if not (part.freedom and freedom):
        nothing = np.full(len(noise), math.nan)
        return Component(levels, part.freedom, nothing, nothing, nothing)
    error, against = noise.copy(), freedom
    for other, weight in part.weights.items():
        if other in found and parts[other].freedom:
            error += weight / part.freedom * found[other].variance
            if other == factor.within:
                against = parts[other].freedom
    error = np.maximum(error, np.finfo(np.float64).tiny)
    own = part.weights[name]
    variance = (part.squares - part.freedom * error) / own
    ratio = part.squares / part.freedom / error
    ends = _chosen_ends if factor.chosen else _drawn_ends
    low, high = (end * error / own for end in ends(ratio, part.freedom, against, tail))
    exact = noise == 0  # nothing is left to doubt
    return Component(
        levels,
        part.freedom,
        variance,
        np.where(exact, variance, low),
        np.where(exact, variance, high),
    )


def _chosen_ends(ratio: Floats, first: int, second: int, tail: float) -> tuple[Floats, Floats]:
    """The noncentralities between which an F ratio is no surprise; 0 below one that could be 1."""
    reach = float(stats.t.isf(tail, second))
    squares = first * ratio
    low, high = (_noncentrality(squares, first, sign * reach) for sign in (1.0, -1.0))
    return np.where(ratio > stats.f.isf(tail, first, second), low, 0.0), high


def _noncentrality(squares: Floats, freedom: int, deviate: float) -> Floats:
    """The noncentrality of a chi-squared variable that lies so many deviates above its median."""
    with np.errstate(invalid="ignore"):
        exact = special.chndtrinc(squares, freedom, stats.norm.cdf(deviate))
    # far out the square root is normal, and the series takes long
    roots = np.sqrt(np.maximum(squares - (freedom - 1) / 2, 0))
    found = np.where(squares < FAR, exact, np.maximum(roots - deviate, 0) ** 2)
    numbers: Floats = np.asarray(np.nan_to_num(found, nan=0.0))
    return numbers


def _drawn_ends(ratio: Floats, first: int, second: int, tail: float) -> tuple[Floats, Floats]:
    """Tukey's and Williams' ends, in units of the error over the factor's own weight."""
    ends = []
    for share in (tail, 1 - tail):
        excess = ratio - stats.f.isf(share, first, second)
        ends.append(first * first * excess / stats.chi2.isf(share, first))
    return ends[0], ends[1]


def _part(
    table: Floats,
    name: str,
    factor: Factor,
    designs: Mapping[str, Floats],
    random: Sequence[str],
) -> _Part:
    before = np.hstack([np.ones((len(table), 1)), *(designs[other] for other in factor.given)])
    basis = _basis(before)
    own = designs[name] - basis @ (basis.T @ designs[name])
    added = _basis(own)
    weights = {other: float(((added.T @ designs[other]) ** 2).sum()) for other in {name, *random}}
    return _Part(added.shape[1], ((added.T @ table) ** 2).sum(axis=0), weights)


def _design(labels: Sequence[object]) -> Floats:
    """One column a level, 1 where a value is of that level."""
    texts = [str(label) for label in labels]
    levels, positions = np.unique(texts, return_inverse=True)
    return np.eye(len(levels))[positions]


def _basis(columns: Floats) -> Floats:
    """An orthonormal basis (n, rank) of what the columns span."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    kept: Floats = vectors[:, sizes > TOLERANCE * math.sqrt(len(columns))]
    return kept
