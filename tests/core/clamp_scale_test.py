# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scales clamped towards the mean of their matrix."""

import chex
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run

_NUMBERS = MuonDimensionNumbers((1,), (2,))


def _factored(scale, numbers=_NUMBERS):
  return optax_namo.Factored(
    jnp.ones(tuple(max(3, size) for size in scale.shape)),
    scale,
    numbers,
    jnp.float32,
  )


@pytest.mark.parametrize('c', [0.1, 0.75, 1.0])
@pytest.mark.parametrize('columns', ['input', 'output'])
def test_against_numpy(c, columns):
  """Each matrix of a stack is clamped towards its own mean."""
  shape = (4, 6, 1) if columns == 'input' else (4, 1, 6)
  scale = jnp.abs(_normal(0, *shape)) * jnp.arange(1, 5)[:, None, None]
  stage = optax_namo.clamp_scale(c)
  update, _ = stage.update({'w': _factored(scale)}, stage.init(None))
  for before, after in zip(np.float64(scale), update['w'].scale):
    mean = before.mean()
    np.testing.assert_allclose(
      after, np.clip(before, c * mean, mean / c), rtol=1e-6
    )
    assert float(after.max() / after.min()) <= 1.0001 / c**2
  chex.assert_trees_all_equal(update['w'].direction, _factored(scale).direction)


def test_none_and_equal_scales_stay():
  scale = jnp.abs(_normal(0, 2, 5, 1))
  stage = optax_namo.clamp_scale(None)
  update, _ = stage.update(_factored(scale), stage.init(None))
  chex.assert_trees_all_equal(update.scale, scale)
  one = jnp.full((2, 1, 1), 0.3)
  stage = optax_namo.clamp_scale(0.75)
  update, _ = stage.update(_factored(one), stage.init(None))
  chex.assert_trees_all_equal(update.scale, one)


def test_parts_have_means_of_their_own():
  numbers = MuonDimensionNumbers((0,), (1,))
  scales = (jnp.array([[1.0], [3.0]]), jnp.array([[10.0], [30.0]]))
  parts = tuple(
    optax_namo.Factored(jnp.ones((2, 3)), scale, numbers, jnp.float32)
    for scale in scales
  )
  stage = optax_namo.clamp_scale(0.9)
  parts, _ = stage.update(parts, stage.init(None))
  chex.assert_trees_all_close(parts[1].scale, 10 * parts[0].scale)
  np.testing.assert_allclose(parts[0].scale.ravel(), [1.8, 2 / 0.9])


def test_absent_where_there_is_one_scale():
  """namo_d(columns=None) is namo: its chain, its state, its updates."""
  params = {'w': _normal(0, 3, 4), 'b': _normal(1, 4)}
  matrices = {'w': params['w']}
  for namo, namo_d, p in (
    (
      optax_namo.scale_by_namo(),
      optax_namo.scale_by_namo_d(columns=None),
      matrices,
    ),
    (optax_namo.namo(0.1), optax_namo.namo_d(0.1, columns=None), params),
  ):
    chex.assert_trees_all_equal_structs(namo_d.init(p), namo.init(p))
    chex.assert_trees_all_equal(_run(namo_d, [p], p), _run(namo, [p], p))
