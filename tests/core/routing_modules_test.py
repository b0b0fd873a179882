# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The default router on real Flax modules: every leaf's group by hand.

Expectations are ``(reduction axes, output axes)``, or None for AdamW.
"""

import functools

import chex
import flax
from flax import nnx
import flax.linen as nn
from flax.training.train_state import TrainState
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.core.routes import routes as _routes

# The router warns about leaves that it cannot tell: in no test by accident.
pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_router = optax_namo.matrix_dimension_numbers
# 6 features, 2 heads of 4, 10 hidden, 7 positions, 11 tokens, 3 layers.
_TOKENS, _INPUTS = jnp.ones((1, 7), int), jnp.ones((1, 7, 6))
_STACKED = {'variable_axes': {'params': 0}, 'split_rngs': {'params': True}}


def _linen(module, *inputs):
  return jax.eval_shape(module.init, jax.random.key(0), *inputs)['params']


def _nnx(create):
  """Shapes of the parameters of the module ``create(rngs)``."""
  model = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
  return nnx.state(model, nnx.Param)


def _random(params, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(rng.standard_normal(x.shape), jnp.float32), params
  )


class Block(nn.Module):
  use_bias: bool = True

  @nn.compact
  def __call__(self, x, _=None):
    options = {'use_bias': self.use_bias}
    y = nn.LayerNorm(**options)(x)
    attention = nn.MultiHeadDotProductAttention(
      2, qkv_features=8, name='attn', **options
    )
    x += attention(y, y)
    y = nn.Dense(10, **options)(nn.LayerNorm(**options)(x))
    return x + nn.Dense(6, **options)(nn.relu(y)), None


class _Transformer(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(11, 6)(tokens)
    x += self.param('pos_embedding', nn.initializers.normal(), (1, 7, 6))
    x, _ = Block()(x)
    x, _ = Block(use_bias=False)(x)
    return nn.Dense(11, name='lm_head')(nn.LayerNorm(name='ln_f')(x))


_TRANSFORMER = {
  'Embed_0/embedding': None,
  'pos_embedding': None,
  'Block_0/LayerNorm_0/scale': None, 'Block_0/LayerNorm_0/bias': None,
  'Block_0/attn/query/kernel': ((0,), (1, 2)), 'Block_0/attn/query/bias': None,
  'Block_0/attn/key/kernel': ((0,), (1, 2)), 'Block_0/attn/key/bias': None,
  'Block_0/attn/value/kernel': ((0,), (1, 2)), 'Block_0/attn/value/bias': None,
  'Block_0/attn/out/kernel': ((0, 1), (2,)), 'Block_0/attn/out/bias': None,
  'Block_0/LayerNorm_1/scale': None, 'Block_0/LayerNorm_1/bias': None,
  'Block_0/Dense_0/kernel': ((0,), (1,)), 'Block_0/Dense_0/bias': None,
  'Block_0/Dense_1/kernel': ((0,), (1,)), 'Block_0/Dense_1/bias': None,
  'Block_1/LayerNorm_0/scale': None,
  'Block_1/attn/query/kernel': ((0,), (1, 2)),
  'Block_1/attn/key/kernel': ((0,), (1, 2)),
  'Block_1/attn/value/kernel': ((0,), (1, 2)),
  'Block_1/attn/out/kernel': ((0, 1), (2,)),
  'Block_1/LayerNorm_1/scale': None,
  'Block_1/Dense_0/kernel': ((0,), (1,)),
  'Block_1/Dense_1/kernel': ((0,), (1,)),
  'ln_f/scale': None, 'ln_f/bias': None,
  'lm_head/kernel': None, 'lm_head/bias': None,
}  # fmt: skip


def test_linen_transformer():
  params = _linen(_Transformer(), _TOKENS)
  assert _routes(params) == _TRANSFORMER
  assert _routes(flax.core.freeze(params)) == _TRANSFORMER


class _NnxBlock(nnx.Module):
  def __init__(self, rngs):
    self.norm = nnx.LayerNorm(6, rngs=rngs)
    self.attn = nnx.MultiHeadAttention(2, 6, 8, decode=False, rngs=rngs)
    self.mlp = nnx.Sequential(
      nnx.Linear(6, 10, rngs=rngs), nnx.relu, nnx.Linear(10, 6, rngs=rngs)
    )


class _NnxTransformer(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Embed(11, 6, rngs=rngs)
    self.pos_embed = nnx.Param(jnp.ones((1, 7, 6)))
    self.blocks = nnx.List([_NnxBlock(rngs)])
    self.head = nnx.Linear(6, 11, rngs=rngs)


_NNX_TRANSFORMER = {
  'embed/embedding': None,
  'pos_embed': None,
  'blocks/0/norm/scale': None, 'blocks/0/norm/bias': None,
  'blocks/0/attn/query/kernel': ((0,), (1, 2)),
  'blocks/0/attn/query/bias': None,
  'blocks/0/attn/key/kernel': ((0,), (1, 2)), 'blocks/0/attn/key/bias': None,
  'blocks/0/attn/value/kernel': ((0,), (1, 2)),
  'blocks/0/attn/value/bias': None,
  'blocks/0/attn/out/kernel': ((0, 1), (2,)), 'blocks/0/attn/out/bias': None,
  'blocks/0/mlp/layers/0/kernel': ((0,), (1,)),
  'blocks/0/mlp/layers/0/bias': None,
  'blocks/0/mlp/layers/2/kernel': ((0,), (1,)),
  'blocks/0/mlp/layers/2/bias': None,
  'head/kernel': None, 'head/bias': None,
}  # fmt: skip


def test_nnx_transformer():
  state = _nnx(_NnxTransformer)
  assert _routes(state) == _NNX_TRANSFORMER
  assert _routes(nnx.to_pure_dict(state)) == _NNX_TRANSFORMER


class _ConvNet(nn.Module):
  @nn.compact
  def __call__(self, x):  # (1, 8, 9, 5)
    x = nn.Conv(4, (3, 2), name='stem')(x)
    x = nn.BatchNorm(use_running_average=True)(x)
    x = nn.Conv(6, (3, 2), use_bias=False)(x)
    x = nn.GroupNorm(num_groups=3)(x)
    x = nn.ConvTranspose(7, (2, 3))(x).mean(1)
    x = nn.Conv(8, (3,))(x)
    x = nn.Conv(9, (2,), use_bias=False)(x)
    x = nn.ConvTranspose(4, (3,), use_bias=False)(x)
    return nn.Dense(10, name='head')(x)


def test_linen_convolutions():
  assert _routes(_linen(_ConvNet(), jnp.ones((1, 8, 9, 5)))) == {
    'stem/kernel': ((0, 1, 2), (3,)), 'stem/bias': None,
    'BatchNorm_0/scale': None, 'BatchNorm_0/bias': None,
    'Conv_0/kernel': ((0, 1, 2), (3,)),
    'GroupNorm_0/scale': None, 'GroupNorm_0/bias': None,
    'ConvTranspose_0/kernel': ((0, 1, 2), (3,)), 'ConvTranspose_0/bias': None,
    'Conv_1/kernel': ((0, 1), (2,)), 'Conv_1/bias': None,
    'Conv_2/kernel': ((0, 1), (2,)),
    'ConvTranspose_1/kernel': ((0, 1), (2,)),
    'head/kernel': None, 'head/bias': None,
  }  # fmt: skip


class _NnxConvNet(nnx.Module):
  def __init__(self, rngs):
    self.conv1 = nnx.Conv(5, 4, (3, 2), use_bias=False, rngs=rngs)
    self.bn1 = nnx.BatchNorm(4, rngs=rngs)
    self.down = nnx.Conv(4, 6, (2, 3), rngs=rngs)
    self.gn = nnx.GroupNorm(6, num_groups=3, rngs=rngs)
    self.conv2 = nnx.ConvTranspose(6, 7, (3,), use_bias=False, rngs=rngs)
    self.conv3d = nnx.Conv(7, 8, (2, 3, 4), use_bias=False, rngs=rngs)
    self.head = nnx.Linear(8, 10, rngs=rngs)


def test_nnx_convolutions():
  assert _routes(_nnx(_NnxConvNet)) == {
    'conv1/kernel': ((0, 1, 2), (3,)),
    'bn1/scale': None, 'bn1/bias': None,
    'down/kernel': ((0, 1, 2), (3,)), 'down/bias': None,
    'gn/scale': None, 'gn/bias': None,
    'conv2/kernel': ((0, 1), (2,)),
    'conv3d/kernel': ((0, 1, 2, 3), (4,)),
    'head/kernel': None, 'head/bias': None,
  }  # fmt: skip


def _stack(length=3):
  blocks = nn.scan(Block, length=length, **_STACKED)()
  return {'blocks': _linen(blocks, _INPUTS)}


def test_linen_scan():
  assert _routes(_stack()) == {
    'blocks/LayerNorm_0/scale': None, 'blocks/LayerNorm_0/bias': None,
    'blocks/attn/query/kernel': ((1,), (2, 3)), 'blocks/attn/query/bias': None,
    'blocks/attn/key/kernel': ((1,), (2, 3)), 'blocks/attn/key/bias': None,
    'blocks/attn/value/kernel': ((1,), (2, 3)), 'blocks/attn/value/bias': None,
    'blocks/attn/out/kernel': ((1, 2), (3,)), 'blocks/attn/out/bias': None,
    'blocks/LayerNorm_1/scale': None, 'blocks/LayerNorm_1/bias': None,
    'blocks/Dense_0/kernel': ((1,), (2,)), 'blocks/Dense_0/bias': None,
    'blocks/Dense_1/kernel': ((1,), (2,)), 'blocks/Dense_1/bias': None,
  }  # fmt: skip


def test_linen_vmap_without_biases():
  attention = nn.vmap(nn.MultiHeadDotProductAttention, **_STACKED)
  layers = attention(2, qkv_features=8, use_bias=False)
  assert _routes(_linen(layers, jnp.ones((3, 1, 7, 6)))) == {
    'query/kernel': ((1,), (2, 3)),
    'key/kernel': ((1,), (2, 3)),
    'value/kernel': ((1,), (2, 3)),
    'out/kernel': ((1, 2), (3,)),
  }


@pytest.mark.parametrize('transform', [nnx.vmap, nnx.scan])
def test_nnx_stack(transform):
  @nnx.split_rngs(splits=3)
  @functools.partial(transform, in_axes=0, out_axes=0)
  def create(rngs):
    return _NnxBlock(rngs)

  assert _routes(_nnx(create)) == {
    'norm/scale': None, 'norm/bias': None,
    'attn/query/kernel': ((1,), (2, 3)), 'attn/query/bias': None,
    'attn/key/kernel': ((1,), (2, 3)), 'attn/key/bias': None,
    'attn/value/kernel': ((1,), (2, 3)), 'attn/value/bias': None,
    'attn/out/kernel': ((1, 2), (3,)), 'attn/out/bias': None,
    'mlp/layers/0/kernel': ((1,), (2,)), 'mlp/layers/0/bias': None,
    'mlp/layers/2/kernel': ((1,), (2,)), 'mlp/layers/2/bias': None,
  }  # fmt: skip


class _RawExperts(nn.Module):
  @nn.compact
  def __call__(self, x):  # (4, 7, 6)
    init = nn.initializers.normal()
    x = x @ self.param('w_in', init, (4, 6, 10))
    return x @ self.param('w_out', init, (4, 10, 6))


class _MixtureOfExperts(nn.Module):
  @nn.compact
  def __call__(self, x):
    nn.Dense(4, use_bias=False, name='gate')(x)
    x = jnp.broadcast_to(x, (4, 7, 6))
    x = nn.vmap(nn.Dense, **_STACKED)(6, name='up')(x)
    return _RawExperts(name='experts')(x)


def test_mixture_of_experts():
  assert _routes(_linen(_MixtureOfExperts(), _INPUTS)) == {
    'gate/kernel': ((0,), (1,)),
    'up/kernel': ((1,), (2,)), 'up/bias': None,
    'experts/w_in': ((1,), (2,)),
    'experts/w_out': ((1,), (2,)),
  }  # fmt: skip


_LSTM = {
  'ii/kernel': ((0,), (1,)),
  'ig/kernel': ((0,), (1,)),
  'io/kernel': ((0,), (1,)),
  'hi/kernel': ((0,), (1,)), 'hi/bias': None,
  'hf/kernel': ((0,), (1,)), 'hf/bias': None,
  'hg/kernel': ((0,), (1,)), 'hg/bias': None,
  'ho/kernel': ((0,), (1,)), 'ho/bias': None,
}  # fmt: skip


@pytest.mark.parametrize('cell', [nn.LSTMCell, nn.OptimizedLSTMCell])
def test_linen_lstm(cell):
  carry = (jnp.ones((2, 5)), jnp.ones((2, 5)))
  routes = _routes(_linen(cell(5), carry, jnp.ones((2, 3))))
  assert routes == {**_LSTM, 'if/kernel': ((0,), (1,))}


def test_nnx_lstm():
  routes = _routes(_nnx(lambda rngs: nnx.LSTMCell(3, 5, rngs=rngs)))
  assert routes == {**_LSTM, 'if_/kernel': ((0,), (1,))}


def test_nnx_gru():
  assert _routes(_nnx(lambda rngs: nnx.GRUCell(3, 5, rngs=rngs))) == {
    'dense_i/kernel': ((0,), (1,)), 'dense_i/bias': None,
    'dense_h/kernel': ((0,), (1,)),
  }  # fmt: skip


@pytest.mark.parametrize(
  'kernel, layer, inputs',
  [
    (((0, 1), (2, 3)), nn.DenseGeneral((3, 4), axis=(-2, -1)), (2, 5, 6)),
    (((1,), (2, 3)), nn.DenseGeneral((3, 4), batch_dims=(0,)), (2, 5, 6)),
    (((0,), (1, 2)), nn.Einsum((5, 3, 4), 'nd,dhk->nhk'), (2, 5)),
    # Heads first: the bias (3, 4) makes them matrices of their own.
    (((1,), (2,)), nn.Einsum((3, 5, 4), 'nd,hdk->nhk'), (2, 5)),
  ],
)
def test_linen_general(kernel, layer, inputs):
  expected = {'kernel': kernel, 'bias': None}
  assert _routes(_linen(layer, jnp.ones(inputs))) == expected


class _NnxGeneral(nnx.Module):
  def __init__(self, rngs):
    self.general = nnx.LinearGeneral((2, 5), (3, 4), axis=(-2, -1), rngs=rngs)
    self.einsum = nnx.Einsum('nd,dhk->nhk', (5, 3, 4), (3, 4), rngs=rngs)
    self.adapter = nnx.LoRA(6, 2, 7, rngs=rngs)
    self.adapted = nnx.LoRALinear(6, 7, lora_rank=2, rngs=rngs)


def test_nnx_general_and_lora():
  assert _routes(_nnx(_NnxGeneral)) == {
    'general/kernel': ((0, 1), (2, 3)), 'general/bias': None,
    'einsum/kernel': ((0,), (1, 2)), 'einsum/bias': None,
    'adapter/lora_a': ((0,), (1,)),
    'adapter/lora_b': ((0,), (1,)),
    'adapted/kernel': ((0,), (1,)), 'adapted/bias': None,
    'adapted/lora/lora_a': ((0,), (1,)),
    'adapted/lora/lora_b': ((0,), (1,)),
  }  # fmt: skip


def test_none_leaves_and_lists():
  dense = {'kernel': jnp.ones((3, 2, 5)), 'bias': jnp.ones((3, 5))}
  params = {'layers': [dense, None, (jnp.ones((2, 5)),)], 'frozen': None}
  with pytest.warns(UserWarning, match="'layers/2/0' of shape"):
    found = _routes(params)
  assert found == {
    'layers/0/kernel': ((1,), (2,)), 'layers/0/bias': None,
    'layers/1': None,
    'layers/2/0': ((0,), (1,)),
    'frozen': None,
  }  # fmt: skip


# Two readings fit the last: 8 inputs, or a stack of 8.
@pytest.mark.parametrize(
  'layer',
  [
    {'kernel': jnp.ones((2, 3, 4))},
    {'kernel': jnp.ones((2, 3, 4)), 'bias': jnp.ones((3,))},
    {'kernel': jnp.ones((8, 8, 3)), 'bias': jnp.ones((8, 3))},
  ],
)
def test_the_untold_goes_to_adamw_with_a_mend(layer):
  params = {'mix': layer, 'Dense_0': {'kernel': jnp.ones((2, 3))}}
  rest = {'Dense_0/kernel': ((0,), (1,))}
  rest |= {'mix/bias': None} if 'bias' in layer else {}
  with pytest.warns(UserWarning, match="'mix/kernel' of shape") as warned:
    assert _routes(params) == {'mix/kernel': None, **rest}
  assert len(warned) == 1
  with pytest.raises(ValueError, match="'mix/kernel' of shape"):
    _router(params, strict=True)
  mended = _routes(params, rules=[('^mix/kernel$', None)], strict=True)
  assert mended == {'mix/kernel': None, **rest}


def test_names_settle_what_the_bias_leaves_open():
  attention = nn.MultiHeadDotProductAttention(2, qkv_features=8)
  assert _routes(_linen(attention, jnp.ones((1, 7, 2))))['query/kernel'] == (
    ((0,), (1, 2))
  )
  with pytest.warns(UserWarning, match='Dense_0/kernel') as warned:
    stacked = _routes(_stack(length=6))  # As many as features.
  assert len(warned) == 1
  assert stacked['blocks/attn/query/kernel'] == ((1,), (2, 3))
  assert stacked['blocks/attn/out/kernel'] == ((1, 2), (3,))
  assert stacked['blocks/Dense_0/kernel'] is None


def test_rules_come_first():
  rules = [
    ('Embed_0', MuonDimensionNumbers(-1, -2)),
    ('Block_0/Dense_', None),
    ('Dense_1', MuonDimensionNumbers(1, 0)),
    ('lm_head/kernel', MuonDimensionNumbers(0, 1)),
  ]
  params = _linen(_Transformer(), _TOKENS)
  assert _routes(params, rules=rules, strict=True) == {
    **_TRANSFORMER,
    'Embed_0/embedding': ((1,), (0,)),
    'Block_0/Dense_0/kernel': None,
    'Block_0/Dense_1/kernel': None,
    'Block_1/Dense_1/kernel': ((1,), (0,)),
    'lm_head/kernel': ((0,), (1,)),
  }


@pytest.mark.parametrize(
  'path, shape, bias',
  [
    # nn.ConvTranspose(7, (3,), transpose_kernel=True): (spatial, out, in).
    ('ConvTranspose_0', (3, 7, 5), (7,)),
    # nn.scan(Block, variable_axes={'params': 1}), as MaxText stacks.
    ('Attention_0/query', (6, 3, 2, 4), (2, 3, 4)),
    ('Attention_0/out', (2, 3, 4, 6), (6, 3)),
    # nn.scan over nn.Conv(6, (3, 2), use_bias=False).
    ('Conv_0', (4, 3, 2, 5, 6), None),
  ],
)
def test_a_name_does_not_make_the_layout(path, shape, bias):
  params = {path: {'kernel': jnp.ones(shape)}}
  if bias is not None:
    params[path]['bias'] = jnp.ones(bias)
  with pytest.warns(UserWarning, match=path):
    assert _routes(params)[f'{path}/kernel'] is None


def test_stacked_dense_layers_with_the_names_of_attention():
  # nn.scan over nn.Dense(use_bias=False, name='query') and name='out'.
  params = {
    'query': {'kernel': jnp.ones((3, 6, 8))},
    'out': {'kernel': jnp.ones((3, 8, 6))},
  }
  with pytest.warns(UserWarning, match='out/kernel.*query/kernel'):
    assert _routes(params) == {'query/kernel': None, 'out/kernel': None}
  # An expert's are not attention's.
  params = {'experts': {'out': {'kernel': jnp.ones((3, 8, 6))}}}
  assert _routes(params) == {'experts/out/kernel': ((1,), (2,))}


def _is_matrix(params):
  return jax.tree.map(lambda _, n: n is not None, params, _router(params))


def _check_first_step(updates, params):
  """AdamW's first step is the learning rate, 0.1, everywhere; no other's is."""
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
  chex.assert_tree_all_finite(updates)
  is_adamws = lambda x: np.allclose(np.abs(x), 0.1, rtol=0, atol=1e-4)
  moved = [not is_adamws(x) for x in jax.tree.leaves(updates)]
  assert moved == jax.tree.leaves(_is_matrix(params))


def _update(tx, params):
  """The first update on seeded gradients, jitted."""
  step = jax.jit(lambda grads, p: tx.update(grads, tx.init(p), p)[0])
  return step(_random(params, 1), params)


def test_update_of_a_conv_net():
  params = _random(_linen(_ConvNet(), jnp.ones((1, 8, 9, 5))))
  _check_first_step(_update(optax_namo.namo_d(0.1), params), params)


def test_train_state():
  @jax.jit
  def step(params, grads):
    tx = optax_namo.namo_d(0.1)
    state = TrainState.create(apply_fn=None, params=params, tx=tx)
    return state.apply_gradients(grads=grads).params

  params = _random(_linen(_Transformer(), _TOKENS))
  updates = jax.tree.map(jnp.subtract, step(params, _random(params, 1)), params)
  _check_first_step(updates, params)


def test_nnx_optimizer():
  shapes = nnx.eval_shape(lambda: _NnxTransformer(nnx.Rngs(0)))
  graph, params, rest = nnx.split(shapes, nnx.Param, ...)
  params = _random(params)
  model = nnx.merge(graph, params, rest, copy=True)
  optimizer = nnx.Optimizer(model, optax_namo.namo_d(0.1), wrt=nnx.Param)
  step = nnx.jit(lambda optimizer, model, grads: optimizer.update(model, grads))
  step(optimizer, model, _random(params, 1))
  updates = jax.tree.map(jnp.subtract, nnx.state(model, nnx.Param), params)
  _check_first_step(updates, params)


def test_masked():
  params = _random(_linen(_Transformer(), _TOKENS))
  updates = _update(optax.masked(optax_namo.namo_d(0.1), _is_matrix), params)
  changed = lambda update, grad: bool((update != grad).all())
  grads = _random(params, 1)
  assert jax.tree.map(changed, updates, grads) == _is_matrix(params)


def test_partition():
  params, adam, namo_d = _random(_stack()), optax.adam(0.1), optax_namo.namo_d
  # The router inside sees no biases; what it says of the whole tree holds.
  with pytest.warns(UserWarning, match='Dense_0/kernel'):
    tx = optax.partition({True: namo_d(0.1), False: adam}, _is_matrix)
    jax.eval_shape(tx.init, params)
  informed = namo_d(0.1, weight_dimension_numbers=lambda _: _router(params))
  tx = optax.partition({True: informed, False: adam}, _is_matrix)
  _check_first_step(_update(tx, params), params)


@pytest.mark.parametrize(
  'rule, options',
  [
    (optax_namo.namo, {}),
    (optax_namo.namo_d, {'columns': 'input'}),
    (optax_namo.namo_d, {'columns': 'output'}),
  ],
)
def test_a_stack_is_as_its_layers_apart(rule, options):
  layer = lambda i, tree: jax.tree.map(lambda x: np.asarray(x)[i], tree)
  apart = lambda tree: [layer(i, tree) for i in range(3)]
  twice = lambda tree: {'stack': tree, 'apart': apart(tree)}
  blocks = _stack()['blocks']
  stack = {k: blocks['attn'][k] for k in ('query', 'out')}
  stack['Dense_0'] = blocks['Dense_0']
  params, tx = twice(_random(stack)), rule(0.1, **options)
  state, update = tx.init(params), jax.jit(tx.update)
  for seed in range(2):
    updates, state = update(twice(_random(stack, seed + 1)), state, params)
  expected = twice(updates['stack'])
  chex.assert_trees_all_close(updates, expected, rtol=0, atol=1e-6)
