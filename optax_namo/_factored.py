# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A matrix update on its way through the chain: direction times scale."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout.axes import Axes
from optax_namo._layout.axes import axes_of
from optax_namo._routing import dimension_numbers as dims

MISPLACED = (
  'a stage of optax met the Factored updates of this package: those of optax'
  ' belong after apply_scale(), and wrappers around the whole optimizer.'
)
NOT_APPLIED = (
  'the updates of the matrices are still Factored where their chain ends:'
  ' apply_scale() belongs after the stages of this package and before those of'
  ' optax, such as the learning rate.'
)


class Seen(NamedTuple):
  """What earlier stages saw and made, for ``record`` to look at.

  References to arrays, so that nothing is computed for it; None where the stage
  is not in the chain.
  """

  gradient: Any = None  # As it reached adaptive_momentum, float32 or wider.
  momentum: Any = None  # As it is orthogonalized, Nesterov's look-ahead too.
  unclamped_scale: Any = None  # As adaptive_momentum made it.
  polar_factor: Any = None  # As orthogonalize made it.


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=('direction', 'scale', 'count', 'seen'),
  meta_fields=('dimension_numbers', 'dtype', 'part'),
)
@dataclasses.dataclass(frozen=True)
class Factored:
  """A matrix update as a product, ``direction * scale``.

  Attributes:
    direction: The momentum, later its polar factor; the matrix's shape, or that
      of a stack of matrices.
    scale: One number for each matrix, or for each column; None before the first
      stage. It has the direction's rank, with size 1 along the axes that share
      a number.
    dimension_numbers: Which axes of both are the matrix's (static).
    dtype: The dtype in which the product leaves the chain (static).
    count: The updates before this one, for schedules; int32, ().
    seen: What earlier stages saw and made, for ``record``.
    part: Which one of several matrices in one leaf it is (static).
  """

  direction: Any
  scale: Any
  dimension_numbers: MuonDimensionNumbers
  dtype: Any
  count: Any = None
  seen: Seen = Seen()
  part: int | None = None

  @property
  def axes(self) -> Axes:
    """The axes of direction and scale by their role."""
    return axes_of(self.dimension_numbers, self.direction.ndim)

  def __radd__(self, parameter: Any) -> None:
    """Raises TypeError: ``optax.apply_updates`` takes arrays alone."""
    del parameter
    raise TypeError(NOT_APPLIED)


def is_factored(x: Any) -> bool:
  """Whether a node of a tree is a matrix update in factored form."""
  return isinstance(x, Factored)


def wrap(x: jax.Array, spec: dims.Spec) -> Any:
  """A leaf on its way into a chain: ``Factored``, or a tuple of its parts."""
  if isinstance(spec, dims.SplitMatrices):
    return tuple(
      Factored(part, None, spec.dimension_numbers, x.dtype, part=i)
      for i, part in enumerate(dims.split(x, spec))
    )
  return Factored(x, None, spec, x.dtype)


def unwrap(state: Any) -> Any:
  """State that a chain's ``init`` made of wrapped parameters.

  ``init`` of optax's stages makes state like the parameters that it is given.
  They reach it wrapped, so that a stage of ours finds their dimension numbers:
  what it made of them is ``Factored``, with a state's array as direction.
  """
  return jax.tree.map(
    lambda u: u.direction if is_factored(u) else u, state, is_leaf=is_factored
  )


def matrices_of(
  tree: Any, weight_dimension_numbers: dims.WeightDimensionNumbers
) -> tuple[list[Factored], Any]:
  """The matrices that reach the first stage of a chain, and their treedef.

  Args:
    tree: What ``routed`` has wrapped; in a chain that stands alone, arrays.
    weight_dimension_numbers: Those of arrays, see ``adaptive_momentum``.

  Raises:
    ValueError: A leaf is no matrix, or several; or both know its numbers.
  """
  leaves, treedef = jax.tree.flatten(tree, is_leaf=is_factored)
  if all(map(is_factored, leaves)):
    if weight_dimension_numbers is not None and leaves:
      raise ValueError(
        'in routed a stage takes no weight_dimension_numbers of its own: give'
        ' them to routed.'
      )
    return leaves, treedef
  specs = dims.of_matrices(weight_dimension_numbers, tree)
  if any(isinstance(spec, dims.SplitMatrices) for spec in specs):
    raise ValueError(
      'SplitMatrices reach a stage through routed, scale_by_namo or'
      ' scale_by_namo_d: put the chain into routed(chain, rest,'
      ' weight_dimension_numbers).'
    )
  return list(map(wrap, map(jnp.asarray, leaves), specs)), treedef


def flatten(updates: Any) -> tuple[list[Factored], Any]:
  """The ``Factored`` leaves and their treedef; TypeError for other leaves."""
  leaves, treedef = jax.tree.flatten(updates, is_leaf=is_factored)
  for leaf in leaves:
    if not is_factored(leaf) or leaf.scale is None:
      kind = 'one without a scale' if is_factored(leaf) else type(leaf).__name__
      raise TypeError(
        'this stage takes the Factored updates of adaptive_momentum, got'
        f' {kind}. It belongs between adaptive_momentum and'
        ' apply_scale in the chain.'
      )
    # What changed all factors alike, as a rate does, made a float of it.
    count = 0 if leaf.count is None else leaf.count
    if not jnp.issubdtype(jnp.result_type(count), jnp.integer):
      raise TypeError(MISPLACED)
  return leaves, treedef


def tree_map(
  function: Callable[[Factored, Any], Any], updates: Any, params: Any
) -> Any:
  """``function(factored, parameter)`` for each matrix of ``updates``."""
  treedef: Any
  matrices, treedef = flatten(updates)
  theirs = [None] * len(matrices)
  if params is not None:
    theirs = treedef.flatten_up_to(params)
  return treedef.unflatten(map(function, matrices, theirs))


def stage(
  function: Callable[[Factored, Any], Factored],
) -> optax.GradientTransformation:
  r"""A stage without state, from a function of one matrix.

  .. math:: (D_t, a_t, \Theta_{t-1}) \mapsto (D_t', a_t')

  It belongs between ``adaptive_momentum`` and ``apply_scale``. A stage with
  state is an optax transformation whose updates have ``Factored`` leaves.

  Args:
    function: From a ``Factored`` and its parameter, an array of the direction's
      shape or None where ``update`` gets no parameters, to a ``Factored``:
      ``dataclasses.replace`` keeps what it does not change.

  Returns:
    A stateless transformation of ``Factored`` updates.

  Raises:
    TypeError: The updates are not ``Factored``, or what the function returns.
    ValueError: The function changes the shape of a direction or the axes of a
      scale.

  Examples:
    >>> import dataclasses
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import adaptive_momentum, apply_scale, stage
    >>> halved = stage(
    ...   lambda u, p: dataclasses.replace(u, direction=u.direction / 2)
    ... )
    >>> tx = optax.chain(adaptive_momentum(b1=0.0), halved, apply_scale())
    >>> gradient = jnp.ones((4, 6))
    >>> update, _ = tx.update(gradient, tx.init(gradient))
    >>> round(float(update[0, 0]), 3)
    0.5

  References:
    The arrows between the lines of Algorithms 1 and 2 of arXiv 2602.17080.
  """
  if not callable(function):
    raise TypeError(
      'stage() takes a function from a Factored and its parameter to a'
      f' Factored, got {function!r}.'
    )

  def checked(u, p):
    new = function(u, p)
    if not is_factored(new):
      raise TypeError(
        'the function of stage() must return a Factored, got'
        f' {type(new).__name__}: return dataclasses.replace(u, direction=...).'
      )
    for field in ('direction', 'scale'):
      old, shape = getattr(u, field).shape, jnp.shape(getattr(new, field))
      if field == 'direction' and shape != old or len(shape) != len(old):
        raise ValueError(
          f'the function of stage() made a {field} of shape {shape} of one of'
          f' shape {old}: a direction keeps its shape, a scale its axes, with'
          ' keepdims=True.'
        )
    return new

  return optax.stateless(
    lambda updates, params: tree_map(checked, updates, params)
  )
