# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A stage from a function of one matrix and its parameter."""

import dataclasses

import chex
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal


def _pull_to_parameter(u, p):
  return dataclasses.replace(u, direction=p)


@pytest.mark.parametrize('axis', [0, 1])
def test_the_parameter_is_the_matrix_own(axis):
  """Of a leaf that holds several matrices each sees its part."""
  chain = optax.chain(
    optax_namo.adaptive_momentum(b1=0.0),
    optax_namo.stage(_pull_to_parameter),
    optax_namo.stage(
      lambda u, p: dataclasses.replace(u, scale=jnp.ones((1, 1)))
    ),
    optax_namo.apply_scale(),
  )
  split = optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), axis, (4, 2))
  params = {'w': _normal(0, 6, 6), 'b': _normal(1, 6)}
  tx = optax_namo.routed(chain, optax.identity(), {'w': split, 'b': None})
  updates, _ = tx.update(params, tx.init(params), params)
  chex.assert_trees_all_close(updates['w'], params['w'])


def test_without_parameters_it_is_none():
  seen = []
  tx = optax.chain(
    optax_namo.adaptive_momentum(),
    optax_namo.stage(lambda u, p: seen.append(p) or u),
    optax_namo.apply_scale(),
  )
  w = jnp.ones((2, 3))
  tx.update(w, tx.init(w))
  tx.update(w, tx.init(w), w)
  assert seen[0] is None
  chex.assert_trees_all_equal(seen[1], w)


def test_out_of_place():
  stage = optax_namo.stage(lambda u, p: u)
  with pytest.raises(TypeError, match='between adaptive_momentum and'):
    stage.update(jnp.ones((2, 3)), stage.init(None))


@pytest.mark.parametrize(
  'function, error, message',
  [
    (lambda u, p: u.direction, TypeError, 'return dataclasses.replace'),
    (lambda u, p: None, TypeError, 'must return a Factored, got NoneType'),
    (
      lambda u, p: dataclasses.replace(u, scale=jnp.ones(4)),
      ValueError,
      r'a scale of shape \(4,\)',
    ),
    (
      lambda u, p: dataclasses.replace(u, direction=u.direction.T),
      ValueError,
      r'a direction of shape \(6, 4\)',
    ),
  ],
  ids=['array', 'none', 'scale', 'transposed'],
)
def test_what_a_function_must_return(function, error, message):
  tx = optax.chain(optax_namo.adaptive_momentum(), optax_namo.stage(function))
  w = jnp.ones((4, 6))
  with pytest.raises(error, match=message):
    tx.update(w, tx.init(w))


def test_before_the_first_stage():
  chain = optax.chain(optax_namo.orthogonalize(), optax_namo.apply_scale())
  tx = optax_namo.routed(chain, optax.sgd(0.1))
  params = {'w': jnp.ones((4, 6))}
  with pytest.raises(TypeError, match='one without a scale'):
    tx.update(params, tx.init(params), params)
