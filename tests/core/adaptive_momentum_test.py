# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The first stage: momentum and adaptive scale, against float64 NumPy."""

import functools

import chex
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run

_SHARED = {
  None: (0, 1),
  'input': 1,
  'output': 0,
}  # Axes of an (in, out) matrix.


def _expected(gradients, columns, b1, b2, eps, nesterov):
  """Yields direction and scale after every gradient."""
  norm = lambda x: np.sqrt(np.sum(x * x, _SHARED[columns], keepdims=True))
  m = v = 0.0
  for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * norm(g) ** 2
    direction = b1 * m + (1 - b1) * g if nesterov else m
    correction = np.sqrt(1 - b2**t) / (1 - b1**t)
    yield direction, correction * norm(direction) / (np.sqrt(v) + eps)


def _steps(stage, gradients):
  """Yields the update and the state after every gradient."""
  state, update = stage.init(gradients[0]), jax.jit(stage.update)
  for gradient in gradients:
    factored, state = update(gradient, state)
    yield factored, state


@pytest.mark.parametrize('columns', _SHARED)
@pytest.mark.parametrize('nesterov', [True, False])
@pytest.mark.parametrize('eps', [1e-8, 0.1])
def test_against_numpy(columns, nesterov, eps):
  options = {'b1': 0.9, 'b2': 0.97, 'eps': eps, 'nesterov': nesterov}
  stage = optax_namo.adaptive_momentum(columns=columns, **options)
  gradients = [_normal(seed, 4, 6) for seed in range(5)]
  expected = _expected(gradients, columns, **options)
  for (found, _), (direction, scale) in zip(_steps(stage, gradients), expected):
    chex.assert_trees_all_close(found.direction, direction, rtol=1e-5)
    chex.assert_trees_all_close(found.scale, scale, rtol=1e-5)


@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  exponent=st.integers(-15, 15),
  rates=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_the_first_scale_is_one(seed, exponent, rates):
  """Whatever the rates and the unit: that is what the corrections are for."""
  gradient = _normal(seed, 3, 4) * 10.0**exponent
  for columns in _SHARED:
    stage = optax_namo.adaptive_momentum(
      *rates, 0.0, nesterov=False, columns=columns
    )
    found, _ = stage.update(gradient, stage.init(gradient))
    np.testing.assert_allclose(found.scale, 1, rtol=1e-5)


def test_silence_has_a_scale_of_zero():
  """Without eps as well, and without NaN."""
  silent = jnp.zeros((3, 4))
  one_row = silent.at[1].set(1.0)
  for eps in (0.0, 1e-8):
    stage = optax_namo.adaptive_momentum(eps=eps, columns='input')
    first, second = (u for u, _ in _steps(stage, [silent, one_row]))
    np.testing.assert_array_equal(first.scale, 0)
    np.testing.assert_array_equal(np.ravel(second.scale) > 0, [0, 1, 0])


@pytest.mark.parametrize('columns', _SHARED)
def test_every_matrix_of_a_leaf_on_its_own(columns):
  """Layers, rows first: the numbers of each matrix stored as (in, out)."""
  stage = functools.partial(optax_namo.adaptive_momentum, columns=columns)
  leaf = [_normal(seed, 2, 6, 4) for seed in range(3)]
  numbers = MuonDimensionNumbers(reduction_axis=2, output_axis=1)
  found = _run(stage(weight_dimension_numbers=numbers), leaf)
  for i in range(2):
    alone = _run(stage(), [layer[i].T for layer in leaf])
    chex.assert_trees_all_close(found.direction[i].T, alone.direction)
    chex.assert_trees_all_close(found.scale[i].T, alone.scale, rtol=1e-6)


def test_leaves_do_not_see_each_other():
  stage = optax_namo.adaptive_momentum(columns='output')
  draw = lambda i: {'a': _normal(i, 3, 4), 'b': 1e6 * _normal(9 + i, 4, 3)}
  trees = [draw(0), draw(1)]
  found = _run(stage, trees)
  for name in ('a', 'b'):
    alone = _run(stage, [tree[name] for tree in trees])
    chex.assert_trees_all_equal(found[name].direction, alone.direction)
    chex.assert_trees_all_equal(found[name].scale, alone.scale)


@pytest.mark.parametrize('mu_dtype', [None, 'bfloat16', 'float16'])
def test_the_momentum_is_kept_in_mu_dtype(mu_dtype):
  """And used in float32: only what is kept from step to step is rounded."""
  stage = optax_namo.adaptive_momentum(mu_dtype=mu_dtype, nesterov=False)
  gradients = [_normal(seed, 3, 4, dtype=jnp.bfloat16) for seed in range(3)]
  m, kept = np.zeros((3, 4), np.float32), jnp.dtype(mu_dtype or 'float32')
  for gradient, (found, state) in zip(gradients, _steps(stage, gradients)):
    m = np.float32(0.95) * m + np.float32(0.05) * np.asarray(gradient, m.dtype)
    chex.assert_trees_all_close(found.direction, m, atol=1e-7)
    assert found.direction.dtype == found.scale.dtype == jnp.float32
    assert found.dtype == jnp.bfloat16  # In which the update is to leave.
    assert state.mu.dtype == kept
    half = float(jnp.finfo(kept).eps) / 2
    chex.assert_trees_all_close(state.mu, m, rtol=half, atol=1e-7)
    m = np.asarray(state.mu, np.float32)


def test_parameters_do_not_matter():
  stage = optax_namo.adaptive_momentum()
  gradient = {'w': _normal(0, 3, 4)}
  state = stage.init({'w': _normal(1, 3, 4)})
  chex.assert_trees_all_equal_structs(state, stage.init(gradient))
  chex.assert_trees_all_equal(
    stage.update(gradient, state), stage.update(gradient, state, gradient)
  )


def test_it_is_the_state_of_a_chain_of_ones_own():
  """Other stages after it, the same momentum: a state moves between chains."""
  chain = optax.chain(
    optax_namo.adaptive_momentum(),
    optax_namo.orthogonalize(),
    optax_namo.apply_scale(),
  )
  gradients = [{'w': _normal(seed, 4, 6)} for seed in range(3)]
  expected = _run(optax_namo.scale_by_namo(), gradients)
  chex.assert_trees_all_close(_run(chain, gradients), expected, rtol=1e-6)
  state = chain.init(gradients[0])
  namo = optax_namo.scale_by_namo().init(gradients[0])
  find = lambda s: optax.tree.get(s, 'NamoState')
  chex.assert_trees_all_equal(find(state), find(namo))


@pytest.mark.parametrize('columns', ['input', 'output'])
def test_the_magnitude_of_a_column_changes_no_scale(columns):
  """NAMO-D before the clamp: other columns do not see it at all."""
  tx = optax_namo.adaptive_momentum(eps=0.0, columns=columns)

  @jax.jit
  def run(gradients):
    step = lambda state, g: tx.update(g, state)[::-1]
    return jax.lax.scan(step, tx.init(gradients[0]), gradients)[1].scale

  gradients = np.stack([_normal(i, 16, 16) for i in range(5)])
  expected = run(gradients)
  for power in 10.0 ** np.arange(-30, 31):
    column = np.ones((16, 1))
    column[5] = power
    column = column if columns == 'input' else column.T
    # Rounded once, to float32.
    found = run((np.float64(gradients) * column).astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    others = np.broadcast_to(column == 1, found.shape)
    np.testing.assert_array_equal(found[others], expected[others])
