"""The confidence interval of a mean over few seeds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 10_000
"""Bootstrap samples: the ends then move by about a hundredth of the interval's width."""


def interval(
    values: ArrayLike, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Return the ends (low, high) of a two-sided interval for the mean of the values.

    values: (n,), finite, one value a seed. confidence: in (0, 1). Fewer than two values say nothing
    about their spread: both ends are NaN.

    The wider of two intervals at each end:
    - the bootstrap percentile interval with expanded percentiles (Hesterberg 2015, The American
      Statistician 69(4), section 4.3): the tail is Phi(-sqrt(n / (n - 1)) t), t the Student
      quantile, in place of (1 - confidence) / 2, because resampled means spread too little and have
      normal tails;
    - Student's t interval. A mean of resampled values never leaves their range, so with three to
      five seeds no percentile of the bootstrap reaches as far as the nominal level asks.

    The bootstrap adds the skewness that Student's interval ignores. Equal generators give equal
    intervals. Raises ValueError for NaN, inf or a confidence outside (0, 1).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not np.isfinite(sample).all():
        raise ValueError(f"an interval needs a row of finite numbers; found {sample.tolist()}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1; found {confidence}")
    n = len(sample)
    if n < 2:
        return math.nan, math.nan
    quantile = float(stats.t.ppf(0.5 + confidence / 2, n - 1))
    tail = float(stats.norm.cdf(-math.sqrt(n / (n - 1)) * quantile))
    means = sample[generator.integers(n, size=(RESAMPLES, n))].mean(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    centre, reach = sample.mean(), quantile * sample.std(ddof=1) / math.sqrt(n)
    return float(min(low, centre - reach)), float(max(high, centre + reach))
