# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Same-shape matrices as one batch, spread over a mesh axis; and back."""

from collections.abc import Callable, Hashable, Sequence
import itertools
import logging
from typing import NamedTuple

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


class _Leaf(NamedTuple):
  """A leaf by its place in the list; leaves of one layout are sharded alike."""

  place: int
  batch: int
  layout: Hashable


def map_stacks(
  function: Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
  shard_over: sharding.MeshAxes | None = None,
) -> Sequence[jax.Array]:
  """Applies a function of matrix stacks to leaves, in chunks of one shape.

  Leaves whose matrices have the same (m, n) up to transposition go through
  ``function`` as stacks ``(batch, m, n)`` with ``m <= n``: it must keep the
  shape, and commute with transposition. A leaf that is larger than a chunk goes
  through in a loop. With ``shard_over`` every device gets the same number of
  whole matrices of a stack, filled up with zeros where they do not divide.

  Results have the leaves' shapes and dtypes, on Explicit mesh axes also their
  shardings. Empty leaves are unchanged.
  """
  groups: dict[tuple[int, int, jnp.dtype], list[_Leaf]] = {}
  for i, (x, n) in enumerate(zip(leaves, numbers)):
    batch, *sides = matrix_shape(n, x.shape)
    # On Auto axes only the compiler knows shardings: leaves of one shape and
    # role are likely alike. Without shard_over nothing is exchanged.
    layout = (x.shape, n, jax.typeof(x).sharding) if shard_over else None
    if x.size:
      key = (min(sides), max(sides), x.dtype)
      groups.setdefault(key, []).append(_Leaf(i, batch, layout))

  def mapped(leaves):
    results = list(leaves)
    for (m, n, _), members in groups.items():
      devices = 1
      if shard_over is not None:
        devices = sharding.devices_along(leaves[members[0].place], shard_over)
      most = devices * _most_matrices(m * n)
      for chunk in _chunks(members, most, devices):
        views = [[_to_stack(leaves[i], numbers[i]) for i in of] for of in chunk]
        parts = _apply(function, views, most, devices, shard_over)
        for i, part in zip(itertools.chain(*chunk), parts):
          results[i] = _from_stack(part, numbers[i], leaves[i])
    return results

  return sharding.automatic(mapped, leaves)


def _most_matrices(entries: int) -> int:
  """How many matrices of so many entries a chunk holds on each device."""
  small = max(CHUNK_MATRICES, SMALL_CHUNK_ENTRIES // entries)
  return max(1, min(small, CHUNK_ENTRIES // entries))


def _chunks(
  leaves: Sequence[_Leaf], most: int, devices: int
) -> list[list[list[int]]]:
  """The places of each chunk's leaves, those of one layout in one list.

  A chunk has at most ``most`` matrices, or is one leaf. So is a leaf that gives
  each of several devices whole matrices: it may lie so already, and a
  concatenation would move it.
  """
  alone: list[list[list[int]]] = []
  alike: dict[Hashable, list[_Leaf]] = {}
  for leaf in leaves:
    if leaf.batch >= most or devices > 1 and leaf.batch % devices == 0:
      alone.append([[leaf.place]])
    else:
      alike.setdefault(leaf.layout, []).append(leaf)
  chunks: list[dict[Hashable, list[int]]] = []
  total = most
  for leaf in itertools.chain(*alike.values()):
    if total + leaf.batch > most:
      chunks.append({})
      total = 0
    chunks[-1].setdefault(leaf.layout, []).append(leaf.place)
    total += leaf.batch
  return alone + [list(chunk.values()) for chunk in chunks]


def _apply(
  function: Orthogonalizer,
  views: Sequence[Sequence[jax.Array]],
  most: int,
  devices: int,
  shard_over: sharding.MeshAxes | None,
) -> list[jax.Array]:
  """The results for all views, by one call, or in a loop where one is larger.

  ``views`` are stacks (batch, m, n), those of leaves of one layout in one list.
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

  lengths = [sum(map(len, alike)) for alike in views]
  batch, matrix = sum(lengths), views[0][0].shape[1:]
  loops = -(-batch // most)
  filled = loops * devices * -(-batch // (loops * devices))
  if filled > batch:
    _LOG.info(
      '%d matrices of %s filled up to %d for %d devices: %.2f times the work.',
      batch, matrix, filled, devices, filled / batch,
    )  # fmt: skip

  # One exchange between devices for all leaves of a layout: a stack whose first
  # axis is not sharded is concatenated where they lie and then exchanged, and
  # its results are exchanged and then cut. The compiler would exchange each
  # leaf. If each has a layout of its own, nothing is won, and the filling would
  # be exchanged as well.
  hold = lambda x: x
  if shard_over is not None and max(map(len, views)) > 1:
    hold = sharding.undivided
  stacks = [hold(_join(alike)) for alike in views]
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
  results = _cut(stack[:batch], lengths, shares)
  return [
    result
    for x, alike in zip(results, views)
    for result in _cut(hold(x), list(map(len, alike)))
  ]


def _join(stacks: Sequence[jax.Array], shares: int = 1) -> jax.Array:
  """The stacks as one: first the first share of each, then the second, ...

  Over so many devices the stacks and the whole are sharded alike.
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
