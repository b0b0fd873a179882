# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Direction times scale, an array again."""

import dataclasses

import chex
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.helpers import normal as _normal


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16, jnp.float16])
def test_product_in_the_gradients_dtype(dtype):
  direction, scale = _normal(0, 3, 4), _normal(1, 3, 1)
  update = optax_namo.Factored(
    direction, scale, MuonDimensionNumbers((0,), (1,)), dtype
  )
  stage = optax_namo.apply_scale()
  product, state = stage.update({'w': update}, stage.init(None))
  assert state == optax.EmptyState()
  expected = (np.asarray(direction) * np.asarray(scale)).astype(dtype)
  chex.assert_trees_all_equal(product, {'w': jnp.asarray(expected)})


@pytest.mark.parametrize('axis', [0, 1, -1])
def test_parts_lie_side_by_side_again(axis):
  split = optax_namo.SplitMatrices(
    MuonDimensionNumbers((0,), (1,)), axis, (3, 3)
  )
  chain = optax.chain(
    optax_namo.adaptive_momentum(b1=0.0),
    optax_namo.stage(
      lambda u, p: dataclasses.replace(u, scale=jnp.full((1, 1), 2.0 + u.part))
    ),
    optax_namo.apply_scale(),
  )
  tx = optax_namo.routed(chain, optax.sgd(0.1), split)
  parts = (_normal(0, 3, 3), _normal(1, 3, 3))
  leaf = jnp.concatenate(parts, axis)
  product, _ = tx.update(leaf, tx.init(leaf))
  chex.assert_trees_all_close(
    product, jnp.concatenate([2 * parts[0], 3 * parts[1]], axis)
  )
