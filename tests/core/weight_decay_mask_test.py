# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which parameters decay: one mask of the whole tree, for both groups."""

import chex
from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import optax
import pytest

import optax_namo
from tests.helpers import normal as _normal

_PARAMS = {
  'ln': {'scale': _normal(0, 4)},
  'up': {'kernel': _normal(1, 4, 6), 'bias': _normal(2, 6)},
  'down': {'kernel': _normal(3, 6, 4)},
  'wte': {'embedding': _normal(4, 9, 4)},
}


def _no_vectors(params):
  """As programs write it: it looks at every leaf, by its path."""
  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict(
    {path: x.ndim > 1 and path[0] != 'down' for path, x in flat.items()}
  )


_MASKS = {
  'callable': _no_vectors,
  'tree': _no_vectors(_PARAMS),
  'prefix': {'ln': False, 'up': True, 'down': False, 'wte': True},
  'none': None,
}


def _updates(tx, params=_PARAMS):
  grads = jax.tree.map(jnp.ones_like, params)
  return jax.jit(tx.update)(grads, tx.init(params), params)[0]


@pytest.mark.parametrize('mask', _MASKS)
def test_the_rest_decays_as_by_adamw(mask):
  ours = optax_namo.namo_d(
    0.1, adam_weight_decay=0.2, weight_decay_mask=_MASKS[mask]
  )
  adamw = optax.adamw(
    0.1, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.2, mask=_MASKS[mask]
  )
  found, expected = _updates(ours), _updates(adamw)
  for path in (('ln', 'scale'), ('up', 'bias'), ('wte', 'embedding')):
    a, b = (tree[path[0]][path[1]] for tree in (found, expected))
    chex.assert_trees_all_close(a, b, rtol=1e-6)


@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
@pytest.mark.parametrize('mask', _MASKS)
def test_matrices(mask, decay):
  make = lambda **options: _updates(
    optax_namo.namo(0.1, decay=decay, **options)
  )
  found = make(weight_decay=0.5, weight_decay_mask=_MASKS[mask])
  on, off = make(weight_decay=0.5), make(weight_decay=0.0)
  whole = jax.tree.map(lambda _: True, _PARAMS)
  if _MASKS[mask] is not None:
    whole = _no_vectors(_PARAMS)
    if mask == 'prefix':
      whole['up']['bias'] = True
  chex.assert_trees_all_equal(
    found, jax.tree.map(lambda k, a, b: a if k else b, whole, on, off)
  )
  kernel = lambda tree: tree['up']['kernel']
  assert float(jnp.abs(kernel(on) - kernel(off)).max()) > 1e-3


def test_in_a_chain_of_ones_own():
  """Through routed a stage's mask is of the whole tree, too."""
  chain = lambda mask: optax.chain(
    optax_namo.adaptive_momentum(),
    optax_namo.orthogonalize(),
    optax_namo.add_adaptive_decay(0.5, mask),
    optax_namo.apply_scale(),
  )
  found, on = (
    _updates(optax_namo.routed(chain(mask), optax.identity()))
    for mask in (_no_vectors, None)
  )
  chex.assert_trees_all_equal(found['up'], on['up'])
  assert (
    float(jnp.abs(found['down']['kernel'] - on['down']['kernel']).max()) > 0
  )


@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
def test_boxed_parameters(decay):
  boxed = jax.tree.map(
    lambda x: nn.Partitioned(x, names=(None,) * x.ndim), _PARAMS
  )
  make = lambda mask: optax_namo.namo_d(
    0.1,
    weight_decay=0.5,
    decay=decay,
    adam_weight_decay=0.2,
    weight_decay_mask=mask,
  )
  of_arrays = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
  expected = _updates(make(of_arrays))
  for mask in (of_arrays, of_arrays(boxed), of_arrays(_PARAMS)):
    found = _updates(make(mask), boxed)
    chex.assert_trees_all_close(nn.unbox(found), expected, rtol=1e-6)


@pytest.mark.parametrize('mask', [5, 'abc', {'ln': 1.0}, lambda p: 'abc'])
def test_what_is_no_boolean(mask):
  with pytest.raises(
    TypeError, match='weight_decay_mask must be a tree of bool'
  ):
    _updates(optax_namo.namo_d(0.1, weight_decay_mask=mask))


@pytest.mark.parametrize('decays', [lambda x: x.ndim > 1, lambda x: True])
def test_a_mask_that_optax_takes_for_a_schedule(decays):
  """It gets a count for the parameters, and may make False or True of it."""
  tx = optax.inject_hyperparams(optax_namo.namo_d)(
    learning_rate=0.1, weight_decay_mask=lambda p: jax.tree.map(decays, p)
  )
  with pytest.raises(TypeError, match='static_args'):
    tx.init(_PARAMS)
