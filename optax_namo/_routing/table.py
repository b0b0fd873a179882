# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The routing of a model, for people to look at."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Sequence
import itertools
import math
from typing import Any, get_args, NamedTuple

import jax
import jax.numpy as jnp

from optax_namo import _hyperparameters as hyperparameters
from optax_namo._layout import axes
from optax_namo._layout import trees
from optax_namo._routing import by_name
from optax_namo._routing import by_use
from optax_namo._routing import dimension_numbers as dims


class Route(NamedTuple):
  """Where a leaf goes.

  Attributes:
    path: '/'-joined path of the leaf.
    shape: The leaf's shape.
    group: 'matrix' or 'adamw'.
    view: ``(batch, in, out)`` for each matrix of the leaf; empty for AdamW.
    column_axes: The axes of the leaf along which NAMO-D's scales differ.
    size: Number of parameters.
    why: What put it there: the bias beside it, its name ('embedding', 'norm'),
      the type of its layer, or a rule. By use it is what a program does with it
      ('contracts axis 0 in dot_general', 'looked up', 'last product').
  """

  path: str
  shape: tuple[int, ...]
  group: str
  view: tuple[tuple[int, int, int], ...]
  column_axes: tuple[int, ...]
  size: int
  why: str = ''


class RoutingTable(tuple[Route, ...]):
  """Rows of ``Route``; ``str`` and ``print`` lay them out as a table."""

  def __str__(self) -> str:
    header = 'path', 'shape', 'group', 'batch × in × out', 'columns', 'why'
    rows = [(*header, 'size')]
    for route in self:
      columns = _sizes(route.column_axes, ', ')
      axis = 'axis' if len(route.column_axes) == 1 else 'axes'
      shape = _sizes(route.shape, ', ') or 'scalar'
      columns = f'{axis} {columns}' if columns else '-'
      cells = route.group, _views(route.view) or '-', columns, route.why
      rows.append((route.path, shape, *cells, f'{route.size:,}'))
    for group in ('matrix', 'adamw'):
      sizes = [route.size for route in self if route.group == group]
      total = f'total of {len(sizes)}'
      rows.append((total, '', group, '', '', '', f'{sum(sizes):,}'))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
      '  '.join([*map(str.ljust, texts, widths), size.rjust(widths[-1])])
      for *texts, size in rows
    ]
    line = '  '.join('-' * width for width in widths)
    return '\n'.join([lines[0], line, *lines[1:-2], line, *lines[-2:]])


def _sizes(shape: Sequence[int], separator: str) -> str:
  return separator.join(map(str, shape))


def _views(views: Sequence[tuple[int, int, int]]) -> str:
  """Equal neighbours once, with their count: '3 of 1 × 64 × 64'."""
  parts = [
    (len(list(group)), _sizes(view, ' × '))
    for view, group in itertools.groupby(views)
  ]
  several = len(views) > 1
  return ', '.join(f'{n} of {x}' if several else x for n, x in parts)


def routing_table(
  params: Any,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
  *,
  use: Sequence[Any] | None = None,
  rules: Sequence[tuple[str, Any]] = (),
  strict: bool = False,
  columns: axes.Columns | None = 'input',
) -> RoutingTable:
  """Which leaves are matrices, as what, and where NAMO-D's columns are.

  Args:
    params: A pytree of arrays; shapes suffice (``jax.ShapeDtypeStruct``).
    weight_dimension_numbers: As in ``namo``; None means
      ``matrix_dimension_numbers`` with ``rules`` and ``strict``.
    use: A function of the parameters, and its other arguments: the numbers are
      those of ``dimension_numbers_by_use``.
    rules: See ``matrix_dimension_numbers``.
    strict: Whether what would be a warning is an error.
    columns: As in ``namo_d``; None, as for ``namo``, has no column axes.

  Returns:
    A tuple of ``Route``, one for each floating leaf in the order of the tree.
    It prints as a table with the totals of both groups.

  Raises:
    ValueError: ``columns`` is unknown; dimension numbers do not fit a leaf; or
      ``use`` comes with dimension numbers or rules.
    TypeError: ``use`` is no tuple of a function and its arguments.

  Examples:
    >>> import jax.numpy as jnp
    >>> from optax_namo import routing_table
    >>> params = {'dense': {'kernel': jnp.ones((4, 6)), 'bias': jnp.ones(6)}}
    >>> print(routing_table(params))
    path          shape  group   batch × in × out  columns  why   size
    ------------  -----  ------  ----------------  -------  ----  ----
    dense/bias    6      adamw   -                 -        bias     6
    dense/kernel  4, 6   matrix  1 × 4 × 6         axis 0   bias    24
    ------------  -----  ------  ----------------  -------  ----  ----
    total of 1           matrix                                     24
    total of 1           adamw                                       6
  """
  hyperparameters.choice('columns', columns, (None, *get_args(axes.Columns)))
  shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
  if use is not None:
    if not (isinstance(use, tuple | list) and use and callable(use[0])):
      raise TypeError(
        'use must be a tuple of a function of the parameters and its other'
        f' arguments, such as (loss, batch), got {use!r}.'
      )
    if weight_dimension_numbers is not None or rules:
      raise ValueError(
        'routing_table shows the routing by use, by rules, or the dimension'
        ' numbers that it is given, but not several at once.'
      )
    function, *args = use
    specs, whys = by_use.decided(function, params, args, strict=strict)
  elif weight_dimension_numbers is None:
    decisions = by_name.decided(params, rules, strict)
    specs = [one.numbers for one in decisions]
    whys = [one.why for one in decisions]
  else:
    specs = dims.resolve(weight_dimension_numbers, params)
    whys = ['given'] * len(specs)

  def route(name, shape, spec, why):
    size = math.prod(shape)
    if spec is None:
      return Route(name, shape, 'adamw', (), (), size, why)
    inner, parts = dims.of_parts(spec), [shape]
    if isinstance(spec, dims.SplitMatrices):
      parts = [
        (*shape[: spec.axis], part, *shape[spec.axis + 1 :])
        for part in spec.sizes
      ]
    roles = axes.axes_of(inner, len(shape))
    return Route(
      name,
      shape,
      'matrix',
      tuple(axes.matrix_shape(inner, part) for part in parts),
      {None: (), 'input': roles.input, 'output': roles.output}[columns],
      size,
      why,
    )

  rows = map(route, trees.paths(params), shapes, specs, whys)
  # No random keys and counts of a whole model.
  trained = [
    jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    for leaf in jax.tree.leaves(params)
  ]
  return RoutingTable(itertools.compress(rows, trained))
