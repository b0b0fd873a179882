# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The routing of a model, for people to look at."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Iterable, Sequence
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
      axis = 'axis' if len(route.column_axes) == 1 else 'axes'
      columns = f'{axis} {_joined(route.column_axes)}'
      views = [
        f'{len(list(some))} of ' * (len(route.view) > 1) + _joined(view, ' × ')
        for view, some in itertools.groupby(route.view)
      ]
      cells = (route.path, _joined(route.shape) or 'scalar', route.group,
               _joined(views) or '-', columns if route.column_axes else '-',
               route.why, f'{route.size:,}')  # fmt: skip
      rows.append(cells)
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


def _joined(values: Iterable[Any], separator: str = ', ') -> str:
  return separator.join(map(str, values))


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
      several of ``use``, dimension numbers and ``rules`` are given.
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

  References:
    Section 4 of arXiv 2602.17080 for the two groups; the numbers are those of
    ``optax.contrib.muon``, optax 0.2.7.
  """
  hyperparameters.choice('columns', columns, (None, *get_args(axes.Columns)))
  if (use is not None) + (weight_dimension_numbers is not None) + bool(
    rules
  ) > 1:
    raise ValueError(
      'routing_table shows the routing by use, by rules, or the dimension'
      ' numbers that it is given, but not several at once.'
    )
  if use is not None:
    if not (isinstance(use, tuple | list) and use and callable(use[0])):
      raise TypeError(
        'use must be a tuple of a function of the parameters and its other'
        f' arguments, such as (loss, batch), got {use!r}.'
      )
    function, *args = use
    found = by_use.decided(function, params, args, strict)
  elif weight_dimension_numbers is None:
    found = by_name.decided(params, rules, strict)
  else:
    given = dims.resolve(weight_dimension_numbers, params)
    found = [by_name.Decision(spec, 'given') for spec in given]

  leaves = zip(trees.paths(params), jax.tree.leaves(params), found)
  return RoutingTable(
    _route(path, jnp.shape(leaf), one, columns)
    for path, leaf, one in leaves
    # No random keys and counts of a whole model.
    if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
  )


def _route(
  path: str, shape: Any, one: by_name.Decision, columns: axes.Columns | None
) -> Route:
  spec, size = one.numbers, math.prod(shape)
  why = f'{one.why}, in doubt' if one.doubt else one.why
  if spec is None:
    return Route(path, shape, 'adamw', (), (), size, why)
  numbers, parts = dims.of_parts(spec), [shape]
  if isinstance(spec, dims.SplitMatrices):
    around = shape[: spec.axis], shape[spec.axis + 1 :]
    parts = [(*around[0], part, *around[1]) for part in spec.sizes]
  view = tuple(axes.matrix_shape(numbers, part) for part in parts)
  roles = axes.axes_of(numbers, len(shape))
  sides = {None: (), 'input': roles.input, 'output': roles.output}
  return Route(path, shape, 'matrix', view, sides[columns], size, why)
