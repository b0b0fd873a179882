# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the axes of a parameter are in a value computed from it.

An axis of a value may be part of an axis of the parameter, or several of them.
So the index along a parameter's axis is written in *digits*, as hours, minutes
and seconds write a time: a reshape splits digits and puts them side by side.
"""

from collections.abc import Callable, Iterable, Sequence
import math
from typing import Any, NamedTuple

from optax.contrib import MuonDimensionNumbers

from optax_namo._routing import dimension_numbers as dims

_Shape = Sequence[int]


class Digit(NamedTuple):
  """A digit of the index along an axis of a parameter."""

  axis: int  # Of the parameter.
  size: int  # How many values it has.
  stride: int  # What one step of it is, in entries along the axis.
  start: int = 0  # The entry where a slice begins.


_Digits = tuple[Digit, ...]
# The digits along each axis of a value, the most significant first; none along
# an axis that is not the parameter's.
Axes = tuple[_Digits, ...]


class View(NamedTuple):
  """A value as a view of a parameter, or of the output of a product with one.

  Attributes:
    leaf: Which parameter.
    axes: The value's axes. What is missing was selected: a batch axis. All are
      where an output is in the value, but nobody knows along which axes.
    inner: The digits contracted with other parameters, or with constants.
    looked: Whether an index from the data has selected.
    is_output: Whether it is of an output.
  """

  leaf: int
  axes: Axes
  inner: _Digits = ()
  looked: bool = False
  is_output: bool = False

  def digits(self, axes: Iterable[int]) -> _Digits:
    return sum((self.axes[axis] for axis in axes), ())


def whole(leaf: int, shape: _Shape) -> View:
  """The parameter itself."""
  return View(leaf, tuple((Digit(i, n, 1),) for i, n in enumerate(shape)))


def output(view: View, axes: Axes = ()) -> View:
  """A view of the output of a product with a parameter."""
  return View(view.leaf, axes, is_output=True)


def merged(views: Iterable[View]) -> tuple[View, ...]:
  """All views, but for those that another of the same parameter contains."""
  views, most = tuple(dict.fromkeys(views)), {}
  if len(views) < 2:
    return views
  sizes = [sum(map(len, view.axes)) + len(view.inner) for view in views]
  for view, size in sorted(zip(views, sizes), key=lambda pair: pair[1]):
    most[view.leaf, view.is_output] = size
  return tuple(
    x for x, size in zip(views, sizes) if size == most[x.leaf, x.is_output]
  )


def spec(shape: _Shape, contracted: _Digits, free: _Digits) -> dims.Spec:
  """The matrices of a parameter whose digits are used so; None if none fit.

  Digits that are neither are a batch. Where they lead an axis, it is split.
  """
  axes: tuple[list[int], list[int]] = [], []
  parts = {}
  for axis, size in enumerate(shape):
    sides = [{d.stride: d for d in side if d.axis == axis}
             for side in (contracted, free)]  # fmt: skip
    if not any(sides) or size == 1:
      continue
    if all(sides):
      return None
    side = 0 if sides[0] else 1
    length = math.prod(digit.size for digit in sides[side].values())
    if length < size:
      if size % length or max(sides[side]) >= length:
        return None
      parts[axis] = (length,) * (size // length)
    axes[side].append(axis)
  if not all(axes) or len(parts) > 1:
    return None
  numbers = MuonDimensionNumbers(*map(tuple, axes))
  for axis, sizes in parts.items():
    return dims.SplitMatrices(numbers, axis, sizes)
  return numbers


def reshaped(
  old: _Shape, new: _Shape, axes: Axes, order: Any = None
) -> Axes | None:
  """After a reshape; None where the axes do not come apart."""
  atoms: list[tuple[int, Digit | None]] = []
  for i in order or range(len(axes)):
    first, *rest = axes[i] or (None,)
    # Of a slice or a shard, the first digit takes what is left.
    left = old[i] // math.prod(digit.size for digit in rest)
    atoms += [(left, first), *((digit.size, digit) for digit in rest)]
  found = []
  for want in reversed(new):
    group: list[Digit] = []
    while want > 1:
      if not atoms:
        return None
      size, digit = atoms.pop()
      take = math.gcd(size, want)
      if take not in (size, want):
        return None
      if take < size:
        above = digit and digit._replace(
          size=-(-digit.size // take), stride=digit.stride * take
        )
        atoms.append((size // take, above))
        digit = digit and Digit(digit.axis, take, digit.stride)
      if digit and take > 1:
        group.insert(0, digit)
      want //= take
    found.append(tuple(group))
  return tuple(found[::-1])


def stretched(old: _Shape, new: _Shape, view: View) -> Axes:
  """Where axes of one entry become as long as a result's."""
  return tuple(a if n == m else () for a, n, m in zip(view.axes, old, new))


def placed(axes: Axes, places: Iterable[tuple[int, int]], rank: int) -> Axes:
  """Axes of a value of this rank, from pairs of an old and a new place."""
  found: list[_Digits] = [()] * rank
  for old, new in places:
    found[new] = axes[old]
  return tuple(found)


class Move(NamedTuple):
  """A primitive that moves the entries of its first operand."""

  old: _Shape
  new: _Shape
  params: dict[str, Any]  # The primitive's.
  out: int  # Which result.
  known: bool  # Whether it moves by constants alone, not by data.
  cut: Callable[[int, Digit, int, int], None]  # A leaf's digit, between values.


def _placed(move: Move, axes: Axes, places: Iterable[tuple[int, int]]) -> Axes:
  """Axes of the result, from pairs of an old and a new place."""
  found: list[_Digits] = [()] * len(move.new)
  for old, new in places:
    found[new] = axes[old]
  return tuple(found)


def _broadcast(move: Move, view: View) -> Axes:
  to = move.params['broadcast_dimensions']
  axes = stretched(move.old, [move.new[i] for i in to], view)
  return placed(axes, enumerate(to), len(move.new))


def _without(name: str) -> Callable[[Move, View], Axes]:
  """Without the axes that a parameter of the primitive names."""
  return lambda move, view: tuple(
    axis for i, axis in enumerate(view.axes) if i not in move.params[name]
  )


def _all_gathered(move: Move, view: View) -> Axes:
  new = move.params['all_gather_dimension']
  one_more = () if move.params['tiled'] else ((),)
  return (*view.axes[:new], *one_more, *view.axes[new:])


def _sliced(move: Move, view: View) -> Axes:
  params, starts = move.params, [0] * len(view.axes)
  if 'axis' in params:  # One of the parts of a split.
    starts[params['axis']] = int(sum(params['sizes'][: move.out]))
  starts = params.get('start_indices', starts)
  found = []
  for digits, old, new, start in zip(view.axes, *move[:2], starts):
    if digits and new < old:
      first, *rest = digits
      unit = math.prod(digit.size for digit in rest)
      # Else no part is one piece of the parameter, or it is not known which.
      if 'slice_sizes' not in params and not (start % unit or new % unit):
        move.cut(view.leaf, first, start // unit, (start + new) // unit)
      entry = first.start + start // unit * first.stride
      digits = (first._replace(start=entry), *rest) if new > 1 else ()
    found.append(digits)
  return tuple(found)


def _gathered(move: Move, view: View) -> Axes:
  """After an index; if it is known, it only permutes the entries of an axis."""
  numbers, sizes = move.params['dimension_numbers'], move.params['slice_sizes']
  batch = numbers.operand_batching_dims
  gone = {*numbers.collapsed_slice_dims, *batch}
  kept = [i for i in range(len(view.axes)) if i not in gone]
  rows = [j for j in range(len(move.new)) if j not in numbers.offset_dims]
  places = [
    (i, j)
    for i, j in zip(kept, numbers.offset_dims)
    if sizes[i] > 1 or move.old[i] == 1
  ]
  places += zip(batch, [rows[i] for i in numbers.start_indices_batching_dims])
  if move.known and len(rows) == len(gone) == 1:
    places.append((gone.pop(), rows[0]))
  return placed(view.axes, places, len(move.new))


_REDUCTIONS = 'sum', 'max', 'min', 'prod', 'and', 'or'
# From a view of an operand to the axes of the result; None where they are lost.
MOVES: dict[str, Callable[[Move, View], Axes | None]] = {
  'transpose': lambda m, x: tuple(x.axes[i] for i in m.params['permutation']),
  'reshape': lambda m, x: reshaped(*m[:2], x.axes, m.params['dimensions']),
  'broadcast_in_dim': _broadcast,
  'squeeze': _without('dimensions'),
  **dict.fromkeys(('rev', 'pad'), lambda _, x: x.axes),
  **dict.fromkeys(('slice', 'split', 'dynamic_slice'), _sliced),
  'gather': _gathered,
  'all_gather': _all_gathered,
  **{f'reduce_{how}': _without('axes') for how in _REDUCTIONS},
  **dict.fromkeys(('argmax', 'argmin'), _without('axes')),
}
