# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A chain for the matrices, any transformation for the rest."""

import dataclasses

import chex
from flax import linen as nn
from flax import nnx
from flax.training import train_state
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal

_PARAMS = {
  'wte': {'embedding': _normal(0, 9, 8)},
  'attn': {'kernel': _normal(1, 8, 4, 2), 'bias': _normal(2, 4, 2)},
  'qkv': {'kernel': _normal(3, 8, 24)},
}
_NUMBERS = {
  'wte': None,
  'attn': {'kernel': MuonDimensionNumbers(0, (1, 2)), 'bias': None},
  'qkv': {
    'kernel': optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (8, 8, 8))
  },
}


def _stages(**options):
  return (
    optax_namo.adaptive_momentum(columns='input', **options),
    optax_namo.orthogonalize(),
    optax_namo.scale_by_shape('rms'),
    optax_namo.add_adaptive_decay(0.01),
    optax_namo.clamp_scale(0.75),
    optax_namo.apply_scale(),
    optax.scale_by_learning_rate(0.05),
  )


def _adamw(rate=0.01):
  return optax.adamw(rate, b1=0.9, b2=0.95, weight_decay=0.0)


def _run(tx, params, steps=3):
  state = tx.init(params)
  step = jax.jit(tx.update)
  for seed in range(steps):
    grads = jax.tree.map(
      lambda x, i=seed: _normal(i, *x.shape, dtype=x.dtype), params
    )
    updates, state = step(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('numbers', [_NUMBERS, None], ids=['given', 'router'])
def test_written_out_it_is_namo_d(dtype, numbers):
  params = jax.tree.map(lambda x: x.astype(dtype), _PARAMS)
  if numbers is None:
    params = {k: v for k, v in params.items() if k != 'qkv'}
  ours = optax_namo.routed(optax.chain(*_stages()), _adamw(), numbers)
  whole = optax_namo.namo_d(
    0.05, adam_learning_rate=0.01, weight_dimension_numbers=numbers
  )
  found, expected = (_run(tx, params)[0] for tx in (ours, whole))
  chex.assert_trees_all_close(found, expected, rtol=1e-6)


def test_it_is_optax_partition():
  """The groups do not see each other; both compute as they do alone."""
  params = {'w': _normal(0, 4, 6), 'u': _normal(1, 6, 4), 'b': _normal(2, 6)}
  labels = {'w': 'a', 'u': 'a', 'b': 'b'}
  apart = optax.partition({'a': optax.chain(*_stages()), 'b': _adamw()}, labels)
  routed = optax_namo.routed(
    optax.chain(*_stages()),
    _adamw(),
    lambda tree: jax.tree.map(
      lambda x: MuonDimensionNumbers(0, 1) if x.ndim > 1 else None, tree
    ),
  )
  found, expected = (_run(tx, params) for tx in (routed, apart))
  chex.assert_trees_all_equal(found[0], expected[0])
  chex.assert_trees_all_equal(
    jax.tree.leaves(found[1].inner_states['namo']),
    jax.tree.leaves(expected[1].inner_states['a']),
  )


@pytest.mark.parametrize(
  'rest', [optax.sgd(0.1), optax.lion(0.01), optax.set_to_zero()]
)
def test_any_transformation_for_the_rest(rest):
  tx = optax_namo.routed(optax.chain(*_stages()), rest, _NUMBERS)
  grads = _PARAMS
  updates, _ = tx.update(grads, tx.init(_PARAMS), _PARAMS)
  wte = _PARAMS['wte']
  alone, _ = rest.update(wte, rest.init(wte), wte)
  chex.assert_trees_all_close(updates['wte'], alone, rtol=1e-6)
  assert float(jnp.abs(updates['qkv']['kernel']).max()) > 0


@pytest.mark.parametrize(
  'after',
  [
    optax.trace(0.9),
    optax.ema(0.9),
    optax.scale_by_schedule(lambda count: 1.0 + count),
    optax.add_decayed_weights(0.1, mask=lambda p: jax.tree.map(jnp.ndim, p)),
  ],
  ids=['trace', 'ema', 'schedule', 'decay'],
)
def test_stages_of_optax_after_apply_scale(after):
  """Their state is like the matrices, which they see as arrays."""
  params = {'w': _normal(0, 4, 6), 'u': _normal(1, 6, 4), 'b': _normal(2, 6)}
  chain = lambda *rest: optax.chain(*_stages()[:-1], *rest)
  found, state = _run(optax_namo.routed(chain(after), _adamw()), params)
  matrices = {'w': params['w'], 'u': params['u']}
  plain, _ = _run(
    optax_namo.routed(chain(optax.identity()), _adamw()), params, 1
  )
  one, _ = _run(optax_namo.routed(chain(after), _adamw()), params, 1)
  update = {k: plain[k] - params[k] for k in matrices}
  expected, _ = after.update(update, after.init(matrices), matrices)
  chex.assert_trees_all_close(
    {k: one[k] - params[k] for k in matrices}, expected, atol=1e-5
  )
  chex.assert_tree_all_finite(found)
  shapes = {x.shape for x in jax.tree.leaves(state)}
  assert shapes <= {(), (4, 6), (6, 4), (4, 1), (6, 1), (6,)}


def _average_direction(decay):
  is_factored = lambda x: isinstance(x, optax_namo.Factored)

  def init(params):
    return jax.tree.map(jnp.zeros_like, params)

  def update(updates, state, params=None):
    del params
    mean = jax.tree.map(
      lambda u, old: decay * old + (1 - decay) * u.direction,
      updates,
      state,
      is_leaf=is_factored,
    )
    new = jax.tree.map(
      lambda u, m: dataclasses.replace(u, direction=m),
      updates,
      mean,
      is_leaf=is_factored,
    )
    return new, mean

  return optax.GradientTransformation(init, update)


@pytest.mark.parametrize('numbers', [_NUMBERS, None], ids=['split', 'router'])
def test_a_stage_with_state(numbers):
  """Its leaves are Factored, also the parts of a leaf; its state is arrays."""
  stages = _stages()
  tx = lambda decay: optax_namo.routed(
    optax.chain(*stages[:2], _average_direction(decay), *stages[2:]),
    _adamw(),
    numbers,
  )
  plain = optax_namo.routed(optax.chain(*stages), _adamw(), numbers)
  chex.assert_trees_all_equal(
    _run(tx(0.0), _PARAMS)[0], _run(plain, _PARAMS)[0]
  )
  averaged, state = _run(tx(0.9), _PARAMS)
  assert float(jnp.abs(averaged['attn']['kernel']).max()) > 0
  kept = state.inner_states['namo'].inner_state[2]
  assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(kept))
  chex.assert_shape(kept['attn']['kernel'], (8, 4, 2))


def test_in_nnx_optimizer_and_train_state():
  tx = optax_namo.routed(optax.chain(*_stages()), _adamw())
  model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
  params = {'kernel': model.kernel[...], 'bias': model.bias[...]}
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  state = train_state.TrainState.create(
    apply_fn=nn.Dense(6).apply, params=params, tx=tx
  )
  for _ in range(3):
    optimizer.update(model, nnx.state(model, nnx.Param))
    state = state.apply_gradients(grads=state.params)
  found = {'kernel': model.kernel[...], 'bias': model.bias[...]}
  chex.assert_trees_all_close(found, state.params, rtol=1e-6)


def test_no_variable_without_an_array():
  """NNX reads the shape of what is in a Variable, and where it lies."""
  model = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, optax_namo.namo_d(0.1), wrt=nnx.Param)
  state = nnx.state(optimizer, nnx.optimizer.OptState)
  shapes = [x.shape for _, x in nnx.to_flat_state(state)]
  # Counts and moments of the matrix and the bias, and what nnx adds.
  assert sorted(shapes)[-4:] == [(4,), (4,), (4, 1), (4, 4)]
  mesh = jax.make_mesh((1,), ('x',))
  jax.tree.map(lambda a, b: a, state, nnx.get_named_sharding(state, mesh))


def test_one_within_another():
  """Three groups, each with a rate of its own; a mask is of the whole tree."""
  numbers = lambda *names: (
    lambda tree: {
      k: MuonDimensionNumbers(0, 1) if k in names else None for k in tree
    }
  )
  params = {k: _normal(i, 4, 4) for i, k in enumerate('abcd')}
  chain = lambda rate, mask=None: optax.chain(
    *_stages()[:3],
    optax_namo.add_adaptive_decay(0.5, mask),
    *_stages()[4:-1],
    optax.scale(-rate),
  )
  mask = {'a': True, 'b': False, 'c': False, 'd': True}
  both = optax_namo.routed(
    chain(0.1, mask),
    optax_namo.routed(
      chain(0.2, mask),
      optax.sgd(0.3),
      lambda tree: (
        {k: v for k, v in numbers('b', 'c')(tree).items() if k != 'a'}
        | {'a': None}
      ),
    ),
    numbers('a'),
  )
  updates, _ = both.update(params, both.init(params), params)

  def alone(name, rate, decays):
    tx = chain(rate, decays)
    return tx.update(params[name], tx.init(params[name]), params[name])[0]

  expected = {
    'a': alone('a', 0.1, True),
    'b': alone('b', 0.2, False),
    'c': alone('c', 0.2, False),
    'd': -0.3 * params['d'],
  }
  chex.assert_trees_all_close(updates, expected, atol=1e-6)


def test_a_chain_without_its_end():
  chain = optax.chain(*_stages()[:2], optax.scale(-0.1))
  tx = optax_namo.routed(chain, _adamw())
  with pytest.raises(TypeError, match=r'apply_scale\(\) belongs after'):
    tx.update(_PARAMS, tx.init(_PARAMS), _PARAMS)
  w = _PARAMS['wte']['embedding']
  updates, _ = chain.update(w, chain.init(w), w)
  with pytest.raises(TypeError, match=r'apply_scale\(\) belongs after'):
    optax.apply_updates(w, updates)


@pytest.mark.parametrize('make', [optax.adam, optax.contrib.muon])
def test_the_state_of_another_optimizer(make):
  tx = optax_namo.namo(0.1)
  params = {'w': jnp.ones((4, 6)), 'b': jnp.ones(6)}
  with pytest.raises(
    ValueError, match='was not made by routed, .* keep the parameters'
  ):
    tx.update(params, make(0.1).init(params), params)


def test_a_split_leaf_outside_of_a_door():
  chain = optax.chain(*_stages(weight_dimension_numbers=_NUMBERS['qkv']))
  params = _PARAMS['qkv']
  with pytest.raises(ValueError, match=r'put the chain into routed\('):
    chain.init(params)


@pytest.mark.parametrize('rest', [1e-3, optax.adamw])
def test_what_is_no_transformation(rest):
  with pytest.raises(TypeError, match='rest must be an optax transformation'):
    optax_namo.routed(optax.chain(*_stages()), rest)


def test_numbers_and_masks_made_of_nnx_parameters():
  """nnx.Optimizer updates arrays, without the boxes that these come in."""
  model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
  params = nnx.state(model, nnx.Param)
  numbers = optax_namo.matrix_dimension_numbers(params)
  mask = jax.tree.map(lambda x: x.ndim > 1, params)
  tx = optax_namo.namo_d(
    0.1,
    weight_decay=0.5,
    adam_weight_decay=0.5,
    weight_dimension_numbers=numbers,
    weight_decay_mask=mask,
  )
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  before = model.bias[...] + 1.0
  model.bias[...] = before
  optimizer.update(model, jax.tree.map(jnp.zeros_like, params))
  chex.assert_trees_all_equal(model.bias[...], before)


def test_numbers_are_given_once():
  stages = _stages(weight_dimension_numbers=MuonDimensionNumbers(1, 0))
  tx = optax_namo.routed(optax.chain(*stages), _adamw())
  with pytest.raises(ValueError, match='give them to routed'):
    tx.init({'w': jnp.ones((4, 6))})


@pytest.mark.parametrize(
  'stages, message',
  [
    ((optax_namo.adaptive_momentum(), *_stages()), 'stands once'),
    (
      (optax_namo.adaptive_momentum(), optax.add_decayed_weights(0.1)),
      r'belong after apply_scale\(\)',
    ),
    ((optax.trace(0.9), *_stages()), r'belong after apply_scale\(\)'),
    *(
      (
        (optax_namo.adaptive_momentum(), stage, optax_namo.apply_scale()),
        r'belong after apply_scale\(\)',
      )
      for stage in (optax.scale_by_learning_rate(0.1), optax.clip(1.0))
    ),
  ],
  ids=['twice', 'decay', 'trace', 'rate', 'clip'],
)
def test_stages_out_of_place(stages, message):
  tx = optax_namo.routed(optax.chain(*stages), _adamw())
  params = {'w': jnp.ones((4, 6)), 'b': jnp.ones(6)}
  with pytest.raises(TypeError, match=message):
    tx.update(params, tx.init(params), params)
