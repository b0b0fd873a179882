# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The exact polar factor."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_namo
from tests.helpers import normal as _normal


def _values(x):
  return np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)


@pytest.mark.parametrize('m, n', [(4, 9), (9, 4), (5, 5), (1, 6), (6, 1)])
def test_is_the_polar_factor(m, n):
  with jax.enable_x64(True):
    x = _normal(0, m, n, dtype=jnp.float64)
    o = optax_namo.polar_svd(x)
    np.testing.assert_allclose(_values(o), 1.0, atol=1e-12)
    # x = o h with h symmetric and positive semi-definite.
    h = np.asarray(o.T @ x)
    np.testing.assert_allclose(h, h.T, atol=1e-12)
    assert np.linalg.eigvalsh((h + h.T) / 2).min() > -1e-12


def test_low_precision():
  x = _normal(0, 4, 6, dtype=jnp.bfloat16)
  found = optax_namo.polar_svd(x)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(_values(found), 1.0, atol=2e-2)


@pytest.mark.parametrize('exponent', [-35, -30, -20, 20, 30, 37])
def test_any_magnitude(exponent):
  x = jnp.clip(_normal(0, 5, 8), -3, 3)
  expected = optax_namo.polar_svd(x)
  found = optax_namo.polar_svd(x * 10.0**exponent)
  chex.assert_trees_all_close(found, expected, atol=1e-5)
  found = optax_namo.polar_svd(x * 2.0 ** (3 * exponent))
  chex.assert_trees_all_equal(found, expected)


def test_zero_stays_zero_beside_others():
  x = jnp.stack([_normal(0, 4, 6), jnp.zeros((4, 6))])
  found = optax_namo.polar_svd(x)
  np.testing.assert_array_equal(found[1], 0)
  assert _values(found[0]).min() > 0.5
