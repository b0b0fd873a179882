# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A matrix update on its way through the chain: direction times scale."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import optax
from optax.contrib import MuonDimensionNumbers

from optax_namo._routing import dimension_numbers as dims


class Seen(NamedTuple):
  """What earlier stages saw and made, for ``record`` to look at.

  References to arrays, so that nothing is computed for it; None where the stage
  is not in the chain. Tuples of parts as in ``Factored``.
  """

  gradient: Any = None  # As it reached adaptive_momentum, float32 or wider.
  momentum: Any = None  # As it is orthogonalized, Nesterov's look-ahead too.
  unclamped_scale: Any = None  # As adaptive_momentum made it.
  polar_factor: Any = None  # As orthogonalize made it.


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=('direction', 'scale', 'count', 'seen'),
  meta_fields=('dimension_numbers', 'dtype'),
)
@dataclasses.dataclass(frozen=True)
class Factored:
  """A matrix update as a product, ``direction * scale``.

  Attributes:
    direction: The momentum, later its polar factor; the parameter's shape. A
      tuple of parts where ``dimension_numbers`` are ``SplitMatrices``.
    scale: One number for each matrix, or for each column: the parameter's rank,
      with size 1 along the axes that share a number. A tuple likewise.
    dimension_numbers: Which axes of both are the matrix's (static).
    dtype: The gradient's dtype, in which the product leaves (static).
    count: The updates before this one, for schedules; int32, ().
    seen: What earlier stages saw and made, for ``record``.
  """

  direction: Any
  scale: Any
  dimension_numbers: MuonDimensionNumbers | dims.SplitMatrices
  dtype: Any
  count: Any = None
  seen: Seen = Seen()

  @property
  def numbers(self) -> Any:
    """Dimension numbers for ``jax.tree.map`` beside direction or scale."""
    return dims.part_numbers(self.dimension_numbers)


def flatten(updates: Any) -> tuple[list[Factored], Any]:
  """The ``Factored`` leaves and their treedef; TypeError for other leaves."""
  leaves, treedef = jax.tree.flatten(
    updates, is_leaf=lambda x: isinstance(x, Factored)
  )
  for leaf in leaves:
    if not isinstance(leaf, Factored):
      raise TypeError(
        'this stage takes the Factored updates of adaptive_momentum, got'
        f' {type(leaf).__name__}. It belongs between adaptive_momentum and'
        ' apply_scale in the chain.'
      )
  return leaves, treedef


def tree_map(function: Callable[..., Any], updates: Any, *rest: Any) -> Any:
  """``jax.tree.map`` over the ``Factored`` leaves of ``updates``."""
  leaves, treedef = flatten(updates)
  others = [treedef.flatten_up_to(tree) for tree in rest]
  return treedef.unflatten(map(function, leaves, *others))


def stage(
  function: Callable[[Factored], Any],
) -> optax.GradientTransformation:
  """A stage without state, from a function of one ``Factored``."""
  return optax.stateless(lambda updates, params: tree_map(function, updates))
