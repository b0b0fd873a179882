# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs of Flax, Equinox and Haiku, with their matrices by hand.

Sizes are those of by_use_programs, whose programs are among PROGRAMS here.
"""

from typing import Any

import equinox as eqx
from flax import nnx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

from optax_namo import SplitMatrices
from tests.core.by_use_masks import PROGRAMS as PROGRAMS
from tests.core.by_use_programs import example
from tests.core.by_use_programs import Program
from tests.core.by_use_programs import program
from tests.core.by_use_programs import random
from tests.core.by_use_programs import TOKENS


def _linen(module, matrices, *inputs, **more):
  """The mean square of what a module returns."""
  variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
  # Variances are positive.
  variables = jax.tree.map(jnp.abs, dict(random(variables)))
  params = variables.pop('params')

  def loss(params, state, *inputs):
    out = module.apply({'params': params, **state}, *inputs)
    return sum(jnp.mean(y**2) for y in jax.tree.leaves(out))

  return Program(loss, params, (variables, *inputs), matrices, **more)


def _nnx(create, matrices, *inputs, call=None, **more):
  model = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
  graph, params, rest = nnx.split(model, nnx.Param, ...)
  rest = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), rest)
  params = random(params)

  def loss(params, *inputs):
    model = nnx.merge(graph, params, rest)
    return jnp.mean((call or (lambda m, x: m(x)))(model, *inputs) ** 2)

  return Program(loss, params, inputs, matrices, **more)


def _equinox(create, matrices, *inputs, call=None, **more):
  model = eqx.filter_eval_shape(create, jax.random.key(0))
  params, static = eqx.partition(
    model, lambda x: isinstance(x, jax.ShapeDtypeStruct)
  )

  def loss(params, *inputs):
    model = eqx.combine(params, static)
    out = (call or (lambda m, x: jax.vmap(m)(x)))(model, *inputs)
    return jnp.mean(out**2)

  return Program(loss, random(params), inputs, matrices, **more)


def _haiku(forward, matrices, *inputs, **more):
  net = hk.transform(forward)
  params = random(jax.eval_shape(net.init, jax.random.key(0), *inputs))

  def loss(params, *inputs):
    return jnp.mean(net.apply(params, jax.random.key(0), *inputs) ** 2)

  return Program(loss, params, inputs, matrices, **more)


# Flax Linen.


class _Block(nn.Module):
  use_bias: bool = False

  @nn.compact
  def __call__(self, x, _=None):
    y = nn.LayerNorm(use_bias=self.use_bias)(x)
    x += nn.MultiHeadDotProductAttention(
      2, qkv_features=8, use_bias=self.use_bias, name='attn'
    )(y, y)
    y = nn.Dense(10, use_bias=self.use_bias)(nn.LayerNorm()(x))
    return x + nn.Dense(6, use_bias=self.use_bias)(nn.gelu(y)), None


class _Transformer(nn.Module):
  axis: int | None = None
  vmap: bool = False

  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(11, 6)(tokens)
    x += self.param('where', nn.initializers.normal(), (1, 7, 6))
    if self.axis is None:
      x, _ = _Block(True)(x)
      x, _ = nn.remat(_Block)()(x)
    else:
      stack = nn.scan(
        _Block,
        variable_axes={'params': self.axis},
        split_rngs={'params': True},
        length=3,
      )
      x, _ = stack(name='stack')(x, None)
    return nn.Dense(11, name='last')(nn.LayerNorm()(x))


def _block(name, axis=None):
  def stacked(inputs, outputs):
    if axis is None:
      return inputs, outputs
    return tuple(tuple(i + (i >= axis) for i in some)
                 for some in (inputs, outputs))  # fmt: skip

  return {
    **{f'{name}/attn/{one}/kernel': stacked((0,), (1, 2))
       for one in ('query', 'key', 'value')},
    f'{name}/attn/out/kernel': stacked((0, 1), (2,)),
    f'{name}/Dense_0/kernel': stacked((0,), (1,)),
    f'{name}/Dense_1/kernel': stacked((0,), (1,)),
  }  # fmt: skip


@program
def linen_transformer():
  matrices = {**_block('_Block_0'), **_block('Checkpoint_Block_0')}
  return _linen(_Transformer(), matrices, TOKENS)


@program
def linen_scan_axis_0():
  return _linen(_Transformer(axis=0), _block('stack', 0), TOKENS)


@program
def linen_scan_axis_1():
  return _linen(_Transformer(axis=1), _block('stack', 1), TOKENS)


class _Convolutions(nn.Module):
  dimensions: int

  @nn.compact
  def __call__(self, x):
    window = (3,) * self.dimensions
    x = nn.Conv(6, window, name='plain')(x)
    x = nn.BatchNorm(use_running_average=True)(nn.gelu(x))
    x = nn.Conv(6, window, feature_group_count=2, name='grouped')(x)
    x = nn.Conv(6, window, feature_group_count=6, name='depthwise')(x)
    x = nn.Conv(4, (1,) * self.dimensions, name='pointwise')(x)
    x = nn.ConvTranspose(6, window, strides=2, name='transposed')(x)
    x = nn.ConvTranspose(
      4, window, transpose_kernel=True, name='transposed_kernel'
    )(x)
    return nn.Dense(5)(x.mean(range(1, self.dimensions + 1)))


def _convolutions(n):
  plain = tuple(range(n + 1)), (n + 1,)
  matrices = {
    'plain/kernel': plain,
    'grouped/kernel': SplitMatrices(
      MuonDimensionNumbers(*plain), n + 1, (3, 3)
    ),
    'pointwise/kernel': ((n,), (n + 1,)),  # But for axes of one entry.
    'transposed/kernel': plain,
    'transposed_kernel/kernel': ((*range(n), n + 1), (n,)),
  }
  return _linen(_Convolutions(n), matrices, example(2, *(4,) * n, 2))


@program
def linen_convolutions_1d():
  return _convolutions(1)


@program
def linen_convolutions_2d():
  return _convolutions(2)


@program
def linen_convolutions_3d():
  return _convolutions(3)


class _Recurrent(nn.Module):
  cell: Any

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.RNN(self.cell(10, name='cell'))(x)[:, -1])


@program
def linen_lstm():
  gates = [f'{side}{gate}' for side in 'ih' for gate in 'ifgo']
  matrices = {f'cell/{gate}/kernel': ((0,), (1,)) for gate in gates}
  return _linen(_Recurrent(nn.LSTMCell), matrices, example(2, 4, 6))


@program
def linen_gru():
  gates = ('ir', 'iz', 'in', 'hr', 'hz', 'hn')
  matrices = {f'cell/{gate}/kernel': ((0,), (1,)) for gate in gates}
  return _linen(_Recurrent(nn.GRUCell), matrices, example(2, 4, 6))


class _ViT(nn.Module):
  @nn.compact
  def __call__(self, images):
    x = nn.Conv(6, (4, 4), strides=(4, 4), name='patches')(images)
    x = x.reshape(2, 4, 6)
    x = jnp.concatenate(
      [
        jnp.tile(
          self.param('first', nn.initializers.normal(), (1, 1, 6)), (2, 1, 1)
        ),
        x,
      ],
      1,
    )
    x += self.param('where', nn.initializers.normal(), (1, 5, 6))
    x, _ = _Block(True, name='block')(x)
    x = nn.DenseGeneral(10, axis=(-2, -1), name='general')(x)
    x = nn.gelu(nn.WeightNorm(nn.Dense(8, name='normalized'))(x))
    return nn.Dense(10)(nn.SpectralNorm(nn.Dense(6, name='bounded'))(
      x, update_stats=False))  # fmt: skip


@program
def linen_vit():
  matrices = {
    'patches/kernel': ((0, 1, 2), (3,)),
    **_block('block'),
    'general/kernel': ((0, 1), (2,)),
    'normalized/kernel': ((0,), (1,)),
    'bounded/kernel': ((0,), (1,)),
  }
  return _linen(
    _ViT(),
    matrices,
    example(2, 8, 8, 3),
    factor=False,
    skipped=('normalized/kernel', 'bounded/kernel'),
  )


class _TwoHeads(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.gelu(nn.Dense(10)(x))
    return nn.Dense(4)(x), jnp.tanh(nn.Dense(1)(x)) * nn.Dense(4, name='a')(x)


@program
def linen_heads():
  return _linen(_TwoHeads(), {'Dense_0/kernel': ((0,), (1,))}, example(2, 6))


# Flax NNX.


class _GPT(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Embed(11, 6, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(
      2, 6, qkv_features=8, use_bias=False, decode=False, rngs=rngs
    )
    self.up = nnx.Linear(6, 10, use_bias=False, rngs=rngs)
    self.down = nnx.LoRALinear(10, 6, lora_rank=2, rngs=rngs)
    self.norm = nnx.RMSNorm(6, rngs=rngs)

  def __call__(self, tokens):
    x = self.embed(tokens)
    x += self.attention(self.norm(x))
    x += self.down(nnx.gelu(self.up(x)))
    return self.embed.attend(x)


@program
def nnx_gpt_tied():
  matrices = {
    **{f'attention/{one}/kernel': ((0,), (1, 2))
       for one in ('query', 'key', 'value')},
    'attention/out/kernel': ((0, 1), (2,)),
    'up/kernel': ((0,), (1,)),
    'down/kernel': ((0,), (1,)),
    'down/lora/lora_a': ((0,), (1,)),
    'down/lora/lora_b': ((0,), (1,)),
  }  # fmt: skip
  return _nnx(_GPT, matrices, TOKENS)


@program
def nnx_sequential():
  def create(rngs):
    return nnx.Sequential(
      nnx.Linear(6, 10, rngs=rngs),
      nnx.gelu,
      nnx.Conv(10, 4, (3,), rngs=rngs),
      nnx.gelu,
      nnx.Linear(4, 3, rngs=rngs),
    )

  matrices = {
    'layers/0/kernel': ((0,), (1,)),
    'layers/2/kernel': ((0, 1), (2,)),
  }
  return _nnx(create, matrices, example(2, 7, 6))


class _Stack(nnx.Module):
  def __init__(self, rngs):
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def layers(rngs):
      return nnx.Linear(6, 6, rngs=rngs)

    self.layers = layers(rngs)
    self.last = nnx.Linear(6, 11, rngs=rngs)

  def __call__(self, x):
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def forward(layer, x):
      return x + nnx.gelu(layer(x))

    return self.last(forward(self.layers, x))


@program
def nnx_scan():
  return _nnx(_Stack, {'layers/kernel': ((1,), (2,))}, example(2, 6))


# Equinox.


@program
def equinox_mlp():
  create = lambda key: eqx.nn.MLP(6, 3, 10, 2, jax.nn.gelu, key=key)
  matrices = {f'layers/{i}/weight': ((1,), (0,)) for i in (0, 1)}
  return _equinox(create, matrices, example(2, 6))


@program
def equinox_attention():
  def create(key):
    return (
      eqx.nn.Embedding(11, 8, key=key),
      eqx.nn.MultiheadAttention(2, 8, key=key),
      eqx.nn.Linear(8, 11, key=key),
    )

  def call(model, tokens):
    embedding, attention, last = model

    def one(tokens):
      x = jax.vmap(embedding)(tokens)
      return jax.vmap(last)(attention(x, x, x))

    return jax.vmap(one)(tokens)

  names = ('query', 'key', 'value', 'output')
  matrices = {f'1/{one}_proj/weight': ((1,), (0,)) for one in names}
  return _equinox(create, matrices, TOKENS, call=call)


@program
def equinox_convolutions():
  def create(key):
    return eqx.nn.Sequential(
      [
        eqx.nn.Conv1d(4, 8, 3, key=key),
        eqx.nn.Conv1d(8, 8, 3, groups=2, key=key),
        eqx.nn.Conv1d(8, 8, 3, groups=8, key=key),
        eqx.nn.ConvTranspose1d(8, 4, 3, key=key),
        eqx.nn.Lambda(lambda x: x.mean(1)),
        eqx.nn.Linear(4, 2, key=key),
      ]
    )

  plain = MuonDimensionNumbers((1, 2), (0,))
  matrices = {
    'layers/0/weight': ((1, 2), (0,)),
    'layers/1/weight': SplitMatrices(plain, 0, (4, 4)),
    'layers/3/weight': ((1, 2), (0,)),
  }
  return _equinox(create, matrices, example(2, 4, 9))


def _equinox_cell(cell):
  def create(key):
    return cell(6, 8, key=key), eqx.nn.Linear(8, 3, key=key)

  def call(model, xs):
    cell, last = model

    def one(xs):
      hidden = jnp.zeros(8)
      if cell.__class__.__name__ == 'LSTMCell':
        hidden = hidden, hidden
      step = lambda hidden, x: (cell(x, hidden), None)
      hidden, _ = jax.lax.scan(step, hidden, xs)
      return last(jax.tree.leaves(hidden)[0])

    return jax.vmap(one)(xs)

  matrices = {f'0/weight_{side}h': ((1,), (0,)) for side in 'ih'}
  return _equinox(create, matrices, example(2, 4, 6), call=call)


@program
def equinox_gru():
  return _equinox_cell(eqx.nn.GRUCell)


@program
def equinox_lstm():
  return _equinox_cell(eqx.nn.LSTMCell)


# Haiku.


@program
def haiku_transformer():
  def forward(tokens):
    x = hk.Embed(11, 6)(tokens)
    init = hk.initializers.RandomNormal()
    attention = hk.MultiHeadAttention(2, 4, w_init=init, model_size=6)
    x += attention(x, x, x)
    x += hk.Linear(6)(jax.nn.gelu(hk.Linear(10)(x)))
    return hk.Linear(11)(x)

  names = [f'multi_head_attention/{one}/w'
           for one in ('query', 'key', 'value', 'linear')]  # fmt: skip
  names += ['linear/w', 'linear_1/w']
  return _haiku(forward, dict.fromkeys(names, ((0,), (1,))), TOKENS)


@program
def haiku_layer_stack():
  def forward(x):
    stack = hk.experimental.layer_stack(3)
    x = stack(lambda x: x + jax.nn.gelu(hk.Linear(6)(x)))(x)
    return hk.Linear(4)(x)

  path = '__layer_stack_no_per_layer/linear/w'
  return _haiku(forward, {path: ((1,), (2,))}, example(2, 6))


@program
def haiku_lstm():
  def forward(x):
    core = hk.LSTM(8)
    y, _ = hk.dynamic_unroll(core, x, core.initial_state(2))
    return hk.Linear(3)(hk.Conv1D(4, 3)(y))

  matrices = {'lstm/linear/w': ((0,), (1,)), 'conv1_d/w': ((0, 1), (2,))}
  return _haiku(forward, matrices, example(4, 2, 6))
