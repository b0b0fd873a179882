# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Matrices without full rank or size, silent gradients, rates of 0, late steps.

All of it with JAX's NaN checks on.
"""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.oracles import paper

_OPTIMIZERS = {
  'namo': optax_namo.namo,
  'input': functools.partial(optax_namo.namo_d, columns='input', clamp=None),
  'output': functools.partial(optax_namo.namo_d, columns='output', clamp=None),
}
_ORTHOGONALIZERS = {'newton_schulz': None, 'svd': optax_namo.polar_svd}
_EVERY = pytest.mark.parametrize(
  'name, orthogonalizer', list(itertools.product(_OPTIMIZERS, _ORTHOGONALIZERS))
)


def _degenerate():
  """Matrices (5, 8), and some of odd shapes, by what is wrong with them."""
  rng = np.random.default_rng(0)
  normal = lambda *shape: rng.normal(size=shape)
  u = np.linalg.qr(normal(5, 5))[0]
  v = np.linalg.qr(normal(8, 8))[0][:, :5]
  no_column, no_row = normal(5, 8), normal(5, 8)
  no_column[:, 2] = no_row[2] = 0
  matrices = {
    'zero': np.zeros((5, 8)),
    'no_column': no_column,
    'no_row': no_row,
    'rank_one': np.outer(normal(5), normal(8)),
    'same_rows': np.tile(normal(1, 8), (5, 1)),
    'repeated_values': (u * [3, 3, 3, 1, 1]) @ v.T,
    'orthogonal': 7 * u @ v.T,
    'ill_conditioned': (u * np.logspace(0, -12, 5)) @ v.T,
    'one_entry': np.where(np.arange(40).reshape(5, 8) == 19, -2.0, 0),
    'single': normal(1, 1),
    'row': normal(1, 8),
    'column': normal(8, 1),
    'long_row': normal(1, 4096),
    'no_inputs': np.zeros((0, 8)),
    'no_outputs': np.zeros((5, 0)),
  }
  return {name: np.float32(x) for name, x in matrices.items()}


_GRADIENTS = _degenerate()
_PARAMS = {
  name: np.float32(np.random.default_rng(1).normal(size=x.shape))
  for name, x in _GRADIENTS.items()
}


@functools.cache
def _runner(name, orthogonalizer, decay):
  """The updates of five equal gradients, jitted once for all of them."""

  @jax.jit
  def run(gradient, params, eps, weight_decay):
    tx = _OPTIMIZERS[name](
      1.0,
      eps=eps,
      weight_decay=weight_decay,
      decay=decay,
      nesterov=False,
      shape_scale='none',
      orthogonalizer=_ORTHOGONALIZERS[orthogonalizer],
      weight_dimension_numbers=MuonDimensionNumbers(0, 1),
    )

    def step(state, _):
      updates, state = tx.update(gradient, state, params)
      return state, updates

    return jax.lax.scan(step, tx.init(params), length=5)[1]

  return run


@pytest.fixture(autouse=True)
def debug_nans():
  with jax.debug_nans(True):
    yield


@pytest.mark.parametrize('name', _OPTIMIZERS)
@pytest.mark.parametrize('eps', [0.0, 1e-8])
def test_newton_schulz(name, eps):
  """Equal gradients have a scale of 1, so the update is -Orth(G)."""
  run = _runner(name, 'newton_schulz', 'adaptive')
  updates = run(_GRADIENTS, _PARAMS, eps, 0.0)
  for leaf, gradient in _GRADIENTS.items():
    expected = -paper.newton_schulz(np.asarray(gradient, np.float64))
    # Five steps multiply float32's rounding by up to 3.4445^5 = 485.
    bound = 1e-3 * np.linalg.norm(expected)
    for update in np.asarray(updates[leaf]):
      error = np.linalg.norm(update - expected)
      assert error <= bound, leaf


@pytest.mark.parametrize('name', _OPTIMIZERS)
@pytest.mark.parametrize('eps', [0.0, 1e-8])
def test_svd(name, eps):
  """Of all matrices of spectral norm 1, -Orth(G) descends G the most.

  That determines it on the directions that G has; on others it is zero.
  """
  updates = _runner(name, 'svd', 'adaptive')(_GRADIENTS, _PARAMS, eps, 0.0)
  chex.assert_tree_all_finite(updates)
  for leaf, gradient in _GRADIENTS.items():
    if not gradient.size:
      continue
    present = np.linalg.svd(np.asarray(gradient, np.float64), compute_uv=False)
    rank = np.sum(present > 1e-6 * present[0])
    for update in np.asarray(updates[leaf], np.float64):
      descent = -np.sum(update * gradient)
      assert descent >= (1 - 1e-5) * present.sum(), leaf
      values = np.linalg.svd(update, compute_uv=False)
      np.testing.assert_allclose(values[:rank], 1, atol=1e-5, err_msg=leaf)
      np.testing.assert_allclose(values[rank:], 0, atol=1e-5, err_msg=leaf)


@_EVERY
def test_zero_gradients(name, orthogonalizer):
  """No update but the decoupled decay, exactly."""
  zeros = jax.tree.map(np.zeros_like, _GRADIENTS)
  for decay, rate in (('adaptive', 0), ('decoupled', -0.25)):
    run = _runner(name, orthogonalizer, decay)
    for eps in (0.0, 1e-8):
      for leaf, update in run(zeros, _PARAMS, eps, 0.25).items():
        expected = np.broadcast_to(rate * _PARAMS[leaf], update.shape)
        np.testing.assert_array_equal(update, expected, leaf)


@_EVERY
def test_silent_rows_and_columns_stay(name, orthogonalizer):
  run = _runner(name, orthogonalizer, 'adaptive')
  updates = run(_GRADIENTS, _PARAMS, 0.0, 0.0)
  silent = updates['no_column'][:, :, 2], updates['no_row'][:, 2]
  for update in silent:
    np.testing.assert_allclose(update, 0, atol=1e-6)


_SHAPE = (4, 6)


@jax.jit
def _plain_runs(gradients, b1, b2):
  """Parameters of the paper's two algorithms after every gradient."""
  options = {'b1': b1, 'b2': b2, 'nesterov': False, 'shape_scale': 'none'}
  options['orthogonalizer'] = optax_namo.polar_svd
  runs = []
  for tx in (
    optax_namo.namo(0.05, **options),
    optax_namo.namo_d(0.05, clamp=0.6, columns='output', **options),
  ):

    def step(carry, gradient, tx=tx):
      params, state = carry
      updates, state = tx.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
      return (params, state), params

    params = jnp.ones(_SHAPE)
    runs.append(jax.lax.scan(step, (params, tx.init(params)), gradients)[1])
  return runs


@pytest.mark.parametrize(
  'rule', ['namo', 'input', 'output', 'schatten', 'spectral', 'aol']
)
def test_meta_gradient_is_finite(rule):
  """Through the update, where a column's norm is exactly zero."""
  columns = rule if rule in ('input', 'output') else None
  scaling = rule if rule in ('schatten', 'spectral', 'aol') else 'frobenius'
  tx = optax_namo.namo_d(
    0.1,
    columns=columns,
    eps=0.0 if rule == 'input' else 1e-8,
    orthogonalizer=functools.partial(
      optax_namo.newton_schulz, preconditioning=scaling
    ),
  )
  params = _GRADIENTS['no_column']

  @jax.jit
  @jax.grad
  def slope(scale, gradient):
    def step(carry, _):
      state, p = carry
      updates, state = tx.update(scale * gradient, state, p)
      return (state, optax.apply_updates(p, updates)), None

    (_, p), _ = jax.lax.scan(step, (tx.init(params), params), length=2)
    return jnp.sum(jnp.sin(p))

  ones = jnp.ones_like(params)
  assert bool(jnp.isfinite(slope(ones, 0 * params)).all())
  found = slope(ones, params)
  assert bool(jnp.isfinite(found).all())
  assert float(jnp.abs(found).max()) > 0


def test_meta_gradient_equals_a_finite_difference():
  tx = optax_namo.namo_d(0.1, columns='output', clamp=0.5)
  gradients = [
    jnp.asarray(np.random.default_rng(i).normal(size=(4, 5)), jnp.float32)
    for i in range(3)
  ]
  params, direction = gradients[:2]

  @jax.jit
  def after(shift):
    state, p = tx.init(params), params
    for g in gradients:
      updates, state = tx.update(g + shift * direction, state, p)
      p = optax.apply_updates(p, updates)
    return jnp.sum(jnp.sin(p))

  slope = jax.jit(jax.grad(after))(0.0)
  expected = (after(1e-2) - after(-1e-2)) / 2e-2
  np.testing.assert_allclose(slope, expected, rtol=2e-2)


def _check(gradients, b1=0.95, b2=0.99):
  found = _plain_runs(jnp.float32(gradients), b1, b2)
  options = {'b1': b1, 'b2': b2}
  expected = (
    paper.namo(np.ones(_SHAPE), gradients, 0.05, **options),
    paper.namo_d(np.ones(_SHAPE), gradients, 0.05, clamp=0.6, **options),
  )
  for one, other in zip(found, expected):
    np.testing.assert_allclose(one, np.stack(list(other)), atol=2e-5)


@pytest.mark.parametrize(
  'b1, b2', [(0.0, 0.0), (0.0, 0.99), (0.9, 0.0), (0.999, 0.5)]
)
def test_rates(b1, b2):
  gradients = np.random.default_rng(0).normal(size=(1003, *_SHAPE))
  # Silence with b1 > b2 is no fair game: v is forgotten before M is.
  gradients[20:] *= b1 > b2
  _check(gradients, b1, b2)


def test_silence_before_the_first_gradient():
  gradients = np.random.default_rng(1).normal(size=(1003, *_SHAPE))
  gradients[:1000] = 0
  _check(gradients)


@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_the_last_count(name):
  """2**31 - 1 steps on, the count stays and corrections are 1."""
  params = {'w': jnp.ones(_SHAPE), 'b': jnp.ones(6)}
  tx = _OPTIMIZERS[name](0.1)
  update = jax.jit(tx.update)
  rng = np.random.default_rng(2)
  draw = lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype)
  gradients = [jax.tree.map(draw, params) for _ in range(4)]
  _, state = update(gradients[0], tx.init(params), params)
  late = optax.tree.set(state, count=jnp.int32(2**31 - 3))
  # Both corrections are 1 in float32 from step 20,000 on.
  sooner = optax.tree.set(state, count=jnp.int32(10**6))
  for gradient in gradients:
    found, late = update(gradient, late, params)
    expected, sooner = update(gradient, sooner, params)
    chex.assert_trees_all_equal(found, expected)
  counts = [c for _, c in optax.tree.get_all_with_path(late, 'count')]
  assert set(map(int, counts)) == {2**31 - 1}


@pytest.mark.parametrize('eps', [1e-8, 0.0])
@pytest.mark.parametrize('optimizer', [optax_namo.namo, optax_namo.namo_d])
def test_forward_mode_at_a_gradient_of_zero(optimizer, eps):
  """As LoRA's first step has it: along it and backwards derivatives agree."""
  tx = optimizer(0.1, eps=eps)
  params = {'w': _normal(0, 4, 6)}  # Adam's root is optax's.
  still = jax.tree.map(jnp.zeros_like, params)
  state = tx.init(params)
  update = jax.jit(lambda gradient: tx.update(gradient, state, params)[0]['w'])
  along = jax.jvp(update, (still,), (params,))[1]
  forward = jax.jacfwd(update)(still)
  backward = jax.jacrev(update)(still)
  chex.assert_tree_all_finite((along, forward, backward))
  chex.assert_trees_all_close(forward, backward, atol=1e-5)
  second = jax.jvp(
    jax.grad(lambda g: jnp.sum(update(g) ** 2)), (still,), (params,)
  )
  chex.assert_tree_all_finite(second)
