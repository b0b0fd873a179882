# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Same-shape matrices as one batch, spread over a mesh axis; and back."""

from collections.abc import Callable, Sequence
import itertools
import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from optax.contrib import MuonDimensionNumbers

from optax_namo import _dimension_numbers as dims

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
  shard_over: str | tuple[str, ...] | None = None,
) -> list[jax.Array]:
  """Applies a function of matrix stacks to leaves, in chunks of one shape.

  Leaves whose matrix view has the same (m, n) up to transposition are
  concatenated to stacks ``(batch, m, n)`` with ``m <= n``. A stack holds at
  most 2**24 entries (64 MiB in float32) and 64 matrices on each device, but at
  least one matrix. A leaf that is larger itself goes through in a loop.

  Args:
    function: From ``(batch, m, n)`` to the same shape; it must commute with
      transposition.
    leaves: Arrays of any rank.
    numbers: Normalized dimension numbers, one for each leaf.
    shard_over: Mesh axes over which each stack is spread, or None.

  Returns:
    The results, in the leaves' shapes and dtypes. Empty leaves are unchanged.

  Raises:
    ValueError: ``function`` changes the shape, or ``shard_over`` is given and
      there is no mesh with those axes.
  """
  results = list(leaves)
  groups: dict[tuple[int, int, jnp.dtype], list[int]] = {}
  for i, (leaf, spec) in enumerate(zip(leaves, numbers)):
    _, *sides = dims.matrix_shape(spec, leaf.shape)
    if leaf.size:
      groups.setdefault((min(sides), max(sides), leaf.dtype), []).append(i)
  for (m, n, _), members in groups.items():
    most = max(1, min(CHUNK_MATRICES, CHUNK_ENTRIES // (m * n)))
    sizes = [dims.matrix_shape(numbers[i], leaves[i].shape)[0] for i in members]
    for chunk in _chunks(sizes, most):
      chosen = [members[k] for k in chunk]
      views = [_to_stack(leaves[i], numbers[i]) for i in chosen]
      stack = views[0] if len(views) == 1 else jnp.concatenate(views)
      stack = _apply(function, stack, most, shard_over)
      ends = list(itertools.accumulate(map(len, views)))
      for i, view, end in zip(chosen, views, ends):
        part = stack[end - len(view) : end]
        results[i] = _from_stack(part, numbers[i], leaves[i])
  return results


def _chunks(sizes: Sequence[int], most: int) -> list[list[int]]:
  """Consecutive indices whose sizes sum to at most ``most``, or one alone."""
  chunks: list[list[int]] = []
  total = most
  for i, size in enumerate(sizes):
    if total + size > most:
      chunks.append([])
      total = 0
    chunks[-1].append(i)
    total += size
  return chunks


def _apply(
  function: Orthogonalizer,
  stack: jax.Array,
  most: int,
  shard_over: str | tuple[str, ...] | None,
) -> jax.Array:
  """Calls ``function``, in a loop where the stack exceeds ``most`` matrices."""

  def checked(chunk):
    result = function(chunk)
    if result.shape != chunk.shape:
      raise ValueError(
        'the orthogonalizer must keep the shape of the stack (batch, m, n):'
        f' it turned {chunk.shape} into {result.shape}.'
      )
    return result

  batch = len(stack)
  if shard_over is not None:
    stack = _spread(stack, shard_over)
  loops = -(-len(stack) // most)
  if loops == 1:
    return checked(stack)[:batch]
  size = -(-len(stack) // loops)
  stack = jnp.pad(stack, ((0, loops * size - len(stack)), (0, 0), (0, 0)))
  chunks = stack.reshape(loops, size, *stack.shape[1:])
  return jax.lax.map(checked, chunks).reshape(stack.shape)[:batch]


def _spread(stack: jax.Array, shard_over: str | tuple[str, ...]) -> jax.Array:
  """Pads the batch to the devices along ``shard_over`` and shards it there."""
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    mesh = getattr(jax.typeof(stack).sharding, 'mesh', mesh)
  axes = (shard_over,) if isinstance(shard_over, str) else tuple(shard_over)
  if not set(axes) <= set(mesh.axis_names):
    raise ValueError(
      f'shard_over={shard_over!r} names axes of a mesh, but the mesh here has'
      f' axes {mesh.axis_names}. Call update inside `with'
      ' jax.set_mesh(mesh):` with a mesh that has them.'
    )
  types = dict(zip(mesh.axis_names, mesh.axis_types))
  if any(types[axis] != AxisType.Auto for axis in axes):
    raise ValueError(
      f'shard_over={shard_over!r} names axes of type'
      f' {[types[axis] for axis in axes]}; the stacks can be spread over Auto'
      ' axes only: jax.make_mesh(..., axis_types=(AxisType.Auto,) * rank).'
    )
  devices = math.prod(mesh.shape[axis] for axis in axes)
  padding = -len(stack) % devices
  stack = jnp.pad(stack, ((0, padding), (0, 0), (0, 0)))
  return jax.lax.with_sharding_constraint(
    stack, NamedSharding(mesh, P(axes, None, None))
  )


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
