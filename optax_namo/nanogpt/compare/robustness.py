# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How far from the best learning rate the loss is still as good."""

from collections.abc import Mapping, Sequence
import itertools
import math
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.01  # Of the best loss.


class Width(NamedTuple):
  """The rates around the best at which the loss is within 1% of the best.

  They go from ``low`` to ``high``; ``_ends``: whether a loss above was seen
  beyond.
  """

  low: float
  high: float
  low_ends: bool
  high_ends: bool

  @property
  def octaves(self) -> float:
    """In factors of 2."""
    return math.log2(self.high / self.low)

  def __str__(self) -> str:
    ends = self.low_ends and self.high_ends
    return f'{"" if ends else "≥ "}{self.octaves:.1f}'


def width(losses: Mapping[float, float]) -> Width:
  """The width of the valley around the best rate.

  The loss is taken to be linear in the logarithm of the rate between rates. At
  an infinite loss the grid ends: where before it 1% is reached is not known.

  Args:
    losses: Final loss by learning rate, rates ascending, one or more finite.

  Examples:
    >>> str(width({0.01: 1.02, 0.02: 1.0, 0.04: 1.01, 0.08: 1.05}))
    '1.5'
    >>> str(width({0.01: 1.0, 0.02: 1.02}))  # Who knows below 0.01?
    '≥ 0.5'
  """
  rates = list(losses)
  best = min(rates, key=losses.__getitem__)
  level = (1 + TOLERANCE) * losses[best]
  at = rates.index(best)
  low, low_ends = _reach(losses, rates[at::-1], level)
  high, high_ends = _reach(losses, rates[at:], level)
  return Width(low, high, low_ends, high_ends)


def _reach(
  losses: Mapping[float, float], rates: Sequence[float], level: float
) -> tuple[float, bool]:
  """From the best rate outwards, where the loss crosses the level."""
  for last, rate in itertools.pairwise(rates):
    if not math.isfinite(losses[rate]):
      return last, False
    if losses[rate] > level:
      logs = [math.log(last), math.log(rate)]
      ends = [losses[last], losses[rate]]
      return math.exp(np.interp(level, ends, logs)), True
  return rates[-1], False
