# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Routing as docs/routing.md has it for programs: copies of their modules.

Names, ranks and einsums are those of the programs.
"""

import functools

import chex
from flax import nnx
import flax.linen as nn
import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from optax_namo import routing_table
from tests.core.by_use_programs import random
from tests.core.routes import routes
from tests.core.routing_haliax_test import Axis
from tests.core.routing_haliax_test import Embedding
from tests.core.routing_haliax_test import linear
from tests.core.routing_haliax_test import named as array
from tests.helpers import run

pytestmark = pytest.mark.filterwarnings('error::UserWarning')

_M = MuonDimensionNumbers
_TOKENS = jnp.arange(14).reshape(2, 7) % 11
# 8 features, 4 heads of 2, 12 hidden, 11 tokens, 3 layers.


def _cross_entropy(logits, tokens):
  log_probabilities = jax.nn.log_softmax(logits)
  return -jnp.mean(jnp.take_along_axis(log_probabilities, tokens[..., None], 2))


def _found(table):
  return {row.path: (row.view, row.why) for row in table}


def _attend(q, k, v):
  """(batch, time, heads, features) of queries, keys and values, grouped."""
  k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], 2) for x in (k, v))
  weights = jax.nn.softmax(jnp.einsum('bthk,bshk->bhts', q, k))
  return jnp.einsum('bhts,bshk->bthk', weights, v)


# MaxText: layers stacked on axis 1, the axes named in boxes.


class _MaxTextLayer(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    def dense(name, features, names, axis=-1):
      init = nn.with_logical_partitioning(nn.initializers.normal(), names)
      return nn.DenseGeneral(
        features, axis, use_bias=False, kernel_init=init, name=name
      )

    y = nn.RMSNorm(name='pre_self_attention_layer_norm')(x)
    q = dense('query', (4, 2), ('embed', 'q_heads', 'kv'))(y)
    k = dense('key', (4, 2), ('embed', 'kv_heads', 'kv'))(y)
    v = dense('value', (4, 2), ('embed', 'kv_heads', 'kv'))(y)
    x += dense('out', 8, ('heads', 'kv', 'embed'), (-2, -1))(_attend(q, k, v))
    gate = dense('wi_0', 12, ('embed', 'mlp'))(x)
    up = dense('wi_1', 12, ('embed', 'mlp'))(x)
    return x + dense('wo', 8, ('mlp', 'embed'))(nn.silu(gate) * up), None


class _MaxText(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(11, 8, name='token_embedder')(tokens)
    layers = nn.scan(
      _MaxTextLayer,
      variable_axes={'params': 1},
      split_rngs={'params': True},
      length=3,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )
    x, _ = layers(name='layers')(x, None)
    return nn.Dense(11, use_bias=False, name='logits_dense')(x)


def _maxtext():
  init = functools.partial(_MaxText().init, jax.random.key(0))
  boxed = jax.eval_shape(init, _TOKENS)['params']

  def loss(params, tokens):
    logits = _MaxText().apply({'params': nn.unbox(params)}, tokens)
    return _cross_entropy(logits, tokens)

  return loss, boxed


def _muon_weight_dimension_numbers(path, _):
  """By path, as MaxText's get_muon_weight_dimension_numbers has it."""
  names = [str(getattr(key, 'key', key)) for key in path]
  if {'scale', 'embedding', 'logits_dense'} & {*names}:
    return None
  if 'out' in names:
    return _M((0, -2), (-1,))
  if {'query', 'key', 'value'} & {*names}:
    return _M((0,), (-2, -1))
  return _M((0,), (-1,))


@pytest.mark.parametrize('unbox', [nn.unbox, lambda x: x])
def test_maxtext(unbox):
  loss, boxed = _maxtext()
  params = unbox(boxed)
  by_use = optax_namo.dimension_numbers_by_use(loss, params, _TOKENS)
  table = _found(routing_table(params, by_use))
  assert table['layers/query/kernel'][0] == ((3, 8, 8),)
  assert table['layers/out/kernel'][0] == ((3, 8, 8),)
  assert sum(bool(view) for view, _ in table.values()) == 7
  theirs = jax.tree_util.tree_map_with_path(
    _muon_weight_dimension_numbers, nn.unbox(boxed)
  )
  assert table == _found(routing_table(params, theirs))
  with pytest.warns(UserWarning, match='NO LEAF IS A MATRIX'):
    assert not any(routes(params).values())


# Tunix, and bonsai: einsums in NNX. Their adapters are qwix's.


class _Einsum(nnx.Module):
  def __init__(self, equation, shape, rngs):
    self.equation = equation
    self.w = nnx.Param(nnx.initializers.normal()(rngs.params(), shape))

  def __call__(self, x):
    return jnp.einsum(self.equation, x, self.w[...])


class _Adapted(_Einsum):
  def __init__(self, equation, shape, rngs):
    super().__init__(equation, shape, rngs)
    init = nnx.initializers.normal()
    self.w_lora_a = nnx.LoRAParam(init(rngs.params(), (shape[0], 2)))
    self.w_lora_b = nnx.LoRAParam(init(rngs.params(), (2, *shape[1:])))

  def __call__(self, x):
    low = x @ self.w_lora_a[...]
    return super().__call__(x) + jnp.tensordot(low, self.w_lora_b[...], 1)


class _Tunix(nnx.Module):
  def __init__(self, rngs):
    self.input_embedding = nnx.Param(jnp.ones((11, 8)))
    self.q_proj = _Einsum('BTD,DNH->BTNH', (8, 4, 2), rngs)
    self.k_proj = _Einsum('BSD,DKH->BSKH', (8, 2, 2), rngs)
    self.v_proj = _Einsum('BSD,DKH->BSKH', (8, 2, 2), rngs)
    self.o_proj = _Einsum('BTNH,NHD->BTD', (4, 2, 8), rngs)
    self.up_proj = _Adapted('BTD,DF->BTF', (8, 12), rngs)
    self.down_proj = _Einsum('BTF,FD->BTD', (12, 8), rngs)
    self.lm_head = _Einsum('BTD,DV->BTV', (8, 11), rngs)

  def __call__(self, tokens):
    x = self.input_embedding[...][tokens]
    x += self.o_proj(_attend(self.q_proj(x), self.k_proj(x), self.v_proj(x)))
    return self.lm_head(x + self.down_proj(nnx.silu(self.up_proj(x))))


def _of_kind(kind):
  abstract = nnx.eval_shape(lambda: _Tunix(nnx.Rngs(0)))
  graphdef, params, rest = nnx.split(abstract, kind, ...)
  rest = random(rest)

  def loss(params, tokens):
    return _cross_entropy(nnx.merge(graphdef, params, rest)(tokens), tokens)

  return loss, params


def test_tunix():
  loss, params = _of_kind(nnx.Param)
  found = _found(routing_table(params, use=(loss, _TOKENS)))
  views = {path: view[0] for path, (view, _) in found.items() if view}
  assert views == {
    'q_proj/w': (1, 8, 8), 'k_proj/w': (1, 8, 4), 'v_proj/w': (1, 8, 4),
    'o_proj/w': (1, 8, 8), 'up_proj/w': (1, 8, 12), 'down_proj/w': (1, 12, 8),
    'up_proj/w_lora_a': (1, 8, 2), 'up_proj/w_lora_b': (1, 2, 12),
  }  # fmt: skip
  assert found['lm_head/w'][1] == 'last product'


def test_adapters_of_frozen_weights():
  """Behind the last adapter there are no parameters: it would be the head."""
  loss, params = _of_kind(nnx.LoRAParam)
  numbers = functools.partial(
    optax_namo.dimension_numbers_by_use, loss, params, _TOKENS
  )
  spec = numbers(output_heads='matrix')['up_proj']['w_lora_b']
  assert tuple(spec.get_value()) == ((0,), (1,))
  assert numbers()['up_proj']['w_lora_b'].get_value() is None


# Gemma in Flax's examples, and nanodo.


class _LinenEinsum(nn.Module):
  shape: tuple[int, ...]

  @nn.compact
  def __call__(self, equation, x):
    init = nn.initializers.normal()
    return jnp.einsum(equation, x, self.param('w', init, self.shape))


class _Gemma(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    table = self.param('input_embedding', nn.initializers.normal(), (11, 8))
    x = table[tokens]
    q = _LinenEinsum((4, 8, 2), name='q_einsum')('BTD,NDH->BTNH', x)
    k, v = _LinenEinsum((2, 1, 8, 2), name='kv_einsum')('BSD,CKDH->CBSKH', x)
    y = _LinenEinsum((4, 2, 8), name='attn_vec_einsum')(
      'BTNH,NHD->BTD', _attend(q, k, v)
    )
    gates = self.param('gating_einsum', nn.initializers.normal(), (2, 8, 12))
    gate, up = x @ gates[0], x @ gates[1]
    down = self.param('linear', nn.initializers.normal(), (12, 8))
    return (x + y + (nn.gelu(gate) * up) @ down) @ table.T


class _Nanodo(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(11, 8, name='embed')(tokens)
    heads = functools.partial(nn.DenseGeneral, (4, 2), use_bias=False)
    q, k, v = (heads(name=name)(x) for name in ('query', 'key', 'value'))
    out = nn.DenseGeneral(8, (-2, -1), use_bias=False, name='attn_out_proj')
    x += out(_attend(q, k, v))
    y = nn.gelu(nn.Dense(12, use_bias=False)(x))
    x += nn.Dense(8, use_bias=False)(y)
    return nn.Dense(11, use_bias=False, name='output_proj')(x)


@pytest.mark.parametrize(
  'model, views',
  [
    (_Gemma, {
      'q_einsum/w': (1, 8, 8), 'kv_einsum/w': (1, 8, 4),
      'attn_vec_einsum/w': (1, 8, 8), 'gating_einsum': (2, 8, 12),
      'linear': (1, 12, 8),
    }),
    (_Nanodo, {
      'query/kernel': (1, 8, 8), 'key/kernel': (1, 8, 8),
      'value/kernel': (1, 8, 8), 'attn_out_proj/kernel': (1, 8, 8),
      'Dense_0/kernel': (1, 8, 12), 'Dense_1/kernel': (1, 12, 8),
    }),
  ],
)  # fmt: skip
def test_gemma_and_nanodo(model, views):
  init = functools.partial(model().init, jax.random.key(0))
  params = jax.eval_shape(init, _TOKENS)['params']
  loss = lambda p, x: _cross_entropy(model().apply({'params': p}, x), x)
  table = routing_table(params, use=(loss, _TOKENS))
  assert {row.path: row.view[0] for row in table if row.view} == views


# AlgoPerf: a workload's model_fn and loss_fn, with batch statistics.


class _Workload:
  class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      x = nn.Conv(8, (3, 3), use_bias=False)(x)
      x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
      return nn.Dense(11)(
        nn.Dropout(0.1, deterministic=not train)(x.mean((1, 2)))
      )

  def model_fn(self, params, batch, model_state, mode, rng, update_batch_norm):
    return self.Model().apply(
      {'params': params, **model_state}, batch['inputs'], mode == 'train',
      mutable=['batch_stats'], rngs={'dropout': rng},
    )  # fmt: skip

  def loss_fn(self, targets, logits):
    log_probabilities = jax.nn.log_softmax(logits)
    return {'summed': -jnp.sum(targets * log_probabilities)}


def test_algoperf():
  workload, key = _Workload(), jax.random.key(0)
  struct = jax.ShapeDtypeStruct
  batch = {'inputs': struct((2, 8, 8, 3), 'float32'),
           'targets': struct((2, 11), 'float32')}  # fmt: skip
  init = lambda x: workload.Model().init(key, x, train=False)
  state = dict(jax.eval_shape(init, batch['inputs']))
  params = state.pop('params')

  def loss(params, batch, state, rng):
    logits, _ = workload.model_fn(params, batch, state, 'train', rng, True)
    return workload.loss_fn(batch['targets'], logits)['summed']

  found = routing_table(params, use=(loss, batch, state, key))
  assert {row.path: row.view for row in found if row.view} == {
    'Conv_0/kernel': ((1, 27, 8),)
  }


# Levanter: Haliax's layers, and no loss when the optimizer is built.


def test_levanter():
  axes = [Axis('layers', 3), Axis('embed', 8), Axis('heads', 4), Axis('k', 2)]
  layers, embed, heads, size = axes
  model = {
    'embeddings': {'token_embeddings': Embedding(array(heads, embed), None)},
    'q_proj': linear(embed, (heads, size), layers, heads, size, embed),
    'o_proj': linear((heads, size), embed, layers, embed, heads, size),
    'lm_head': linear(embed, heads, heads, embed),
  }
  views = {row.path: row.view for row in routing_table(model) if row.view}
  assert views == dict.fromkeys(
    ('q_proj/weight', 'o_proj/weight'), ((3, 8, 8),)
  )


# Agents that are trained side by side.


def test_vmapped_agents():
  def loss(params, x):
    y = jnp.tanh(x @ params['up']) @ params['down']
    return jnp.mean((jnp.tanh(y) @ params['head']) ** 2)

  params = random({'up': jnp.ones((8, 12)), 'down': jnp.ones((12, 8)),
                   'head': jnp.ones((8, 2))})  # fmt: skip
  agents = jax.tree.map(lambda x: jnp.stack([x, -2 * x, 0.5 * x]), params)
  x = random(jnp.ones((3, 5, 8)), 1)
  total = lambda agents, x: jnp.sum(jax.vmap(loss)(agents, x))
  numbers = optax_namo.dimension_numbers_by_use(total, agents, x)
  assert numbers == {'up': _M((1,), (2,)), 'down': _M((1,), (2,)), 'head': None}
  # The same as an optimizer of each agent's own.
  grads = jax.jit(jax.grad(total))(agents, x)
  tx = optax_namo.namo_d(0.1, weight_dimension_numbers=numbers)
  together = run(tx, [grads], agents)
  one = optax_namo.dimension_numbers_by_use(loss, params, x[0])
  tx = optax_namo.namo_d(0.1, weight_dimension_numbers=one)
  step = lambda grads, params: tx.update(grads, tx.init(params), params)[0]
  apart = jax.jit(jax.vmap(step))(grads, agents)
  chex.assert_trees_all_close(together, apart, rtol=1e-4, atol=1e-6)
