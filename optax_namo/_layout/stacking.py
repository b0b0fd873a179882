# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Same-shape matrices as one batch; and back."""

from collections.abc import Callable, Sequence
import functools
import itertools
import logging

import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import sharding
from optax_namo._layout.axes import axes_of
from optax_namo._layout.axes import matrix_shape

_LOG = logging.getLogger(__name__)

Orthogonalizer = Callable[[jax.Array], jax.Array]

# The most that a chunk holds on each device: 2**24 entries (64 MiB in float32),
# which fill any device with work, and 64 matrices, so that temporary memory is
# some multiple of the parameters' where these are small. Where 64 matrices have
# fewer than 2**20 entries (4 MiB), as many as have that.
CHUNK_ENTRIES = 2**24
CHUNK_MATRICES = 64
SMALL_CHUNK_ENTRIES = 2**20


def map_stacks(
  function: Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
) -> Sequence[jax.Array]:
  """Applies a function of matrix stacks to leaves, in chunks of one shape.

  Leaves whose matrices have the same (m, n) up to transposition go through
  ``function`` as stacks ``(batch, m, n)`` with ``m <= n``: it must keep the
  shape, and commute with transposition. A leaf that is larger than a chunk goes
  through in a loop.

  Results have the leaves' shapes and dtypes, on Explicit mesh axes also their
  shardings. Empty leaves are unchanged.
  """
  groups: dict[tuple[int, int, jnp.dtype], list[int]] = {}
  for i, (x, n) in enumerate(zip(leaves, numbers)):
    _, *sides = matrix_shape(n, x.shape)
    if x.size:
      groups.setdefault((min(sides), max(sides), x.dtype), []).append(i)

  def mapped(leaves):
    results = list(leaves)
    for (m, n, _), members in groups.items():
      most = most_matrices(m * n)
      stacks = {i: _to_stack(leaves[i], numbers[i]) for i in members}
      for chunk in _chunks({i: len(x) for i, x in stacks.items()}, most):
        parts = _apply(function, [stacks[i] for i in chunk], most)
        for i, part in zip(chunk, parts):
          results[i] = _from_stack(part, numbers[i], leaves[i])
    return results

  return sharding.automatic(mapped, leaves)


def most_matrices(entries: int) -> int:
  """How many matrices of so many entries a chunk holds on each device."""
  small = max(CHUNK_MATRICES, SMALL_CHUNK_ENTRIES // entries)
  return max(1, min(small, CHUNK_ENTRIES // entries))


def _chunks(lengths: dict[int, int], most: int) -> list[list[int]]:
  """The places of each chunk's leaves: ``most`` matrices at most, or one leaf.

  ``lengths`` are how many matrices a leaf holds, by its place.
  """
  chunks = [[i] for i, length in lengths.items() if length >= most]
  total = most
  for i, length in lengths.items():
    if length >= most:
      continue
    if total + length > most:
      chunks.append([])
      total = 0
    chunks[-1].append(i)
    total += length
  return chunks


def _apply(
  function: Orthogonalizer, stacks: Sequence[jax.Array], most: int
) -> list[jax.Array]:
  """The results for stacks (batch, m, n), in a loop where one is larger."""
  lengths = list(map(len, stacks))
  batch, matrix = sum(lengths), stacks[0].shape[1:]
  loops = -(-batch // most)
  filled = loops * -(-batch // loops)
  if filled > batch:
    log_fill(batch, matrix, filled, 1)
  stack = stacks[0] if len(stacks) == 1 else jnp.concatenate(stacks)
  if filled > batch:
    stack = jnp.pad(stack, ((0, filled - batch), (0, 0), (0, 0)))
  once = functools.partial(checked, function)
  if loops > 1:
    chunks = stack.reshape(loops, -1, *matrix)
    stack = jax.lax.map(once, chunks).reshape(-1, *matrix)
  else:
    stack = once(stack)
  ends = list(itertools.accumulate(lengths[:-1]))
  return jnp.split(stack[:batch], ends)


def checked(function: Orthogonalizer, stack: jax.Array) -> jax.Array:
  """``function(stack)``; ValueError where it changes the shape."""
  result = function(stack)
  if result.shape != stack.shape:
    raise ValueError(
      'the orthogonalizer must keep the shape of the stack (batch, m, n):'
      f' it turned {stack.shape} into {result.shape}.'
    )
  return result


def log_fill(
  batch: int, matrix: Sequence[int], filled: int, devices: int
) -> None:
  """Tells that zeros fill up, and what that costs."""
  _LOG.info(
    '%d matrices of %s filled up to %d for %d devices: %.2f times the work.',
    batch, tuple(matrix), filled, devices, filled / batch,
  )  # fmt: skip


def _to_stack(x: jax.Array, numbers: MuonDimensionNumbers) -> jax.Array:
  """The leaf as ``(batch, m, n)``, transposed where m would exceed n."""
  axes = axes_of(numbers, x.ndim)
  stack = x.transpose(axes.batch + axes.matrix)
  stack = stack.reshape(matrix_shape(numbers, x.shape))
  return stack.mT if stack.shape[1] > stack.shape[2] else stack


def _from_stack(
  stack: jax.Array, numbers: MuonDimensionNumbers, like: jax.Array
) -> jax.Array:
  """The inverse of ``_to_stack`` for a leaf of ``like``'s shape and dtype."""
  axes = axes_of(numbers, like.ndim)
  order = axes.batch + axes.matrix
  if stack.shape != matrix_shape(numbers, like.shape):
    stack = stack.mT
  x = stack.reshape([like.shape[i] for i in order])
  back = [order.index(i) for i in range(like.ndim)]
  return x.transpose(back).astype(like.dtype)
