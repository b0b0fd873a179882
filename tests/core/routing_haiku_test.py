# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The default router on real Haiku modules.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

import haiku as hk
from haiku._src.data_structures import FlatMap
import jax
import jax.numpy as jnp
import pytest

import optax_namo
from tests.core.routes import matrices
from tests.core.routes import why

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_KERNEL, _STACK = ((0,), (1,)), ((1,), (2,))


def _params(forward, *inputs):
  init = lambda key: hk.transform_with_state(forward).init(key, *inputs)[0]
  return jax.eval_shape(init, jax.random.key(0))


def _norm():
  return hk.LayerNorm(-1, create_scale=True, create_offset=True)


def _block(x, with_bias=True):
  init = hk.initializers.RandomNormal()
  attention = hk.MultiHeadAttention(
    2, 4, model_size=6, w_init=init, with_bias=with_bias
  )
  y = _norm()(x)
  x += attention(y, y, y)
  return x + hk.nets.MLP([10, 6], with_bias=with_bias)(_norm()(x))


_BLOCK = (
  'multi_head_attention/query/w',
  'multi_head_attention/key/w',
  'multi_head_attention/value/w',
  'multi_head_attention/linear/w',
  'mlp/~/linear_0/w',
  'mlp/~/linear_1/w',
)


@pytest.mark.parametrize('with_bias', [True, False])
def test_transformer(with_bias):
  block = lambda x: _block(x, with_bias)

  def forward(tokens):
    x = hk.Embed(11, 6, name='tok')(tokens)
    x = hk.experimental.layer_stack(3)(block)(block(x))
    return hk.Linear(11, name='head')(_norm()(x))

  params = _params(forward, jnp.ones((1, 7), int))
  stack = '__layer_stack_no_per_layer'
  assert matrices(params, strict=True) == {
    **{path: _KERNEL for path in _BLOCK},
    **{f'{stack}/{path}': _STACK for path in _BLOCK},
  }
  told = why(params)
  assert told['tok/embeddings'] == 'embedding'
  assert told[f'{stack}/layer_norm/offset'] == 'bias'
  linear, query = (f'{stack}/{_BLOCK[i]}' for i in (-1, 0))
  assert told[linear] == ('bias' if with_bias else 'linear')
  assert told[query] == ('bias' if with_bias else 'linear')


def test_stack_of_bare_linear_layers():
  layer = lambda x: hk.Linear(6, with_bias=False)(x)
  forward = hk.experimental.layer_stack(3)(layer)
  params = _params(forward, jnp.ones((1, 6)))
  path = '__layer_stack_no_per_layer/linear/w'
  assert matrices(params, strict=True) == {path: _STACK}
  forward = hk.experimental.layer_stack(3, name='stack')(layer)
  with pytest.warns(UserWarning, match='stack/linear/w'):
    assert not matrices(_params(forward, jnp.ones((1, 6))))


# A square one as well: its shapes do not tell which axis is the output.
@pytest.mark.parametrize('channels', [4, 5])
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(
  'conv, spatial, numbers',
  [
    (hk.Conv1D, 1, ((0, 1), (2,))),
    (hk.Conv2D, 2, ((0, 1, 2), (3,))),
    (hk.Conv3D, 3, ((0, 1, 2, 3), (4,))),
    (hk.Conv1DTranspose, 1, ((0, 2), (1,))),
    (hk.Conv2DTranspose, 2, ((0, 1, 3), (2,))),
    (hk.Conv3DTranspose, 3, ((0, 1, 2, 4), (3,))),
  ],
)
def test_convolutions(conv, spatial, numbers, with_bias, channels):
  layer = lambda x: conv(channels, 3, with_bias=with_bias)(x)
  inputs = jnp.ones((1, *([4] * spatial), 5))
  (found,) = matrices(_params(layer, inputs), strict=True).values()
  assert found == numbers
  if channels == 5:
    stack = hk.experimental.layer_stack(2)(layer)
    (found,) = matrices(_params(stack, inputs), strict=True).values()
    assert found == tuple(tuple(i + 1 for i in axes) for axes in numbers)


def test_a_residual_network():
  def forward(x):
    x = hk.Conv2D(5, 3, with_bias=False, name='stem')(x)
    x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
    x = hk.Conv2D(5, 3, data_format='NCHW')(x)
    x = hk.GroupNorm(5)(hk.InstanceNorm(True, True)(x))
    return hk.Bias(bias_dims=[-1, -2])(x)

  params = _params(forward, jnp.ones((1, 5, 5, 5)))
  # Without bias, and without the name of a convolution.
  with pytest.warns(UserWarning, match="'stem/w' of shape"):
    assert matrices(params) == {'conv2_d/w': ((0, 1, 2), (3,))}


def test_gates_are_one_matrix():
  def forward(x):
    hk.GRU(5)(x, jnp.ones((2, 5)))
    hk.LSTM(5)(x, hk.LSTMState(jnp.ones((2, 5)), jnp.ones((2, 5))))
    return x

  inputs = jnp.ones((2, 3))
  paths = ('gru/w_i', 'gru/w_h', 'lstm/linear/w')
  found = matrices(_params(forward, inputs), strict=True)
  assert found == dict.fromkeys(paths, _KERNEL)
  stack = hk.experimental.layer_stack(2, name='stack')(forward)
  found = matrices(_params(stack, inputs), strict=True)
  assert found == {f'stack/{path}': _STACK for path in paths}


def test_a_flat_map_has_the_keys_of_its_dict():
  layers = lambda x: hk.nets.MLP([4, 3])(hk.Linear(4, name='head')(x))
  params = _params(layers, jnp.ones((2, 3)))
  flat = FlatMap(params)
  with pytest.raises(TypeError, match='to_mutable_dict'):
    optax_namo.namo_d(0.1).init(flat)
  expected = list(optax_namo.routing_table(params))
  assert list(optax_namo.routing_table(flat)) == expected
  assert [row.path for row in optax_namo.routing_table({'net': flat})] == [
    f'net/{row.path}' for row in expected
  ]
