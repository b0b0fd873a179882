# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Odd polynomials that are nearest to one, composed."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Sequence
import math

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial import Polynomial

from optax_namo._polar.coefficients import Row

DEGREES = (3, 5, 7, 9)


def minimax_coefficients(
  lower: float, degrees: Sequence[int], *, margin: float = 1.0
) -> tuple[Row, ...]:
  r"""Coefficients of the best Newton-Schulz steps for singular values >= lower.

  .. math::
    p_k = \arg\min_p \max_{x \in [l_k, \mu u_k]} |1 - p(x)|, \qquad
    [l_{k+1}, u_{k+1}] = p_k([l_k, u_k]), \qquad [l_1, u_1] = [lower, 1]

  Each step's odd polynomial is the one nearest to 1 on the interval that the
  last one leaves, :math:`[1 - e_k, 1 + e_k]`. Of all compositions of these
  degrees that has the least error :math:`e`. Remez's exchange finds it, in
  float64.

  Args:
    lower: The smallest singular value that is to end within ``e`` of 1, of
      matrices whose largest one is at most 1; in (0, 1). Smaller ones grow by
      the product of the steps' slopes at zero.
    degrees: The degree of each step: 3, 5, 7 or 9.
    margin: :math:`\mu`, at least 1: by how much rounding may lift singular
      values above the last step's interval without harm. In float32 none is
      needed; 1.03 was enough in bfloat16, restarted at each step.

  Returns:
    A row of coefficients for each step, of ``x, x**3, x**5, ...``. With margin
    1 the composition leaves 1 by e on [lower, 1], to float64's rounding: 0.12
    for ``(3e-3, (9, 9, 9))``, 0.11 for ``(1e-3, (5,) * 5)``.

  Raises:
    ValueError: An argument is out of range.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from optax_namo import minimax_coefficients, newton_schulz
    >>> rows = minimax_coefficients(3e-3, (9, 9, 9))
    >>> x = jax.random.normal(jax.random.key(0), (64, 256))
    >>> o = newton_schulz(x, steps=3, coefficients=rows)
    >>> values = jnp.linalg.svd(o, compute_uv=False)
    >>> bool((0.87 < values.min()) & (values.max() < 1.13))
    True

  References:
    Grishina et al., `CANS <https://arxiv.org/abs/2506.10935>`_, for Remez's
    exchange; Amsel et al., `Polar Express <https://arxiv.org/abs/2505.16932>`_,
    theorem 3.1, for the steps one after the other being optimal.
  """
  if not 0 < lower < 1:
    raise ValueError(f'lower must be in (0, 1), got {lower!r}.')
  degrees = tuple(degrees)
  known = [isinstance(d, int) and d in DEGREES for d in degrees]
  if not known or not all(known):
    raise ValueError(
      f'degrees must be some of {DEGREES}, one a step, got {degrees!r}.'
    )
  if not 1 <= margin < math.inf:
    raise ValueError(f'margin must be at least 1, got {margin!r}.')
  low, high = float(lower), 1.0
  rows = []
  for degree in degrees:
    row, low = _nearest_to_one(low, margin * high, degree)
    high = 2 - low
    rows.append(row)
  return tuple(rows)


def _nearest_to_one(low: float, high: float, degree: int) -> tuple[Row, float]:
  """The odd polynomial nearest to 1 on [low, high], and its least value there.

  Of y = x^2 it is x S(y). It leaves 1 by e, down and up in turn, at terms + 1
  points: both ends, and where its derivative is zero.
  """
  terms = (degree + 1) // 2
  middle, half = (high**2 + low**2) / 2, (high**2 - low**2) / 2
  if (high - low) / high < np.finfo(float).eps ** (1 / degree):
    return _at_one_point(math.sqrt(middle), terms)
  point = np.arange(terms + 1)
  x = low + (high - low) * (1 - np.cos(np.pi * point / terms)) / 2
  up = point % 2
  for _ in range(50):
    # S as Chebyshev polynomials of w = (y - middle) / half: on a narrow
    # interval monomials are nearly dependent. The unknowns are S and
    # (1 - e) / low: where e is near 1, rounding it would lose 1 - e.
    w = (x**2 - middle) / half
    values = x[:, None] * chebyshev.chebvander(w, terms - 1)
    system = np.column_stack([values, low * (2.0 * up - 1)])
    *s, least = np.linalg.solve(system / x[:, None], 2 * up / x)
    # d(x S) / dx = S + 2 y dS/dy.
    turning = chebyshev.chebmul((middle, half), 2 / half * chebyshev.chebder(s))
    inner = np.sort(chebyshev.chebroots(chebyshev.chebadd(s, turning)).real)
    moved = np.array([low, *np.sqrt(middle + half * inner), high])
    if np.allclose(moved, x, rtol=1e-10, atol=0):
      break
    x = moved
  in_y = chebyshev.Chebyshev(s)(Polynomial((-middle / half, 1 / half)))
  return tuple(in_y.coef.tolist()), low * float(least)


def _at_one_point(x: float, terms: int) -> tuple[Row, float]:
  """Taylor's polynomial of 1/sqrt(y) at x^2: the limit of narrow intervals."""
  z = Polynomial((1, -1 / x**2))
  s = sum(math.comb(2 * j, j) / 4**j * z**j for j in range(terms))
  return tuple((s.coef / x).tolist()), 1.0
