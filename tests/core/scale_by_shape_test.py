# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The factor of a matrix's shape."""

import chex
import jax.numpy as jnp
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run


@pytest.mark.parametrize(
  'shape_scale, expected',
  [('none', 1.0), ('rms', 0.5 * 9**0.5), ('width', (9 / 4) ** 0.5)],
)
def test_factor(shape_scale, expected):
  params = _normal(0, 4, 9)
  options = {'weight_decay': 0.0, 'orthogonalizer': optax_namo.polar_svd}
  update = _run(
    optax_namo.namo(0.1, shape_scale=shape_scale, rms=0.5, **options),
    [params],
  )
  bare = _run(
    optax_namo.scale_by_namo(orthogonalizer=optax_namo.polar_svd), [params]
  )
  chex.assert_trees_all_close(update, -0.1 * expected * bare, rtol=1e-5)


def test_width_does_not_grow_what_shrinks():
  params = _normal(0, 9, 4)
  stage = optax_namo.scale_by_shape('width')
  first = optax_namo.adaptive_momentum()
  update, _ = first.update(params, first.init(params))
  chex.assert_trees_all_equal(
    stage.update(update, stage.init(params))[0], update
  )


def test_rms_of_the_update():
  # Every entry of a polar factor has mean square 1 / max(m, n).
  params = _normal(0, 6, 24)
  update = _run(
    optax_namo.namo(1.0, weight_decay=0.0, orthogonalizer=optax_namo.polar_svd),
    [params],
  )
  scale = _run(optax_namo.adaptive_momentum(), [params]).scale
  rms = jnp.sqrt(jnp.mean(jnp.square(update)))
  assert float(rms / scale.item()) == pytest.approx(0.2, abs=5e-6)
