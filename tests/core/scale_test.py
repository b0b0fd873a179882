# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gradients of any magnitude: the unit of the loss changes no update.

A power of ten times a gradient is rounded, entry by entry, before any optimizer
sees it. What that does to an update is what is measured here; a power of two
rounds nothing and must change nothing.
"""

import functools

from absl.testing import absltest
from absl.testing import parameterized
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
_EVERY = parameterized.product(
  rule=tuple(_RULES), orthogonalizer=tuple(_ORTHOGONALIZERS)
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


class PowersOfTenTest(parameterized.TestCase):
  """To 1e-5, relative to each matrix and to each row and column of it."""

  def _check(self, rule, orthogonalizer, gradients, powers, axes, eps=0.0):
    run = _runner(rule, orthogonalizer)
    expected = jax.tree.map(np.asarray, run(gradients, eps))
    for power in powers:
      found = run(_times(gradients, power), eps)
      for axis in axes:
        self.assertLess(_error(found, expected, axis), 1e-5, (power, axis))

  @_EVERY
  def test_gaussian(self, rule, orthogonalizer):
    axes = (1, 2), 1, 2
    self._check(rule, orthogonalizer, _gaussian(), _POWERS, axes)

  @_EVERY
  def test_magnitudes_that_change_from_step_to_step(self, rule, orthogonalizer):
    steps = 10.0 ** np.random.default_rng(1).integers(-3, 4, (_STEPS, 1, 1))
    gradients = _times(_gaussian(), steps)
    self._check(rule, orthogonalizer, gradients, _POWERS, ((1, 2), 1, 2))

  @_EVERY
  def test_default_eps(self, rule, orthogonalizer):
    # 1e-8 is eps, and 1e-6 of the root of v of the smallest column at 1e-2.
    powers = [p for p in _POWERS if p > 5e-3]
    self._check(rule, orthogonalizer, _gaussian(), powers, ((1, 2),), eps=1e-8)

  @parameterized.product(rule=tuple(_RULES), factor=(1e-6, 1e6))
  def test_one_huge_or_tiny_column(self, rule, factor):
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
    self._check(rule, 'newton_schulz', gradients, powers, ((1, 2), axis))


class PowersOfTwoTest(parameterized.TestCase):
  @_EVERY
  def test_bit_identical(self, rule, orthogonalizer):
    run = _runner(rule, orthogonalizer)
    expected = run(_gaussian(), 0.0)
    for exponent in range(-100, 121, 20):
      found = run(_times(_gaussian(), 2.0**exponent), 0.0)
      chex.assert_trees_all_equal(found, expected)


class ScaleOfOneColumnTest(parameterized.TestCase):
  @parameterized.parameters('input', 'output')
  def test_its_magnitude_changes_no_scale(self, columns):
    """NAMO-D before the clamp: other columns do not see it at all."""
    tx = optax_namo.adaptive_momentum(eps=0.0, columns=columns)

    @jax.jit
    def run(gradients):
      step = lambda state, g: tx.update(g, state)[::-1]
      return jax.lax.scan(step, tx.init(gradients[0]), gradients)[1].scale

    gradients = _gaussian()['square']
    expected = run(gradients)
    for power in _POWERS:
      column = np.ones((16, 1))
      column[5] = power
      column = column if columns == 'input' else column.T
      found = run(_times(gradients, column))
      np.testing.assert_allclose(found, expected, rtol=1e-6)
      others = np.broadcast_to(column == 1, found.shape)
      np.testing.assert_array_equal(found[others], expected[others])


class RangeTest(absltest.TestCase):
  def test_ends_of_float32(self):
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


if __name__ == '__main__':
  absltest.main()
