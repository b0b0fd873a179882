# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the axes of a parameter are in a value computed from it.

An axis of a value may be part of an axis of the parameter, or several of them.
So the index along a parameter's axis is written in *digits*, as hours, minutes
and seconds write a time: a reshape splits digits and puts them side by side.
"""

import math
from typing import NamedTuple

from optax.contrib import MuonDimensionNumbers

from optax_namo._routing import dimension_numbers as dims

_Shape = tuple[int, ...]


class Digit(NamedTuple):
  """A digit of the index along an axis of a parameter.

  Attributes:
    axis: The axis of the parameter.
    size: How many values the digit has.
    stride: What one step of it is, in entries along the axis.
    start: The entry that the value begins at, where it holds a slice.
  """

  axis: int
  size: int
  stride: int
  start: int = 0


# The digits along each axis of a value, the most significant first; none along
# an axis that is not the parameter's.
Axes = tuple[tuple[Digit, ...], ...]


class View(NamedTuple):
  """A value as a view of a parameter.

  Attributes:
    leaf: Which parameter.
    axes: The value's axes. What is missing was selected: a batch axis.
    inner: The digits contracted with other parameters, or with constants.
    looked: Whether an index from the data has selected.
  """

  leaf: int
  axes: Axes
  inner: tuple[Digit, ...] = ()
  looked: bool = False


def whole(leaf: int, shape: _Shape) -> View:
  """The parameter itself."""
  return View(leaf, tuple((Digit(i, n, 1),) for i, n in enumerate(shape)))


def reshaped(axes: Axes, old: _Shape, new: _Shape) -> Axes | None:
  """The axes after a reshape, or None where they do not come apart."""
  atoms: list[tuple[int, Digit | None]] = []
  for size, digits in zip(old, axes):
    # Of a slice or a shard, the first digit takes what is left.
    rest = size // math.prod(digit.size for digit in digits[1:])
    atoms += zip((rest, *(one.size for one in digits[1:])), digits or (None,))
  found = []
  for want in reversed(new):
    group: list[Digit] = []
    while want > 1:
      if not atoms:
        return None
      size, digit = atoms.pop()
      if size and want % size == 0:
        want //= size
      elif size % want == 0:
        atoms.append((size // want, digit and _above(digit, want)))
        digit = digit and Digit(digit.axis, want, digit.stride)
        want = 1
      else:
        return None
      if digit and size > 1:
        group.insert(0, digit)
    found.append(tuple(group))
  return tuple(found[::-1])


def _above(digit: Digit, size: int) -> Digit:
  """The digit without its last ``size`` values, which are one of their own."""
  above = -(-digit.size // size)
  return Digit(digit.axis, above, digit.stride * size, digit.start)


def merged(views: tuple[View, ...]) -> tuple[View, ...]:
  """All views, but for those that another of the same parameter contains."""
  if len(views) < 2:
    return views
  most: dict[int, int] = {}
  for view in views:
    most[view.leaf] = max(most.get(view.leaf, 0), _count(view))
  return tuple(
    view for view in dict.fromkeys(views) if _count(view) == most[view.leaf]
  )


def _count(view: View) -> int:
  return sum(map(len, view.axes)) + len(view.inner)


def spec(
  shape: _Shape, contracted: tuple[Digit, ...], free: tuple[Digit, ...]
) -> MuonDimensionNumbers | dims.SplitMatrices | None:
  """The matrices of a parameter whose digits are used so; None if none fit.

  Digits that are neither are a batch. Where they lead an axis, it is split.
  """
  axes: tuple[list[int], list[int]] = [], []
  parts = {}
  for axis, size in enumerate(shape):
    digits = [
      [one for one in group if one.axis == axis] for group in (contracted, free)
    ]
    if not any(digits) or size == 1:
      continue
    if all(digits):
      return None
    group = 0 if digits[0] else 1
    length = math.prod({one.stride: one.size for one in digits[group]}.values())
    if length < size:
      if size % length or max(one.stride for one in digits[group]) >= length:
        return None
      parts[axis] = (length,) * (size // length)
    axes[group].append(axis)
  if not all(axes) or len(parts) > 1:
    return None
  numbers = MuonDimensionNumbers(*map(tuple, axes))
  for axis, sizes in parts.items():
    return dims.SplitMatrices(numbers, axis, sizes)
  return numbers
