# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A leaf of several matrices gets the updates of the matrices stored apart."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import tolerance as _tolerance

pytestmark = pytest.mark.accelerator

_SPECS = {
  # name: (shape, specification, dimension numbers of a part)
  'fused_qkv': ((6, 12), 1, (4, 4, 4), MuonDimensionNumbers(0, 1)),
  'fused_gate_up_of_rows': ((10, 4), -2, (5, 5), MuonDimensionNumbers(0, 1)),
  'unequal': ((5, 9), 1, (6, 2, 1), MuonDimensionNumbers(0, 1)),
  'stack': ((3, 4, 8), 2, (4, 4), MuonDimensionNumbers(1, 2)),
  'heads': ((6, 2, 4), 1, (1, 1), MuonDimensionNumbers(0, (1, 2))),
}


def _normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _run(tx, params, gradients):
  state = tx.init(params)
  step = jax.jit(tx.update)
  for gradient in gradients:
    updates, state = step(gradient, state, params)
  return updates, state


@pytest.mark.parametrize('name', _SPECS)
@pytest.mark.parametrize(
  'case',
  [
    ('namo', {'decay': 'adaptive'}),
    ('namo_d', {'columns': 'input', 'clamp': 0.8, 'decay': 'decoupled'}),
    ('namo_d', {'columns': 'output', 'clamp': 0.8, 'decay': 'adaptive'}),
  ],
)
def test_equals_separate_parameters(name, case):
  shape, axis, sizes, numbers = _SPECS[name]
  optimizer, options = case
  options = options | {'weight_decay': 0.1, 'record': True}
  make = lambda spec: getattr(optax_namo, optimizer)(
    0.1, weight_dimension_numbers=spec, **options
  )
  cut = lambda x: dict(
    zip('abc', jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis))
  )
  params = _normal(0, *shape)
  gradients = [_normal(i, *shape) for i in range(1, 5)]
  split = optax_namo.SplitMatrices(numbers, axis, sizes)
  found, state = _run(make(split), params, gradients)
  chex.assert_equal_shape((found, params))
  expected, _ = _run(make(numbers), cut(params), list(map(cut, gradients)))
  chex.assert_trees_all_close(cut(found), expected, atol=_tolerance(1e-6))
  is_namo = lambda x: isinstance(x, optax_namo.NamoState)
  (inner,) = filter(is_namo, jax.tree.leaves(state, is_leaf=is_namo))
  assert isinstance(inner.mu, tuple)
  assert len(inner.mu) == len(sizes)
  # As one matrix the update would be another.
  whole, _ = _run(make(numbers), params, gradients)
  assert float(jnp.abs(whole - found).max()) > 1e-3


def test_mask_and_neighbours():
  params = {'qkv': _normal(0, 4, 8), 'w': _normal(1, 4, 4), 'b': jnp.ones(4)}
  spec = {
    'qkv': optax_namo.SplitMatrices(MuonDimensionNumbers(), 1, (4, 4)),
    'w': MuonDimensionNumbers(),
    'b': None,
  }
  mask = {'qkv': False, 'w': True, 'b': True}
  tx = lambda decay: optax_namo.namo_d(
    0.1,
    weight_decay=decay,
    weight_decay_mask=mask,
    weight_dimension_numbers=spec,
  )
  with_decay, _ = _run(tx(0.5), params, [params])
  without, _ = _run(tx(0.0), params, [params])
  np.testing.assert_array_equal(with_decay['qkv'], without['qkv'])
  assert float(jnp.abs(with_decay['w'] - without['w']).max()) > 1e-3


def test_bfloat16_and_wrappers():
  params = {'qkv': _normal(0, 4, 8).astype(jnp.bfloat16)}
  spec = optax_namo.SplitMatrices(MuonDimensionNumbers(), 1, (4, 4))
  tx = optax_namo.namo_d(0.1, weight_dimension_numbers=spec)
  for wrapped in (
    tx,
    optax.apply_if_finite(tx, 2),
    optax.MultiSteps(tx, 1),
    optax.masked(tx, {'qkv': True}),
  ):
    updates, state = _run(wrapped, params, [params] * 2)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, wrapped.init(params))


def test_rules_may_split():
  params = {'block': {'c_attn': {'kernel': _normal(0, 4, 12)}}}
  split = optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (4, 4, 4))
  (row,) = optax_namo.routing_table(params, rules=[(r'c_attn/kernel$', split)])
  assert row.view == ((1, 4, 4),) * 3
  assert row.group == 'matrix'


@pytest.mark.parametrize(
  'axis, sizes, message',
  [
    (1, (4, 5), 'add up to 8'),
    (1, (), 'add up to 8'),
    (1, (9, -1), 'positive'),
    (2, (4, 4), 'axis that is not there'),
  ],
)
def test_errors(axis, sizes, message):
  spec = optax_namo.SplitMatrices(MuonDimensionNumbers(), axis, sizes)
  tx = optax_namo.namo(0.1, weight_dimension_numbers={'w': spec})
  with pytest.raises(ValueError, match=f"'w' .*{message}"):
    tx.init({'w': jnp.ones((4, 8))})


@pytest.mark.parametrize('inner', [None, 'all'])
def test_parts_need_dimension_numbers(inner):
  spec = optax_namo.SplitMatrices(inner, 1, (4, 4))
  tx = optax_namo.namo(0.1, weight_dimension_numbers={'w': spec})
  with pytest.raises(TypeError, match="'w' .*MuonDimensionNumbers"):
    tx.init({'w': jnp.ones((4, 8))})
