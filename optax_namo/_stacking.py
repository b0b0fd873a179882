# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Same-shape matrices as one batch, spread over a mesh axis; and back."""

from collections.abc import Callable, Sequence
import math

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from optax.contrib import MuonDimensionNumbers

from optax_namo import _dimension_numbers as dims

Orthogonalizer = Callable[[jax.Array], jax.Array]


def map_stacks(
  function: Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
  shard_over: str | tuple[str, ...] | None = None,
) -> list[jax.Array]:
  """Applies a function of matrix stacks to leaves, one batch for each shape.

  Leaves whose matrix view has the same (m, n) up to transposition are
  concatenated to one stack ``(batch, m, n)`` with ``m <= n``: one call, and
  one copy of the compiled iteration, for each distinct shape and dtype.

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
  for members in groups.values():
    views = [_to_stack(leaves[i], numbers[i]) for i in members]
    stack = views[0] if len(views) == 1 else jnp.concatenate(views)
    stack = _apply(function, stack, shard_over)
    start = 0
    for i, view in zip(members, views):
      part = stack[start : start + len(view)]
      results[i] = _from_stack(part, numbers[i], leaves[i])
      start += len(view)
  return results


def _apply(
  function: Orthogonalizer,
  stack: jax.Array,
  shard_over: str | tuple[str, ...] | None,
) -> jax.Array:
  """Calls ``function``, spreading the stack's batch axis over the mesh."""
  batch = len(stack)
  if shard_over is not None:
    stack = _spread(stack, shard_over)
  result = function(stack)
  if result.shape != stack.shape:
    raise ValueError(
      'the orthogonalizer must keep the shape of the stack (batch, m, n):'
      f' it turned {stack.shape} into {result.shape}.'
    )
  return result[:batch]


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
