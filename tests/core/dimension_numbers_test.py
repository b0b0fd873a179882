# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Leaves of any layout: the update is that of their matrices stored apart."""

import functools

import chex
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run

_RULES = {
  'namo': optax_namo.scale_by_namo,
  'namo_d_input': functools.partial(
    optax_namo.scale_by_namo_d, columns='input'
  ),
  'namo_d_output': functools.partial(
    optax_namo.scale_by_namo_d, columns='output'
  ),
}
# Name: shape, dimension numbers, the leaf as (batch, in, out).
_VIEWS = {
  'stacked layers': ((3, 4, 6), (1, 2), lambda x: x),
  'transposed': ((6, 4), (1, 0), lambda x: x.T[None]),
  'attention query': ((8, 2, 3), (0, (1, 2)), lambda x: x.reshape(1, 8, 6)),
  'heads apart': ((8, 2, 3), (0, 2), lambda x: x.transpose(1, 0, 2)),
  'convolution': (
    (3, 3, 2, 5), ((0, 1, 2), -1), lambda x: x.reshape(1, 18, 5)
  ),
}  # fmt: skip


@pytest.mark.parametrize('rule', _RULES)
@pytest.mark.parametrize('view', _VIEWS)
def test_of_any_layout_the_update_is_that_of_its_matrices(rule, view):
  shape, numbers, to_matrices = _VIEWS[view]
  gradients = [_normal(seed, *shape) for seed in range(3)]
  tx = _RULES[rule](weight_dimension_numbers=MuonDimensionNumbers(*numbers))
  found = _run(tx, gradients)
  expected = [
    _run(_RULES[rule](), [to_matrices(g)[i] for g in gradients])
    for i in range(len(to_matrices(gradients[0])))
  ]
  chex.assert_shape(found, shape)
  chex.assert_trees_all_close(
    to_matrices(found), jnp.stack(expected), atol=1e-6
  )


def test_prefix_and_callable():
  matrices = {'w': jnp.ones((2, 3)), 'v': jnp.ones((3, 2))}
  params = {'x': matrices, 'b': jnp.ones(3)}
  prefix = {'x': MuonDimensionNumbers(), 'b': None}
  gradient = jax.tree.map(lambda p: _normal(p.size, *p.shape), params)
  expected = _run(optax_namo.namo(0.1), [gradient], params)
  for spec in (prefix, lambda p: prefix):
    tx = optax_namo.namo(0.1, weight_dimension_numbers=spec)
    chex.assert_trees_all_close(_run(tx, [gradient], params), expected)
  everything = optax_namo.namo(0.1, weight_dimension_numbers=lambda p: None)
  found = _run(everything, [gradient], params)
  adam = _run(optax.adam(0.1, b2=0.95), [gradient], params)
  chex.assert_trees_all_close(found, adam, rtol=1e-6)
