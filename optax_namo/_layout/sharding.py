# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where arrays lie on a mesh of devices, of Auto and of Explicit axes.

On Explicit axes shardings are part of an array's type, and an operation on two
that differ is an error; on Auto axes the compiler decides.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

MeshAxes = str | tuple[str, ...]


def _names(axes: MeshAxes) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else tuple(axes)


def check_names(axes: Any) -> None:
  """Raises TypeError where ``shard_over`` names no mesh axis."""
  if isinstance(axes, str) or (
    isinstance(axes, tuple) and axes and all(isinstance(x, str) for x in axes)
  ):
    return
  raise TypeError(
    'shard_over must be the name of a mesh axis, or a tuple of names, or None,'
    f' got {axes!r}.'
  )


def _mesh(x: jax.Array) -> jax.sharding.AbstractMesh:
  """The mesh of ``jax.set_mesh`` or of ``x``; an empty one without either."""
  mesh = jax.sharding.get_abstract_mesh()
  return getattr(jax.typeof(x).sharding, 'mesh', mesh) if mesh.empty else mesh


def zeros_like(x: jax.Array, dtype: Any = None) -> jax.Array:
  """Zeros of ``x``'s shape and sharding, also under ``jax.jit``."""
  return alike(jnp.zeros_like(x, dtype=dtype), x)


def alike(x: jax.Array, like: jax.Array) -> jax.Array:
  """``x``, new and of ``like``'s shape, on the devices where ``like`` lies.

  On Explicit axes its type says where. On Auto axes the compiler decides, and
  would put zeros, which depend on nothing, whole on every device. It lays the
  operands of an elementwise operation alike; so ``x`` is selected by a
  comparison with ``like`` that is always false, which the compiler cannot know.
  """
  if _explicit(like):
    return as_sharded(x, like)
  return jnp.where(like > jnp.inf, jnp.zeros_like(x), x)


def _explicit(x: jax.Array) -> bool:
  """Whether ``x``'s sharding is part of its type."""
  mesh = getattr(jax.typeof(x).sharding, 'mesh', None)
  return AxisType.Explicit in getattr(mesh, 'axis_types', ())


def on_devices_of(state: Any, params: Any) -> Any:
  """Scalars of a new state where they will be after a step: on all devices.

  A scalar on one device would have the second step compiled once more. Within a
  shard_map scalars are everywhere, and must not vary as parameters may.
  """
  leaves = jax.tree.leaves(params)
  if not leaves or jax.sharding.get_abstract_mesh().manual_axes:
    return state
  smallest = min(leaves, key=jnp.size)
  zero = jnp.sum(jnp.zeros_like(smallest))
  return jax.tree.map(
    lambda x: x + zero.astype(x.dtype) if jnp.ndim(x) == 0 else x, state
  )


def as_sharded(x: jax.Array, like: jax.Array) -> jax.Array:
  """``x`` with ``like``'s sharding, where shardings are part of types."""
  sharding = jax.typeof(like).sharding
  if not _explicit(like) or jax.typeof(x).sharding == sharding:
    return x
  return jax.sharding.reshard(x, sharding)


def whole_along(x: jax.Array, axis: int) -> jax.Array:
  """``x`` undivided along an axis, where shardings are part of types.

  There a cut is an error where its parts do not divide as the whole does.
  """
  sharding = jax.typeof(x).sharding
  spec = list(getattr(sharding, 'spec', ()))
  if axis >= len(spec) or spec[axis] is None:
    return x
  spec[axis] = None
  return jax.sharding.reshard(x, NamedSharding(sharding.mesh, P(*spec)))


def automatic(
  function: Callable[[Sequence[jax.Array]], Sequence[jax.Array]],
  arrays: Sequence[jax.Array],
) -> Sequence[jax.Array]:
  """Calls a function under Auto axes; on Explicit ones results are as arrays.

  Args:
    function: From arrays to arrays of the same shapes.
    arrays: Its argument.

  Returns:
    Its results; on a mesh with Explicit axes with the arrays' shardings.
  """
  shardings = [jax.typeof(x).sharding for x in arrays]
  explicit = {
    name
    for s in shardings
    for name, kind in zip(s.mesh.axis_names, getattr(s.mesh, 'axis_types', ()))
    if kind == AxisType.Explicit
  }
  if not explicit:
    return function(arrays)
  return jax.sharding.auto_axes(
    function, axes=tuple(sorted(explicit)), out_sharding=shardings
  )(arrays)


def devices_along(x: jax.Array, axes: MeshAxes) -> int:
  """How many devices the axes of ``x``'s mesh have.

  Raises:
    ValueError: There is no mesh with those axes, or one of them is Manual.
  """
  mesh, names = _mesh(x), _names(axes)
  if not set(names) <= set(mesh.axis_names):
    raise ValueError(
      f'shard_over={axes!r} names axes of a mesh, but the mesh here has'
      f' axes {mesh.axis_names}. Call update inside `with'
      ' jax.set_mesh(mesh):` with a mesh that has them.'
    )
  types = dict(zip(mesh.axis_names, mesh.axis_types))
  manual = [name for name in names if types[name] == AxisType.Manual]
  if manual:
    raise ValueError(
      f'shard_over={axes!r}, but a shard_map around this is manual over'
      f' {manual}: there every device has its own matrices already. Leave'
      ' shard_over out, or make the shard_map manual over other axes only.'
    )
  return math.prod(mesh.shape[name] for name in names)


def spread(stack: jax.Array, axes: MeshAxes) -> jax.Array:
  """Shards the first axis of a stack over mesh axes."""
  sharding = NamedSharding(_mesh(stack), P(_names(axes), None, None))
  return jax.lax.with_sharding_constraint(stack, sharding)


def undivided(stack: jax.Array) -> jax.Array:
  """Divides no batch: the matrices lie as the compiler finds or needs them."""
  spec = P(None, P.UNCONSTRAINED, P.UNCONSTRAINED)
  return jax.lax.with_sharding_constraint(
    stack, NamedSharding(_mesh(stack), spec)
  )
