# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs of plain JAX, with their matrices by hand.

Each has 6 features, 2 heads of 4, 10 hidden, 7 positions, 11 tokens, 3 layers
and 2 examples, or says otherwise.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo import SplitMatrices

TOKENS = jnp.arange(14).reshape(2, 7) % 11


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


def program(function):
  name = function.__name__.strip('_')
  PROGRAMS[name] = functools.cache(function)
  return function


def random(tree, seed=0):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: jnp.asarray(0.5 * rng.standard_normal(x.shape), x.dtype), tree
  )


def example(*shape):
  return random(jax.ShapeDtypeStruct(shape, jnp.float32), 1)


def plain(shapes, function, matrices, *args, **more):
  """The mean square of a function of ``{name: shape}``."""
  params = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }

  def loss(params, *args):
    return jnp.mean(function(params, *args) ** 2)

  return Program(loss, random(params), args, matrices, **more)


@program
def stateless_call():
  """A list of variables, as Keras 3 has them."""
  shapes = {0: (11, 6), 1: (6, 10), 2: (10,), 3: (10, 6), 4: (6, 3)}

  def call(params, tokens):
    x = params[0][tokens].mean(1)
    x = jax.nn.gelu(x @ params[1] + params[2][None]) @ params[3]
    return jax.nn.gelu(x) @ params[4]

  matrices = {'1': ((0,), (1,)), '3': ((0,), (1,))}
  return plain(shapes, call, matrices, TOKENS)


@program
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
  return plain(shapes, moe, matrices, example(8, 6))


@program
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
  return plain(shapes, moe, matrices, example(8, 6))


@program
def moe_gathered():
  shapes = {'a': (3, 6, 10), 'b': (3, 10, 6), 'last': (6, 4)}

  def moe(p, x, expert):
    y = jax.nn.gelu(jnp.einsum('td,tdf->tf', x, p['a'][expert]))
    one_hot = jax.nn.one_hot(expert, 3)
    y = jnp.einsum('tf,tfd->td', y, jnp.einsum('te,efd->tfd', one_hot, p['b']))
    return (x + y) @ p['last']

  matrices = {'a': ((1,), (2,)), 'b': ((1,), (2,))}
  return plain(
    shapes,
    moe,
    matrices,
    example(4, 6),
    jnp.array([0, 2, 2, 1]),
    skipped=('a', 'b'),
  )


@program
def embeddings_by_one_hot():
  shapes = {'table': (11, 6), 'w': (6, 6)}

  def call(p, tokens):
    x = jax.nn.one_hot(tokens, 11) @ p['table']
    return jax.nn.gelu(x @ p['w']) @ p['table'].T

  return plain(shapes, call, {'w': ((0,), (1,))}, TOKENS)


@program
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
  return plain(shapes, call, matrices, example(2, 4))


@program
def factored_embedding():
  """Looked up in a product, and what is looked up meets itself."""
  shapes = {'a': (11, 3), 'b': (3, 6), 'table': (11, 6), 'last': (6, 4)}

  def call(p, tokens):
    x = (p['a'] @ p['b'])[tokens] + 1.0
    rows = jax.nn.one_hot(tokens, 11).reshape(-1, 11)
    x += (rows @ p['table']).reshape(x.shape)
    x += jnp.ones(x.shape) * tokens[..., None]
    return jax.nn.softmax(x @ jnp.swapaxes(x, 1, 2)) @ x @ p['last']

  return plain(shapes, call, {}, TOKENS)


@program
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
  return plain(
    shapes,
    call,
    matrices,
    example(2, 6),
    example(6, 6),
    factor=False,
    skipped=('e', 'f'),
  )


@program
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
  return plain(shapes, call, matrices, example(5, 6), example(4, 2), sent, got)


@program
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
  return plain(shapes, call, matrices, example(2, 4, 6))


@program
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
  return plain(shapes, call, matrices, example(2, 5, 6), factor=False)


@program
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
  return plain(
    shapes, call, matrices, example(2, 6), jnp.array(True), skipped=tuple('abc')
  )


@program
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
  mask = example(10, 6) > 0
  return plain(
    shapes,
    call,
    matrices,
    example(2, 6),
    mask,
    factor=False,
    skipped=('v', 'm'),
  )


@program
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
  return plain(
    shapes, call, matrices, example(2, 7, 4), example(2, 5), skipped=('w',)
  )


@program
def latents():
  """Learned queries: that they are no matrix, only a name tells."""
  shapes = {'latents': (3, 6), 'q': (6, 8), 'k': (6, 8), 'v': (6, 8),
            'last': (8, 3)}  # fmt: skip

  def call(p, x):
    q, k, v = p['latents'] @ p['q'], x @ p['k'], x @ p['v']
    return jax.nn.softmax(q @ jnp.swapaxes(k, 1, 2)) @ v @ p['last']

  matrices = dict.fromkeys('qkv', ((0,), (1,)))
  return plain(shapes, call, matrices, example(2, 7, 6), skipped=('q',))


@program
def latents_behind_a_norm():
  """What else is learned there has fewer axes: a scale and a bias."""
  shapes = {'latents': (3, 6), 'scale': (6,), 'bias': (6,), 'q': (6, 2, 4),
            'k': (6, 2, 4), 'v': (6, 2, 4), 'out': (2, 4, 6),
            'last': (6, 3)}  # fmt: skip

  def call(p, x):
    y = p['latents'] - p['latents'].mean(1, keepdims=True)
    y = y * p['scale'][None] + p['bias'][None]
    q = jnp.einsum('td,dhk->htk', y, p['q'])
    k, v = (jnp.einsum('bsd,dhk->bhsk', x, p[name]) for name in 'kv')
    weights = jax.nn.softmax(jnp.einsum('htk,bhsk->bhts', q, k))
    y = jnp.einsum('bhts,bhsk->bthk', weights, v)
    y = jnp.einsum('bthk,hkd->btd', y, p['out']) + p['latents'][None]
    return jax.nn.gelu(y) @ p['last']

  matrices = {
    **dict.fromkeys('qkv', ((0,), (1, 2))), 'out': ((0, 1), (2,)),
  }  # fmt: skip
  return plain(shapes, call, matrices, example(2, 7, 6), skipped=('q',))


@program
def constant_positions():
  """Sinusoids made in the program meet a matrix as data do."""
  shapes = {'q': (6, 2, 4), 'r': (6, 2, 4), 'out': (2, 4, 6), 'last': (6, 3)}

  def call(p, x):
    positions = jnp.sin(jnp.arange(7.0)[:, None] * jnp.arange(1.0, 7.0)[None])
    q = jnp.einsum('btd,dhk->bthk', x, p['q'])
    r = jnp.einsum('sd,dhk->shk', positions, p['r'])
    weights = jax.nn.softmax(jnp.einsum('bthk,shk->bhts', q, r))
    y = jnp.einsum('bhts,bshk->bthk', weights, q)
    return jnp.einsum('bthk,hkd->btd', y, p['out']) @ p['last']

  matrices = {
    **dict.fromkeys('qr', ((0,), (1, 2))), 'out': ((0, 1), (2,)),
  }  # fmt: skip
  return plain(shapes, call, matrices, example(2, 7, 6), skipped=('r',))


@program
def coordinates():
  """A network of constants, whose result meets data's."""
  shapes = {'a': (10, 2), 'b': (6, 10), 'c': (10, 6), 'd': (10, 6),
            'last': (3, 10)}  # fmt: skip

  def call(p, image):
    x = jnp.stack(jnp.meshgrid(*2 * [jnp.linspace(-1, 1, 4)]), -1)
    x = x.reshape(16, 2)
    for name in 'abc':
      x = jnp.sin(x @ p[name].T)
    return (x * (image @ p['d'].T)) @ p['last'].T

  matrices = dict.fromkeys('abcd', ((1,), (0,)))
  return plain(shapes, call, matrices, example(16, 6), skipped=('a', 'b', 'c'))


@program
def constant_factors():
  """Constants that a weight is multiplied with leave it a weight."""
  shapes = {'a': (6, 10), 'b': (10, 6, 2), 'last': (6, 3)}

  def call(p, x):
    turned = jnp.tril(jnp.ones((6, 6))) @ p['a']
    basis = jnp.arange(8.0).reshape(2, 4) / 8
    kernel = jnp.einsum('iob,bt->iot', p['b'], basis)
    y = jnp.einsum('ni,iot->not', jax.nn.gelu(x @ turned), kernel)
    return jax.nn.gelu(y.sum(-1)) @ p['last']

  matrices = dict.fromkeys('ab', ((0,), (1,)))
  return plain(shapes, call, matrices, example(2, 6), skipped=('a', 'b'))


@program
def tied_autoencoder():
  shapes = {'w': (6, 10), 'u': (10, 10)}

  def call(p, x):
    return jax.nn.gelu(jax.nn.gelu(x @ p['w']) @ p['u']) @ p['w'].T

  return plain(
    shapes, call, dict.fromkeys('wu', ((0,), (1,))), example(2, 6), factor=False
  )


@program
def ensemble():
  shapes = {'a': (3, 6, 8), 'b': (8, 3, 6), 'c': (3, 5, 6), 'last': (3, 6, 2)}

  def member(p, x):
    x = jax.nn.gelu(x @ p['a'])
    return jax.nn.gelu(jax.nn.gelu(x @ p['b']) @ p['c'].T) @ p['c'] @ p['last']

  def call(p, x):
    return jax.vmap(member, ({'a': 0, 'b': 1, 'c': 0, 'last': 0}, 0))(p, x)

  matrices = {'a': ((1,), (2,)), 'b': ((0,), (2,)), 'c': ((2,), (1,))}
  return plain(shapes, call, matrices, example(3, 2, 6), factor=False)


@program
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
  return plain(shapes, call, matrices, example(3, 2, 5, 2))


@program
def captured():
  """A loss of the parameters alone: the batch is in its closure."""
  x, shapes = example(2, 6), {'a': (6, 10), 'b': (10, 6), 'last': (6, 3)}

  def call(p):
    return jax.nn.gelu(jax.nn.gelu(x @ p['a']) @ p['b']) @ p['last']

  return plain(shapes, call, dict.fromkeys('ab', ((0,), (1,))))


@program
def stacked_in_the_program():
  shapes = {'a': (6, 6), 'b': (6, 6), 'apart': (6, 3, 6), 'turned': (6, 6),
            'last': (6, 2)}  # fmt: skip

  def call(p, x):
    step = lambda x, w: (jax.nn.gelu(x @ w), None)
    x, _ = jax.lax.scan(step, x, jnp.stack([p['a'], p['b']], 1).swapaxes(0, 1))
    for w in jnp.unstack(p['apart'], axis=1):
      x = jax.nn.gelu(x @ w)
    return jax.nn.gelu(x @ p['turned'][5 - jnp.arange(6)]) @ p['last']

  matrices = {**dict.fromkeys(['a', 'b', 'turned'], ((0,), (1,))),
              'apart': ((0,), (2,))}  # fmt: skip
  return plain(
    shapes, call, matrices, example(2, 6), factor=False, skipped=('a', 'b')
  )


@program
def frozen():
  """Adapters of what does not learn; a probe of what does."""
  shapes = {'w': (6, 6), 'a': (6, 2), 'b': (2, 6), 'last': (6, 3),
            'probe': (3, 4)}  # fmt: skip

  def call(p, x):
    frozen = jax.lax.stop_gradient({k: p[k] for k in ('w', 'last')})
    y = jax.nn.gelu(x @ frozen['w'] + x @ p['a'] @ p['b']) @ frozen['last']
    return y.mean() + jax.lax.stop_gradient(y) @ p['probe']

  matrices = dict.fromkeys('wab', ((0,), (1,)))
  return plain(shapes, call, matrices, example(2, 6), skipped=('w',))


@program
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
  return plain(shapes, call, matrices, example(2, 6), skipped=('a', 'b'))
