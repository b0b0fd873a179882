# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What arXiv 2602.17080 proves of the scales, as properties of the code.

The theory has no Nesterov term and needs b1 <= b2.
"""

import math

import chex
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optax_namo

pytestmark = pytest.mark.full_compile

_COLUMNS = (None, 'input', 'output')


def _scales(gradients, clamp=None, eps=0.0, wrap=jax.jit, **options):
  """The scale after every gradient of a sequence (steps, m, n)."""
  first = optax_namo.adaptive_momentum(eps=eps, nesterov=False, **options)
  last = optax_namo.clamp_scale(clamp)

  @wrap
  def run(gradients):
    def step(state, gradient):
      update, state = first.update(gradient, state)
      update, _ = last.update(update, last.init(gradient))
      return state, update.scale

    return jax.lax.scan(step, first.init(gradients[0]), gradients)[1]

  return np.asarray(run(jnp.asarray(gradients, jnp.float32)))


def _updates(tx, gradients):
  state = tx.init(gradients[0])
  for gradient in gradients:
    update, state = tx.update(gradient, state)
  return update


def _rotation(rng, n):
  return jnp.asarray(np.linalg.qr(rng.normal(size=(n, n)))[0], jnp.float32)


def _normal(rng, *shape):
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


# Runs whose magnitude jumps from step to step by up to 10 orders: what drives
# the scale to its bound is a burst after silence.
_GRADIENTS = st.builds(
  lambda seed, exponents: (
    np.random.default_rng(seed).normal(size=(len(exponents), 3, 4))
    * 10.0 ** np.reshape(exponents, (-1, 1, 1))
  ),
  st.integers(0, 2**32 - 1),
  st.lists(st.integers(-5, 5), min_size=12, max_size=12),
)
_DECAYS = st.tuples(st.floats(0.0, 0.999), st.floats(0.0, 0.999)).map(sorted)


@jax.jit
def _drawn_scales(gradients, b1, b2, clamp):
  """Unclamped and clamped scales of a run, one compilation for all draws."""
  both = []
  for columns in _COLUMNS:
    first = optax_namo.adaptive_momentum(
      b1, b2, 0.0, nesterov=False, columns=columns
    )
    last = optax_namo.clamp_scale(clamp)

    def step(state, gradient, first=first, last=last):
      update, state = first.update(gradient, state)
      clamped, _ = last.update(update, last.init(gradient))
      return state, (update.scale, clamped.scale)

    both.append(jax.lax.scan(step, first.init(gradients[0]), gradients)[1])
  return both


@hypothesis.given(_GRADIENTS, _DECAYS, st.floats(0.01, 1.0))
def test_bound_and_condition_number(gradients, decays, clamp):
  b1, b2 = np.float32(decays)
  bound = math.sqrt((1 - b1) / (1 - b2))
  for a, d in _drawn_scales(jnp.float32(gradients), b1, b2, clamp):
    assert np.max(a) <= bound * (1 + 1e-4)
    assert np.max(d) <= bound * (1 + 1e-4)
    condition = np.max(d, (1, 2)) / np.min(d, (1, 2))
    assert np.max(condition) <= (1 + 1e-5) / clamp**2


def test_the_largest_scale():
  # By Cauchy-Schwarz a is at most (1 - b1) / sqrt((1 - b2)(1 - b1^2 / b2)),
  # 1.68 at .95/.99, below the paper's 2.24. Gradients that grow at the rate
  # b2 / b1 attain it.
  grown = (0.99 / 0.95) ** np.arange(-1999.0, 1.0)
  a = _scales(np.ones((2000, 3, 4)) * grown[:, None, None])[-1].item()
  sharp = 0.05 / math.sqrt(0.01 * (1 - 0.95**2 / 0.99))
  assert a == pytest.approx(sharp, abs=1e-4)
  assert sharp < math.sqrt(0.05 / 0.01)


@pytest.mark.parametrize('columns', ['input', 'output'])
def test_clamp_of_one_makes_all_scales_equal(columns):
  gradients = np.random.default_rng(0).normal(size=(20, 6, 8))
  gradients *= np.linspace(0.1, 3, 8)
  free = _scales(gradients, clamp=None, columns=columns)
  equal = _scales(gradients, clamp=1.0, columns=columns)
  assert np.ptp(free[-1]) > 1e-3
  np.testing.assert_array_equal(np.ptp(equal, axis=(1, 2)), 0.0)
  np.testing.assert_allclose(equal.mean((1, 2)), free.mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize('columns', _COLUMNS)
def test_noiseless_gradients_give_one(columns):
  gradient = np.random.default_rng(0).normal(size=(5, 7))
  scales = _scales(np.stack([gradient] * 300), columns=columns)
  np.testing.assert_allclose(scales, 1.0, atol=1e-5)


@pytest.mark.parametrize('columns', _COLUMNS)
@pytest.mark.parametrize('b1', [0.9, 0.95])
def test_pure_noise(columns, b1):
  gradients = np.random.default_rng(0).normal(size=(800, 96, 128))
  scales = _scales(gradients, columns=columns, b1=b1)[-100:]
  # 100 correlated steps of at least 96 entries: 2% is about 4 sigma.
  assert scales.mean() / math.sqrt((1 - b1) / (1 + b1)) == pytest.approx(
    1.0, abs=0.02
  )


class TestEquivariance(chex.TestCase):
  """Symmetries of the bare rules, with Newton-Schulz in float32."""

  def setUp(self):
    super().setUp()
    rng = np.random.default_rng(0)
    self.gradients = [_normal(rng, 6, 10) for _ in range(5)]
    self.left = _rotation(rng, 6)
    self.right = _rotation(rng, 10)
    self.order = rng.permutation(10)

  def _check(self, tx, transform):
    run = self.variant(lambda gradients: _updates(tx, gradients))
    expected = transform(run(self.gradients))
    found = run([transform(g) for g in self.gradients])
    chex.assert_trees_all_close(found, expected, atol=2e-5)
    # The symmetry is not an accident of an update that ignores its input.
    assert jnp.abs(found - run(self.gradients)).max() > 1e-2

  @chex.variants(with_jit=True, without_jit=True)
  def test_namo_rotates_on_both_sides(self):
    self._check(
      optax_namo.scale_by_namo(), lambda g: self.left @ g @ self.right
    )

  @chex.variants(with_jit=True, without_jit=True)
  def test_namo_d_rotates_on_the_left_and_permutes_columns(self):
    self._check(
      optax_namo.scale_by_namo_d(columns='output'),
      lambda g: (self.left @ g)[:, self.order],
    )

  @chex.variants(with_jit=True, without_jit=True)
  def test_namo_d_of_input_columns_rotates_on_the_right(self):
    self._check(
      optax_namo.scale_by_namo_d(columns='input'),
      lambda g: g[::-1] @ self.right,
    )

  @chex.variants(with_jit=True, without_jit=True)
  def test_namo_d_does_not_rotate_its_columns(self):
    tx = optax_namo.scale_by_namo_d(columns='output', clamp=None)
    run = self.variant(lambda gradients: _updates(tx, gradients))
    found = run([g @ self.right for g in self.gradients])
    expected = run(self.gradients) @ self.right
    assert jnp.abs(found - expected).max() > 1e-3
