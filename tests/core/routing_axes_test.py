# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which axes are in and out: of biases, of stacks, of a higher rank.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

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
from tests.core.routes import why

pytestmark = pytest.mark.filterwarnings(
  'error::UserWarning', 'ignore:NO LEAF IS A MATRIX.*If some are:UserWarning'
)

_KERNEL, _ROWS = ((0,), (1,)), ((1,), (0,))


def _layer(**shapes):
  return {'layer': {name: ones(*shape) for name, shape in shapes.items()}}


@pytest.mark.parametrize(
  'w, b, expected',
  [((8, 4), (8,), _ROWS), ((4, 8), (8,), _KERNEL), ((8, 8), (8,), _KERNEL)],
)
def test_pairs_of_a_weight_and_a_bias(w, b, expected):
  pairs = {'mlp': [(ones(*w), ones(*b))] * 2}
  with pytest.warns(UserWarning, match='a number for a name'):
    assert list(matrices(pairs).values()) == [expected] * 2
  for names in (('W', 'b'), ('W1', 'b1'), ('w_2', 'b_2'), ('w', 'b')):
    params = _layer(**dict(zip(names, (w, b)))) | {'dense': _layer(w=(3, 4))}
    if names == ('w', 'b') and expected != _KERNEL:
      with pytest.raises(ValueError, match='bias beside it says otherwise'):
        matrices(params, strict=True)
    elif w[0] != w[1] or names == ('w', 'b'):
      assert set(matrices(params, strict=True).values()) == {expected, _KERNEL}
    else:
      with pytest.raises(ValueError, match='fits either axis'):
        matrices(params, strict=True)


def test_convolutions_of_no_library():
  """Two dimensions and no stack; more are not told."""
  params = {'conv': {'w': ones(3, 3, 4, 6)}}
  assert matrices(params, strict=True) == {'conv/w': ((0, 1, 2), (3,))}
  with pytest.warns(UserWarning, match='conv/w'):
    assert not matrices({'conv': {'w': ones(2, 3, 3, 4, 6)}})


def test_what_may_be_no_bias():
  two = {'W': ones(4, 6), 'b': ones(4, 6)}
  assert matrices(two, strict=True) == dict.fromkeys(two, _KERNEL)
  experts = {'experts': {'W': ones(3, 4, 6), 'b': ones(6)}}
  with pytest.warns(UserWarning, match='bias beside it says otherwise'):
    assert not matrices(experts)


@pytest.mark.parametrize('w, expected', [((2, 8), _ROWS), ((8, 2), _KERNEL)])
def test_bo_is_the_bias_of_wo(w, expected):
  params = {'attn': {'wo': ones(*w), 'bo': ones(2)}}
  assert matrices(params, strict=True) == {'attn/wo': expected}


def test_an_attention_without_its_other_layers_is_not_told():
  with pytest.warns(UserWarning, match='query/kernel'):
    assert not matrices({'query': {'kernel': jnp.ones((4, 2, 2))}})


def test_a_bias_tells_attention_that_names_do_not():
  """Query and out that share no heads, but a bias that has the query's."""
  params = {
    'query': {'kernel': ones(3, 3, 6), 'bias': ones(3, 6)},
    'out': {'kernel': ones(4, 2, 8), 'bias': ones(8)},
  }
  assert matrices(params, strict=True) == {
    'query/kernel': ((0,), (1, 2)),
    'out/kernel': ((0, 1), (2,)),
  }


@pytest.mark.parametrize('axis', [0, 1])
def test_a_stack_of_adapters_is_not_told(axis):
  pair = {'lora_a': jnp.ones((6, 3)), 'lora_b': jnp.ones((3, 6))}
  assert matrices(pair) == dict.fromkeys(pair, _KERNEL)
  stack = jax.tree.map(lambda x: jnp.stack([x, x], axis), pair)
  with pytest.warns(UserWarning, match="'lora_a' of shape.*'lora_b'"):
    assert matrices(stack) == {}


def test_a_square_beside_a_bias_may_lie_either_way():
  params = _layer(proj=(4, 4), bias=(4,))
  with pytest.warns(UserWarning, match='fits either axis, taken for a matrix'):
    assert matrices(params) == {'layer/proj': _KERNEL}


def test_a_norm_over_two_axes_makes_no_kernel_a_vector():
  params = {
    'norm': {'scale': ones(7, 6)},
    'dense': {'kernel': ones(7, 10)},
  }
  assert matrices(params, strict=True) == {'dense/kernel': _KERNEL}


@pytest.mark.parametrize(
  'shapes, expected',
  [
    # The bias decides.
    ({'weight': (4, 6), 'bias': (4,)}, _ROWS),
    ({'weight': (4, 6), 'bias': (6,)}, _KERNEL),
    ({'kernel': (4, 6), 'bias': (6,)}, _KERNEL),
    ({'w': (4, 6), 'b': (6,)}, _KERNEL),
    ({'proj': (4, 6), 'bias': (4,)}, _ROWS),
    ({'proj': (4, 6), 'bias': (6,)}, _KERNEL),
    # The name, where shapes cannot.
    ({'weight': (4, 4), 'bias': (4,)}, _ROWS),
    ({'weight': (4, 6)}, _ROWS),
    ({'weight_ih': (12, 6), 'weight_hh': (12, 4)}, _ROWS),
    ({'kernel': (4, 4), 'bias': (4,)}, _KERNEL),
    ({'recurrent_kernel': (4, 12), 'bias': (2, 12)}, _KERNEL),
    ({'w': (4, 4), 'b': (4,)}, _KERNEL),
    # Nothing: as ever.
    ({'proj': (4, 6)}, _KERNEL),
    # An adapter's matrices.
    ({'w': (8, 8), 'a': (8, 2), 'b': (2, 8)}, _KERNEL),
  ],
)
def test_rank_2(shapes, expected):
  found = matrices(_layer(**shapes), strict=True)
  is_matrix = lambda name: len(shapes[name]) == 2 and name != 'bias'
  paths = {f'layer/{name}' for name in shapes if is_matrix(name)}
  assert found == dict.fromkeys(paths, expected)


@pytest.mark.parametrize(
  'shapes, expected',
  [
    ({'weight': (8, 4, 3), 'bias': (8,)}, ((1, 2), (0,))),
    ({'weight': (8, 4, 1, 1), 'bias': (8, 1, 1)}, ((1, 2, 3), (0,))),
    ({'weight': (4, 4, 3, 3), 'bias': (4, 1, 1)}, ((1, 2, 3), (0,))),
    ({'weight': (1, 4, 3, 3), 'bias': (1, 1, 1)}, ((1, 2, 3), (0,))),
    # Stacked.
    ({'weight': (2, 8, 4), 'bias': (2, 8)}, ((2,), (1,))),
    ({'weight': (2, 4, 8), 'bias': (2, 8)}, ((1,), (2,))),
    ({'weight': (2, 4, 4), 'bias': (2, 4)}, ((2,), (1,))),
    ({'weight': (2, 8, 4, 3, 3), 'bias': (2, 8, 1, 1)}, ((2, 3, 4), (1,))),
    ({'w': (2, 4, 8), 'b': (2, 8)}, ((1,), (2,))),
    # Flax's Conv(features=1): the bias as it stands; Haiku's NCHW: not so.
    ({'kernel': (3, 3, 4, 1), 'bias': (1,)}, ((0, 1, 2), (3,))),
    ({'w': (3, 3, 4, 8), 'b': (8, 1, 1)}, ((0, 1, 2), (3,))),
  ],
)
def test_rank_3_and_more(shapes, expected):
  (found,) = matrices(_layer(**shapes), strict=True).values()
  assert found == expected


def test_vectors_beside_a_bias_of_their_shape():
  for shape in [(6,), (3, 6), (3, 4, 6)]:
    assert not matrices(_layer(weight=shape, bias=shape), strict=True)
    assert not matrices(_layer(scale=shape, offset=shape), strict=True)
  # Root mean square norms have none.
  assert not matrices({'norm1': {'weight': ones(3, 6)}}, strict=True)
  assert not matrices({'ln_f': {'w': ones(3, 6)}}, strict=True)
  assert matrices({'normal_map': {'w': ones(3, 6)}}, strict=True)


@pytest.mark.parametrize(
  'shapes',
  [
    {'kernel': (4, 6), 'bias': (4,)},
    {'w': (4, 6), 'b': (4,)},
    {'kernel': (4, 6), 'bias': (4, 6)},
    {'kernel': (4, 6), 'bias': (5,)},
  ],
)
def test_a_bias_that_contradicts_the_name(shapes):
  params = _layer(**shapes) | {'other': _layer(**shapes)}
  match = 'the bias beside it says otherwise'
  with pytest.warns(UserWarning, match=match) as warned:
    assert matrices(params) == {}
  assert len(warned) == 1
  with pytest.raises(ValueError, match='dimension_numbers_by_use'):
    routes(params, strict=True)
  assert not matrices(params, rules=[('kernel|w', None)], strict=True)


@pytest.mark.parametrize('leaf', ['weight', 'kernel', 'w', 'mix'])
def test_rank_3_that_nothing_tells(leaf):
  params = _layer(**{leaf: (2, 4, 6)}) | {'dense': {'kernel': ones(6, 4)}}
  with pytest.raises(ValueError, match='nothing tells its axes'):
    routes(params, strict=True)
  found = matrices(params, rules=[(f'^layer/{leaf}$', None)], strict=True)
  assert found == {'dense/kernel': _KERNEL}


def test_beside_stacked_norms():
  block = {
    'norm': {'scale': ones(3, 6)},
    'conv': {'Conv_0': {'kernel': ones(3, 5, 6, 6)}},
    'Dense_0': {'kernel': ones(3, 6, 8)},
    'fc': {'weight': ones(3, 8, 6)},
    'gain': ones(3, 6),
    'bottleneck': {'weight': ones(3, 10)},
  }
  outer = {
    'norm': {'scale': ones(6)},
    # As many rows as the stack has layers.
    'stem': {'Conv_0': {'kernel': ones(3, 3, 6, 6)}},
    'fc': {'weight': ones(3, 6)},
  }
  untold = (
    'Dense_0/kernel.*bottleneck/weight.*conv/Conv_0/kernel.*fc/weight.*gain'
    '.*fc/weight.*stem/Conv_0/kernel'
  )
  with pytest.warns(UserWarning, match=untold):
    assert not matrices(outer | {'blocks': block})
  square = {'norm': {'scale': ones(3, 6)}, 'gain': ones(3, 6)}
  with pytest.warns(UserWarning, match='gain'):
    told = why({'blocks': square})
  assert told['blocks/gain'] == 'norms beside it, in doubt'
  outer['norm'] = {'scale': ones(6)}
  assert matrices(outer, strict=True) == {
    'stem/Conv_0/kernel': ((0, 1, 2), (3,)),
    'fc/weight': _ROWS,
  }


@pytest.mark.parametrize('hidden', [6, 10])
def test_a_stack_along_another_axis_is_not_told(hidden):
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
      x = nn.Dense(hidden, use_bias=False)(nn.LayerNorm()(x))
      return nn.Dense(6, use_bias=False)(x), None

  stack = nn.scan(
    Block, length=4, variable_axes={'params': 1}, split_rngs={'params': True}
  )()
  params = jax.eval_shape(stack.init, jax.random.key(0), jnp.ones((1, 6)))
  with pytest.warns(UserWarning, match=f'Dense_0/kernel.*{(6, 4, hidden)}'):
    assert not matrices(params)


class _ConvBlock(nn.Module):
  @nn.compact
  def __call__(self, x, _=None):
    x = nn.Conv(6, (3,), use_bias=False)(nn.LayerNorm()(x))
    return nn.Dense(6, use_bias=False)(x), None


def test_linen_scan_without_biases():
  stack = nn.scan(
    _ConvBlock,
    length=4,
    variable_axes={'params': 0},
    split_rngs={'params': True},
  )()
  params = jax.eval_shape(stack.init, jax.random.key(0), jnp.ones((1, 5, 6)))
  untold = 'Conv_0/kernel.*Dense_0/kernel'
  with pytest.warns(UserWarning, match=untold):
    assert not matrices(params)


def test_a_lifted_convolution_that_no_norm_tells():
  # One in two dimensions with shared parameters has the same name and rank.
  params = {'ScanBlock_0': {'Conv_0': {'kernel': ones(4, 3, 5, 6)}}}
  params |= {'LayerNorm_0': {'scale': ones(6)}}
  with pytest.warns(UserWarning, match='ScanBlock_0/Conv_0'):
    assert not matrices(params)
  (kernel,) = matrices({'Block_0': params['ScanBlock_0']}).values()
  assert kernel == ((0, 1, 2), (3,))


def test_nnx_stack_of_a_convolution():
  @nnx.split_rngs(splits=4)
  @nnx.vmap
  def create(rngs):
    return nnx.Dict(conv1d=nnx.Conv(5, 6, (3,), use_bias=False, rngs=rngs))

  state = nnx.state(nnx.eval_shape(lambda: create(nnx.Rngs(0))), nnx.Param)
  with pytest.warns(UserWarning, match='conv1d/kernel'):
    assert not matrices(state)


def test_a_norm_without_axes():
  """As a framework's own variables may look."""
  params = {'norm': {'gamma': jnp.ones(())}, 'd': {'kernel': jnp.ones((3, 4))}}
  numbers = optax_namo.matrix_dimension_numbers(params, strict=True)
  assert numbers['norm']['gamma'] is None
  assert numbers['d']['kernel'] == MuonDimensionNumbers((0,), (1,))
