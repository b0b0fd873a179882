# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Same-shape matrices as one batch, spread over a mesh axis; and back."""

from collections.abc import Callable, Hashable, Sequence
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

# A chunk's bounds, on each device. 2**24 entries (64 MiB in float32) fill any
# device with work; 64 matrices hold the temporary memory to a multiple of the
# parameters' where these are small. Of matrices so small that 64 of them are
# less than 2**20 entries (4 MiB), as many as are that.
CHUNK_ENTRIES = 2**24
CHUNK_MATRICES = 64
SMALL_CHUNK_ENTRIES = 2**20


def map_stacks(
  function: Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
  shard_over: sharding.MeshAxes | None = None,
) -> Sequence[jax.Array]:
  """Applies a function of matrix stacks to leaves, in chunks of one shape.

  Leaves whose matrix view has the same (m, n) up to transposition are
  concatenated to stacks ``(batch, m, n)`` with ``m <= n``. On each device a
  stack holds at most 2**24 entries (64 MiB in float32) and 64 matrices, more
  where they are smaller than 2**20 entries together, but at least one matrix.
  A leaf that is larger itself goes through in a loop.

  With ``shard_over`` every device gets the same number of whole matrices of a
  stack, filled up with zeros where they do not divide. Leaves of one shape and
  layout are exchanged together, once before ``function`` and once after it.

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
  sizes = [matrix_shape(n, x.shape) for x, n in zip(leaves, numbers)]
  # Leaves that are alike here lie alike, as far as anyone can see: on Auto axes
  # only the compiler knows. Without an exchange it does not matter.
  layouts = [
    (x.shape, n, jax.typeof(x).sharding) if shard_over else None
    for x, n in zip(leaves, numbers)
  ]
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
        devices = sharding.devices_along(leaves[members[0]], shard_over)
      most = devices * _most_matrices(m * n)
      candidates = [(i, sizes[i][0], layouts[i]) for i in members]
      for chunk in _chunks(candidates, most, devices):
        views = [[_to_stack(leaves[i], numbers[i]) for i in of] for of in chunk]
        stacks = _apply(function, views, most, devices, shard_over)
        for members_of, parts in zip(chunk, stacks):
          for i, part in zip(members_of, parts):
            results[i] = _from_stack(part, numbers[i], leaves[i])
    return results

  return sharding.automatic(mapped, leaves)


def _most_matrices(entries: int) -> int:
  """How many matrices of so many entries a chunk holds on each device."""
  small = max(CHUNK_MATRICES, SMALL_CHUNK_ENTRIES // entries)
  return max(1, min(small, CHUNK_ENTRIES // entries))


def _chunks(
  leaves: Sequence[tuple[int, int, Hashable]], most: int, devices: int
) -> list[list[list[int]]]:
  """Which leaves go together: with at most ``most`` matrices, or one alone.

  A leaf that gives every one of several devices whole matrices is alone too: it
  may lie so already, and a concatenation would move it.

  Args:
    leaves: Each leaf's index, how many matrices it holds, and how it lies.
    most: The bound.
    devices: Over how many devices a stack is spread.

  Returns:
    The leaves of each chunk, those that lie alike in one list.
  """
  alone: list[list[list[int]]] = []
  alike: dict[Hashable, list[tuple[int, int]]] = {}
  for i, size, layout in leaves:
    if size >= most or devices > 1 and size % devices == 0:
      alone.append([[i]])
    else:
      alike.setdefault(layout, []).append((i, size))
  chunks: list[dict[Hashable, list[int]]] = []
  total = most
  for layout, members in alike.items():
    for i, size in members:
      if total + size > most:
        chunks.append({})
        total = 0
      chunks[-1].setdefault(layout, []).append(i)
      total += size
  return alone + [list(chunk.values()) for chunk in chunks]


def _apply(
  function: Orthogonalizer,
  views: Sequence[Sequence[jax.Array]],
  most: int,
  devices: int,
  shard_over: sharding.MeshAxes | None,
) -> list[list[jax.Array]]:
  """Calls ``function`` on the views as one stack, or on one of them in a loop.

  Args:
    function: See ``map_stacks``.
    views: Stacks (batch, m, n), those that lie alike in one list.
    most: How many matrices a call takes.
    devices: Over how many devices a stack is spread.
    shard_over: See ``map_stacks``.

  Returns:
    The results as ``views`` are.
  """

  def once(stack):
    if shard_over is not None:
      stack = sharding.spread(stack, shard_over)
    result = function(stack)
    if result.shape != stack.shape:
      raise ValueError(
        'the orthogonalizer must keep the shape of the stack (batch, m, n):'
        f' it turned {stack.shape} into {result.shape}.'
      )
    return result

  lengths = [sum(map(len, x)) for x in views]
  batch, matrix = sum(lengths), views[0][0].shape[1:]
  loops = -(-batch // most)
  filled = loops * devices * -(-batch // (loops * devices))
  if filled > batch:
    _LOG.info(
      '%d matrices of %s filled up to %d for %d devices: %.2f times the work.',
      batch, matrix, filled, devices, filled / batch,
    )  # fmt: skip

  # Held so, leaves are concatenated as they lie and the stack is exchanged, and
  # results are exchanged and then cut; the compiler would exchange each leaf.
  # Leaves that are each alone would be exchanged with the filling.
  hold = lambda x: x
  if shard_over is not None and max(map(len, views)) > 1:
    hold = sharding.undivided
  stacks = [hold(_join(x)) for x in views]
  shares = devices if all(n % devices == 0 for n in lengths) else 1
  stack = _join(stacks, shares)
  if filled > batch:
    stack = jnp.pad(stack, ((0, filled - batch), (0, 0), (0, 0)))
  if loops > 1:
    chunks = stack.reshape(loops, -1, *matrix)
    stack = jax.lax.map(once, chunks).reshape(-1, *matrix)
  else:
    stack = once(stack)
  if shares < devices:
    stack = hold(stack)
  return [
    _cut(hold(x), list(map(len, of)))
    for x, of in zip(_cut(stack[:batch], lengths, shares), views)
  ]


def _join(stacks: Sequence[jax.Array], shares: int = 1) -> jax.Array:
  """One stack; the first share of it holds the first share of each, and so on.

  Args:
    stacks: (batch, m, n) each; ``shares`` divides every batch.
    shares: The devices that hold whole matrices of each stack.
  """
  if len(stacks) == 1:
    return stacks[0]
  matrix = stacks[0].shape[1:]
  split = [x.reshape(shares, -1, *matrix) for x in stacks]
  return jnp.concatenate(split, axis=1).reshape(-1, *matrix)


def _cut(
  stack: jax.Array, lengths: Sequence[int], shares: int = 1
) -> list[jax.Array]:
  """The inverse of ``_join`` of stacks of these lengths."""
  if len(lengths) == 1:
    return [stack]
  matrix = stack.shape[1:]
  ends = list(itertools.accumulate(n // shares for n in lengths))
  parts = jnp.split(stack.reshape(shares, -1, *matrix), ends[:-1], axis=1)
  return [x.reshape(-1, *matrix) for x in parts]


def _to_stack(x: jax.Array, numbers: MuonDimensionNumbers) -> jax.Array:
  """The leaf as ``(batch, m, n)``, transposed where m would exceed n."""
  axes = axes_of(numbers, x.ndim)
  batch, m, n = matrix_shape(numbers, x.shape)
  stack = x.transpose(axes.batch + axes.matrix).reshape(batch, m, n)
  return stack.mT if m > n else stack


def _from_stack(
  stack: jax.Array, numbers: MuonDimensionNumbers, like: jax.Array
) -> jax.Array:
  """The inverse of ``_to_stack`` for a leaf of ``like``'s shape and dtype."""
  axes = axes_of(numbers, like.ndim)
  _, m, n = matrix_shape(numbers, like.shape)
  order = axes.batch + axes.matrix
  x = (stack.mT if m > n else stack).reshape([like.shape[i] for i in order])
  back = sorted(range(like.ndim), key=order.__getitem__)
  return x.transpose(back).astype(like.dtype)
