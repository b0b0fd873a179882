# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the axes of a parameter are in a value computed from it.

An axis of a value may be part of an axis of the parameter, or several of them.
So the index along a parameter's axis is written in *digits*, as hours, minutes
and seconds write a time: a reshape splits digits and puts them side by side.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any, NamedTuple

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


Eqn = Any  # jax.extend.core.JaxprEqn, whose avals have no shape for mypy.

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


# From the axes of an operand to those of a result, given which result it is;
# None where they cannot be followed.
Move = Callable[..., Axes | None]


def whole(leaf: int, shape: _Shape) -> View:
  """The parameter itself."""
  return View(leaf, tuple((Digit(i, n, 1),) for i, n in enumerate(shape)))


def reshaped(
  axes: Sequence[tuple[Digit, ...]], old: Sequence[int], new: Sequence[int]
) -> Axes | None:
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


def stretched(axes: Axes, old: _Shape, new: _Shape) -> Axes:
  """The axes where those of one entry become as long as a result's."""
  return tuple(axis if i == j else () for axis, i, j in zip(axes, old, new))


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


# Primitives that move entries: from the axes of a view to those of its result.


def _transposed(eqn: Eqn, axes: Axes, out: int) -> Axes:
  return tuple(axes[i] for i in eqn.params['permutation'])


def _reshaped(eqn: Eqn, axes: Axes, out: int) -> Axes | None:
  old, new = shapes(eqn)
  order = eqn.params['dimensions'] or range(len(old))
  return reshaped([axes[i] for i in order], [old[i] for i in order], new)


def _broadcast(eqn: Eqn, axes: Axes, out: int) -> Axes:
  old, new = shapes(eqn)
  found: list[tuple[Digit, ...]] = [()] * len(new)
  for i, j in enumerate(eqn.params['broadcast_dimensions']):
    found[j] = axes[i] if old[i] == new[j] else ()
  return tuple(found)


def _without(name: str) -> Move:
  """Without the axes that a parameter of the primitive names."""
  return lambda eqn, axes, out: tuple(
    axis for i, axis in enumerate(axes) if i not in eqn.params[name]
  )


def _gathered_shards(eqn: Eqn, axes: Axes, out: int) -> Axes:
  if eqn.params['tiled']:
    return axes
  new = eqn.params['all_gather_dimension']
  return (*axes[:new], (), *axes[new:])


def window(eqn: Eqn, out: int) -> Sequence[tuple[int, int]]:
  """Where a slice begins and ends along each axis of its operand."""
  (old, new), starts = shapes(eqn, out), eqn.params.get('start_indices')
  if starts is None:
    begin = int(sum(eqn.params['sizes'][:out]))
    starts = [begin * (i == eqn.params['axis']) for i in range(len(old))]
  return [(start, start + size) for start, size in zip(starts, new)]


def _sliced(eqn: Eqn, axes: Axes, out: int) -> Axes:
  found, (old, _) = [], shapes(eqn)
  for digits, dim, (start, end) in zip(axes, old, window(eqn, out)):
    if digits and end - start < dim:
      first, *rest = digits
      unit = math.prod(digit.size for digit in rest)
      entry = first.start + start // unit * first.stride
      digits = (first._replace(start=entry), *rest) if end - start > 1 else ()
    found.append(digits)
  return tuple(found)


def _dynamic_slice(eqn: Eqn, axes: Axes, out: int) -> Axes:
  old, new = shapes(eqn)
  return tuple(
    axis if n == m or m > 1 else () for axis, n, m in zip(axes, old, new)
  )


def gathered(eqn: Eqn, axes: Axes, out: int, known: bool = False) -> Axes:
  """After an index; if it is known, it only permutes the entries of an axis."""
  numbers, sizes = eqn.params['dimension_numbers'], eqn.params['slice_sizes']
  old, new = shapes(eqn)
  found: list[tuple[Digit, ...]] = [()] * len(new)
  gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
  kept = [i for i in range(len(old)) if i not in gone]
  for j, i in zip(numbers.offset_dims, kept):
    found[j] = axes[i] if sizes[i] > 1 or old[i] == 1 else ()
  rows = [j for j in range(len(new)) if j not in numbers.offset_dims]
  for i, row in zip(
    numbers.operand_batching_dims, numbers.start_indices_batching_dims
  ):
    found[rows[row]] = axes[i]
  if known and len(rows) == len(gone) == 1:
    found[rows[0]] = axes[gone.pop()]
  return tuple(found)


def shapes(eqn: Eqn, out: int = 0) -> tuple[_Shape, _Shape]:
  """The shapes of the first operand and of a result."""
  return eqn.invars[0].aval.shape, eqn.outvars[out].aval.shape


def _same(eqn: Eqn, axes: Axes, out: int) -> Axes:
  return axes


_REDUCED = _without('axes')
MOVES: dict[str, Move] = {
  'transpose': _transposed,
  'reshape': _reshaped,
  'broadcast_in_dim': _broadcast,
  'squeeze': _without('dimensions'),
  'rev': _same,
  'pad': _same,
  'slice': _sliced,
  'split': _sliced,
  'dynamic_slice': _dynamic_slice,
  'all_gather': _gathered_shards,
  'reduce_sum': _REDUCED,
  'reduce_max': _REDUCED,
  'reduce_min': _REDUCED,
  'reduce_prod': _REDUCED,
  'reduce_and': _REDUCED,
  'reduce_or': _REDUCED,
  'argmax': _REDUCED,
  'argmin': _REDUCED,
}
