"""The confidence interval of a mean over few seeds, and the p-value that belongs to it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

RESAMPLES = 10_000
"""Bootstrap samples: the ends then move by about a hundredth of the interval's width."""

SMALLEST_P = 1e-12


def interval(
    values: ArrayLike, confidence: float, generator: np.random.Generator, systematic: float = 0.0
) -> tuple[float, float]:
    """Return the ends (low, high) of a two-sided interval for the mean of the values.

    values: (n,), finite, one value a seed. confidence: in (0, 1). systematic: the standard error of
    what is the same in all seeds, and so does not average out. Fewer than two values say nothing
    about their spread: both ends are NaN.

    The wider of two intervals at each end:
    - the bootstrap's BCa interval (Efron 1987, JASA 82, section 3), its normal quantiles widened by
      sqrt(n / (n - 1)) and taken from Student's distribution, because resampled means of few values
      spread too little (Hesterberg 2015, The American Statistician 69(4), section 4.3);
    - Student's t interval. A mean of resampled values never leaves their range, so with three to
      five seeds no percentile of the bootstrap reaches as far as the nominal level asks.

    The bootstrap adds the skewness that Student's interval ignores. Each end is then moved out as
    the systematic error, taken as normal, adds to it in quadrature. Equal generators give equal
    intervals. Raises ValueError for NaN, inf or a confidence outside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1; found {confidence}")
    sample = _checked(values)
    return _ends(sample, resampled(sample, generator), confidence, systematic)


def p_values(
    values: ArrayLike, means: Sequence[float], generator: np.random.Generator, systematic: float
) -> list[float]:
    """Return the two-sided p-value for each true mean: 1 - the confidence at which it drops out.

    Of the same `interval`, so that p < 0.05 exactly where the 95 % interval excludes the mean. NaN
    for fewer than two values; no smaller than `SMALLEST_P`.
    """
    sample = _checked(values)
    if len(sample) < 2:
        return [math.nan] * len(means)
    drawn = resampled(sample, generator)
    return [_p_value(sample, drawn, mean, systematic) for mean in means]


def _p_value(sample: Floats, drawn: Floats, mean: float, systematic: float) -> float:
    def holds(p: float) -> bool:
        low, high = _ends(sample, drawn, 1 - p, systematic)
        return low <= mean <= high

    if not holds(SMALLEST_P):
        return SMALLEST_P
    inside, outside = SMALLEST_P, 1.0
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def resampled(sample: Floats, generator: np.random.Generator) -> Floats:
    """Return `RESAMPLES` sorted means of bootstrap samples."""
    if len(sample) < 2:
        return np.empty(0)
    picks = generator.integers(len(sample), size=(RESAMPLES, len(sample)))
    return np.sort(sample[picks].mean(axis=1))


def _checked(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not np.isfinite(sample).all():
        raise ValueError(f"an interval needs a row of finite numbers; found {sample.tolist()}")
    return sample


def _ends(
    sample: Floats, means: Floats, confidence: float, systematic: float
) -> tuple[float, float]:
    n = len(sample)
    if n < 2:
        return math.nan, math.nan
    centre = float(sample.mean())
    quantile = -float(special.stdtrit(n - 1, (1 - confidence) / 2))
    reach = quantile * float(sample.std(ddof=1)) / math.sqrt(n)
    wide = math.sqrt(n / (n - 1)) * quantile
    low, high = (_percentile(sample, means, sign * wide) for sign in (-1.0, 1.0))
    more = -float(special.ndtri((1 - confidence) / 2)) * systematic
    below = math.hypot(max(centre - low, reach), more)
    above = math.hypot(max(high - centre, reach), more)
    return centre - below, centre + above


def _percentile(sample: Floats, means: Floats, z: float) -> float:
    """The BCa percentile of the bootstrap means that stands for the normal quantile z."""
    away = sample - sample.mean()
    squares = float((away**2).sum())
    if squares == 0:
        return float(sample.mean())
    acceleration = float((away**3).sum()) / (6 * squares**1.5)
    bias = float(special.ndtri(_share_below(means, float(sample.mean()))))
    bend = 1 - acceleration * (bias + z)
    if bend <= 0:  # the correction runs off the end of the distribution
        return float(means[0] if z < 0 else means[-1])
    return float(np.quantile(means, special.ndtr(bias + (bias + z) / bend)))


def _share_below(means: Floats, centre: float) -> float:
    """The share of the sorted means below the centre, in (0, 1); equal ones count half.

    Of three values every fifth resample has each once: whether its mean, summed in another order,
    lies a rounding error above or below must not count.
    """
    error = 1e-9 * float(means[-1] - means[0])
    below = np.searchsorted(means, centre - error)
    not_above = np.searchsorted(means, centre + error, side="right")
    return float(below + not_above + 1) / (2 * len(means) + 2)
