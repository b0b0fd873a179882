# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The default router on real Equinox modules, by the types of their layers.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

import dataclasses

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest

import optax_namo
from tests.core.routes import matrices
from tests.core.routes import routes
from tests.core.routes import why
from tests.helpers import normal
from tests.helpers import run

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_KEY = jax.random.key(0)
_ROWS = ((1,), (0,))  # (out, in).


def _params(model):
  return eqx.filter(model, eqx.is_inexact_array)


def _shapes(create, *arguments):
  """The same of a model that is not made."""
  model = eqx.filter_eval_shape(create, *arguments)
  is_inexact = lambda x: jnp.issubdtype(getattr(x, 'dtype', int), jnp.inexact)
  return eqx.filter(model, is_inexact)


def _stack(create, layers=2):
  return lambda: eqx.filter_vmap(create)(jax.random.split(_KEY, layers))


class _Block(eqx.Module):
  norm1: eqx.nn.LayerNorm
  attention: eqx.nn.MultiheadAttention
  ln: eqx.nn.RMSNorm
  mlp: eqx.nn.MLP
  gain: jax.Array

  def __init__(self, key):
    keys = jax.random.split(key)
    self.norm1 = eqx.nn.LayerNorm(6)
    self.attention = eqx.nn.MultiheadAttention(
      2, 6, use_output_bias=True, key=keys[0]
    )
    self.ln = eqx.nn.RMSNorm(6)
    self.mlp = eqx.nn.MLP(6, 6, 10, 1, key=keys[1])
    self.gain = jnp.ones(6)

  def __call__(self, x):  # (position, 6)
    y = jax.vmap(self.norm1)(x)
    x += self.attention(y, y, y)
    return x + jax.vmap(lambda z: self.gain * self.mlp(self.ln(z)))(x)


class _Transformer(eqx.Module):
  emb: eqx.nn.Embedding
  words: eqx.nn.Embedding
  blocks: _Block
  norm: eqx.nn.LayerNorm
  head: eqx.nn.Linear

  def __init__(self, layers=3):
    self.emb = eqx.nn.Embedding(11, 6, key=_KEY)
    self.words = eqx.nn.Embedding(7, 6, key=_KEY)
    self.blocks = eqx.filter_vmap(_Block)(jax.random.split(_KEY, layers))
    self.norm = eqx.nn.LayerNorm(6)
    self.head = eqx.nn.Linear(6, 11, key=_KEY)

  def __call__(self, tokens):
    x = jax.vmap(self.emb)(tokens) + jax.vmap(self.words)(jnp.arange(7))
    arrays, static = eqx.partition(self.blocks, eqx.is_array)
    step = lambda x, block: (eqx.combine(block, static)(x), None)
    x, _ = jax.lax.scan(step, x, arrays)
    return jax.vmap(self.head)(jax.vmap(self.norm)(x))


# A stack of three, and of six: as many as features.
_STACKED = dict.fromkeys(
  [
    'blocks/attention/query_proj/weight',
    'blocks/attention/key_proj/weight',
    'blocks/attention/value_proj/weight',
    'blocks/attention/output_proj/weight',
    'blocks/mlp/layers/0/weight',
    'blocks/mlp/layers/1/weight',
  ],
  ((2,), (1,)),
)


@pytest.mark.parametrize('layers', [3, 6])
def test_transformer(layers):
  params = _shapes(_Transformer, layers)
  rules = [('^blocks/gain$', None)]
  assert matrices(params, rules=rules, strict=True) == _STACKED
  # A vector of each layer looks as a matrix does.
  with pytest.warns(UserWarning, match="'blocks/gain' of shape"):
    told = why(params)
  assert told['blocks/mlp/layers/0/weight'] == 'equinox.nn.Linear'
  assert told['words/weight'] == 'equinox.nn.Embedding'
  assert told['blocks/gain'] == 'norms beside it, in doubt'
  assert told['head/weight'] == 'head'


def _loss(model):
  logits = model(jnp.arange(7))
  return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])


def test_training_with_and_without_wrappers():
  """Gradients route as parameters, also under masks and by given numbers."""
  model = eqx.filter_jit(_Transformer)(2)
  params = _params(model)
  with pytest.warns(UserWarning, match='blocks/gain'):
    numbers = optax_namo.matrix_dimension_numbers(params)
  is_matrix = jax.tree.map(lambda _, spec: spec is not None, params, numbers)
  adam = optax.chain(optax.scale_by_adam(b2=0.95), optax.scale(-0.02))
  namo_d = lambda **options: optax_namo.namo_d(
    0.02, orthogonalizer=lambda x: x, **options
  )
  optimizers = {
    'bare': namo_d(),
    'given': namo_d(
      weight_dimension_numbers=numbers, weight_decay_mask=is_matrix
    ),
    'masked': optax.chain(
      optax.masked(namo_d(), is_matrix),
      optax.masked(adam, jax.tree.map(lambda x: not x, is_matrix)),
    ),
  }

  @eqx.filter_jit
  def steps(model):
    gradients = eqx.filter_grad(_loss)(model)
    assert routes(gradients) == routes(params)
    updates = {
      name: tx.update(gradients, tx.init(params), params)[0]
      for name, tx in optimizers.items()
    }
    after = eqx.apply_updates(model, updates['bare'])
    return updates, after, _loss(model), _loss(after)

  with pytest.warns(UserWarning, match='blocks/gain'):
    updates, after, before_loss, after_loss = steps(model)
  chex.assert_trees_all_equal_shapes_and_dtypes(updates['bare'], params)
  for name in updates:
    chex.assert_trees_all_close(updates[name], updates['bare'], atol=1e-6)
  assert after_loss < before_loss
  moved = jax.tree.map(
    lambda x, y: bool((x != y).any()), params, _params(after)
  )
  assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
  'columns, shape_scale', [('input', 'width'), ('output', 'rms')]
)
def test_a_linear_layer_gets_the_update_of_a_kernel_transposed(
  columns, shape_scale
):
  tx = optax_namo.namo_d(
    0.1,
    columns=columns,
    shape_scale=shape_scale,
    orthogonalizer=lambda x: x,
  )
  model = _params(eqx.nn.Linear(5, 3, key=_KEY))
  flax = lambda m: {'kernel': m.weight.T, 'bias': m.bias}
  grads = [
    jax.tree.map(lambda x, i=i: normal(i, *x.shape), model) for i in range(2)
  ]

  found = run(tx, grads, model)
  expected = run(tx, [flax(g) for g in grads], flax(model))
  chex.assert_trees_all_close(flax(found), expected, rtol=1e-5)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
  'conv, arguments, inputs',
  [
    (eqx.nn.Conv1d, (3, 4, 5), (1, 2)),
    (eqx.nn.Conv2d, (3, 4, (3, 2)), (1, 2, 3)),
    (eqx.nn.Conv2d, (4, 8, 1), (1, 2, 3)),
    (eqx.nn.Conv2d, (4, 4, 3), (1, 2, 3)),
    (eqx.nn.Conv2d, (6, 1, 3), (1, 2, 3)),
    (eqx.nn.Conv3d, (3, 4, 3), (1, 2, 3, 4)),
    (eqx.nn.Conv, (1, 3, 4, 3), (1, 2)),
    (eqx.nn.ConvTranspose1d, (3, 4, 5), (1, 2)),
    (eqx.nn.ConvTranspose2d, (3, 4, (3, 2)), (1, 2, 3)),
  ],
)
def test_convolutions(conv, arguments, inputs, bias):
  create = lambda key: conv(*arguments, use_bias=bias, key=key)
  field = {'stem': _shapes(create, _KEY)}
  assert matrices(field, strict=True) == {'stem/weight': (inputs, (0,))}
  stack = _shapes(_stack(create))
  expected = (tuple(i + 1 for i in inputs), (1,))
  assert matrices(stack, strict=True) == {'weight': expected}


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('conv', [eqx.nn.Conv1d, eqx.nn.ConvTranspose1d])
def test_groups_are_matrices_of_their_own(conv, bias):
  create = lambda key: conv(6, 4, 3, groups=2, use_bias=bias, key=key)
  plain = optax.contrib.MuonDimensionNumbers((1, 2), (0,))
  assert matrices(_shapes(create, _KEY), strict=True) == {
    'weight': (plain, 0, (2, 2))
  }
  plain = optax.contrib.MuonDimensionNumbers((2, 3), (1,))
  assert matrices(_shapes(_stack(create)), strict=True) == {
    'weight': (plain, 1, (2, 2))
  }
  depthwise = lambda key: conv(6, 12, 3, groups=6, use_bias=bias, key=key)
  assert matrices(_shapes(depthwise, _KEY), strict=True) == {}


@pytest.mark.parametrize('cell', [eqx.nn.GRUCell, eqx.nn.LSTMCell])
@pytest.mark.parametrize('bias', [True, False])
def test_gates_are_one_matrix_by_rows(cell, bias):
  create = lambda key: cell(3, 5, use_bias=bias, key=key)
  assert matrices(_shapes(create, _KEY), strict=True) == {
    'weight_ih': _ROWS,
    'weight_hh': _ROWS,
  }
  assert matrices(_shapes(_stack(create)), strict=True) == {
    'weight_ih': ((2,), (1,)),
    'weight_hh': ((2,), (1,)),
  }


@pytest.mark.parametrize(
  'layer, arguments',
  [
    (eqx.nn.LayerNorm, {'shape': 4}),
    (eqx.nn.LayerNorm, {'shape': (3, 4)}),
    (eqx.nn.LayerNorm, {'shape': 4, 'use_bias': False}),
    (eqx.nn.RMSNorm, {'shape': (3, 4), 'use_bias': False}),
    (eqx.nn.GroupNorm, {'groups': 2, 'channels': 4}),
    (
      eqx.nn.BatchNorm,
      {'input_size': 4, 'axis_name': 'batch', 'mode': 'batch'},
    ),
    (eqx.nn.PReLU, {}),
    (eqx.nn.Embedding, {'num_embeddings': 7, 'embedding_size': 4}),
  ],
)
def test_what_is_no_matrix(layer, arguments):
  random = layer is eqx.nn.Embedding
  create = lambda key: layer(**arguments, **({'key': key} if random else {}))
  params = {'x': _shapes(create, _KEY), 'y': _shapes(_stack(create))}
  assert not matrices(params, strict=True)


def test_wrappers_of_layers():
  linear = eqx.nn.Linear(3, 4, key=_KEY)
  for wrapper, path in [
    (eqx.nn.WeightNorm(linear), 'layer/weight'),
    (eqx.nn.SpectralNorm(linear, 'weight', key=_KEY), 'layer/weight'),
    (eqx.nn.Sequential([eqx.nn.Lambda(jnp.tanh), linear]), 'layers/1/weight'),
  ]:
    assert matrices(_params(wrapper), strict=True) == {path: _ROWS}


@pytest.mark.parametrize('kept, taken', [(0, 1), (1, 0)])
@pytest.mark.parametrize('bias', [True, False])
def test_a_tied_embedding_whichever_is_kept(kept, taken, bias):
  layers = (
    eqx.nn.Embedding(11, 6, key=_KEY),
    eqx.nn.Linear(6, 11, use_bias=bias, key=_KEY),
  )
  tied = eqx.nn.Shared(
    layers, lambda pair: pair[taken].weight, lambda pair: pair[kept].weight
  )
  model = {'tied': tied, 'last': layers[1], 'up': eqx.nn.Linear(6, 9, key=_KEY)}
  assert matrices(_params(model), strict=True) == {
    'last/weight': _ROWS,
    'up/weight': _ROWS,
  }


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Frozen:
  """As paramax.NonTrainable, between a layer and its weight."""

  tree: jax.Array


def test_a_wrapper_of_a_weight():
  model = {
    'fc': eqx.nn.Linear(6, 4, key=_KEY),
    'words': eqx.nn.Embedding(11, 6, key=_KEY),
    'conv': eqx.nn.Conv1d(4, 6, 3, key=_KEY),
  }
  for name in model:
    model[name] = eqx.tree_at(
      lambda x: x.weight, model[name], replace_fn=_Frozen
    )
  assert matrices(_params(model), strict=True) == {
    'conv/weight/tree': ((1, 2), (0,)),
    'fc/weight/tree': _ROWS,
  }


class _Scaled(eqx.nn.Linear):
  """A Linear by its base class."""


class _Own(eqx.Module):
  """A linear layer of one's own, without a type that tells."""

  weight: jax.Array
  bias: jax.Array | None


def test_modules_of_ones_own():
  assert matrices(_params(_Scaled(4, 6, key=_KEY))) == {'weight': _ROWS}
  square = _Own(jnp.ones((4, 4)), None)
  assert matrices({'inner': square}) == {'inner/weight': _ROWS}
  wide = _Own(jnp.ones((4, 6)), jnp.ones(6))
  assert matrices({'inner': wide}) == {'inner/weight': ((0,), (1,))}
  stack = _Own(jnp.ones((3, 6, 4)), jnp.ones((3, 6)))
  assert matrices({'inner': stack}) == {'inner/weight': ((2,), (1,))}


def test_a_bias_that_contradicts_the_type():
  model = eqx.tree_at(
    lambda m: m.weight, _Scaled(4, 6, key=_KEY), jnp.ones((4, 6))
  )
  with pytest.warns(UserWarning, match='bias beside it says othe') as warned:
    assert matrices({'x': model}) == {}
  assert len(warned) == 1
  with pytest.raises(ValueError, match='x/weight'):
    routes({'x': model}, strict=True)
