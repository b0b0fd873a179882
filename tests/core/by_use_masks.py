# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs with masks, one-hots in every spelling, and arrays of NumPy.

Sizes are those of by_use_programs, whose programs are among PROGRAMS here.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tests.core.by_use_programs import example
from tests.core.by_use_programs import plain
from tests.core.by_use_programs import program
from tests.core.by_use_programs import PROGRAMS as PROGRAMS
from tests.core.by_use_programs import TOKENS

_MATRIX = ((0,), (1,))
_BODY = {'a': (6, 10), 'b': (10, 6), 'last': (6, 3)}
_LAST_PLACES = jnp.asarray([3, 6])


@program
def last_token_pooled():
  """A one-hot times activations is a mask, whatever it is summed to."""

  def call(p, x, n):
    y = jax.nn.gelu(x @ p['a']) * jax.nn.one_hot(n, 7)[..., None]
    return jax.nn.gelu(y.sum(1) @ p['b']) @ p['last']

  matrices = dict.fromkeys('ab', _MATRIX)
  return plain(_BODY, call, matrices, example(2, 7, 6), _LAST_PLACES)


@program
def experts_of_masked_inputs():
  shapes = {'router': (6, 3), 'up': (3, 6, 10), 'down': (3, 10, 6),
            'last': (6, 4)}  # fmt: skip

  def call(p, x):
    gates = jax.nn.softmax(x @ p['router'])
    mask = jax.nn.one_hot(jnp.argmax(gates, -1), 3)
    y = jnp.einsum('bd,be->ebd', x, mask)
    y = jax.nn.gelu(jnp.einsum('ebd,edf->ebf', y, p['up']))
    y = jnp.einsum('ebf,efd->ebd', y, p['down'])
    return jnp.einsum('ebd,be->bd', y, mask * gates) @ p['last']

  def stretched(p, x):
    gates = jax.nn.softmax(x @ p['router'])
    mask = jnp.moveaxis(jax.nn.one_hot(jnp.argmax(gates, -1), 3), -1, 0)
    y = x[None] * mask[..., None]
    y = jax.nn.gelu(jnp.einsum('ebd,edf->ebf', y, p['up']))
    y = jnp.einsum('ebf,efd->ebd', y, p['down'])
    return (y * mask[..., None] * gates.T[..., None]).sum(0) @ p['last']

  matrices = {'router': _MATRIX, 'up': ((1,), (2,)), 'down': ((1,), (2,))}
  both = lambda p, x: call(p, x) + stretched(p, x)
  return plain(shapes, both, matrices, example(4, 6), skipped=('up', 'down'))


def _looked_up(one_hot):
  """A model whose tokens are looked up by what makes one-hots of them."""
  shapes = {'emb': (11, 6), **_BODY}

  def call(p, tokens):
    y = jax.nn.gelu(one_hot(tokens) @ p['emb'] @ p['a'])
    return y @ p['b'] @ p['last']

  matrices = dict.fromkeys('ab', _MATRIX)
  return plain(shapes, call, matrices, TOKENS)


@program
def one_hot_by_numpy():
  return _looked_up(
    lambda t: (t[..., None] == np.arange(11)[None, None]).astype('f4')
  )


@program
def one_hot_by_where():
  one = lambda t: jnp.where(
    t[..., None] == jnp.arange(11)[None, None], 1.0, 0.0
  )
  return _looked_up(lambda t: jnp.where((t > 0)[..., None], one(t), 0.0))


@program
def one_hot_by_and():
  return _looked_up(
    lambda t: (
      (t[..., None] == jnp.arange(11)[None, None]) & (t > 0)[..., None]
    ).astype('f4')
  )


@program
def bag_of_words():
  return _looked_up(lambda t: jax.nn.one_hot(t, 11).mean(1))


@program
def beside_arrays_of_numpy():
  """A weight with an identity added, and one whose diagonal is set."""
  shapes = {'a': (6, 6), 'b': (6, 6), 'last': (6, 3)}

  def call(p, x):
    y = jax.nn.gelu(x @ (p['a'] + np.eye(6, dtype='f4')))
    b = p['b'].at[np.diag_indices(6)].set(0.0)
    return jax.nn.gelu(y @ b) @ p['last']

  matrices = dict.fromkeys('ab', _MATRIX)
  return plain(shapes, call, matrices, example(2, 6), skipped=('a', 'b'))


@program
def a_batch_that_is_closed_over():
  """Its positions are AdamW's, as where the batch is an argument."""
  shapes = {'table': (11, 6), 'places': (7, 6), **_BODY}

  def call(p):
    y = p['table'][TOKENS] + p['places'][None]
    return jax.nn.gelu(jax.nn.gelu(y @ p['a']) @ p['b']) @ p['last']

  matrices = dict.fromkeys('ab', _MATRIX)
  return plain(shapes, call, matrices)


@program
def sampled_softmax():
  """Logits of rows that are looked up: what meets them is no head."""
  shapes = {'a': (6, 10), 'b': (10, 6), 'out': (11, 6)}

  def call(p, x):
    y = jax.nn.gelu(x @ p['a']) @ p['b']
    return jnp.einsum('btd,bnd->btn', y, p['out'][TOKENS])

  matrices = dict.fromkeys('ab', _MATRIX)
  return plain(shapes, call, matrices, example(2, 7, 6))


@program
def weights_modulated_by_example():
  """Data of all axes scale the weight, which stays one (INR-GAN, DropConnect).

  Some of it is drawn and some predicted.
  """
  shapes = {**_BODY, 'predict': (6, 60)}

  def call(p, x, mask):
    scales = mask * (x @ p['predict']).reshape(2, 6, 10)
    one = lambda x, scale: jax.nn.gelu(x @ (p['a'] * scale))
    return jax.nn.gelu(jax.vmap(one)(x, scales) @ p['b']) @ p['last']

  matrices = dict.fromkeys(('predict', 'a', 'b'), _MATRIX)
  args = example(2, 6), example(2, 6, 10)
  return plain(shapes, call, matrices, *args, skipped=('a',))


@program
def positions_that_are_resized():
  """A constant interpolates them: the name tells what they are.

  A layer over constants is a matrix, whatever it is called.
  """

  def call(p, x):
    y = x + jax.image.resize(p['pos_embed'], (1, 7, 6), 'linear')
    waves = jnp.sin(jnp.arange(28.0).reshape(7, 4))
    y += (waves @ p['pos_embedding/kernel'])[None]
    return jax.nn.gelu(jax.nn.gelu(y @ p['a']) @ p['b']) @ p['last']

  shapes = {'pos_embed': (1, 4, 6), 'pos_embedding/kernel': (4, 6), **_BODY}
  layer = 'pos_embedding/kernel'
  matrices = dict.fromkeys((layer, 'a', 'b'), _MATRIX)
  return plain(shapes, call, matrices, example(2, 7, 6), skipped=(layer,))


@program
def depthwise_with_a_multiplier():
  """Keras has the kernel (height, width, in, multiplier)."""
  shapes = {'depthwise': (3, 3, 6, 2), 'pointwise': (1, 1, 12, 6),
            'last': (6, 3)}  # fmt: skip

  def convolved(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', feature_group_count=groups,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )  # fmt: skip

  def call(p, x):
    y = convolved(x, p['depthwise'].reshape(3, 3, 1, 12), 6)
    y = jax.nn.gelu(convolved(y, p['pointwise']))
    return y.mean((1, 2)) @ p['last']

  matrices = {'pointwise': ((2,), (3,))}
  return plain(shapes, call, matrices, example(2, 5, 5, 6))


@program
def offloaded():
  """Parameters that the loss puts on a device itself."""

  def call(p, x):
    p = jax.device_put(p)
    return jax.nn.gelu(jax.nn.gelu(x @ p['a']) @ p['b']) @ p['last']

  return plain(_BODY, call, dict.fromkeys('ab', _MATRIX), example(2, 6))
