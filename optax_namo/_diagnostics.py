# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What passes through the chain, kept for a look."""

from typing import NamedTuple

import jax
import optax

from optax_namo import _dimension_numbers as dims
from optax_namo import _factored
from optax_namo import _momentum
from optax_namo import _norms


class RecordState(NamedTuple):
  """State of ``record``: the last scales and norms that passed."""

  scale: optax.Updates  # the scale's shape, float32 or wider.
  norm: optax.Updates  # ||direction||_F, one for each matrix, likewise.


def record(
  columns: str | None = None,
  *,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
) -> optax.GradientTransformation:
  """Keeps the scales and the norms of the directions; changes nothing.

  Before ``clamp_scale`` it sees the scales before the clamp, after it the
  clamped ones; right after ``adaptive_momentum`` the direction is the momentum.

  Args:
    columns: As in the chain's ``adaptive_momentum``.
    weight_dimension_numbers: As in the chain's ``adaptive_momentum``.

  Returns:
    An identity on ``Factored`` updates, with ``RecordState``.

  Raises:
    ValueError: ``columns`` is unknown, or a leaf is no matrix.
    TypeError: The updates are not ``Factored``.
  """

  def init(params):
    # The scales have the shape of the momentum stage's v; a norm has that of
    # NAMO's.
    shapes = lambda c: (
      _momentum.adaptive_momentum(
        columns=c, weight_dimension_numbers=weight_dimension_numbers
      )
      .init(params)
      .root_v
    )
    return RecordState(scale=shapes(columns), norm=shapes(None))

  def update(updates, state, params=None):
    del state, params

    def norm(direction, numbers):
      axes = dims.axes_of(numbers, direction.ndim)
      return _norms.norm(direction, axes.matrix)

    return updates, RecordState(
      scale=_factored.tree_map(lambda u: u.scale, updates),
      norm=_factored.tree_map(
        lambda u: jax.tree.map(norm, u.direction, u.numbers), updates
      ),
    )

  return optax.GradientTransformation(init, update)
