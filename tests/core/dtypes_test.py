# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Leaves of several dtypes, weak types, and weights that dwarf the update."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run
from tests.helpers import tolerance as _tolerance
from tests.oracles import paper

pytestmark = pytest.mark.accelerator


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_computes_in_float32(dtype):
  """Low-precision trees give the float32 update, rounded once.

  To half a unit of the last place and float32's rounding, in which the two
  programs may differ: processors multiply and add at once, or do not.
  """
  draw = lambda seed: {
    'w': _normal(seed, 4, 6, dtype=dtype),
    'b': _normal(seed + 1, 6, dtype=dtype),
  }
  params, *gradients = [draw(seed) for seed in range(0, 12, 2)]
  wide = lambda tree: optax.tree.cast(tree, jnp.float32)
  info = jnp.finfo(dtype)
  half_unit = _tolerance(float(info.eps) / 2 + 1e-6)
  for optimizer in (optax_namo.namo, optax_namo.namo_d):
    found = _run(optimizer(0.1), gradients, params)
    chex.assert_trees_all_equal_dtypes(found, params)
    expected = _run(optimizer(0.1), [wide(g) for g in gradients], wide(params))
    chex.assert_trees_all_close(
      wide(found), expected, rtol=half_unit, atol=float(info.smallest_subnormal)
    )


@pytest.mark.parametrize('optimizer', [optax_namo.namo, optax_namo.namo_d])
def test_mixed_tree(optimizer):
  """Every leaf as if it were alone, in its own precision."""
  dtypes = {
    'bfloat16': 2**-8, 'float16': 2**-11, 'float32': 1e-6, 'float64': 1e-14,
  }  # fmt: skip
  with jax.enable_x64(True):
    draw = lambda seed: {
      dtype: {
        'kernel': _normal(seed, 3, 4, dtype=dtype),
        'bias': _normal(seed + 1, 4, dtype=dtype),
      }
      for dtype in dtypes
    }
    params, *gradients = [draw(seed) for seed in range(0, 8, 2)]
    found = _run(optimizer(0.1), gradients, params)
    chex.assert_trees_all_equal_dtypes(found, params)
    for dtype, bound in dtypes.items():
      bound = bound if dtype == 'float64' else _tolerance(bound)
      alone = _run(optimizer(0.1), [g[dtype] for g in gradients], params[dtype])
      chex.assert_trees_all_close(found[dtype], alone, rtol=4 * bound)


def test_small_float16_gradients():
  # Half of these vanish in float16 once they are multiplied by 1 - b1.
  small = (_normal(0, 4, 6) * 2e-6).astype(jnp.float16)
  tx = optax_namo.scale_by_namo(eps=0.0)
  expected = _run(tx, [small.astype(jnp.float32)]).astype(jnp.float16)
  chex.assert_trees_all_equal(_run(tx, [small]), expected)


def test_float64():
  with jax.enable_x64(True):
    params = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    tx = optax_namo.namo_d(0.1)
    updates, state = tx.update(params, tx.init(params), params)
    assert updates.dtype == jnp.float64
    floats = [
      x.dtype
      for x in jax.tree.leaves(state)
      if jnp.issubdtype(x.dtype, jnp.floating)
    ]
    assert set(floats) == {jnp.dtype('float64')}


@pytest.mark.parametrize('optimizer', [optax_namo.namo, optax_namo.namo_d])
def test_the_state_keeps_its_dtypes(optimizer):
  """Also where hyperparameters are wider than the parameters."""
  with jax.enable_x64(True):
    params = {'w': _normal(0, 3, 4), 'b': _normal(1, 4)}
    for dtype in (None, jnp.bfloat16):
      tx = optax.inject_hyperparams(
        optimizer,
        static_args=('mu_dtype',),
        hyperparam_dtype=jnp.float64,
      )(0.1, adam_b1=0.9, adam_b2=0.99, b1=0.9, mu_dtype=dtype)
      state = tx.init(params)
      _, new = tx.update(params, state, params)
      chex.assert_trees_all_equal_shapes_and_dtypes(state, new)


def test_a_dtype_that_optax_takes_for_a_schedule():
  """It makes an array of it, the first of which is zero."""
  tx = optax.inject_hyperparams(optax_namo.namo_d)(0.1, mu_dtype=jnp.bfloat16)
  with pytest.raises(TypeError, match='mu_dtype .* name it as a string'):
    tx.init({'w': jnp.ones((2, 3))})


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
def test_decay_of_large_weights_leaves_the_direction_whole(dtype, decay):
  """Weights of 1e4: the decay is a hundred times the direction."""
  weights = 1e4 * jnp.clip(_normal(0, 4, 6), -3, 3).astype(dtype)
  gradient = _normal(1, 4, 6, dtype=dtype)
  tx = optax_namo.namo(
    0.05,
    decay=decay,
    nesterov=False,
    shape_scale='none',
    orthogonalizer=optax_namo.polar_svd,
  )
  found = np.float64(_run(tx, [gradient], weights))
  wide = np.float64(weights)
  # The first step has a scale of one: both decays are 0.01 weights.
  (after,) = paper.namo(wide, [gradient], 0.05)
  expected = after - wide
  # Float32 arithmetic, and one rounding to the gradients' dtype.
  bound = _tolerance(5e-7 + float(jnp.finfo(dtype).eps))
  np.testing.assert_allclose(found, expected, rtol=bound)
  assert np.abs(expected).min() > 0.05


@pytest.mark.parametrize('optimizer', [optax_namo.namo, optax_namo.namo_d])
def test_weak_types_of_parameters_and_gradients(optimizer):
  """Python numbers and what is made of them: float32, and no retracing."""
  weak = {
    'kernel': jnp.broadcast_to(jnp.asarray(0.5), (3, 4)),
    'bias': jnp.broadcast_to(jnp.asarray(0.25), (4,)),
    'temperature': 2.0,
  }
  assert weak['kernel'].weak_type
  strong = jax.tree.map(np.float32, weak)
  tx = optimizer(0.1)
  start = tx.init(weak)
  updates, state = jax.jit(tx.update)(weak, start, weak)
  expected, _ = jax.jit(tx.update)(strong, tx.init(strong), strong)
  chex.assert_trees_all_equal(updates, expected)
  types = lambda tree: [
    (x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)
  ]
  assert types(state) == types(start)
  assert types(start) == types(tx.init(strong))
