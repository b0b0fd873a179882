# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Coefficients of the Newton-Schulz iteration, with their sources."""

from collections.abc import Sequence
from typing import Any, get_args, Literal, NamedTuple

import numpy as np

Row = tuple[float, ...]  # a, b, c, ... of a x + b x^3 + c x^5 + ...
Name = Literal['muon', 'polar_express', 'cans', 'dion', 'minimax']
Coefficients = Name | Sequence[float] | Sequence[Sequence[float]]

# The optimal polynomials for singular values in [1e-3, 1], one after the other:
# Algorithm 1 of Amsel et al., arXiv 2505.16932.
_POLAR_EXPRESS = (
  (8.28721201814563, -23.595886519098837, 17.300387312530933),
  (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
  (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
  (3.3184196573706015, -2.488488024314874, 0.51004894012372),
  (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
  (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
  (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
  (1.875, -1.25, 0.375),
)

# (a, b, c, ...) of each step X <- aX + b(XX^T)X + c(XX^T)^2 X + ...; the last
# one repeats.
COEFFICIENTS: dict[Name, tuple[Row, ...]] = {
  # Keller Jordan's Muon, which the NAMO reference code uses unchanged:
  # https://kellerjordan.github.io/posts/muon, "Tuning the coefficients".
  # The slope at zero is maximal, singular values end in about [0.7, 1.2].
  'muon': ((3.4445, -4.7750, 2.0315),),
  # Divided by the same paper's margin for rounding, 1.01, in all but the last.
  'polar_express': (
    *((a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in _POLAR_EXPRESS[:-1]),
    _POLAR_EXPRESS[-1],
  ),
  # Grishina et al., arXiv 2506.10935: Remez's polynomials over the interval
  # that each step leaves; the figures of NVIDIA's Emerging-Optimizers.
  'cans': (
    (8.4703, -25.1081, 18.6293),
    (4.1828, -3.1087, 0.5806),
    (3.9619, -2.9541, 0.5630),
    (3.2866, -2.4647, 0.5074),
    (2.2737, -1.6447, 0.4162),
  ),
  # The schedule of https://github.com/microsoft/dion, which
  # optax.contrib.muon calls 'dion' as well.
  'dion': (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
  ),
  # The fast choice, for 3 steps with preconditioning='schatten':
  # minimax_coefficients(3e-3, (9, 9, 9), margin=1.03). Without the margin the
  # slope at the largest singular value is 15,000, with it 3.
  'minimax': (
    (14.381312, -132.342796, 414.755847, -502.300621, 205.943350),
    (6.283362, -14.228211, 11.437235, -3.585844, 0.381963),
    (3.651288, -6.850116, 5.973747, -2.198487, 0.284231),
  ),
}


class Limits(NamedTuple):
  """What rounding asks of the steps on one R.

  Attributes:
    margin: By how much it may lift singular values above what a step is made
      for; coefficients are those of p(x / margin).
    gain: How far steps on one R may amplify it: the product of their slopes at
      zero. It hides the small eigenvalues of R, and Q is evaluated at what it
      leaves of them.
  """

  margin: float
  gain: float


# By set and by the bits of the mantissa of the products' operands (bfloat16 7,
# float16 and TF32 10); found by `python -m benchmarks.restarts`.
SAFETY: dict[str, dict[int, Limits]] = {
  'muon': {7: Limits(1.0, 30.0), 10: Limits(1.0, 100.0)},
  'polar_express': {7: Limits(1.0, 10.0), 10: Limits(1.0, 100.0)},
  'cans': {7: Limits(1.02, 30.0), 10: Limits(1.02, 100.0)},
  'dion': {7: Limits(1.0, 30.0), 10: Limits(1.0, 100.0)},
  'minimax': {7: Limits(1.0, 20.0), 10: Limits(1.0, 100.0)},
}
_OF_OTHER_ROWS = {7: Limits(1.0, 10.0), 10: Limits(1.0, 30.0)}
# Five steps of 'muon' (485) stay within 1e-3 of the standard form at condition
# number 1e6.
_IN_FLOAT32 = Limits(1.0, 512.0)


def schedule(
  coefficients: Name | tuple[Row, ...], steps: int, bits: int
) -> tuple[tuple[Row, ...], float]:
  """The row of each step, with its margin, and the gain of its ``Limits``.

  ``coefficients`` as ``checked`` returned them; their last row repeats.
  """
  limits = _OF_OTHER_ROWS
  if isinstance(coefficients, str):
    limits = SAFETY.get(coefficients, limits)
    coefficients = COEFFICIENTS[coefficients]
  margin, gain = _IN_FLOAT32 if bits >= 23 else limits[bits]
  rows = (coefficients[min(k, len(coefficients) - 1)] for k in range(steps))
  return tuple(with_margin(row, margin) for row in rows), gain


def with_margin(row: Row, margin: float) -> Row:
  """The coefficients of p(x / margin)."""
  return tuple(c / margin ** (2 * k + 1) for k, c in enumerate(row))


def checked(coefficients: Coefficients) -> Name | tuple[Row, ...]:
  """A name that is known, or rows of two to five floats; else ValueError."""
  if isinstance(coefficients, str):
    if coefficients not in get_args(Name):
      raise ValueError(
        f'coefficients={coefficients!r} is unknown; known names are'
        f' {sorted(get_args(Name))}. A row (a, b, c) or a sequence of them, one'
        ' for each step, works too.'
      )
    return coefficients
  rows: tuple[Row, ...] = ()
  try:
    table: Any = coefficients if np.ndim(coefficients[0]) else [coefficients]
    rows = tuple(tuple(map(float, row)) for row in table)
  except (TypeError, ValueError, IndexError):
    pass
  if not rows or not all(2 <= len(row) <= 5 for row in rows):
    raise ValueError(
      'coefficients must be a name, a row of two to five numbers such as a'
      f' triplet (a, b, c), or a sequence of rows, got {coefficients!r}.'
    )
  if not np.isfinite(np.concatenate(rows)).all():
    raise ValueError(f'coefficients must be finite, got {coefficients!r}.')
  # Zeros at the end of a row would cost a product.
  return tuple((*row[:2], *np.trim_zeros(row[2:], 'b')) for row in rows)
