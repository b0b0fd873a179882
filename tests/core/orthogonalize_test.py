# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The stage between momentum and scale: directions become polar factors."""

import chex
import jax
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run
from tests.helpers import tolerance as _tolerance

pytestmark = pytest.mark.accelerator


@pytest.mark.parametrize('orthogonalizer', [None, optax_namo.polar_svd])
def test_the_direction_alone_changes(orthogonalizer):
  first = optax_namo.adaptive_momentum(columns='output')
  stage = optax_namo.orthogonalize(orthogonalizer)
  tree = {'wide': _normal(0, 3, 5), 'tall': _normal(1, 5, 3)}
  before, _ = first.update(tree, first.init(tree))
  after, state = stage.update(before, stage.init(tree))
  assert state == optax.EmptyState()
  function = orthogonalizer or optax_namo.newton_schulz
  for name, factored in after.items():
    expected = function(before[name].direction)
    chex.assert_trees_all_close(
      factored.direction, expected, atol=_tolerance(1e-6)
    )
    chex.assert_trees_all_equal(factored.scale, before[name].scale)
    assert factored.dimension_numbers == before[name].dimension_numbers


def test_a_function_sees_no_tall_matrix():
  seen = []

  def spy(stack):
    seen.append(stack.shape)
    return stack

  first, stage = optax_namo.adaptive_momentum(), optax_namo.orthogonalize(spy)
  tree = {'wide': _normal(0, 3, 5), 'tall': _normal(1, 7, 2)}
  before, _ = first.update(tree, first.init(tree))
  after, _ = stage.update(before, stage.init(tree))
  assert sorted(seen) == [(1, 2, 7), (1, 3, 5)]
  directions = lambda updates: {k: u.direction for k, u in updates.items()}
  chex.assert_trees_all_equal(directions(after), directions(before))


def test_same_shapes_share_one_stack():
  seen = []

  def spy(stack):
    seen.append(stack.shape)
    return stack

  params = {
    'a': _normal(0, 4, 6),
    'b': _normal(1, 6, 4),
    'c': _normal(2, 3, 4, 6),
    'd': _normal(3, 5, 5),
  }
  numbers = {k: MuonDimensionNumbers(-2, -1) for k in params}
  tx = optax_namo.scale_by_namo(
    nesterov=False, orthogonalizer=spy, weight_dimension_numbers=numbers
  )
  updates = _run(tx, [params])
  assert set(seen) == {(1, 5, 5), (5, 4, 6)}
  # Nothing was orthogonalized: each leaf got its own (1 - b1) G back.
  expected = jax.tree.map(lambda x: 0.05 * x, params)
  chex.assert_trees_all_close(updates, expected, rtol=1e-5)
