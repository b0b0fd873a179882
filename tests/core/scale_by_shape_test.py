# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The factor of a matrix's shape."""

import chex
import jax.numpy as jnp
import optax
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run


@pytest.mark.parametrize(
  'shape_scale, expected',
  [
    ('none', 1.0),
    ('rms', 0.5 * 9**0.5),
    ('width', (9 / 4) ** 0.5),
    ('spectral', (9 / 4) ** 0.5),
  ],
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


@pytest.mark.parametrize(
  'shape_scale, expected', [('width', 1.0), ('spectral', 2 / 3)]
)
def test_from_many_to_few(shape_scale, expected):
  """Nine inputs, four outputs: their axes are named, never positional."""
  numbers = optax.contrib.MuonDimensionNumbers(1, 0)
  stage = optax_namo.scale_by_shape(shape_scale)
  first = optax_namo.adaptive_momentum(weight_dimension_numbers=numbers)
  params = _normal(0, 4, 9)
  update, _ = first.update(params, first.init(params))
  scaled, _ = stage.update(update, stage.init(params))
  chex.assert_trees_all_close(scaled.direction, expected * update.direction)


@pytest.mark.parametrize('size', [4, 64])
def test_spectral_moves_outputs_alike_at_every_width(size):
  """Inputs of unit size to outputs of the same: its spectral norm is √(m/n)."""
  options = {'weight_decay': 0.0, 'orthogonalizer': optax_namo.polar_svd}
  params = _normal(0, size, 4 * size)
  update = _run(
    optax_namo.namo(1.0, shape_scale='spectral', **options), [params]
  )
  scale = _run(optax_namo.adaptive_momentum(), [params]).scale
  most = jnp.linalg.norm(update, 2) / scale.item()
  assert float(most) == pytest.approx(4**0.5, rel=1e-4)


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
