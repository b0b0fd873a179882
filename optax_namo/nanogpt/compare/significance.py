# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What numbers say: t-tests, Holm's correction, and how many it takes."""

from collections.abc import Sequence
import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # Of tests, and of what intervals miss.
POWER = 0.8  # Cohen 1988's convention.


class Paired(NamedTuple):
  """Differences of pairs and what they say of the mean difference.

  Attributes:
    mean: Mean difference.
    low: Lower end of the 95% t-interval of the mean.
    high: Its upper end.
    p: Two-sided p-value of the paired t-test.
    sd: Standard deviation of the differences.
    n: The number of pairs.
  """

  mean: float
  low: float
  high: float
  p: float
  sd: float
  n: int

  @property
  def half(self) -> float:
    """Half the width of the interval."""
    return (self.high - self.low) / 2


def paired(a: Sequence[float], b: Sequence[float] | float = 0.0) -> Paired:
  """The paired t-test of a - b, and its interval.

  Of two or more finite numbers each, or one that each is paired with. Where all
  differences are the same number the interval is a point, and p is 0, or 1 for
  the number 0.

  Examples:
    >>> test = paired([1.0, 2.0, 4.0], [0.0, 1.0, 1.0])  # Of 1, 1 and 3.
    >>> [round(x, 3) for x in test]
    [1.667, -1.202, 4.535, 0.13, 1.155, 3]
  """
  difference = np.subtract(a, b)
  mean, sd = float(difference.mean()), float(difference.std(ddof=1))
  if sd == 0:
    return Paired(mean, mean, mean, float(mean == 0), sd, len(difference))
  test = stats.ttest_1samp(difference, 0.0)
  low, high = map(float, test.confidence_interval(1 - LEVEL))
  return Paired(mean, low, high, float(test.pvalue), sd, len(difference))


def holm(p_values: Sequence[float]) -> list[float]:
  """p-values corrected for their number, in their order.

  The kth smallest of m is multiplied by m - k + 1, and is no smaller than the
  one before. Any true hypothesis among them is rejected at a level with at most
  that probability, whatever their dependence (Holm 1979).

  Examples:
    >>> holm([0.5, 0.01, 0.02])
    [0.5, 0.03, 0.04]
  """
  order = np.argsort(p_values, stable=True)
  factors = np.arange(len(p_values), 0, -1)
  adjusted = np.empty(len(p_values))
  adjusted[order] = np.maximum.accumulate(np.take(p_values, order) * factors)
  return np.minimum(adjusted, 1.0).tolist()


def power(n: int, sd: float, difference: float, level: float) -> float:
  """Probability that a paired t-test of n pairs finds a true difference.

  Under it the statistic has the noncentral t distribution of n - 1 degrees of
  freedom and noncentrality difference · √n / sd.
  """
  critical = stats.t.isf(level / 2, n - 1)
  noncentrality = difference * math.sqrt(n) / sd
  above = stats.nct.sf(critical, n - 1, noncentrality)
  below = stats.nct.cdf(-critical, n - 1, noncentrality)
  return float(above + np.nan_to_num(below))  # Since SciPy 1.15 NaN for none.


def pairs_needed(sd: float, difference: float, *, level: float = LEVEL) -> int:
  """The least number of pairs that find a true difference with 80% power.

  Args:
    sd: Standard deviation of the differences of pairs, taken for the true one.
    difference: The true mean difference, above 0.
    level: Of the two-sided test; LEVEL / m where m tests are corrected, which
      is the strictest that Holm's correction gets.

  Returns:
    The number, 2 or more.

  Examples:
    >>> pairs_needed(0.01, 0.005)
    34
  """
  if sd < 1e-6 * difference:  # SciPy's noncentral t is NaN far out.
    return 2
  # With a known sd, which takes fewer: the search begins there.
  z = stats.norm.isf(level / 2) + stats.norm.ppf(POWER)
  least = max(2, math.floor((z * sd / difference) ** 2))
  return next(
    n
    for n in itertools.count(least)
    if power(n, sd, difference, level) >= POWER
  )
