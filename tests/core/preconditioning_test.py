# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What singular values are divided by."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import _muon
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import relative_error as _error


@pytest.mark.parametrize(
  'name, row',
  [
    ('schatten', (3.4445, -4.775, 2.0315)),
    ('schatten', (1.5, -0.5)),
    ('spectral', (3.4445, -4.775, 2.0315)),
  ],
)
def test_divides_by_the_norm(name, row):
  x = _normal(0, 8, 20)
  u, s, vt = np.linalg.svd(np.float64(x), full_matrices=False)
  s = s / {'schatten': np.sum(s**8) ** 0.125, 'spectral': s.max()}[name]
  for _ in range(3):
    s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
  found = optax_namo.newton_schulz(
    x, steps=3, coefficients=row, preconditioning=name
  )
  chex.assert_trees_all_close(found, (u * s) @ vt, atol=2e-5, rtol=0)


@pytest.mark.skipif(
  'preconditioning'
  not in inspect.signature(_muon.orthogonalize_via_newton_schulz).parameters,
  reason='optax 0.2.7 has none',
)
@pytest.mark.parametrize('m, n', [(6, 10), (10, 6), (7, 7)])
def test_aol_as_in_optax(m, n):
  x = _normal(0, m, n)
  coefficients = jnp.asarray((3.4445, -4.7750, 2.0315))
  expected = _muon.orthogonalize_via_newton_schulz(
    x, coefficients, preconditioning='aol'
  )
  found = optax_namo.newton_schulz(x, preconditioning='aol')
  chex.assert_trees_all_close(found, expected, atol=2e-5)


def test_aol_is_the_factor_of_another_matrix():
  x = _normal(0, 6, 10) * jnp.logspace(0, 2, 6)[:, None]
  found = optax_namo.newton_schulz(
    x, steps=40, coefficients=(1.5, -0.5), preconditioning='aol'
  )
  scale = jnp.sum(jnp.abs(x @ x.T), 1, keepdims=True) ** -0.5
  chex.assert_trees_all_close(found, optax_namo.polar_svd(scale * x), atol=1e-4)
  assert _error(found, optax_namo.polar_svd(x)) > 0.1


@pytest.mark.parametrize('spread', [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize('side', ['row', 'column'])
@pytest.mark.parametrize('coefficients', ['muon', 'minimax'])
def test_aol_in_float16(spread, side, coefficients):
  """One row or column of another magnitude passes float16's range nowhere."""
  x = jax.random.normal(jax.random.key(0), (16, 32))
  x = x.at[3].multiply(spread) if side == 'row' else x.at[:, 3].multiply(spread)
  o = optax_namo.newton_schulz(
    x, coefficients=coefficients, preconditioning='aol', dtype=jnp.float16
  )
  chex.assert_tree_all_finite(o)
  assert float(jnp.linalg.norm(o, 2)) < 1.5
