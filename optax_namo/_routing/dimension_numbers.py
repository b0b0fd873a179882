# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The matrices of a leaf: along which axes, and whether it holds several.

Throughout, a leaf has a *spec*: ``MuonDimensionNumbers``, ``SplitMatrices``
where it holds several matrices side by side (its *parts*), or None for AdamW. A
matrix, or a stack of them, has *numbers*: ``MuonDimensionNumbers``.
"""

from collections.abc import Callable, Sequence
import itertools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

# A tree, or a prefix of one, of MuonDimensionNumbers, SplitMatrices or None
# (AdamW); or a function from the parameters to such a tree.
WeightDimensionNumbers = Any

# Along which side of a matrix NAMO-D's scales differ.
Columns = Literal['input', 'output']


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


class Axes(NamedTuple):
  """The axes of a leaf by their role, sorted out of its dimension numbers."""

  batch: tuple[int, ...]
  input: tuple[int, ...]
  output: tuple[int, ...]

  @property
  def matrix(self) -> tuple[int, ...]:
    return self.input + self.output


def axes_of(numbers: MuonDimensionNumbers, ndim: int) -> Axes:
  """Reads ``numbers`` as ``canonical`` left them; the rest is batch."""
  inputs, outputs = numbers
  rest = set(range(ndim)) - set(inputs) - set(outputs)
  return Axes(tuple(sorted(rest)), tuple(inputs), tuple(outputs))


def matrix_shape(
  numbers: MuonDimensionNumbers, shape: Sequence[int]
) -> tuple[int, int, int]:
  """The matrix view ``(batch, in, out)`` of a leaf of the given shape."""
  batch, inputs, outputs = (
    math.prod(shape[axis] for axis in group)
    for group in axes_of(numbers, len(shape))
  )
  return batch, inputs, outputs


def path_string(path: Sequence[Any]) -> str:
  """``'/'``-joined path of a leaf, without the boxes around it.

  Those of Flax add ``.value``, those of Haliax a child without a name. Keys
  that are paths themselves, tuples or with dots, come apart.
  """
  path = tuple(path)
  while len(path) > 1 and (
    getattr(path[-1], 'name', None) == 'value'
    or path[-1] == jax.tree_util.FlattenedIndexKey(0)
  ):
    path = path[:-1]
  keys = [getattr(key, 'key', None) for key in path]
  parts = [
    '/'.join(map(str, key))
    if isinstance(key, tuple)
    else jax.tree_util.keystr((entry,), simple=True)
    for key, entry in zip(keys, path)
  ]
  return '/'.join(parts).replace('.', '/')


def is_spec(x: Any) -> bool:
  """Whether a node of a tree of dimension numbers is a leaf's."""
  return x is None or isinstance(x, (MuonDimensionNumbers, SplitMatrices))


def canonical(
  spec: MuonDimensionNumbers | SplitMatrices | None,
  name: str,
  shape: Sequence[int],
) -> MuonDimensionNumbers | SplitMatrices | None:
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
    axis, sizes = spec.axis, tuple(spec.sizes)
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
    group = (group,) if isinstance(group, int) else tuple(group)
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


def spread(
  what: str,
  prefix: Any,
  tree: Any,
  is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
  """A prefix of a tree, with its values at all leaves of that tree.

  Args:
    what: What the prefix must be, for the error.
    prefix: The values.
    tree: Parameters or gradients.
    is_leaf: What is a value of ``prefix``.

  Returns:
    A tree of ``tree``'s structure.

  Raises:
    ValueError: It is no prefix of ``tree``.
  """
  try:
    return jax.tree.map(
      lambda value, subtree: jax.tree.map(lambda _: value, subtree),
      prefix,
      tree,
      is_leaf=is_leaf,
    )
  except (ValueError, TypeError) as error:
    raise ValueError(
      f'{what} with the structure of the parameters, or a prefix of it; a'
      ' callable from the parameters to such a tree always fits. Got'
      f' {jax.tree.structure(prefix, is_leaf=is_leaf)} for parameters'
      f' {jax.tree.structure(tree)}.'
    ) from error


def resolve(weight_dimension_numbers: WeightDimensionNumbers, tree: Any) -> Any:
  """The specs of all leaves of a tree of parameters or gradients.

  Args:
    weight_dimension_numbers: A tree or prefix of ``MuonDimensionNumbers`` or
      None, or a callable from ``tree`` to one.
    tree: Parameters or gradients.

  Returns:
    A tree of ``tree``'s own structure: a canonical spec at each leaf.

  Raises:
    ValueError: The specification is no prefix of ``tree``, or does not fit a
      leaf (see ``canonical``).
  """
  specs: Callable[[Any], Any] | Any = weight_dimension_numbers
  # An Equinox model is callable, and so is a tree of its structure.
  if callable(specs) and jax.tree_util.all_leaves([specs]):
    specs = specs(tree)
  if not jax.tree.leaves(tree):  # Nothing to route, whatever the prefix.
    return tree
  specs = spread(
    'weight_dimension_numbers must be a tree of MuonDimensionNumbers or None',
    specs,
    tree,
    is_leaf=is_spec,
  )
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf, spec: canonical(
      spec, path_string(path), jnp.shape(leaf)
    ),
    tree,
    specs,
  )


def part_numbers(
  spec: MuonDimensionNumbers | SplitMatrices,
) -> MuonDimensionNumbers | tuple[MuonDimensionNumbers, ...]:
  """The dimension numbers of the matrix, or of each part."""
  if isinstance(spec, SplitMatrices):
    return (spec.dimension_numbers,) * len(spec.sizes)
  return spec


def split(
  x: jax.Array, spec: MuonDimensionNumbers | SplitMatrices
) -> jax.Array | tuple[jax.Array, ...]:
  """The leaf, or its parts."""
  if isinstance(spec, SplitMatrices):
    ends = list(itertools.accumulate(spec.sizes))
    return tuple(jnp.split(x, ends[:-1], axis=spec.axis))
  return x


def merge(x: Any, spec: MuonDimensionNumbers | SplitMatrices) -> jax.Array:
  """The inverse of ``split``."""
  if isinstance(spec, SplitMatrices):
    return jnp.concatenate(x, axis=spec.axis)
  return x
