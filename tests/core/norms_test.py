# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Euclidean norms of arrays of any magnitude."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_namo._polar import norms
from tests.helpers import normal as _normal

_norm = jax.jit(norms.norm, static_argnums=1)


@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  exponent=st.integers(-36, 37),
  axes=st.sampled_from([(0, 1), (0,), (1,)]),
)
def test_against_numpy(seed, exponent, axes):
  """Where squares of the entries have left float32's range as well."""
  x = jnp.clip(_normal(seed, 3, 5), -3, 3) * 10.0**exponent
  found = _norm(x, axes)
  expected = np.sqrt(np.sum(np.square(np.float64(x)), axes, keepdims=True))
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_zero_has_norm_and_slope_zero():
  column = jnp.zeros((3, 1))
  assert _norm(column, (0,)).item() == 0
  slope = jax.jit(jax.grad(lambda x: norms.norm(x, (0,)).sum()))(column)
  np.testing.assert_array_equal(slope, 0)


def test_slope_is_the_unit_vector():
  x = _normal(0, 7)
  slope = jax.jit(jax.grad(lambda x: norms.norm(x, (0,)).sum()))(x)
  np.testing.assert_allclose(slope, x / np.linalg.norm(x), rtol=1e-5)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_scaled_by_a_power_of_two(dtype):
  """Each matrix by its own; what is zero stays."""
  info = jnp.finfo(dtype)
  size = jnp.asarray([1.0, float(info.max) / 4, float(info.tiny), 0.0], dtype)
  x = jnp.clip(_normal(0, 4, 5, 8, dtype=dtype), -3, 3) * size[:, None, None]
  found = np.asarray(jax.jit(norms.scaled)(x), np.float64)
  x = np.asarray(x, np.float64)
  for matrix, scaled in zip(x[:2], found[:2]):
    factor = scaled / matrix
    np.testing.assert_array_equal(factor, factor[0, 0])
    assert np.log2(factor[0, 0]) == round(np.log2(factor[0, 0]))
    assert 1e-2 < np.linalg.norm(scaled) < 1e2
  np.testing.assert_array_equal(found[3], 0)
