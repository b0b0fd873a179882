# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The default router on layers as Haliax makes them, with named axes.

Stand-ins with the names and fields of Haliax 1.3's, which does not import with
jax 0.10: modules of Equinox, arrays in nodes without keys.
"""

import dataclasses
import functools
from typing import Any

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.core.routes import matrices
from tests.core.routes import why
from tests.helpers import normal
from tests.helpers import run

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)


@dataclasses.dataclass(frozen=True)
class Axis:
  name: str
  size: int


_EMBED, _MLP, _HEADS, _SIZE, _LAYERS, _TIME = (
  Axis(name, size)
  for name, size in [
    ('embed', 6), ('mlp', 10), ('heads', 2), ('size', 3), ('layers', 6),
    ('time', 5),
  ]
)  # fmt: skip


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass
class _NamedArray:
  array: Any
  axes: tuple[Axis, ...]

  def tree_flatten(self):
    return (self.array,), self.axes

  @classmethod
  def tree_unflatten(cls, axes, children):
    return cls(*children, axes)


def named(*axes):
  return _NamedArray(normal(0, *(axis.size for axis in axes)), axes)


class _Layer(eqx.Module):
  weight: _NamedArray
  bias: _NamedArray | None
  In: Any = eqx.field(static=True, default=())
  Out: Any = eqx.field(static=True, default=())
  Spatial: Any = eqx.field(static=True, default=())


class Linear(_Layer):
  __module__ = 'haliax.nn.linear'


class Conv(_Layer):
  __module__ = 'haliax.nn.conv'


class LayerNorm(_Layer):
  __module__ = 'haliax.nn.normalization'


class Embedding(_Layer):
  __module__ = 'haliax.nn.embedding'


def linear(inputs, outputs, *axes, bias=True):
  batch = tuple(axis for axis in axes if axis.name == 'layers')
  out = outputs if isinstance(outputs, tuple) else (outputs,)
  return Linear(
    named(*axes), named(*batch, *out) if bias else None, inputs, outputs
  )


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
  'inputs, outputs, axes, expected',
  [
    (_EMBED, _MLP, (_EMBED, _MLP), ((0,), (1,))),
    (_EMBED, _MLP, (_MLP, _EMBED), ((1,), (0,))),
    (_EMBED, _MLP, (_LAYERS, _EMBED, _MLP), ((1,), (2,))),
    (_EMBED, _MLP, (_LAYERS, _MLP, _EMBED), ((2,), (1,))),
    (_EMBED, (_HEADS, _SIZE), (_EMBED, _HEADS, _SIZE), ((0,), (1, 2))),
    ((_HEADS, _SIZE), _EMBED, (_HEADS, _SIZE, _EMBED), ((0, 1), (2,))),
    ((_HEADS, _SIZE), _EMBED, (_EMBED, _HEADS, _SIZE), ((1, 2), (0,))),
    (_EMBED, (_HEADS, _SIZE), (_LAYERS, _EMBED, _HEADS, _SIZE), ((1,), (2, 3))),
  ],
)
def test_linear_layers(inputs, outputs, axes, expected, bias):
  params = {'up': linear(inputs, outputs, *axes, bias=bias)}
  assert matrices(params, strict=True) == {'up/weight': expected}
  assert why(params)['up/weight'] == 'haliax.nn.Linear'
  # A batch in front that jax.vmap made: it has no name.
  apart = jax.tree.map(lambda x: jnp.stack([x] * 4), params)
  shifted = tuple(tuple(i + 1 for i in group) for group in expected)
  assert matrices(apart, strict=True) == {'up/weight': shifted}


def test_convolution():
  params = Conv(
    named(_MLP, _EMBED, _TIME), named(_MLP), _EMBED, _MLP, ('time',)
  )
  assert matrices(params, strict=True) == {'weight': ((1, 2), (0,))}


def test_vectors_and_embeddings():
  params = {
    'norm1': LayerNorm(named(_LAYERS, _EMBED), named(_LAYERS, _EMBED)),
    'rms': LayerNorm(named(_LAYERS, _EMBED), None),
    'tok': Embedding(named(_MLP, _EMBED), None),
    'bias': named(_LAYERS, _EMBED),
  }
  assert not matrices(params, strict=True)


def test_update():
  """That of kernels without names, transposed; and the names stay."""
  up = linear(_EMBED, _MLP, _LAYERS, _MLP, _EMBED)
  kernels = lambda x: {'w': x.weight.array.swapaxes(1, 2), 'b': x.bias.array}
  tx = functools.partial(
    optax_namo.namo_d,
    0.1,
    weight_decay=0,
    shape_scale='width',
    orthogonalizer=lambda x: x,
  )
  numbers = {'w': MuonDimensionNumbers(1, 2), 'b': None}
  expected = run(tx(weight_dimension_numbers=numbers), [kernels(up)])
  found = run(tx(), [up])
  chex.assert_trees_all_close(kernels(found), expected, rtol=1e-5)
  assert found.weight.axes == up.weight.axes
