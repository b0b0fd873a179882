# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Columns and rows that dwarf the others of their matrix."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import restarts
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz
from tests.helpers import normal as _normal
from tests.helpers import relative_error as _error

_OWN_STEPS = {  # name: steps and preconditioning it is meant for
  'muon': (5, 'frobenius'),
  'dion': (5, 'frobenius'),
  'minimax': (3, 'schatten'),
}


def _check(stack, bound, coefficients='muon'):
  """Against the float64 iteration, relative to the whole matrix."""
  steps, preconditioning = _OWN_STEPS[coefficients]
  rows, _ = polynomials.schedule(coefficients, steps, 23)
  stack = jnp.asarray(stack, jnp.float32)
  found = optax_namo.newton_schulz(
    stack,
    steps=steps,
    coefficients=coefficients,
    preconditioning=preconditioning,
  )
  expected = restarts.exact(stack, rows, preconditioning)
  for matrix, o in zip(expected, found):
    assert _error(o, matrix) < bound


@pytest.mark.parametrize(
  'shape',
  [(64, 512), (12, 32), (128, 384), (64, 80), (64, 64), (80, 16)],
)
@pytest.mark.parametrize('coefficients', _OWN_STEPS)
def test_of_either_side(shape, coefficients):
  stack = []
  for i, factor in enumerate((10, 1e2, 2e3, 1e4, 1e6)):
    for at in ((..., 5), (5, ...)):
      stack.append(np.array(_normal(i, *shape)))
      stack[-1][at] *= factor
  _check(np.stack(stack), 2e-5, coefficients)


def test_a_steep_set():
  """The value of 'cans' at one, where a huge column is, moves 5e4 times."""
  x = np.array(_normal(0, 64, 80))
  x[:, 5] *= 1e5
  rows = polynomials.COEFFICIENTS['cans']
  low, high = 1 - 1e-8, 1.0
  for a, b, c in rows:
    low, high = (a * s + b * s**3 + c * s**5 for s in (low, high))
  assert 4e4 <= (high - low) / 1e-8 <= 6e4
  for form in (tuple((row,) for row in rows), (rows,)):
    found = newton_schulz.iterate(jnp.asarray(x), form, 'frobenius', 23)
    expected = restarts.exact(x, rows, 'frobenius')
    assert 1e-4 <= _error(found, expected) <= 3e-2


def test_entries_of_one_size():
  """Nothing is the largest: neither a column nor one of its entries."""
  signs = np.sign(np.asarray(_normal(0, 2, 32, 96)))
  signs[1, :, 5] *= 2e3
  _check(signs, 1e-5)


@pytest.mark.parametrize('count', [2, 8])
def test_several(count):
  """They drown the rest, unless they point the same way."""
  stack = np.array(_normal(0, 2, 64, 512))
  stack[0, :, :count] *= 2e3
  stack[1, :, :count] = 2e3 * stack[1, :, :1] * np.arange(1, count + 1)
  _check(stack[:1], 3e-3)
  _check(stack[1:], 2e-4)
