# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Composed minimax polynomials."""

import numpy as np
import pytest

import optax_namo
from optax_namo._polar import coefficients as polynomials


def _composed(rows, lower, points=100_001):
  s = np.geomspace(lower, 1, points)
  for row in rows:
    s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
  return s


def test_cans():
  """The published figures, to their four decimals."""
  rows = optax_namo.minimax_coefficients(1e-3, (5,) * 5)
  np.testing.assert_allclose(
    rows, polynomials.COEFFICIENTS['cans'], atol=5.1e-5, rtol=0
  )


def test_the_named_set():
  rows = optax_namo.minimax_coefficients(3e-3, (9, 9, 9), margin=1.03)
  np.testing.assert_allclose(
    rows, polynomials.COEFFICIENTS['minimax'], atol=1e-6, rtol=0
  )


@pytest.mark.parametrize(
  'lower, degrees, error',
  [
    (1e-3, (5,) * 5, 0.1134),
    (3e-3, (9, 9, 9), 0.1202),
    (1e-3, (3, 5, 7, 9), 0.4084),
    (0.1, (3,) * 4, None),
    (1e-8, (9,) * 8, None),
    (1e-30, (7, 9), None),
  ],
)
def test_equioscillates(lower, degrees, error):
  """The composition reaches both ends of [1 - e, 1 + e]."""
  found = _composed(optax_namo.minimax_coefficients(lower, degrees), lower)
  low, high = 1 - found.min(), found.max() - 1
  assert low == pytest.approx(high, abs=1e-6)
  if error is not None:
    assert high == pytest.approx(error, abs=1e-4)


@pytest.mark.parametrize('degree', [3, 5, 7, 9])
def test_no_other_polynomial_is_nearer(degree):
  """Sign changes of 1 - p of full size: one more than there are coefficients.

  By Chebyshev's theorem that is the best polynomial.
  """
  rows = optax_namo.minimax_coefficients(0.05, (degree,))
  error = 1 - _composed(rows, 0.05)
  largest = np.sign(error[np.abs(error) > 0.9999 * np.abs(error).max()])
  turns = 1 + np.count_nonzero(np.diff(largest))
  assert turns == (degree + 1) // 2 + 1


@pytest.mark.parametrize(
  'lower, degree', [(0.9, 3), (0.9, 9), (0.999, 5), (1 - 1e-12, 7)]
)
def test_converges_to_float64(lower, degree):
  rows = optax_namo.minimax_coefficients(lower, (degree,) * 8)
  np.testing.assert_allclose(_composed(rows, lower), 1, atol=1e-13)


def test_margin():
  """Values lifted by the margin after every step still end near one."""
  rows = optax_namo.minimax_coefficients(3e-3, (9, 9, 9), margin=1.1)
  s = np.geomspace(3e-3, 1, 100_001)
  for row in rows:
    s = sum(c * (1.1 * s) ** (2 * k + 1) for k, c in enumerate(row))
  assert 0.8 <= s.min() <= 1
  assert 1 <= s.max() <= 1.2
  bare = optax_namo.minimax_coefficients(3e-3, (9, 9, 9))
  s = np.ones(1)
  for row in bare:
    s = sum(c * (1.1 * s) ** (2 * k + 1) for k, c in enumerate(row))
  assert abs(s[0]) > 1e3


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'lower': 0.0}, r'lower must be in \(0, 1\), got 0.0'),
    ({'lower': 1.0}, 'lower'),
    ({'lower': float('nan')}, 'lower'),
    ({'degrees': ()}, 'degrees'),
    ({'degrees': (5, 4)}, r'\(3, 5, 7, 9\), one a step, got \(5, 4\)'),
    ({'degrees': (11,)}, 'degrees'),
    ({'degrees': (5.0,)}, 'degrees'),
    ({'margin': 0.99}, 'margin'),
    ({'margin': float('inf')}, 'margin'),
  ],
)
def test_bad_input(arguments, message):
  with pytest.raises(ValueError, match=message):
    optax_namo.minimax_coefficients(
      **({'lower': 1e-3, 'degrees': (5,)} | arguments)
    )
