# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Weight decay before and after the scale, masked and scheduled."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run

_PARAMS = {'w': _normal(0, 3, 4), 'v': _normal(1, 4, 3)}
_GRADIENTS = [
  {'w': _normal(2 + i, 3, 4), 'v': _normal(20 + i, 4, 3)} for i in range(3)
]


def _decay_term(**options):
  with_decay = _run(
    optax_namo.namo(0.1, weight_decay=0.3, **options),
    _GRADIENTS,
    _PARAMS,
  )
  without = _run(optax_namo.namo(0.1, weight_decay=0.0), _GRADIENTS, _PARAMS)
  return optax.tree.sub(with_decay, without)


def test_decoupled():
  expected = jax.tree.map(lambda p: -0.1 * 0.3 * p, _PARAMS)
  chex.assert_trees_all_close(
    _decay_term(decay='decoupled'), expected, rtol=1e-4, atol=1e-6
  )


def test_adaptive_is_multiplied_by_the_scale():
  tx = optax_namo.adaptive_momentum()
  scale = jax.tree.map(
    lambda u: u.scale,
    _run(tx, _GRADIENTS),
    is_leaf=lambda u: isinstance(u, optax_namo.Factored),
  )
  expected = jax.tree.map(lambda p, a: -0.1 * 0.3 * p * a, _PARAMS, scale)
  chex.assert_trees_all_close(_decay_term(), expected, rtol=1e-4, atol=1e-6)
  assert float(jnp.abs(scale['w'] - 1).max()) > 0.1


@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
@pytest.mark.parametrize(
  'mask',
  [
    {'w': True, 'v': False},
    lambda params: {'w': params['w'].shape == (3, 4), 'v': False},
  ],
  ids=['tree', 'callable'],
)
def test_mask(decay, mask):
  term = _decay_term(decay=decay, weight_decay_mask=mask)
  assert float(jnp.abs(term['w']).max()) > 1e-3
  np.testing.assert_array_equal(term['v'], 0)


def test_mask_prefix_leaves_adamw_alone():
  params = _PARAMS | {'c': jnp.ones(3)}
  gradients = [g | {'c': jnp.ones(3)} for g in _GRADIENTS]
  mask = {'w': False, 'v': True, 'c': True}
  found = _run(
    optax_namo.namo(0.1, weight_decay=0.3, weight_decay_mask=mask),
    gradients,
    params,
  )
  free = _run(optax_namo.namo(0.1, weight_decay=0.0), gradients, params)
  np.testing.assert_array_equal(found['w'], free['w'])
  np.testing.assert_array_equal(found['c'], free['c'])
  assert float(jnp.abs(found['v'] - free['v']).max()) > 1e-3


@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
@pytest.mark.parametrize('mask', [None, {'w': True, 'b': True}])
def test_a_schedule_equals_the_numbers_it_gives(decay, mask):
  """As optax.adamw and optax.contrib.muon take schedules for their decay."""
  params = {'w': _normal(0, 3, 4), 'b': _normal(1, 4)}
  schedule = lambda count: 0.1 * (1 + count)
  make = lambda w: optax_namo.namo_d(
    0.1,
    weight_decay=w,
    adam_weight_decay=w,
    decay=decay,
    weight_decay_mask=mask,
  )
  tx = make(schedule)
  state, update = tx.init(params), jax.jit(tx.update)
  plain = make(0.5).init(params)
  for i in range(3):
    updates, state = update(params, state, params)
    expected, plain = make(0.1 * (1 + i)).update(params, plain, params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-5, atol=1e-6)


def test_a_schedule_in_a_chain_of_ones_own():
  stages = lambda w: optax.chain(
    optax_namo.adaptive_momentum(),
    optax_namo.add_adaptive_decay(w),
    optax_namo.apply_scale(),
  )
  params = _normal(0, 3, 4)
  state = stages(0.1).init(params)
  scheduled = stages(lambda count: 0.1 / (1 + count))
  chex.assert_trees_all_equal_structs(scheduled.init(params), state)
  for i in range(2):
    expected, new = stages(0.1 / (1 + i)).update(params, state, params)
    updates, state = scheduled.update(params, state, params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)
    chex.assert_trees_all_equal(state, new)
