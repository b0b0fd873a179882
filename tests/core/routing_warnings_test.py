# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the router warns of, and where; what a route gives as its reason.

Expectations are ``(reduction axes, output axes)``; leaves without are AdamW's.
"""

import re

import jax
import jax.numpy as jnp
import optax
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


def test_a_rule_that_is_no_regular_expression():
  with pytest.raises(TypeError, match=r'list of pairs.*unterminated'):
    matrices({'w': ones(4, 6)}, rules=[('(', None)])


def test_no_matrix_is_said_loudly():
  params = {'wte': jnp.ones((9, 4)), 'head': {'kernel': jnp.ones((4, 9))}}
  with pytest.warns(UserWarning, match='NO LEAF IS A MATRIX.*by_use'):
    assert not matrices(params)
  rules = [('wte', None), ('head', None)]  # It was asked for.
  assert not matrices(params, rules=rules, strict=True)


def test_a_model_that_was_flattened_has_no_matrix():
  tx = optax.flatten(optax_namo.namo_d(0.1))
  with pytest.warns(UserWarning, match='NO LEAF IS A MATRIX'):
    tx.init({'w': jnp.ones((2, 3)), 'b': jnp.ones(3)})


def test_the_table_shows_what_is_in_doubt():
  params = {'mix': ones(2, 3, 4), 'up': {'kernel': ones(3, 4)}}
  with pytest.warns(UserWarning, match='mix'):
    found = why(params)
  assert found['mix'] == 'rank 3, in doubt'


def test_the_warning_points_at_the_caller():
  params = {'mix': jnp.ones((2, 3, 4)), 'w': jnp.ones((3, 4))}
  tx = optax.chain(optax_namo.namo_d(0.1))
  for call in (
    lambda: optax_namo.matrix_dimension_numbers(params),
    lambda: optax_namo.routing_table(params),
    lambda: tx.init(params),
    lambda: jax.jit(tx.init)(params),
  ):
    with pytest.warns(UserWarning, match='mix') as warned:
      call()
    assert {one.filename for one in warned} == {__file__}


@pytest.mark.parametrize('within', [lambda x: x, lambda x: {'model': x}])
def test_leaves_with_numbers_for_names(within):
  # What a Keras model's list of variables has: an embedding, a layer.
  params = within([ones(11, 6), ones(6, 8), ones(8)])
  with pytest.warns(UserWarning, match='a number for a name') as warned:
    assert list(matrices(params).values()) == [_KERNEL, _KERNEL]
  assert len(warned) == 1
  with pytest.raises(ValueError, match='a number for a name'):
    routes(params, strict=True)
  rules = [('0', None), ('1', MuonDimensionNumbers(0, 1))]
  assert list(matrices(params, rules=rules, strict=True).values()) == [_KERNEL]
  kernel = within([ones(3, 3, 4, 6), ones(6, 8)])
  with pytest.warns(UserWarning, match='0.* of shape .*nothing tells its axes'):
    assert list(matrices(kernel).values()) == [_KERNEL]
  # A name that is missing says nothing about one array.
  assert matrices(ones(4, 6), strict=True) == {'': _KERNEL}


def test_why():
  params = {
    'wte': ones(9, 4),
    'a': {'kernel': ones(4, 6), 'bias': ones(6)},
    'b': {'weight': ones(6, 4)},
    'c': {
      'query': {'kernel': ones(4, 2, 2)},
      'out': {'kernel': ones(2, 2, 4)},
    },
    'd': {'proj': ones(4, 6), 'gain': ones(4)},
    'e': {'weight': ones(3, 6), 'bias': ones(3, 6)},
    'mix': ones(2, 4, 6),
  }
  rules = [(r'^mix$', MuonDimensionNumbers(1, 2))]
  assert why(params, rules=rules) == {
    'wte': 'embedding',
    'a/kernel': 'bias',
    'a/bias': 'bias',
    'b/weight': 'name weight',
    'c/out/kernel': 'attention',
    'c/query/kernel': 'attention',
    'd/proj': 'rank 2',
    'd/gain': 'rank 1',
    'e/weight': 'bias of its shape',
    'e/bias': 'bias',
    'mix': 'rule ^mix$',
  }
  given = {'a': MuonDimensionNumbers(0, 1), 'b': None}
  table = optax_namo.routing_table({'a': ones(2, 3), 'b': ones(2)}, given)
  assert [route.why for route in table] == ['given', 'given']
  assert table[0]._fields[-1] == 'why'
  assert re.search(r'^path .* why +size$', str(table), re.MULTILINE)


def test_leaves_alike_are_named_once():
  params = {f'h{i}': {'mix': jnp.ones((2, 3, 4))} for i in range(28)}
  with pytest.warns(UserWarning) as told:
    optax_namo.matrix_dimension_numbers(params)
  message = str(told[0].message)
  assert "'h0/mix' and 27 like it" in message
  assert len(message) < 400
