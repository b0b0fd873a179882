# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random small programs whose matrices the generator knows.

Every layer maps 12 features to 12 by a parameter whose axes are split, merged
and permuted at random, and which the program brings back before it multiplies.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo import SplitMatrices

_SIZES = (12,), (3, 4), (2, 6), (2, 2, 3), (4, 3)
_MEMBERS = 3


def _axes(rng, sizes):
  """The sizes of a side's axes in the parameter: some are merged."""
  cuts = [i for i in range(1, len(sizes)) if rng.integers(2)]
  return [math.prod(part) for part in np.split(sizes, cuts)]


def _times(rng, w, x, inputs, outputs):
  """x (n, 12) times a parameter (*inputs, *outputs), one way or another."""
  way = rng.integers(6)
  if way == 0:
    return x @ w.reshape(12, 12)
  if way == 1:
    return (w.reshape(12, 12).T @ x.T).T
  if way == 2:
    return jax.lax.conv_general_dilated(
      x[None], w.reshape(1, 12, 12), (1,), 'VALID',
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )[0]  # fmt: skip
  letters = rng.permutation(list('abcdefgh'))
  n, i, o = (
    letters[0],
    ''.join(letters[1 : 1 + len(inputs)]),
    ''.join(letters[1 + len(inputs) :][: len(outputs)]),
  )
  x = x.reshape(-1, *inputs)
  if way == 3:
    y = jnp.einsum(f'{n}{i},{i}{o}->{n}{o}', x, w)
  elif way == 4:
    y = jnp.moveaxis(jnp.einsum(f'{i}{o},{n}{i}->{o}{n}', w, x), -1, 0)
  else:
    y = jax.vmap(lambda row: jnp.tensordot(row, w, len(inputs)))(x)
  return y.reshape(-1, 12)


def _around(rng, function):
  way = rng.integers(4)
  if way == 0:
    return jax.jit(function)
  if way == 1:
    return jax.checkpoint(function)
  if way == 2:
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda primals, tangents: (function(*primals), tangents[1]))
    return wrapped
  return function


def _disguised(rng, w):
  """The parameter as programs have it: cast, scaled, masked."""
  way = rng.integers(5)
  if way == 0:
    return w.astype(jnp.bfloat16).astype(jnp.float32)
  if way == 1:
    return 0.5 * w
  if way == 2:
    return w * (jnp.arange(w.size).reshape(w.shape) % 5 > 0)
  if way == 3:
    return w / jnp.sqrt(jnp.sum(w**2))
  return w


def _layer(rng):
  """The shape of a parameter, its matrices, and the layer that it makes."""
  inputs, outputs = (_SIZES[rng.integers(len(_SIZES))] for _ in range(2))
  sides = [_axes(rng, inputs), _axes(rng, outputs)]
  batch = rng.choice(['', 'scan', 'index', 'unrolled', 'vmap', 'chosen'])
  roles = [0] * len(sides[0]) + [1] * len(sides[1])
  shape = [*sides[0], *sides[1]]
  within = None  # The axis that the batch leads, if it is none of its own.
  if batch:
    if rng.integers(3):
      shape, roles = [_MEMBERS, *shape], [2, *roles]
    else:
      within = int(rng.choice([0, len(sides[0])]))
      shape[within] *= _MEMBERS
  order = rng.permutation(len(shape))
  stored = tuple(shape[i] for i in order)
  found = [
    tuple(j for j, i in enumerate(order) if roles[i] == role) for role in (0, 1)
  ]
  spec = MuonDimensionNumbers(*found)
  if within is not None:
    (axis,) = (j for j, i in enumerate(order) if i == within)
    size = stored[axis] // _MEMBERS
    spec = SplitMatrices(spec, axis, (size,) * _MEMBERS)
  seed = int(rng.integers(2**31))

  def members(w):
    w = _disguised(np.random.default_rng(seed), w)
    w = jnp.transpose(w, np.argsort(order))
    if within:
      w = w.reshape(12, _MEMBERS, *outputs)
      w = jnp.moveaxis(w, 1, 0)
    return w.reshape(*(_MEMBERS,) * bool(batch), *inputs, *outputs)

  def once(w, x):
    rng = np.random.default_rng(seed)
    times = lambda w, x: _times(rng, w, x, inputs, outputs)
    return x + jnp.tanh(_around(rng, times)(w, x))

  def layer(w, x, chosen):
    w = members(w)
    if batch == 'scan':
      return jax.lax.scan(lambda x, w: (once(w, x), None), x, w)[0]
    if batch == 'index':
      body = lambda i, x: once(w[i], x)
      return jax.lax.fori_loop(0, _MEMBERS, body, x)
    if batch == 'unrolled':
      for one in w:
        x = once(one, x)
      return x
    if batch == 'vmap':
      x = x.reshape(_MEMBERS, -1, 12)
      return jax.vmap(once)(w, x).reshape(-1, 12)
    if batch == 'chosen':
      return once(w[chosen], x)
    if seed % 3 == 0:  # A recurrence.
      return jax.lax.scan(lambda x, _: (once(w, x), None), x, length=3)[0]
    return once(w, x)

  return stored, spec, layer


def program(seed):
  """A function of parameters and data, their shapes, and the matrices."""
  rng = np.random.default_rng(seed)
  layers = [_layer(rng) for _ in range(4)]
  shapes = [shape for shape, _, _ in layers]
  expected = [spec for _, spec, _ in layers]

  def function(params, x, chosen):
    *weights, table, last = params
    x = x + table[chosen]
    for w, (_, _, layer) in zip(weights, layers):
      x = layer(w, x, chosen)
    return jnp.sum(x @ last)

  struct = lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  params = [struct(shape) for shape in (*shapes, (5, 6, 12), (12, 12))]
  args = struct((6, 12)), jax.ShapeDtypeStruct((), jnp.int32)
  return function, params, args, [*expected, None, None]
