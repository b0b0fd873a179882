# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How far from the best learning rate the loss is still as good."""

from collections.abc import Mapping
import math
from typing import NamedTuple

import numpy as np

TOLERANCE = 0.01  # Of the best loss.


class Width(NamedTuple):
  """The rates around the best at which the loss is within 1% of the best.

  Attributes:
    low: The least of them.
    high: The largest of them.
    low_ends: Whether a loss above was seen below ``low``.
    high_ends: Whether one was seen above ``high``.
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

  Returns:
    The width.

  Examples:
    >>> str(width({0.01: 1.02, 0.02: 1.0, 0.04: 1.01, 0.08: 1.05}))
    '1.5'
    >>> str(width({0.01: 1.0, 0.02: 1.02}))  # Who knows below 0.01?
    '≥ 0.5'
  """
  rates = list(losses)
  best = min(rates, key=losses.__getitem__)
  level = (1 + TOLERANCE) * losses[best]
  below = _reach({r: losses[r] for r in reversed(rates) if r <= best}, level)
  above = _reach({r: losses[r] for r in rates if r >= best}, level)
  return Width(below[0], above[0], below[1], above[1])


def _reach(losses: Mapping[float, float], level: float) -> tuple[float, bool]:
  """From the best rate outwards, where the loss crosses the level."""
  (last, loss), *rest = losses.items()
  for rate, following in rest:
    if not math.isfinite(following):
      break
    if following > level:
      crossing = np.interp(
        level, [loss, following], [math.log(last), math.log(rate)]
      )
      return math.exp(crossing), True
    last, loss = rate, following
  return last, False
