# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients of any magnitude: the unit of the loss changes no update.

A power of ten times a gradient is rounded, entry by entry, before any optimizer
sees it. What that does to an update is what is measured here; a power of two
rounds nothing and must change nothing.
"""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_namo

pytestmark = pytest.mark.full_compile

_POWERS = 10.0 ** np.arange(-30, 31)
# All are (in, out) and steps come first. The Gram form runs on `wide`, the
# standard form on the others.
_SHAPES = {'wide': (12, 32), 'oblong': (16, 24), 'square': (16, 16)}
_STEPS = 5
_RULES = {
  'namo': optax_namo.scale_by_namo,
  'input': functools.partial(optax_namo.scale_by_namo_d, columns='input'),
  'output': functools.partial(optax_namo.scale_by_namo_d, columns='output'),
}
_ORTHOGONALIZERS = {'newton_schulz': None, 'svd': optax_namo.polar_svd}
_EVERY = pytest.mark.parametrize(
  'rule, orthogonalizer', list(itertools.product(_RULES, _ORTHOGONALIZERS))
)


@functools.cache
def _runner(rule, orthogonalizer):
  """Every update of a run, jitted once for all gradients and eps."""

  @jax.jit
  def run(gradients, eps):
    tx = _RULES[rule](eps=eps, orthogonalizer=_ORTHOGONALIZERS[orthogonalizer])

    def step(state, gradient):
      updates, state = tx.update(gradient, state)
      return state, updates

    first = jax.tree.map(lambda g: g[0], gradients)
    return jax.lax.scan(step, tx.init(first), gradients)[1]

  return run


def _gaussian(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda shape: rng.normal(size=(_STEPS, *shape)).astype(np.float32)
  return {name: draw(shape) for name, shape in _SHAPES.items()}


def _transpose(tree):
  return jax.tree.map(lambda g: g.swapaxes(1, 2), tree)


def _times(tree, factor):
  """Products that are rounded once, to float32."""
  return jax.tree.map(
    lambda g: (np.asarray(g, np.float64) * factor).astype(np.float32), tree
  )


def _error(found, expected, axes):
  """The largest ||found - expected|| / ||expected||, norms over ``axes``."""

  def one(a, b):
    norm = lambda x: np.sqrt(np.sum(np.square(x, dtype=np.float64), axes))
    return np.max(norm(a - b.astype(np.float64)) / norm(b))

  errors = jax.tree.map(lambda a, b: one(np.asarray(a), b), found, expected)
  return max(errors.values())


def _check(rule, orthogonalizer, gradients, powers, axes, eps=0.0):
  """To 1e-5, relative to each matrix and to each row and column of it."""
  run = _runner(rule, orthogonalizer)
  expected = jax.tree.map(np.asarray, run(gradients, eps))
  for power in powers:
    found = run(_times(gradients, power), eps)
    for axis in axes:
      assert _error(found, expected, axis) < 1e-5, (power, axis)


@_EVERY
def test_gaussian(rule, orthogonalizer):
  axes = (1, 2), 1, 2
  _check(rule, orthogonalizer, _gaussian(), _POWERS, axes)


@_EVERY
def test_magnitudes_that_change_from_step_to_step(rule, orthogonalizer):
  steps = 10.0 ** np.random.default_rng(1).integers(-3, 4, (_STEPS, 1, 1))
  gradients = _times(_gaussian(), steps)
  _check(rule, orthogonalizer, gradients, _POWERS, ((1, 2), 1, 2))


@_EVERY
def test_default_eps(rule, orthogonalizer):
  # 1e-8 is eps, and 1e-6 of the root of v of the smallest column at 1e-2.
  powers = [p for p in _POWERS if p > 5e-3]
  _check(rule, orthogonalizer, _gaussian(), powers, ((1, 2),), eps=1e-8)


@pytest.mark.parametrize('rule', _RULES)
@pytest.mark.parametrize('factor', [1e-6, 1e6])
def test_one_huge_or_tiny_column(rule, factor):
  """Each column relative to its own norm, the odd one included."""
  gradients = _gaussian()
  for name, gradient in gradients.items():
    column = np.ones(gradient.shape[1])
    column[3] = factor
    gradients[name] = _times(gradient, column[:, None])
  axis = 2
  if rule == 'output':
    gradients, axis = _transpose(gradients), 1
  # Below, the column's entries are no normal numbers any more.
  powers = [p for p in _POWERS if p * factor > 5e-31]
  _check(rule, 'newton_schulz', gradients, powers, ((1, 2), axis))


@_EVERY
def test_powers_of_two_are_bit_identical(rule, orthogonalizer):
  run = _runner(rule, orthogonalizer)
  expected = run(_gaussian(), 0.0)
  for exponent in range(-100, 121, 20):
    found = run(_times(_gaussian(), 2.0**exponent), 0.0)
    chex.assert_trees_all_equal(found, expected)


def test_ends_of_float32():
  """The ends of what is promised, and what lies beyond the lower one."""
  tx = optax_namo.scale_by_namo(eps=0.0)
  update = jax.jit(lambda g: tx.update(g, tx.init(g))[0])
  gradient = np.sign(_gaussian()['square'][0])
  expected = update(gradient)
  for magnitude in (2.4e-37, 2e37):  # 0.05 and 16 times which are normal.
    chex.assert_trees_all_close(
      update(_times(gradient, magnitude)), expected, atol=1e-5
    )
  # XLA takes subnormal numbers for zero on CPU: a zero step, no NaN.
  subnormal = jnp.asarray(_times(gradient, 1e-39))
  np.testing.assert_array_equal(update(subnormal), 0)
