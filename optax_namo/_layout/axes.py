# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The axes of a leaf by their role in its matrices."""

from collections.abc import Sequence
import functools
import math
from typing import Literal, NamedTuple

from optax.contrib import MuonDimensionNumbers

# Along which side of a matrix NAMO-D's scales differ.
Columns = Literal['input', 'output']


class Axes(NamedTuple):
  """The axes of a leaf by their role, sorted out of its dimension numbers."""

  batch: tuple[int, ...]
  input: tuple[int, ...]
  output: tuple[int, ...]

  @property
  def matrix(self) -> tuple[int, ...]:
    return self.input + self.output

  def shared(self, columns: Columns | None) -> tuple[int, ...]:
    """The axes along which one scale is shared, and norms are taken."""
    if columns is None:
      return self.matrix
    return self.output if columns == 'input' else self.input


@functools.cache
def axes_of(numbers: MuonDimensionNumbers, ndim: int) -> Axes:
  """Reads ``numbers`` as ``canonical`` left them; the rest is batch."""
  inputs, outputs = numbers
  rest = set(range(ndim)) - set(inputs) - set(outputs)
  return Axes(tuple(sorted(rest)), tuple(inputs), tuple(outputs))


def is_wide(shape: Sequence[int]) -> bool:
  """Whether more than one axis is above 1: else a leaf is a vector."""
  return sum(size > 1 for size in shape) > 1


def matrix_shape(
  numbers: MuonDimensionNumbers, shape: Sequence[int]
) -> tuple[int, int, int]:
  """The matrix view ``(batch, in, out)`` of a leaf of the given shape."""
  batch, inputs, outputs = (
    math.prod(shape[axis] for axis in group)
    for group in axes_of(numbers, len(shape))
  )
  return batch, inputs, outputs


def with_ones(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
  """The shape of a sum over ``axes`` that are kept with size 1."""
  return tuple(1 if i in axes else size for i, size in enumerate(shape))
