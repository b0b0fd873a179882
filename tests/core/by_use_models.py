# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs of Flax, Equinox, Haiku and plain JAX, with their matrices by hand.

Each has 6 features, 2 heads of 4, 10 hidden, 7 positions, 11 tokens, 3 layers
and 2 examples, or says otherwise.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import equinox as eqx
from flax import nnx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo import SplitMatrices

_TOKENS = jnp.arange(14).reshape(2, 7) % 11


class Program(NamedTuple):
  """A program and what is known of it.

  Attributes:
    function: Of the parameters and ``args``.
    params: Random.
    args: Random.
    matrices: ``(in, out)`` axes, or a spec, of each matrix by its path; all
      other leaves are AdamW's.
    factor: Whether each product's input is a factor of the gradient: not where
      a parameter is scaled, or one of two factors.
    skipped: Matrices whose gradients are no outer products: which data select,
      or a norm divides; or in branches and loops that are not unrolled.
  """

  function: Callable[..., Any]
  params: Any
  args: tuple[Any, ...]
  matrices: dict[str, Any]
  factor: bool = True
  skipped: tuple[str, ...] = ()


PROGRAMS: dict[str, Callable[[], Program]] = {}
# The oracle evaluates no program for several devices.
UNMAPPED = ('in_a_shard_map',)


def _program(function):
  name = function.__name__.strip('_')
  PROGRAMS[name] = functools.cache(function)
  return function


def random(tree, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(0.5 * rng.standard_normal(x.shape), x.dtype), tree
  )


def _x(*shape):
  return random(jax.ShapeDtypeStruct(shape, jnp.float32), 1)


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


def _plain(shapes, function, matrices, *args, **more):
  """The mean square of a function of ``{name: shape}``."""
  params = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }

  def loss(params, *args):
    return jnp.mean(function(params, *args) ** 2)

  return Program(loss, random(params), args, matrices, **more)


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


@_program
def linen_transformer():
  matrices = {**_block('_Block_0'), **_block('Checkpoint_Block_0')}
  return _linen(_Transformer(), matrices, _TOKENS)


@_program
def linen_scan_axis_0():
  return _linen(_Transformer(axis=0), _block('stack', 0), _TOKENS)


@_program
def linen_scan_axis_1():
  return _linen(_Transformer(axis=1), _block('stack', 1), _TOKENS)


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
  return _linen(_Convolutions(n), matrices, _x(2, *(4,) * n, 2))


@_program
def linen_convolutions_1d():
  return _convolutions(1)


@_program
def linen_convolutions_2d():
  return _convolutions(2)


@_program
def linen_convolutions_3d():
  return _convolutions(3)


class _Recurrent(nn.Module):
  cell: Any

  @nn.compact
  def __call__(self, x):
    return nn.Dense(3)(nn.RNN(self.cell(10, name='cell'))(x)[:, -1])


@_program
def linen_lstm():
  gates = [f'{side}{gate}' for side in 'ih' for gate in 'ifgo']
  matrices = {f'cell/{gate}/kernel': ((0,), (1,)) for gate in gates}
  return _linen(_Recurrent(nn.LSTMCell), matrices, _x(2, 4, 6))


@_program
def linen_gru():
  gates = ('ir', 'iz', 'in', 'hr', 'hz', 'hn')
  matrices = {f'cell/{gate}/kernel': ((0,), (1,)) for gate in gates}
  return _linen(_Recurrent(nn.GRUCell), matrices, _x(2, 4, 6))


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


@_program
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
    _x(2, 8, 8, 3),
    factor=False,
    skipped=('normalized/kernel', 'bounded/kernel'),
  )


class _TwoHeads(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.gelu(nn.Dense(10)(x))
    return nn.Dense(4)(x), jnp.tanh(nn.Dense(1)(x)) * nn.Dense(4, name='a')(x)


@_program
def linen_heads():
  return _linen(_TwoHeads(), {'Dense_0/kernel': ((0,), (1,))}, _x(2, 6))


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


@_program
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
  return _nnx(_GPT, matrices, _TOKENS)


@_program
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
  return _nnx(create, matrices, _x(2, 7, 6))


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


@_program
def nnx_scan():
  return _nnx(_Stack, {'layers/kernel': ((1,), (2,))}, _x(2, 6))


# Equinox.


@_program
def equinox_mlp():
  create = lambda key: eqx.nn.MLP(6, 3, 10, 2, jax.nn.gelu, key=key)
  matrices = {f'layers/{i}/weight': ((1,), (0,)) for i in (0, 1)}
  return _equinox(create, matrices, _x(2, 6))


@_program
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
  return _equinox(create, matrices, _TOKENS, call=call)


@_program
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
  return _equinox(create, matrices, _x(2, 4, 9))


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
  return _equinox(create, matrices, _x(2, 4, 6), call=call)


@_program
def equinox_gru():
  return _equinox_cell(eqx.nn.GRUCell)


@_program
def equinox_lstm():
  return _equinox_cell(eqx.nn.LSTMCell)


# Haiku.


@_program
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
  return _haiku(forward, dict.fromkeys(names, ((0,), (1,))), _TOKENS)


@_program
def haiku_layer_stack():
  def forward(x):
    stack = hk.experimental.layer_stack(3)
    x = stack(lambda x: x + jax.nn.gelu(hk.Linear(6)(x)))(x)
    return hk.Linear(4)(x)

  path = '__layer_stack_no_per_layer/linear/w'
  return _haiku(forward, {path: ((1,), (2,))}, _x(2, 6))


@_program
def haiku_lstm():
  def forward(x):
    core = hk.LSTM(8)
    y, _ = hk.dynamic_unroll(core, x, core.initial_state(2))
    return hk.Linear(3)(hk.Conv1D(4, 3)(y))

  matrices = {'lstm/linear/w': ((0,), (1,)), 'conv1_d/w': ((0, 1), (2,))}
  return _haiku(forward, matrices, _x(4, 2, 6))


# Plain JAX.


@_program
def stateless_call():
  """A list of variables, as Keras 3 has them."""
  shapes = {0: (11, 6), 1: (6, 10), 2: (10,), 3: (10, 6), 4: (6, 3)}

  def call(params, tokens):
    x = params[0][tokens].mean(1)
    x = jax.nn.gelu(x @ params[1] + params[2][None]) @ params[3]
    return jax.nn.gelu(x) @ params[4]

  matrices = {'1': ((0,), (1,)), '3': ((0,), (1,))}
  return _plain(shapes, call, matrices, _TOKENS)


@_program
def moe_ragged_dot():
  shapes = {'router': (6, 3), 'up': (3, 6, 10), 'down': (3, 10, 6),
            'last': (6, 4)}  # fmt: skip

  def moe(p, x):
    gates = jax.nn.softmax(x @ p['router'])
    expert = jnp.argmax(gates, 1)
    order = jnp.argsort(expert)
    sizes = jnp.bincount(expert, length=3)
    y = jax.lax.ragged_dot(x[order], p['up'], sizes)
    y = jax.lax.ragged_dot(jax.nn.gelu(y), p['down'], sizes)
    y = jnp.zeros_like(x).at[order].set(y)
    return (x + y * gates.max(1, keepdims=True)) @ p['last']

  matrices = {'router': ((0,), (1,)), 'up': ((1,), (2,)), 'down': ((1,), (2,))}
  return _plain(shapes, moe, matrices, _x(8, 6))


@_program
def moe_one_hot():
  """Dispatched and combined by products with one-hots."""
  shapes = {'router': (6, 3), 'up': (3, 6, 10), 'down': (3, 10, 6),
            'last': (6, 4)}  # fmt: skip

  def moe(p, x):
    gates = jax.nn.softmax(x @ p['router'])
    _, chosen = jax.lax.top_k(gates, 2)
    mask = jax.nn.one_hot(chosen, 3).sum(1) * gates
    y = jnp.einsum('te,td->etd', mask, x)
    y = jax.nn.gelu(jnp.einsum('etd,edf->etf', y, p['up']))
    y = jnp.einsum('etf,efd->etd', y, p['down'])
    return (x + y.sum(0)) @ p['last']

  matrices = {'router': ((0,), (1,)), 'up': ((1,), (2,)), 'down': ((1,), (2,))}
  return _plain(shapes, moe, matrices, _x(8, 6))


@_program
def moe_gathered():
  shapes = {'a': (3, 6, 10), 'b': (3, 10, 6), 'last': (6, 4)}

  def moe(p, x, expert):
    y = jax.nn.gelu(jnp.einsum('td,tdf->tf', x, p['a'][expert]))
    one_hot = jax.nn.one_hot(expert, 3)
    y = jnp.einsum('tf,tfd->td', y, jnp.einsum('te,efd->tfd', one_hot, p['b']))
    return (x + y) @ p['last']

  matrices = {'a': ((1,), (2,)), 'b': ((1,), (2,))}
  return _plain(
    shapes, moe, matrices, _x(4, 6), jnp.array([0, 2, 2, 1]), skipped=('a', 'b')
  )


@_program
def embeddings_by_one_hot():
  shapes = {'table': (11, 6), 'w': (6, 6)}

  def call(p, tokens):
    x = jax.nn.one_hot(tokens, 11) @ p['table']
    return jax.nn.gelu(x @ p['w']) @ p['table'].T

  return _plain(shapes, call, {'w': ((0,), (1,))}, _TOKENS)


@_program
def indexed_in_a_loop():
  shapes = {'first': (4, 6), 'layers': (3, 6, 6), 'more': (6, 3, 6),
            'last': (2, 6)}  # fmt: skip

  def call(p, x):
    x = x @ p['first']
    body = lambda i, x: x + jax.nn.gelu(x @ p['layers'][i])
    x = jax.lax.fori_loop(0, 3, body, x)
    for i in range(3):
      x = x + jax.nn.gelu(x @ p['more'][:, i])
    return x @ p['last'].T

  matrices = {
    'first': ((0,), (1,)), 'layers': ((1,), (2,)), 'more': ((0,), (2,)),
  }  # fmt: skip
  return _plain(shapes, call, matrices, _x(2, 4))


@_program
def lora():
  shapes = {'w': (6, 6), 'a': (6, 2), 'b': (2, 6), 'c': (6, 2), 'd': (2, 6),
            'e': (3, 6), 'f': (6, 3), 'last': (6, 4), 'la': (6, 2),
            'lb': (2, 4)}  # fmt: skip

  def call(p, x, frozen):
    x = jax.nn.gelu(x @ (p['w'] + 0.5 * p['a'] @ p['b']))
    x = jax.nn.gelu(x @ frozen + x @ p['c'] @ p['d'])
    x = jax.nn.gelu(x @ (frozen + p['f'] @ p['e']).T)
    return x @ (p['last'] + p['la'] @ p['lb'])

  matrices = {
    **dict.fromkeys('wabcd', ((0,), (1,))),
    'e': ((1,), (0,)), 'f': ((1,), (0,)),
  }  # fmt: skip
  return _plain(
    shapes, call, matrices, _x(2, 6), _x(6, 6), factor=False, skipped=('e', 'f')
  )


@_program
def graph_network():
  shapes = {'message': (6, 6), 'own': (6, 6), 'edge': (2, 6), 'last': (6, 3)}

  def call(p, nodes, edges, senders, receivers):
    for _ in range(2):
      sent = (nodes @ p['message'])[senders] + edges @ p['edge']
      got = jax.ops.segment_sum(jax.nn.gelu(sent), receivers, 5)
      nodes = jax.nn.gelu(nodes @ p['own'] + got)
    return nodes.mean(0) @ p['last']

  matrices = dict.fromkeys(('message', 'own', 'edge'), ((0,), (1,)))
  sent, got = jnp.array([0, 1, 2, 3]), jnp.array([1, 2, 3, 4])
  return _plain(shapes, call, matrices, _x(5, 6), _x(4, 2), sent, got)


@_program
def selective_state_space():
  """Mamba's block: in, convolution, time steps, scan, out."""
  shapes = {'in': (6, 20), 'taps': (3, 1, 10), 'x': (10, 9), 'dt': (1, 10),
            'A_log': (10, 4), 'D': (10,), 'out': (10, 6), 'last': (6, 3)
            }  # fmt: skip

  def call(p, x):
    u, gate = jnp.split(x @ p['in'], 2, -1)
    u = jax.nn.silu(jax.lax.conv_general_dilated(
      u, p['taps'], (1,), [(2, 0)], feature_group_count=10,
      dimension_numbers=('NWC', 'WIO', 'NWC')))  # fmt: skip
    dt, b, c = jnp.split(u @ p['x'], (1, 5), -1)
    dt = jax.nn.softplus(dt @ p['dt'])
    decay = jnp.exp(-dt[..., None] * jnp.exp(p['A_log'][None, None]))
    drive = (dt * u)[..., None] * b[:, :, None]

    def step(h, inputs):
      decay, drive, c = inputs
      h = decay * h + drive
      return h, jnp.einsum('bdn,bn->bd', h, c)

    inputs = [jnp.swapaxes(one, 0, 1) for one in (decay, drive, c)]
    _, y = jax.lax.scan(step, jnp.zeros((2, 10, 4)), tuple(inputs))
    y = (jnp.swapaxes(y, 0, 1) + u * p['D'][None, None]) * jax.nn.silu(gate)
    return (x + y @ p['out']) @ p['last']

  matrices = dict.fromkeys(('in', 'x', 'out'), ((0,), (1,)))
  return _plain(shapes, call, matrices, _x(2, 4, 6))


@_program
def reshaped():
  """Flat heads, stacks in rows, a weight in pieces."""
  shapes = {'qkv': (24, 6), 'rows': (18, 6), 'halves': (6, 12),
            'stack': (12, 6), 'last': (3, 6)}  # fmt: skip

  def call(p, x):
    qkv = p['qkv'].reshape(3, 2, 4, 6)
    q, k, v = jnp.einsum('btd,shkd->sbhtk', x, qkv)
    x += (jax.nn.softmax(q @ jnp.swapaxes(k, 2, 3)) @ v).mean((1, 3))[..., None]
    for w in p['rows'].reshape(3, 6, 6):
      x = x + jax.nn.gelu(x @ w)
    left, right = jnp.split(p['halves'], 2, 1)
    x = x + jax.nn.gelu(x @ left) * (x @ right)
    w = jnp.concatenate([p['stack'][:6], p['stack'][6:]], 1)
    x = jnp.concatenate([x @ p['stack'][:6], x @ p['stack'][6:]], -1)
    return (x[..., :6] + x[..., 6:]) @ p['last'].T

  matrices = {
    'qkv': ((1,), (0,)),
    'rows': SplitMatrices(MuonDimensionNumbers((0,), (1,)), 0, (6, 6, 6)),
    'halves': ((0,), (1,)),
    'stack': ((0,), (1,)),
  }
  return _plain(shapes, call, matrices, _x(2, 5, 6), factor=False)


@_program
def control_flow():
  shapes = {'a': (6, 6), 'b': (6, 6), 'c': (6, 6), 'd': (6, 6), 'last': (6, 3)}

  def call(p, x, flag):
    x = jax.lax.cond(flag, lambda x: x @ p['a'], lambda x: x @ p['b'].T, x)
    x = jax.lax.while_loop(
      lambda state: state[0] < 2,
      lambda state: (state[0] + 1, jax.nn.gelu(state[1] @ p['c'])),
      (0, x),
    )[1]
    x = jax.checkpoint(lambda w, x: jax.nn.gelu(x @ w))(p['d'], x)
    return x @ p['last']

  matrices = {'a': ((0,), (1,)), 'b': ((1,), (0,)), 'c': ((0,), (1,)),
              'd': ((0,), (1,))}  # fmt: skip
  return _plain(
    shapes, call, matrices, _x(2, 6), jnp.array(True), skipped=tuple('abc')
  )


@_program
def scaled():
  """Weight normalization, a mask, fake quantization, a penalty."""
  shapes = {'v': (6, 10), 'g': (10,), 'm': (10, 6), 'q': (6, 6), 'last': (6, 3)}

  def call(p, x, mask):
    norm = jnp.sqrt(jnp.sum(p['v'] ** 2, 0, keepdims=True))
    x = jax.nn.gelu(x @ (p['g'][None] * p['v'] / norm))
    x = jax.nn.gelu(x @ jnp.where(mask, p['m'], 0))
    step = jnp.max(jnp.abs(p['q'])) / 127
    rounded = jnp.round(p['q'] / step) * step
    w = p['q'] + jax.lax.stop_gradient(rounded - p['q'])
    penalty = jnp.sum((p['q'].T @ p['q'] - jnp.eye(6)) ** 2)
    return jax.nn.gelu(x @ w) @ p['last'] + penalty

  matrices = dict.fromkeys('vmq', ((0,), (1,)))
  mask = _x(10, 6) > 0
  return _plain(
    shapes, call, matrices, _x(2, 6), mask, factor=False, skipped=('v', 'm')
  )


@_program
def modulated():
  """Each example's style scales the inputs of its convolution, in a group."""
  shapes = {'style': (5, 4), 'w': (3, 4, 6), 'last': (6, 3)}

  def call(p, x, styles):
    w = p['w'][None] * (styles @ p['style'])[:, None, :, None]
    w = jnp.moveaxis(w, 0, 2).reshape(3, 4, 12)
    x = jnp.moveaxis(x, 0, 1).reshape(1, 7, 8)
    x = jax.lax.conv_general_dilated(
      x, w, (1,), 'SAME', feature_group_count=2,
      dimension_numbers=('NWC', 'WIO', 'NWC'))  # fmt: skip
    return jax.nn.gelu(x.reshape(7, 2, 6)) @ p['last']

  matrices = {'style': ((0,), (1,)), 'w': ((0, 1), (2,))}
  return _plain(shapes, call, matrices, _x(2, 7, 4), _x(2, 5), skipped=('w',))


@_program
def latents():
  """Learned queries: that they are no matrix, only a name tells."""
  shapes = {'latents': (3, 6), 'q': (6, 8), 'k': (6, 8), 'v': (6, 8),
            'last': (8, 3)}  # fmt: skip

  def call(p, x):
    q, k, v = p['latents'] @ p['q'], x @ p['k'], x @ p['v']
    return jax.nn.softmax(q @ jnp.swapaxes(k, 1, 2)) @ v @ p['last']

  matrices = dict.fromkeys('qkv', ((0,), (1,)))
  return _plain(shapes, call, matrices, _x(2, 7, 6), skipped=('q',))


@_program
def tied_autoencoder():
  shapes = {'w': (6, 10), 'u': (10, 10)}

  def call(p, x):
    return jax.nn.gelu(jax.nn.gelu(x @ p['w']) @ p['u']) @ p['w'].T

  return _plain(
    shapes, call, dict.fromkeys('wu', ((0,), (1,))), _x(2, 6), factor=False
  )


@_program
def ensemble():
  shapes = {'a': (3, 6, 8), 'b': (8, 3, 6), 'c': (3, 5, 6), 'last': (3, 6, 2)}

  def member(p, x):
    x = jax.nn.gelu(x @ p['a'])
    return jax.nn.gelu(jax.nn.gelu(x @ p['b']) @ p['c'].T) @ p['c'] @ p['last']

  def call(p, x):
    return jax.vmap(member, ({'a': 0, 'b': 1, 'c': 0, 'last': 0}, 0))(p, x)

  matrices = {'a': ((1,), (2,)), 'b': ((0,), (2,)), 'c': ((2,), (1,))}
  return _plain(shapes, call, matrices, _x(3, 2, 6), factor=False)


@_program
def ensemble_of_convolutions():
  shapes = {'a': (3, 3, 2, 4), 'b': (3, 3, 4, 4), 'last': (3, 4, 2)}

  def convolve(x, w):
    return jax.lax.conv_general_dilated(
      x, w, (1,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC')
    )

  def member(p, x):
    x = jax.nn.gelu(convolve(jax.nn.gelu(convolve(x, p['a'])), p['b']))
    return x.mean(1) @ p['last']

  def call(p, x):
    return jax.vmap(member)(p, x)

  matrices = {'a': ((1, 2), (3,)), 'b': ((1, 2), (3,))}
  return _plain(shapes, call, matrices, _x(3, 2, 5, 2))


@_program
def captured():
  """A loss of the parameters alone: the batch is in its closure."""
  x, shapes = _x(2, 6), {'a': (6, 10), 'b': (10, 6), 'last': (6, 3)}

  def call(p):
    return jax.nn.gelu(jax.nn.gelu(x @ p['a']) @ p['b']) @ p['last']

  return _plain(shapes, call, dict.fromkeys('ab', ((0,), (1,))))


@_program
def stacked_in_the_program():
  shapes = {'a': (6, 6), 'b': (6, 6), 'apart': (6, 3, 6), 'last': (6, 2)}

  def call(p, x):
    step = lambda x, w: (jax.nn.gelu(x @ w), None)
    x, _ = jax.lax.scan(step, x, jnp.stack([p['a'], p['b']], 1).swapaxes(0, 1))
    for w in jnp.unstack(p['apart'], axis=1):
      x = jax.nn.gelu(x @ w)
    return x @ p['last']

  matrices = {**dict.fromkeys('ab', ((0,), (1,))), 'apart': ((0,), (2,))}
  return _plain(shapes, call, matrices, _x(2, 6), skipped=('a', 'b'))


@_program
def frozen():
  """Adapters of what does not learn; a probe of what does."""
  shapes = {'w': (6, 6), 'a': (6, 2), 'b': (2, 6), 'last': (6, 3),
            'probe': (3, 4)}  # fmt: skip

  def call(p, x):
    frozen = jax.lax.stop_gradient({k: p[k] for k in ('w', 'last')})
    y = jax.nn.gelu(x @ frozen['w'] + x @ p['a'] @ p['b']) @ frozen['last']
    return y.mean() + jax.lax.stop_gradient(y) @ p['probe']

  matrices = dict.fromkeys('wab', ((0,), (1,)))
  return _plain(shapes, call, matrices, _x(2, 6), skipped=('w',))


@_program
def in_a_shard_map():
  shapes = {'a': (6, 10), 'b': (10, 6), 'last': (6, 3)}
  mesh = jax.make_mesh((1,), ('x',), (jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec

  def local(p, x):
    a = jax.lax.all_gather(p['a'], 'x', axis=0, tiled=True)
    y = jax.lax.psum(jax.nn.gelu(x @ a) @ p['b'], 'x')
    return y @ p['last']

  def call(p, x):
    specs = {'a': spec('x', None), 'b': spec(), 'last': spec()}
    return jax.shard_map(
      local, mesh=mesh, in_specs=(specs, spec()), out_specs=spec(),
      check_vma=False,
    )(p, x)  # fmt: skip

  matrices = dict.fromkeys('ab', ((0,), (1,)))
  return _plain(shapes, call, matrices, _x(2, 6), skipped=('a', 'b'))
