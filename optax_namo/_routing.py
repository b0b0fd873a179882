# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves are matrices, and along which axes."""

from collections.abc import Callable, Sequence
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

# A tree, or a prefix of one, of MuonDimensionNumbers or None (AdamW); or a
# function from the parameters to such a tree.
WeightDimensionNumbers = Any

# What a path says, first match wins: (regex on the '/'-joined path, dimension
# numbers or None for AdamW). Components are whole: 'heads' is not a head.
# Embeddings and output heads go to AdamW as in the NAMO reference code.
_RULES: tuple[tuple[str, MuonDimensionNumbers | None], ...] = (
  (r'(?i)(^|/)(embed[^/]*|wte|wpe|lm_head|head|logits)(/|$)', None),
)


class Axes(NamedTuple):
  """The axes of a leaf by their role, sorted out of its dimension numbers."""

  batch: tuple[int, ...]
  input: tuple[int, ...]
  output: tuple[int, ...]

  @property
  def matrix(self) -> tuple[int, ...]:
    return self.input + self.output


def axes_of(numbers: MuonDimensionNumbers, ndim: int) -> Axes:
  """Reads ``numbers`` as ``normalize`` left them; the rest is batch."""
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
  """``'/'``-joined path of a leaf, without nnx's trailing ``.value``."""
  if len(path) > 1 and getattr(path[-1], 'name', None) == 'value':
    path = path[:-1]
  return jax.tree_util.keystr(tuple(path), simple=True, separator='/')


def matrix_dimension_numbers(params: Any) -> Any:
  """The default routing: 2-D leaves other than embeddings and output heads.

  A leaf of rank 2 is an ``(in, out)`` matrix unless a whole component of its
  path is ``embed*``, ``wte``, ``wpe``, ``lm_head``, ``head`` or ``logits``.
  Everything else belongs to AdamW.

  Args:
    params: A pytree of arrays; shapes suffice (``jax.ShapeDtypeStruct``).

  Returns:
    A tree of ``params``' own structure, each leaf
    ``MuonDimensionNumbers((0,), (1,))`` or None.

  Examples:
    >>> import jax.numpy as jnp
    >>> from optax_namo import matrix_dimension_numbers
    >>> params = {'wte': jnp.ones((9, 4)), 'dense': jnp.ones((4, 4))}
    >>> numbers = matrix_dimension_numbers(params)
    >>> numbers['wte'] is None
    True
    >>> numbers['dense'].output_axis
    (1,)
  """

  def route(path, leaf):
    name = path_string(path)
    for pattern, numbers in _RULES:
      if re.search(pattern, name):
        return numbers
    return MuonDimensionNumbers((0,), (1,)) if jnp.ndim(leaf) == 2 else None

  return jax.tree_util.tree_map_with_path(route, params)


def _is_spec(x: Any) -> bool:
  return x is None or isinstance(x, MuonDimensionNumbers)


def normalize(
  numbers: MuonDimensionNumbers | None, name: str, shape: Sequence[int]
) -> MuonDimensionNumbers | None:
  """Dimension numbers as tuples of non-negative axes, checked against a leaf.

  Args:
    numbers: The user's dimension numbers, or None for AdamW.
    name: The leaf's path, for the error.
    shape: The leaf's shape.

  Returns:
    ``MuonDimensionNumbers`` of sorted-out tuples, hashable, or None.

  Raises:
    ValueError: The leaf is no matrix, or an axis is missing, out of range or
      named twice.
    TypeError: It is not a ``MuonDimensionNumbers``.
  """
  if numbers is None:
    return None
  where = f'weight_dimension_numbers at {name!r} of shape {tuple(shape)}'
  if not isinstance(numbers, MuonDimensionNumbers):
    raise TypeError(
      f'{where} must be optax.contrib.MuonDimensionNumbers or None, got'
      f' {numbers!r}.'
    )
  rank = len(shape)
  if rank < 2:
    raise ValueError(
      f'{where}: a matrix has at least two axes. Use None there, and the leaf'
      ' goes to AdamW.'
    )
  axes = []
  for group in numbers:
    group = (group,) if isinstance(group, int) else tuple(group)
    if not group or any(not -rank <= axis < rank for axis in group):
      raise ValueError(
        f'{where}: {numbers} names no axis, or one outside [{-rank}, {rank}).'
      )
    axes.append(tuple(axis % rank for axis in group))
  if len(set(axes[0] + axes[1])) < len(axes[0]) + len(axes[1]):
    raise ValueError(
      f'{where}: {numbers} names an axis twice; reduction and output axes'
      ' must not overlap.'
    )
  return MuonDimensionNumbers(*axes)


def resolve(weight_dimension_numbers: WeightDimensionNumbers, tree: Any) -> Any:
  """Dimension numbers for every leaf of a tree of parameters or gradients.

  Args:
    weight_dimension_numbers: A tree or prefix of ``MuonDimensionNumbers`` or
      None, or a callable from ``tree`` to one.
    tree: Parameters or gradients.

  Returns:
    A tree of ``tree``'s own structure: normalized ``MuonDimensionNumbers`` or
    None at each leaf.

  Raises:
    ValueError: The specification is no prefix of ``tree``, or does not fit a
      leaf (see ``normalize``).
  """
  spec: Callable[[Any], Any] | Any = weight_dimension_numbers
  if callable(spec):
    spec = spec(tree)
  if not jax.tree.leaves(tree):  # Nothing to route, whatever the prefix.
    return tree
  try:
    spec = jax.tree.map(
      lambda s, subtree: jax.tree.map(lambda _: s, subtree),
      spec,
      tree,
      is_leaf=_is_spec,
    )
  except (ValueError, TypeError) as error:
    raise ValueError(
      'weight_dimension_numbers must be a tree of MuonDimensionNumbers or'
      ' None with the structure of the parameters, or a prefix of it; a'
      ' callable from the parameters to such a tree always fits. Got'
      f' {jax.tree.structure(spec, is_leaf=_is_spec)} for parameters'
      f' {jax.tree.structure(tree)}.'
    ) from error
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf, numbers: normalize(
      numbers, path_string(path), jnp.shape(leaf)
    ),
    tree,
    spec,
  )
