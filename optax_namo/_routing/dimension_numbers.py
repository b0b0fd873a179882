# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The matrices of a leaf: along which axes, and whether it holds several.

Throughout, a leaf has a *spec*: ``MuonDimensionNumbers``, ``SplitMatrices``
where it holds several matrices side by side (its *parts*), or None for AdamW. A
matrix, or a stack of them, has *numbers*: ``MuonDimensionNumbers``.
"""

from collections.abc import Sequence
import functools
import operator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import sharding
from optax_namo._layout import trees

# A tree, or a prefix of one, of MuonDimensionNumbers, SplitMatrices or None
# (AdamW); or a function from the parameters to such a tree.
WeightDimensionNumbers = Any


class SplitMatrices(NamedTuple):
  """Several matrices stored in one leaf, side by side along an axis.

  Each part has a scale and a clamp of its own and is orthogonalized alone, as
  if it were a parameter.

  Attributes:
    dimension_numbers: The dimension numbers of every part.
    axis: The axis of the leaf along which the parts lie.
    sizes: The sizes of the parts along it.

  Examples:
    >>> from optax.contrib import MuonDimensionNumbers
    >>> from optax_namo import SplitMatrices
    >>> # Fused queries, keys and values, (d, 3 d) with d = 768.
    >>> qkv = SplitMatrices(MuonDimensionNumbers(0, 1), 1, (768, 768, 768))
  """

  dimension_numbers: MuonDimensionNumbers
  axis: int
  sizes: tuple[int, ...]


Spec: TypeAlias = MuonDimensionNumbers | SplitMatrices | None


def is_spec(x: Any) -> bool:
  """Whether a node of a tree of dimension numbers is a leaf's."""
  return x is None or isinstance(x, (MuonDimensionNumbers, SplitMatrices))


def of_parts(
  spec: MuonDimensionNumbers | SplitMatrices,
) -> MuonDimensionNumbers:
  """The numbers of a leaf, or of all of its parts."""
  return spec.dimension_numbers if isinstance(spec, SplitMatrices) else spec


def canonical(
  spec: Spec,
  name: str,
  shape: Sequence[int],
) -> Spec:
  """A spec with tuples of non-negative axes, checked against its leaf.

  Args:
    spec: The user's.
    name: The leaf's path, for the error.
    shape: The leaf's shape.

  Returns:
    The same with tuples of non-negative axes, hashable, or None.

  Raises:
    ValueError: The leaf is no matrix, an axis is missing, out of range or named
      twice, or the sizes of a split do not add up.
    TypeError: It is neither ``MuonDimensionNumbers`` nor ``SplitMatrices``.
  """
  if spec is None:
    return None
  where = f'weight_dimension_numbers at {name!r} of shape {tuple(shape)}'
  if isinstance(spec, SplitMatrices):
    (axis,), sizes = _integers(where, spec.axis), _integers(where, spec.sizes)
    if not -len(shape) <= axis < len(shape):
      raise ValueError(f'{where}: {spec} splits an axis that is not there.')
    if min(sizes, default=0) < 1 or sum(sizes) != shape[axis]:
      raise ValueError(
        f'{where}: the sizes {sizes} must be positive and add up to'
        f' {shape[axis]}, the size of axis {axis}.'
      )
    if not isinstance(spec.dimension_numbers, MuonDimensionNumbers):
      raise TypeError(
        f'{where}: the parts of {spec} need MuonDimensionNumbers.'
      )
    # Sizes do not matter to axes: one part's check is every part's.
    inner = canonical(spec.dimension_numbers, name, shape)
    return SplitMatrices(inner, axis % len(shape), sizes)
  if not isinstance(spec, MuonDimensionNumbers):
    raise TypeError(
      f'{where} must be optax.contrib.MuonDimensionNumbers, SplitMatrices or'
      f' None, got {spec!r}.'
    )
  rank = len(shape)
  if rank < 2:
    raise ValueError(
      f'{where}: a matrix has at least two axes. Use None there, and the leaf'
      ' goes to AdamW.'
    )
  axes = []
  for group in spec:
    group = _integers(where, group)
    if not group or any(not -rank <= axis < rank for axis in group):
      raise ValueError(
        f'{where}: {spec} names no axis, or one outside [{-rank}, {rank}).'
      )
    axes.append(tuple(axis % rank for axis in group))
  if len(set(axes[0] + axes[1])) < len(axes[0]) + len(axes[1]):
    raise ValueError(
      f'{where}: {spec} names an axis twice; reduction and output axes'
      ' must not overlap.'
    )
  return MuonDimensionNumbers(*axes)


def _integers(where: str, values: Any) -> tuple[int, ...]:
  """One integer or several as a tuple of Python's."""
  try:
    return tuple(operator.index(x) for x in np.atleast_1d(values))
  except TypeError:
    raise TypeError(
      f'{where}: axes and sizes are integers, got {values!r}.'
    ) from None


def resolve(
  weight_dimension_numbers: WeightDimensionNumbers, tree: Any
) -> list[Spec]:
  """The specs of all leaves of a tree, in their order.

  Args:
    weight_dimension_numbers: A tree or prefix of specs, or a callable from
      ``tree`` to one.
    tree: Parameters or gradients.

  Returns:
    A canonical spec for each leaf.

  Raises:
    ValueError: The specification is no prefix of ``tree``, or does not fit a
      leaf (see ``canonical``).
  """
  specs = trees.resolved(weight_dimension_numbers, tree)
  treedef: Any
  leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
  if not leaves:  # Nothing to route, whatever the prefix.
    return []
  specs = trees.spread(
    'weight_dimension_numbers must be a tree of MuonDimensionNumbers or None',
    specs,
    tree,
    is_leaf=is_spec,
  )
  return [
    canonical(spec, trees.path_string(path), jnp.shape(leaf))
    for (path, leaf), spec in zip(leaves, treedef.flatten_up_to(specs))
  ]


def of_matrices(
  weight_dimension_numbers: WeightDimensionNumbers, tree: Any
) -> list[Any]:
  """The specs of a tree all of whose leaves are matrices, in their order.

  Args:
    weight_dimension_numbers: See ``resolve``; None means that every leaf is one
      (in, out) matrix.
    tree: Parameters or gradients.

  Raises:
    ValueError: A leaf is no matrix.
  """
  if weight_dimension_numbers is None:
    weight_dimension_numbers = functools.partial(
      jax.tree.map,
      lambda x: MuonDimensionNumbers(0, 1) if jnp.ndim(x) == 2 else None,
    )
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  specs = resolve(weight_dimension_numbers, tree)
  for (path, leaf), spec in zip(leaves, specs):
    if spec is None:
      raise ValueError(
        f'the {trees.named("leaf", path)} of shape {jnp.shape(leaf)}'
        ' has no dimension numbers and is no (in, out) matrix. Give'
        ' weight_dimension_numbers for it, the same to adaptive_momentum and'
        ' to record, or send it to another optimizer with routed, as namo and'
        ' namo_d do.'
      )
  return specs


def split(x: jax.Array, spec: Spec) -> Any:
  """The leaf, or a tuple of its parts."""
  if isinstance(spec, SplitMatrices):
    return tuple(sharding.cut(x, spec.sizes, spec.axis))
  return x
