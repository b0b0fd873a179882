# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the axes of a parameter are in a value computed from it.

An axis of a value may be part of an axis of the parameter, or several of them.
So the index along a parameter's axis is written in *digits*, as hours, minutes
and seconds write a time: a reshape splits digits and puts them side by side.
"""

from collections import defaultdict
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

  @property
  def size(self) -> int:
    """The number of digits."""
    return sum(map(len, self.axes)) + len(self.inner)

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
  views = tuple(dict.fromkeys(views))
  most: dict[Any, int] = defaultdict(int)
  for view in views:
    key = view.leaf, view.is_output
    most[key] = max(most[key], view.size)
  return tuple(x for x in views if x.size == most[x.leaf, x.is_output])


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
  view: View, old: _Shape, new: _Shape, order: Any = None
) -> Axes | None:
  """After a reshape; None where the axes do not come apart."""
  axes = view.axes
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


def placed(
  view: View,
  places: Iterable[tuple[int, int]],
  old: _Shape,
  new: _Shape,
  starts: Sequence[int] | None = None,
  cut: Callable[[int, Digit, int, int], None] | None = None,
) -> Axes:
  """After a primitive that puts axes elsewhere, broadcasts, selects or slices.

  Args:
    view: Of the operand.
    places: Each axis that stays, and where it is in the result. It is lost if
      one of its two sizes is 1.
    old: The operand's shape.
    new: The result's.
    starts: Where slices begin, if it is known.
    cut: Is told of them: the leaf, a digit, and between which values.
  """
  found: list[_Digits] = [()] * len(new)
  for i, j in places:
    digits, n, m = view.axes[i], old[i], new[j]
    if cut and starts and digits and m < n:
      first, *rest = digits
      unit = math.prod(digit.size for digit in rest)
      if not (starts[i] % unit or m % unit):  # Else it is no one piece.
        cut(view.leaf, first, starts[i] // unit, (starts[i] + m) // unit)
      start = first.start + starts[i] // unit * first.stride
      digits = (first._replace(start=start), *rest)
    found[j] = digits if n == m or 1 not in (n, m) else ()
  return tuple(found)
