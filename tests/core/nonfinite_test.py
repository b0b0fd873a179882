# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""One gradient that is not finite: what it may touch, and how to skip it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo

# `left`, `right`, the layers and the parts go through Newton-Schulz as one
# stack of seven matrices (4, 6).
_SHAPES = {
  'left': (4, 6),
  'right': (6, 4),
  'layers': (3, 4, 6),
  'parts': (4, 12),
  'bias': (6,),
}
_NUMBERS = {
  'left': MuonDimensionNumbers(0, 1),
  'right': MuonDimensionNumbers(0, 1),
  'layers': MuonDimensionNumbers(1, 2),
  'parts': optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (6, 6)),
  'bias': None,
}
_POISONED = {
  # Where the bad entry is, and all that it may touch.
  'left': ((1, 2), np.s_[:]),
  'right': ((5, 0), np.s_[:]),
  'layers': ((1, 3, 5), np.s_[1]),
  'parts': ((0, 6), np.s_[:, 6:]),
  'bias': ((4,), np.s_[4]),
}
_BAD = (float('nan'), float('inf'), -float('inf'))
_OPTIMIZERS = {
  'namo': optax_namo.namo,
  'namo_d': optax_namo.namo_d,
  'namo_svd': functools.partial(
    optax_namo.namo, orthogonalizer=optax_namo.polar_svd
  ),
}


def _draw(seed):
  rng = np.random.default_rng(seed)
  return {
    name: jnp.asarray(rng.normal(size=shape), jnp.float32)
    for name, shape in _SHAPES.items()
  }


def _poison(gradient, leaf, bad):
  place, _ = _POISONED[leaf]
  return gradient | {leaf: gradient[leaf].at[place].set(bad)}


@functools.cache
def _optimizer(name, skip_bad):
  """Initial state and the jitted step, of the optimizer alone or guarded."""
  tx = _OPTIMIZERS[name](0.1, weight_dimension_numbers=_NUMBERS)
  if skip_bad:
    tx = optax.apply_if_finite(tx, max_consecutive_errors=3)

  @jax.jit
  def step(params, state, gradient):
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  return tx.init(_draw(0)), step


def _run(name, gradients, skip_bad=False):
  params, (state, step) = _draw(0), _optimizer(name, skip_bad)
  for gradient in gradients:
    params, state = step(params, state, gradient)
  return params, state


@pytest.mark.parametrize('name', _OPTIMIZERS)
@pytest.mark.parametrize('leaf', _POISONED)
def test_poison_is_confined_to_its_matrix(name, leaf):
  gradients = [_draw(seed) for seed in range(1, 5)]
  clean, _ = _run(name, gradients)
  for bad in _BAD:
    bad_second = _poison(gradients[1], leaf, bad)
    params, _ = _run(name, [gradients[0], bad_second, *gradients[2:]])
    touched = jax.tree.map(lambda x: np.zeros(x.shape, bool), clean)
    touched[leaf][_POISONED[leaf][1]] = True
    for name_of_leaf, mask in touched.items():
      found = np.asarray(params[name_of_leaf])
      # It stays: NaN is not averaged away.
      assert not np.isfinite(found[mask]).any()
      expected = np.asarray(clean[name_of_leaf])
      np.testing.assert_array_equal(found[~mask], expected[~mask])


@pytest.mark.parametrize('name', _OPTIMIZERS)
@pytest.mark.parametrize('leaf', _POISONED)
def test_apply_if_finite_takes_no_step(name, leaf):
  """Bit for bit, and the run goes on as if it had not been."""
  gradients = [_draw(seed) for seed in range(1, 4)]
  expected, clean = _run(name, gradients, skip_bad=True)
  before, state = _run(name, gradients[:2], skip_bad=True)
  _, step = _optimizer(name, True)
  for bad in _BAD:
    bad_step = _poison(gradients[2], leaf, bad)
    params, skipped = step(before, state, bad_step)
    chex.assert_trees_all_equal(params, before)
    chex.assert_trees_all_equal(skipped.inner_state, state.inner_state)
    params, skipped = step(params, skipped, gradients[2])
    chex.assert_trees_all_equal(params, expected)
    chex.assert_trees_all_equal(skipped.inner_state, clean.inner_state)
