# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Same-shape matrices as one batch, spread over a mesh axis; and back."""

from collections.abc import Callable, Sequence
import itertools
import logging

import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

from optax_namo import _dimension_numbers as dims
from optax_namo import _sharding

_LOG = logging.getLogger(__name__)

Orthogonalizer = Callable[[jax.Array], jax.Array]

# A chunk's bounds, on each device. 2**24 entries (64 MiB in float32) fill any
# device with work; 64 matrices hold the temporary memory to a multiple of the
# parameters' where these are small.
CHUNK_ENTRIES = 2**24
CHUNK_MATRICES = 64


def map_stacks(
  function: Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
  shard_over: _sharding.MeshAxes | None = None,
) -> Sequence[jax.Array]:
  """Applies a function of matrix stacks to leaves, in chunks of one shape.

  Leaves whose matrix view has the same (m, n) up to transposition are
  concatenated to stacks ``(batch, m, n)`` with ``m <= n``. A stack holds at
  most 2**24 entries (64 MiB in float32) and 64 matrices on each device, but at
  least one matrix. A leaf that is larger itself goes through in a loop.

  With ``shard_over`` every device gets the same number of whole matrices of a
  stack, filled up with zeros where they do not divide.

  Args:
    function: From ``(batch, m, n)`` to the same shape; it must commute with
      transposition.
    leaves: Arrays of any rank.
    numbers: Canonical dimension numbers, one for each leaf.
    shard_over: Mesh axes over which each stack is spread, or None.

  Returns:
    The results, in the leaves' shapes and dtypes, on Explicit mesh axes also in
    their shardings. Empty leaves are unchanged.

  Raises:
    ValueError: ``function`` changes the shape, or ``shard_over`` is given and
      there is no mesh with those axes.
  """
  sizes = [dims.matrix_shape(n, x.shape) for x, n in zip(leaves, numbers)]
  groups: dict[tuple[int, int, jnp.dtype], list[int]] = {}
  for i, (_, *sides) in enumerate(sizes):
    if leaves[i].size:
      key = (min(sides), max(sides), leaves[i].dtype)
      groups.setdefault(key, []).append(i)

  def mapped(leaves):
    results = list(leaves)
    for (m, n, _), members in groups.items():
      devices = 1
      if shard_over is not None:
        devices = _sharding.devices_along(leaves[members[0]], shard_over)
      most = devices * max(1, min(CHUNK_MATRICES, CHUNK_ENTRIES // (m * n)))
      for chunk in _chunks([(i, sizes[i][0]) for i in members], most, devices):
        views = [_to_stack(leaves[i], numbers[i]) for i in chunk]
        stack = views[0] if len(views) == 1 else jnp.concatenate(views)
        stack = _apply(function, stack, most, devices, shard_over)
        ends = itertools.accumulate(map(len, views))
        for i, view, end in zip(chunk, views, ends):
          part = stack[end - len(view) : end]
          results[i] = _from_stack(part, numbers[i], leaves[i])
    return results

  return _sharding.automatic(mapped, leaves)


def _chunks(
  sizes: Sequence[tuple[int, int]], most: int, devices: int
) -> list[list[int]]:
  """Which leaves go together: with at most ``most`` matrices, or one alone.

  A leaf that gives every one of several devices whole matrices is alone too: it
  may lie so already, and a concatenation would move it.

  Args:
    sizes: Each leaf's index and how many matrices it holds.
    most: The bound.
    devices: Over how many devices a stack is spread.
  """
  chunks: list[list[int]] = []
  together: list[int] = []
  total = 0
  for i, size in sizes:
    if size >= most or devices > 1 and size % devices == 0:
      chunks.append([i])
      continue
    if total + size > most:
      chunks.append(together)
      together, total = [], 0
    together.append(i)
    total += size
  return chunks + [together] if together else chunks


def _apply(
  function: Orthogonalizer,
  stack: jax.Array,
  most: int,
  devices: int,
  shard_over: _sharding.MeshAxes | None,
) -> jax.Array:
  """Calls ``function``, in a loop where the stack exceeds ``most`` matrices."""

  def checked(chunk):
    if shard_over is not None:
      chunk = _sharding.spread(chunk, shard_over)
    result = function(chunk)
    if result.shape != chunk.shape:
      raise ValueError(
        'the orthogonalizer must keep the shape of the stack (batch, m, n):'
        f' it turned {chunk.shape} into {result.shape}.'
      )
    return result

  batch, *matrix = stack.shape
  loops = -(-batch // most)
  size = devices * -(-batch // (loops * devices))
  padding = loops * size - batch
  if padding:
    _LOG.info(
      '%d matrices of %s filled up to %d for %d devices: %.2f times the work.',
      batch, tuple(matrix), loops * size, devices, (batch + padding) / batch,
    )  # fmt: skip
    stack = jnp.pad(stack, ((0, padding), (0, 0), (0, 0)))
  if loops == 1:
    return checked(stack)[:batch]
  chunks = stack.reshape(loops, size, *matrix)
  return jax.lax.map(checked, chunks).reshape(-1, *matrix)[:batch]


def _to_stack(x: jax.Array, numbers: MuonDimensionNumbers) -> jax.Array:
  """The leaf as ``(batch, m, n)``, transposed where m would exceed n."""
  axes = dims.axes_of(numbers, x.ndim)
  batch, m, n = dims.matrix_shape(numbers, x.shape)
  stack = x.transpose(axes.batch + axes.matrix).reshape(batch, m, n)
  return stack.mT if m > n else stack


def _from_stack(
  stack: jax.Array, numbers: MuonDimensionNumbers, like: jax.Array
) -> jax.Array:
  """The inverse of ``_to_stack`` for a leaf of ``like``'s shape and dtype."""
  axes = dims.axes_of(numbers, like.ndim)
  _, m, n = dims.matrix_shape(numbers, like.shape)
  order = axes.batch + axes.matrix
  x = (stack.mT if m > n else stack).reshape([like.shape[i] for i in order])
  back = sorted(range(like.ndim), key=order.__getitem__)
  return x.transpose(back).astype(like.dtype)
