# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The named sets of coefficients: what they do to singular values."""

from typing import get_args

import jax.numpy as jnp
import numpy as np
from optax.contrib import _muon
import pytest

from benchmarks import restarts
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz


def test_every_name_has_rows():
  assert set(get_args(polynomials.Name)) == set(polynomials.COEFFICIENTS)


@pytest.mark.skipif(
  not hasattr(_muon, '_NS_COEFFS_PRESET_DICT'),
  reason='optax 0.2.7 has none',
)
def test_names_that_optax_knows():
  presets = _muon._NS_COEFFS_PRESET_DICT
  assert polynomials.COEFFICIENTS['muon'] == (tuple(presets['standard']),)
  assert polynomials.COEFFICIENTS['dion'] == tuple(presets['dion'])


@pytest.mark.parametrize(
  'name, steps, low, high',
  [
    ('muon', 5, 0.68, 1.14),
    ('dion', 5, 0.97, 1.04),
    ('polar_express', 5, 0.87, 1.13),
    ('cans', 5, 0.88, 1.12),
  ],
)
def test_singular_values_end_near_one(name, steps, low, high):
  s = np.linspace(0.02, 1, 10_001)
  for a, b, c in polynomials.schedule(name, steps, 23)[0]:
    s = a * s + b * s**3 + c * s**5
  assert low <= s.min() <= low + 0.02
  assert high - 0.02 <= s.max() <= high


def test_polar_express_lands_on_one():
  """Where rounding needs no margin: the published polynomials themselves."""
  s = np.logspace(-3, 0, 10_001)
  rows, _ = polynomials.schedule('polar_express', 8, 23)
  for i, (a, b, c) in enumerate(rows):
    margin = 1.01 if i < 7 else 1
    s = a * margin * s + b * margin**3 * s**3 + c * margin**5 * s**5
  np.testing.assert_allclose(s, 1, atol=1e-6)


@pytest.mark.parametrize('name', polynomials.COEFFICIENTS)
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
@pytest.mark.parametrize('shape', [(64, 64), (32, 128), (64, 512)])
def test_few_bits_are_bounded(name, dtype, shape):
  """No singular value leaves [0, 1.3]."""
  stack = restarts.matrices(*shape, seed=sum(shape))
  for steps in restarts.steps_of(name):
    found = optax_namo.newton_schulz(
      stack,
      steps=steps,
      coefficients=name,
      preconditioning=restarts.preconditioning_of(name),
      dtype=jnp.dtype(dtype),
    )
    assert np.linalg.norm(found, 2, axis=(1, 2)).max() <= 1.3


@pytest.mark.parametrize('name', polynomials.COEFFICIENTS)
def test_float32_on_tpus(name):
  """Products of one bfloat16 pass, by rounding their operands."""
  stack = restarts.matrices(32, 128, 0)
  for steps in restarts.steps_of(name):
    rows, gain = polynomials.schedule(name, steps, 7)
    runs = newton_schulz.cheapest(rows, gain, 32, 128)
    found = restarts.iterated(
      stack, runs, restarts.preconditioning_of(name), jnp.float32, 7
    )
    assert np.linalg.norm(found, 2, axis=(1, 2)).max() <= 1.3


@pytest.mark.parametrize('name', ['cans', 'minimax'])
def test_what_safety_is_for(name):
  """Bare rows on one R leave it by far."""
  stack = restarts.matrices(32, 128, 0)
  rows = polynomials.COEFFICIENTS[name]
  found = restarts.iterated(
    stack, (rows,), restarts.preconditioning_of(name), jnp.bfloat16, 7
  )
  highest = np.linalg.norm(np.nan_to_num(found, nan=9), 2, axis=(1, 2)).max()
  assert highest > 1.3
