# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The state outlives the process: in every format, and from version 0.1 on."""

import functools
import hashlib
import pathlib
import pickle

import chex
from flax import serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import orbax.checkpoint as ocp
import pytest

import optax_namo
from tests.helpers import tolerance as _tolerance

pytestmark = pytest.mark.accelerator

_GOLDEN = (
  pathlib.Path(__file__).parents[1] / 'golden' / 'checkpoint_0.1.msgpack'
)
_NUMBERS = functools.partial(
  optax_namo.matrix_dimension_numbers,
  rules=[
    ('layers', MuonDimensionNumbers(1, 2)),
    (
      'qkv',
      optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (4, 4, 4)),
    ),
  ],
)
# With the options that the golden checkpoint was made with.
_OPTIMIZERS = {
  'namo': optax_namo.namo(
    0.05, adam_learning_rate=0.01, weight_dimension_numbers=_NUMBERS
  ),
  'namo_d': optax_namo.namo_d(
    0.05, adam_learning_rate=0.01, weight_dimension_numbers=_NUMBERS
  ),
}
_SHAPES = {
  'dense': {'kernel': (4, 6), 'bias': (6,)},
  'layers': {'kernel': (2, 3, 5)},
  'qkv': {'kernel': (4, 12)},
  'wte': {'embedding': (5, 4)},
  'temperature': (),
}
_DTYPES = {'qkv': jnp.bfloat16, 'wte': jnp.float16}


def _draw(seed, dtypes=None):
  rng = np.random.default_rng(seed)
  draw = lambda path, shape: jnp.asarray(
    rng.normal(size=shape), (dtypes or {}).get(path[0].key, jnp.float32)
  )
  return jax.tree_util.tree_map_with_path(
    draw, _SHAPES, is_leaf=lambda x: isinstance(x, tuple)
  )


def _params():
  return _draw(0, _DTYPES)


def _run(tx, steps=3):
  """The state after some steps at parameters that stay."""
  state, update = tx.init(_params()), jax.jit(tx.update)
  for seed in range(1, 1 + steps):
    _, state = update(_draw(seed), state, _params())
  return state


def _through_msgpack(state, fresh, _):
  return serialization.from_bytes(fresh, serialization.to_bytes(state))


def _through_orbax(state, fresh, folder):
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / 'state', state)
    checkpointer.wait_until_finished()
    return checkpointer.restore(folder / 'state', fresh)


def _through_leaves(state, fresh, _):
  leaves = jax.tree.leaves(jax.device_get(state))
  return jax.tree.unflatten(jax.tree.structure(fresh), leaves)


_FORMATS = {
  'pickle': lambda state, fresh, _: pickle.loads(pickle.dumps(state)),
  'msgpack': _through_msgpack,
  'orbax': _through_orbax,
  'leaves': _through_leaves,
}


@pytest.mark.parametrize('name', _OPTIMIZERS)
@pytest.mark.parametrize('form', _FORMATS)
def test_goes_on_bit_for_bit(name, form, tmp_path):
  tx = _OPTIMIZERS[name]
  state = _run(tx)
  restored = _FORMATS[form](state, tx.init(_params()), tmp_path)
  chex.assert_trees_all_equal_structs(restored, state)
  chex.assert_trees_all_equal_dtypes(restored, state)
  step = lambda state: jax.jit(tx.update)(_draw(9), state, _params())
  chex.assert_trees_all_equal(step(restored), step(state))


@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_optax_tree(name):
  """Fields are found and set by name, wherever the state is wrapped."""
  tx = optax.chain(optax.clip_by_global_norm(1.0), _OPTIMIZERS[name])
  state = _run(tx)
  namo_state = optax.tree.get(state, 'NamoState')
  assert namo_state.count == 3
  root_v = optax.tree.get(state, 'root_v')
  chex.assert_trees_all_equal(root_v, namo_state.root_v)
  doubled = optax.tree.set(state, root_v=jax.tree.map(lambda x: 2 * x, root_v))
  chex.assert_trees_all_equal(optax.tree.set(doubled, root_v=root_v), state)
  update = jax.jit(tx.update)
  expected, _ = update(_draw(9), state, _params())
  found, _ = update(_draw(9), doubled, _params())
  half = np.linalg.norm(found['dense']['kernel']) / np.linalg.norm(
    expected['dense']['kernel']
  )
  assert 0.4 <= half <= 0.8
  chex.assert_trees_all_equal(found['wte'], expected['wte'])


@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_donation(name):
  """No two parts of the state share a buffer; all of them are reused."""
  tx = _OPTIMIZERS[name]
  step = jax.jit(tx.update, donate_argnums=1)
  state = tx.init(_params())
  for seed in range(1, 4):
    before = jax.tree.leaves(state)
    _, state = step(_draw(seed), state, _params())
    assert all(leaf.is_deleted() for leaf in before)
  chex.assert_trees_all_equal(state, _run(tx))


@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_shapes_suffice_for_init(name):
  """As for optax.adamw: restored code may know the shapes alone."""
  tx = _OPTIMIZERS[name]
  shapes = jax.eval_shape(_params)
  chex.assert_trees_all_equal(tx.init(shapes), tx.init(_params()))


@pytest.mark.parametrize('name', _OPTIMIZERS)
def test_the_golden_checkpoint_takes_the_same_step(name):
  """A file written by version 0.1; golden/README.txt tells how."""
  tx = _OPTIMIZERS[name]
  saved = serialization.msgpack_restore(_GOLDEN.read_bytes())[name]
  params = jax.tree.map(jnp.asarray, saved['params'])
  state = serialization.from_state_dict(tx.init(params), saved['state'])
  assert optax.tree.get(state, 'NamoState').count == 3
  updates, _ = jax.jit(tx.update)(saved['gradient'], state, params)
  # In float32: a parameter's own dtype may round the last bit either way.
  after = optax.tree.add(optax.tree.cast(params, jnp.float32), updates)
  chex.assert_trees_all_close(
    after, saved['after'], rtol=0, atol=_tolerance(1e-6)
  )


def test_the_golden_checkpoint_is_never_regenerated():
  expected = 'a5b544d12076e0f2cf65f7415ae780c8035c0974956a54f7dac91409f1a42d02'
  assert hashlib.sha256(_GOLDEN.read_bytes()).hexdigest() == expected
