# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Coefficients of the Newton-Schulz iteration, with their sources."""

from collections.abc import Sequence

import numpy as np

Triplet = tuple[float, float, float]
Coefficients = str | Sequence[float] | Sequence[Sequence[float]]

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

# (a, b, c) of each step X <- aX + b(XX^T)X + c(XX^T)^2 X; the last one repeats.
COEFFICIENTS: dict[str, tuple[Triplet, ...]] = {
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
}


def triplets(coefficients: Coefficients, steps: int) -> tuple[Triplet, ...]:
  """The coefficients of each step; the last triplet repeats where they end.

  Args:
    coefficients: A name, a triplet, or a sequence of triplets.
    steps: How many triplets to return.

  Returns:
    Tuple of ``steps`` triplets (a, b, c).

  Raises:
    ValueError: The coefficients are unknown, misshapen or not finite.
  """
  if isinstance(coefficients, str):
    if coefficients not in COEFFICIENTS:
      raise ValueError(
        f'coefficients={coefficients!r} is unknown; known names are'
        f' {sorted(COEFFICIENTS)}. A triplet (a, b, c) or a sequence of them,'
        ' one for each step, works too.'
      )
    coefficients = COEFFICIENTS[coefficients]
  try:
    rows = np.asarray(coefficients, np.float64)
  except (TypeError, ValueError):
    rows = np.empty(0)
  if rows.ndim == 1:
    rows = rows[None]
  if rows.ndim != 2 or rows.shape[-1] != 3 or not len(rows):
    raise ValueError(
      'coefficients must be a name, a triplet (a, b, c) or a sequence of'
      f' triplets, got {coefficients!r}.'
    )
  if not np.isfinite(rows).all():
    raise ValueError(f'coefficients must be finite, got {coefficients!r}.')
  rows = rows[np.minimum(np.arange(steps), len(rows) - 1)]
  return tuple((a, b, c) for a, b, c in rows.tolist())
