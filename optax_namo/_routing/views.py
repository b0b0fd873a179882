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

_Shape = tuple[int, ...]


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
  """A value as a view of a parameter, or of a product of one.

  Attributes:
    leaf: Which parameter.
    axes: The value's axes. What is missing was selected: a batch axis.
    inner: The digits contracted with other parameters, or with constants.
    looked: Whether an index from the data has selected.
  """

  leaf: int
  axes: Axes
  inner: _Digits = ()
  looked: bool = False

  def digits(self, axes: Iterable[int]) -> _Digits:
    return sum((self.axes[axis] for axis in axes), ())


def whole(leaf: int, shape: _Shape) -> View:
  """The parameter itself."""
  return View(leaf, tuple((Digit(i, n, 1),) for i, n in enumerate(shape)))


def merged(views: Iterable[View]) -> tuple[View, ...]:
  """All views, but for those that another of the same parameter contains."""
  views = tuple(dict.fromkeys(views))
  if len(views) < 2:
    return views
  sizes = [sum(map(len, view.axes)) + len(view.inner) for view in views]
  most: dict[int, int] = {}
  for view, size in zip(views, sizes):
    most[view.leaf] = max(most.get(view.leaf, 0), size)
  return tuple(x for x, size in zip(views, sizes) if size == most[x.leaf])


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


class Move(NamedTuple):
  """A primitive that moves the entries of a value."""

  old: _Shape
  new: _Shape
  params: dict[str, Any] = {}  # The primitive's.
  out: int = 0  # Which result.
  known: bool = True  # Whether it moves by constants alone, not by data.


def reshaped(move: Move, axes: Axes) -> Axes | None:
  """After a reshape; None where the axes do not come apart."""
  atoms: list[tuple[int, Digit | None]] = []
  for i in move.params.get('dimensions') or range(len(axes)):
    first, *rest = axes[i] or (None,)
    # Of a slice or a shard, the first digit takes what is left.
    left = move.old[i] // math.prod(digit.size for digit in rest)
    atoms += [(left, first), *((digit.size, digit) for digit in rest)]
  found = []
  for want in reversed(move.new):
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


def stretched(move: Move, axes: Axes) -> Axes:
  """Where axes of one entry become as long as a result's."""
  return tuple(a if n == m else () for a, n, m in zip(axes, *move[:2]))


def _broadcast(move: Move, axes: Axes) -> Axes:
  found: list[_Digits] = [()] * len(move.new)
  for i, j in enumerate(move.params['broadcast_dimensions']):
    found[j] = axes[i] if move.old[i] == move.new[j] else ()
  return tuple(found)


def _without(name: str) -> Callable[[Move, Axes], Axes]:
  """Without the axes that a parameter of the primitive names."""
  return lambda move, axes: tuple(
    axis for i, axis in enumerate(axes) if i not in move.params[name]
  )


def _all_gathered(move: Move, axes: Axes) -> Axes:
  new = move.params['all_gather_dimension']
  one_more = () if move.params['tiled'] else ((),)
  return (*axes[:new], *one_more, *axes[new:])


def starts(move: Move) -> Sequence[int]:
  """Where a slice, or a part of a split, begins along each axis."""
  split, zeros = move.params.get('axis'), (0,) * len(move.old)
  if split is None:  # Of a dynamic slice it is not known.
    return move.params.get('start_indices', zeros)
  begin = int(sum(move.params['sizes'][: move.out]))
  return [begin * (i == split) for i in range(len(zeros))]


def _sliced(move: Move, axes: Axes) -> Axes:
  found = []
  for digits, old, new, start in zip(axes, *move[:2], starts(move)):
    if digits and new < old:
      first, *rest = digits
      unit = math.prod(digit.size for digit in rest)
      entry = first.start + start // unit * first.stride
      digits = (first._replace(start=entry), *rest) if new > 1 else ()
    found.append(digits)
  return tuple(found)


def _gathered(move: Move, axes: Axes) -> Axes:
  """After an index; if it is known, it only permutes the entries of an axis."""
  numbers, sizes = move.params['dimension_numbers'], move.params['slice_sizes']
  batch = numbers.operand_batching_dims
  gone = {*numbers.collapsed_slice_dims, *batch}
  found: list[_Digits] = [()] * len(move.new)
  kept = [i for i in range(len(axes)) if i not in gone]
  for j, i in zip(numbers.offset_dims, kept):
    found[j] = axes[i] if sizes[i] > 1 or move.old[i] == 1 else ()
  rows = [j for j in range(len(found)) if j not in numbers.offset_dims]
  for i, row in zip(batch, numbers.start_indices_batching_dims):
    found[rows[row]] = axes[i]
  if move.known and len(rows) == len(gone) == 1:
    found[rows[0]] = axes[gone.pop()]
  return tuple(found)


# From the axes of an operand to those of a result; None where they are lost.
MOVES: dict[str, Callable[[Move, Axes], Axes | None]] = {
  'transpose': lambda m, axes: tuple(axes[i] for i in m.params['permutation']),
  'reshape': reshaped,
  'broadcast_in_dim': _broadcast,
  'squeeze': _without('dimensions'),
  **dict.fromkeys(('rev', 'pad'), lambda _, axes: axes),
  **dict.fromkeys(('slice', 'split', 'dynamic_slice'), _sliced),
  'gather': _gathered,
  'all_gather': _all_gathered,
  **dict.fromkeys(
    (f'reduce_{how}' for how in ('sum', 'max', 'min', 'prod', 'and', 'or')),
    _without('axes'),
  ),
  **dict.fromkeys(('argmax', 'argmin'), _without('axes')),
}
