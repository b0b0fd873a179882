# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Paths of leaves: boxes and wrappers, keys, fields, libraries by path.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

import dataclasses

from flax import nnx
import flax.linen as nn
import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.core.routes import matrices
from tests.core.routes import ones
from tests.core.routes import routes

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_KERNEL, _ROWS = ((0,), (1,)), ((1,), (0,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Attention:
  query: jax.Array
  key: jax.Array
  value: jax.Array


def test_a_field_called_value():
  params = {'attn': _Attention(ones(4, 6), ones(4, 6), ones(4, 6))}
  rules = [('^attn/value$', None)]
  found = [route.path for route in optax_namo.routing_table(params)]
  assert found == ['attn/query', 'attn/key', 'attn/value']
  numbers = optax_namo.matrix_dimension_numbers(params, rules=rules)
  assert numbers['attn'].value is None
  assert numbers['attn'].key == MuonDimensionNumbers((0,), (1,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Wrapped:
  content: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Normalized:
  weight: jax.Array
  scale: jax.Array


_WRAPPERS = {
  'one': _Wrapped,
  'two': lambda x: _Wrapped(_Wrapped(x)),
  'complex': lambda x: {'real': x, 'imaginary': x},
}


@pytest.mark.parametrize('wrap', _WRAPPERS.values(), ids=_WRAPPERS)
def test_wrappers_are_looked_through(wrap):
  bare = {
    'tok': {'embedding': ones(11, 6)},
    'query': {'kernel': ones(6, 2, 4), 'bias': ones(2, 4)},
    'fc': {'weight': ones(8, 6)},
    'norm': {'scale': ones(3, 6)},
    'lm_head': {'kernel': ones(6, 11)},
  }
  tree = jax.tree.map(wrap, bare)
  expected = {'query/kernel': ((0,), (1, 2)), 'fc/weight': _ROWS}
  found = matrices(tree, strict=True)
  assert {'/'.join(p.split('/')[:2]): v for p, v in found.items()} == expected


@pytest.mark.parametrize('name', ['weight', 'w', 'bias'])
def test_layers_called_as_leaves_are_no_wrappers(name):
  params = {name: {'weight': ones(6, 6), 'bias': ones(6)}}
  assert matrices(params, strict=True)[f'{name}/weight'] == _ROWS
  params = {name: {'w': ones(4, 4), 'b': ones(4)}}
  assert matrices(params, strict=True) == {f'{name}/w': _KERNEL}


def test_a_list_of_boxes_has_no_names():
  with pytest.warns(UserWarning, match='a number for a name'):
    matrices([_Wrapped(ones(11, 6)), _Wrapped(ones(6, 8))])


@pytest.mark.parametrize(
  'kernel',
  [
    _Normalized(ones(4, 6), ones(1, 6)),  # (in, out) as the kernel is.
    {'weight': ones(6, 6), 'bias': ones(6)},  # A layer of this name.
  ],
)
def test_a_weight_in_a_kernel(kernel):
  with pytest.warns(UserWarning, match='a weight in a kernel'):
    assert not matrices({'x': {'kernel': kernel}})


@pytest.mark.parametrize(
  'key',
  [str, lambda path: tuple(path.split('.')), lambda p: p.replace('.', '/')],
)
def test_keys_that_are_paths(key):
  """Checkpoints of PyTorch; flax's flatten_dict, with and without sep."""
  shapes = {
    'model.embed_tokens.weight': (11, 6),
    'model.layers.0.q_proj.weight': (8, 6),
    'model.layers.0.norm.weight': (6,),
    'lm_head.weight': (11, 6),
  }
  params = {key(path): ones(*shape) for path, shape in shapes.items()}
  assert matrices(params) == {'model/layers/0/q_proj/weight': _ROWS}


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class NamedArray:
  """A node registered without keys, as Haliax's arrays are."""

  array: jax.Array
  axes: tuple

  def tree_flatten(self):
    return (self.array,), self.axes

  @classmethod
  def tree_unflatten(cls, axes, children):
    return cls(*children, axes)


@pytest.mark.parametrize(
  'box',
  [
    nnx.Param,
    lambda x: nn.Partitioned(x, (None,) * x.ndim),
    lambda x: nnx.Param(nn.LogicallyPartitioned(x, (None,) * x.ndim)),
    lambda x: NamedArray(x, (None,) * x.ndim),
  ],
  ids=['Param', 'Partitioned', 'Param of LogicallyPartitioned', 'NamedArray'],
)
def test_a_box_does_not_hide_a_bias(box):
  params = {
    'rows': {'weight': jnp.ones((3, 6, 4)), 'bias': jnp.ones((3, 6))},
    'dense': {'kernel': jnp.ones((3, 4, 6)), 'bias': jnp.ones((3, 6))},
  }
  expected = {'rows/weight': ((2,), (1,)), 'dense/kernel': ((1,), (2,))}
  boxed = jax.tree.map(box, params)
  assert routes(boxed, strict=True) == routes(params, strict=True)
  assert matrices(boxed) == expected


# Paths and shapes of the variables of Keras 3.15's layers.
_KERAS = {
  'tok/embeddings': ((11, 6), None),
  'layer_normalization/gamma': ((6,), None),
  'layer_normalization/beta': ((6,), None),
  'multi_head_attention/query/kernel': ((6, 2, 4), ((0,), (1, 2))),
  'multi_head_attention/query/bias': ((2, 4), None),
  'multi_head_attention/attention_output/kernel': (
    (2, 4, 6), ((0, 1), (2,))
  ),
  'dense/kernel': ((6, 8), _KERNEL),
  'dense/bias': ((8,), None),
  'conv2d/kernel': ((3, 3, 6, 8), ((0, 1, 2), (3,))),
  'conv2d_transpose/kernel': ((3, 3, 8, 6), ((0, 1, 3), (2,))),
  'conv2d_transpose_1/kernel': ((3, 3, 6, 6), ((0, 1, 3), (2,))),
  'conv2d_transpose_1/bias': ((6,), None),
  'lstm/lstm_cell/kernel': ((6, 20), _KERNEL),
  'lstm/lstm_cell/recurrent_kernel': ((5, 20), _KERNEL),
  'lstm/lstm_cell/bias': ((20,), None),
  'gru/gru_cell/kernel': ((6, 15), _KERNEL),
  'gru/gru_cell/recurrent_kernel': ((5, 15), _KERNEL),
  'gru/gru_cell/bias': ((2, 15), None),
  'logits/kernel': ((6, 11), None),
}  # fmt: skip


def test_keras_by_path():
  params = {path: ones(*shape) for path, (shape, _) in _KERAS.items()}
  expected = {path: numbers for path, (_, numbers) in _KERAS.items()}
  assert routes(params, strict=True) == expected
  # Its lists of values have no names; the numbers of their paths will do.
  numbers = optax_namo.matrix_dimension_numbers(params)
  table = optax_namo.routing_table(
    list(params.values()), [numbers[path] for path in params]
  )
  is_matrix = [numbers is not None for numbers in expected.values()]
  assert [route.group == 'matrix' for route in table] == is_matrix


def test_paths_that_read_alike():
  """Each leaf is judged by its own shape and by what lies beside it."""
  params = {
    'a/kernel': jnp.ones((4, 6)),
    'a/bias': jnp.ones(6),
    'a': {'kernel': jnp.ones((3, 5, 7, 2)), 'bias': jnp.ones(2)},
  }
  numbers = optax_namo.matrix_dimension_numbers(params, strict=True)
  assert numbers['a/kernel'] == MuonDimensionNumbers((0,), (1,))
  assert numbers['a']['kernel'] == MuonDimensionNumbers((0, 1, 2), (3,))
  assert numbers['a/bias'] is numbers['a']['bias'] is None
