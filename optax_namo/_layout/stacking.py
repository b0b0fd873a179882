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

# The most that goes through at once on each accelerator: 2**24 entries (64 MiB
# in float32), which fill any with work, and 64 matrices, so that temporary
# memory is some multiple of the parameters' where these are small. Where 64
# matrices have fewer than 2**20 entries (4 MiB), as many as have that.
CHUNK_ENTRIES = 2**24
CHUNK_MATRICES = 64
SMALL_CHUNK_ENTRIES = 2**20
# One matrix of 2**17 entries keeps the cores of a CPU at work, and is not
# copied into a stack.
LARGE_ON_CPUS = 2**17
# So many entries (20 MiB) take turns in one loop on CPUs. XLA there makes ready
# what it can, so each loop has its temporaries, and code of its own to compile.
TURNS_ON_CPUS = 5 * 2**20


def map_stacks(
  function: Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
) -> Sequence[jax.Array]:
  """Applies a function of matrix stacks to leaves, in chunks of one shape.

  Leaves whose matrices have the same (m, n) up to transposition go through
  ``function`` as stacks ``(batch, m, n)`` with ``m <= n``: it must keep the
  shape, and commute with transposition. A leaf that is larger than a chunk goes
  through in a loop. How large a chunk is depends on the platform that the
  program is made for.

  Results have the leaves' shapes and dtypes, on Explicit mesh axes also their
  shardings. Empty leaves are unchanged.
  """
  mapped = functools.partial(_mapped, function, numbers)
  on_any = lambda leaves: jax.lax.platform_dependent(
    *leaves,
    cpu=functools.partial(mapped, _most_on_cpus, TURNS_ON_CPUS),
    default=functools.partial(mapped, most_matrices, 0),
  )
  return sharding.automatic(on_any, leaves)


def most_matrices(entries: int) -> int:
  """How many matrices of so many entries a chunk holds on each accelerator."""
  small = max(CHUNK_MATRICES, SMALL_CHUNK_ENTRIES // entries)
  return max(1, min(small, CHUNK_ENTRIES // entries))


def _most_on_cpus(entries: int) -> int:
  return 1 if entries >= LARGE_ON_CPUS else SMALL_CHUNK_ENTRIES // entries


def _mapped(
  function: Orthogonalizer,
  numbers: Sequence[MuonDimensionNumbers],
  most_of: Callable[[int], int],
  turns: int,
  *leaves: jax.Array,
) -> Sequence[jax.Array]:
  """``map_stacks`` with ``most_of(m * n)`` matrices in a chunk at most.

  Chunks of one shape take turns in a loop, as many as have ``turns`` entries.
  """
  results = list(leaves)
  for (m, n, _), places in _groups(leaves, numbers).items():
    most = most_of(m * n)
    stacks = {i: _to_stack(leaves[i], numbers[i]) for i in places}
    lengths = {i: len(stack) for i, stack in stacks.items()}
    size = lambda chunk, of=lengths: sum(of[i] for i in chunk)
    for batch, group in itertools.groupby(_chunks(lengths, most), size):
      alike, many = list(group), max(1, turns // (batch * m * n))
      for chunks in (alike[k : k + many] for k in range(0, len(alike), many)):
        joined = [jnp.concatenate([stacks[i] for i in c]) for c in chunks]
        for chunk, stack in zip(chunks, _in_turn(function, joined, most)):
          parts = jax.lax.split(stack, [lengths[i] for i in chunk])
          for i, part in zip(chunk, parts):
            results[i] = _from_stack(part, numbers[i], leaves[i])
  return results


def _groups(
  leaves: Sequence[jax.Array], numbers: Sequence[MuonDimensionNumbers]
) -> dict[tuple[int, int, jnp.dtype], list[int]]:
  """The places of leaves by the (m, n) and the dtype of their matrices.

  Those that are transposed come last: XLA makes and uses together what is
  alike, and keeps the results of a loop until all are used.
  """
  groups: dict[tuple[int, int, jnp.dtype], list[int]] = {}
  shapes = [matrix_shape(n, x.shape) for x, n in zip(leaves, numbers)]
  is_tall = lambda i: shapes[i][1] > shapes[i][2]
  for i in sorted(range(len(leaves)), key=is_tall):
    _, *sides = shapes[i]
    if leaves[i].size:
      key = (min(sides), max(sides), leaves[i].dtype)
      groups.setdefault(key, []).append(i)
  return groups


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


def _in_turn(
  function: Orthogonalizer, stacks: Sequence[jax.Array], most: int
) -> Sequence[jax.Array]:
  """The function of stacks of one shape, ``most`` matrices at once."""
  if len(stacks) == 1:
    return [_in_place(function, stacks[0], most)]

  def turn(_, stacks):
    first, *others = stacks
    return *others, _in_place(function, first, most)

  return jax.lax.fori_loop(0, len(stacks), turn, tuple(stacks))


def _in_place(
  function: Orthogonalizer, stack: jax.Array, most: int
) -> jax.Array:
  """The function of a stack, in a loop over it where it is larger."""
  batch, *matrix = stack.shape
  loops = -(-batch // most)
  if loops == 1:
    return checked(function, stack)
  size = -(-batch // loops)
  filled = loops * size
  if filled > batch:
    log_fill(batch, matrix, filled, 1)
    stack = jnp.pad(stack, ((0, filled - batch), (0, 0), (0, 0)))

  def step(i, stack):
    part = jax.lax.dynamic_slice_in_dim(stack, i * size, size)
    part = checked(function, part)
    return jax.lax.dynamic_update_slice_in_dim(stack, part, i * size, axis=0)

  return jax.lax.fori_loop(0, loops, step, stack)[:batch]


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
