# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameters in boxes that name their axes: Flax's, and named arrays."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

import chex
from flax import linen as nn
from flax import nnx
from flax.training import train_state
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
import orbax.checkpoint as ocp
import pytest

import optax_namo
from tests.core import annotated_models
from tests.helpers import environment
from tests.helpers import normal as _normal
from tests.helpers import run as _run


@functools.cache
def _annotated_models():
  """What tests/core/annotated_models.py finds, by name."""
  told = subprocess.run(
    [sys.executable, '-m', 'tests.core.annotated_models'],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    env=environment(8),
  )
  assert told.returncode == 0, told.stderr
  rows = [json.loads(line) for line in told.stdout.splitlines()]
  return {row.pop('name'): row for row in rows}


@pytest.mark.parametrize('name', annotated_models.NAMES)
def test_equal_to_one_device(name):
  if name.startswith('nnx') and not annotated_models.PLACES_MODELS:
    pytest.skip('this flax leaves some of an annotated model on one device')
  found = _annotated_models()[name]
  largest = {k: x for k, x in found.items() if k != 'specs'}
  assert max(largest.values()) < 1e-5
  assert found.get('restored', 0) == 0
  if name.startswith('nnx'):  # The momentum is the parameter's, nothing else.
    specs = found['specs']
    rest = {k: spec for k, spec in specs.items() if k != 'mu'}
    assert specs['mu'] == "P(None, 'fsdp')"
    assert {'root_v', 'update_rms'} <= set(rest)
    assert set(rest.values()) == {'P()'}


@pytest.mark.parametrize('jitted', [True, False])
def test_split_leaves_in_nnx_optimizer(jitted):
  """A fused kernel trains as the same parts kept apart, and checkpoints."""
  numbers = lambda params: jax.tree.map(
    lambda x: (
      optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (3, 5))
      if x.ndim == 2
      else None
    ),
    params,
  )
  tx = optax_namo.namo_d(0.1, weight_dimension_numbers=numbers, record=True)
  model = nnx.Linear(4, 8, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  params = {'a': model.kernel[:, :3], 'b': model.kernel[:, 3:]}
  apart = optax_namo.namo_d(0.1)
  state = apart.init(params)
  update = optimizer.update
  if jitted:
    step = nnx.jit(lambda o, m, g: o.update(m, g))
    update = functools.partial(step, optimizer)
  for seed in range(3):
    grads = nnx.state(model, nnx.Param)
    grads = jax.tree.map(lambda x, i=seed: _normal(i, *x.shape), grads)
    kernel = grads['kernel'][...]
    update(model, grads)
    updates, state = apart.update(
      {'a': kernel[:, :3], 'b': kernel[:, 3:]}, state, params
    )
    params = optax.apply_updates(params, updates)
  chex.assert_trees_all_close(
    model.kernel[...], jnp.hstack([params['a'], params['b']]), atol=1e-6
  )
  told = optax_namo.diagnostics(optimizer.opt_state)
  assert list(told) == ['kernel[0]', 'kernel[1]']
  assert told['kernel[0]'].step == 3


@pytest.mark.parametrize(
  'boxed', [nn.with_partitioning, nn.with_logical_partitioning]
)
def test_linen_boxes_in_a_train_state_with_a_record(boxed):
  model = nn.Dense(
    6,
    kernel_init=boxed(nn.initializers.normal(), (None, 'mlp')),
    bias_init=boxed(nn.initializers.zeros, ('mlp',)),
  )
  params = model.init(jax.random.key(0), jnp.ones((1, 4)))['params']
  tx = optax_namo.namo_d(0.1, record=True)
  bare, plain = nn.unbox(params), None
  for tree in (bare, params):
    state = train_state.TrainState.create(
      apply_fn=model.apply, params=tree, tx=tx
    )
    for _ in range(3):
      state = jax.jit(lambda s: s.apply_gradients(grads=s.params))(state)
    plain = plain or state
  chex.assert_trees_all_close(nn.unbox(state.params), plain.params, rtol=1e-6)
  namo_state = optax.tree.get(state.opt_state, 'NamoState')
  assert isinstance(namo_state.mu['kernel'], nn.Partitioned)
  chex.assert_shape(namo_state.root_v['kernel'], (4, 1))
  assert list(optax_namo.diagnostics(state)) == ['kernel']
  specs = nn.get_partition_spec(state).opt_state
  specs = optax.tree.get(specs, 'NamoState')
  partition = jax.sharding.PartitionSpec
  assert specs.mu['kernel'] == partition(None, 'mlp')
  assert specs.root_v['kernel'] == partition()


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class NamedArray:
  """As Haliax has it: one child without a key, and names of its axes.

  Haliax itself (1.3) does not import with jax 0.10.
  """

  array: jax.Array
  axes: tuple[str, ...]

  def tree_flatten(self):
    return (self.array,), self.axes

  def __eq__(self, other):
    raise TypeError(f'no comparison of named arrays with {other!r}')

  @classmethod
  def tree_unflatten(cls, axes, children):
    (array,) = children
    if isinstance(array, jax.Array) and array.ndim != len(axes):
      raise ValueError(f'{axes} do not name the axes of {array.shape}')
    return cls(array, axes)


@pytest.mark.parametrize('optimizer', [optax_namo.namo, optax_namo.namo_d])
def test_named_arrays_equal_bare_ones(optimizer):
  numbers = lambda params: jax.tree.map(
    lambda x: MuonDimensionNumbers(-2, -1) if x.ndim > 1 else None, params
  )
  tx = optimizer(0.1, weight_dimension_numbers=numbers, record=True)
  bare = {'w': _normal(0, 3, 4, 6), 'b': _normal(1, 6)}
  axes = {'w': ('layer', 'in', 'out'), 'b': ('out',)}
  named = {name: NamedArray(x, axes[name]) for name, x in bare.items()}
  expected = _run(tx, [bare] * 3, bare)
  found = _run(tx, [named] * 3, named)
  chex.assert_trees_all_equal_structs(found, named)
  chex.assert_trees_all_close(
    {name: x.array for name, x in found.items()}, expected, rtol=1e-6
  )
  state = tx.init(named)
  namo_state = optax.tree.get(state, 'NamoState')
  assert namo_state.mu['w'].axes == axes['w']
  assert isinstance(namo_state.root_v['w'], jax.Array)
  assert list(optax_namo.diagnostics(state)) == ['w']


class _Cell(NamedTuple):
  value: jax.Array


def test_containers_of_one_leaf_are_no_boxes():
  """A dict, list or NamedTuple of one array keeps its place in the state."""
  w = jnp.ones((2, 3))
  params = {'a': {'w': w}, 'b': [w], 'c': (w,), 'd': _Cell(w)}
  state = optax_namo.scale_by_namo().init(params)
  namo_state = optax.tree.get(state, 'NamoState')
  chex.assert_trees_all_equal_structs(namo_state.root_v, params)
  chex.assert_trees_all_equal_structs(namo_state.mu, params)


def test_an_nnx_checkpoint_with_boxes_around_what_is_masked(tmp_path):
  """As version 0.1 wrote it; docs/faq.md tells how it restores."""
  make = lambda: nnx.Optimizer(
    nnx.Linear(4, 6, rngs=nnx.Rngs(0)), optax_namo.namo_d(0.1), wrt=nnx.Param
  )
  optimizer = make()
  grads = {'kernel': _normal(0, 4, 6), 'bias': _normal(1, 6)}
  model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
  optimizer.update(model, nnx.State(jax.tree.map(nnx.Param, grads)))
  state = nnx.state(optimizer, nnx.optimizer.OptState)
  old = nnx.to_pure_dict(state)
  moments = old['opt_state']['inner_states']['namo']['inner_state'][0]['mu']
  assert 'bias' not in moments
  moments['bias'] = None  # An entry without an array.
  saved = ocp.PyTreeCheckpointer()
  saved.save(tmp_path / 'old', old)
  fresh = nnx.to_pure_dict(nnx.state(make(), nnx.optimizer.OptState))
  restored = saved.restore(
    tmp_path / 'old',
    args=ocp.args.PyTreeRestore(
      fresh,
      ocp.checkpoint_utils.construct_restore_args(fresh),
      partial_restore=True,
    ),
  )
  chex.assert_trees_all_equal(restored, nnx.to_pure_dict(state))
