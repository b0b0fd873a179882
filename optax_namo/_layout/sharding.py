# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where arrays lie on a mesh of devices, of Auto and of Explicit axes.

On Explicit axes shardings are part of an array's type, and an operation on two
that differ is an error; on Auto axes the compiler decides.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from optax_namo._layout import sharding_group

Names = tuple[str, ...]
MeshAxes = str | Names


def names_of(entry: Any) -> Names:
  """The mesh axes that one entry of a PartitionSpec names."""
  if entry is None:
    return ()
  return entry if isinstance(entry, tuple) else (entry,)


def check_names(axes: Any) -> None:
  """Raises TypeError or ValueError where these are not different names."""
  if axes is None:
    return
  names = axes if isinstance(axes, tuple) else (axes,)
  if not names or not all(isinstance(name, str) and name for name in names):
    raise TypeError(
      'shard_over must be the name of a mesh axis, or a tuple of names, or'
      f' None, got {axes!r}.'
    )
  if len(set(names)) < len(names):
    raise ValueError(f'shard_over={axes!r} names a mesh axis twice.')


def mesh_of(x: jax.Array) -> jax.sharding.AbstractMesh:
  """The mesh of ``jax.set_mesh`` or of ``x``; an empty one without either."""
  mesh = jax.sharding.get_abstract_mesh()
  return getattr(jax.typeof(x).sharding, 'mesh', mesh) if mesh.empty else mesh


@functools.partial(jax.jit, static_argnames='dtype', keep_unused=True)
def zeros_like(x: jax.Array, dtype: Any = None) -> jax.Array:
  """Zeros of ``x``'s shape and sharding; one program for all of a shape.

  On Auto axes the compiler decides: zeros, which depend on nothing, would lie
  whole on every device. But it shards the operands of an elementwise operation
  alike. ``x > inf`` is false everywhere, and behind the barrier the compiler
  does not find that out before it decides.
  """
  zeros = as_sharded(jnp.zeros_like(x, dtype=dtype), x)
  mesh = jax.typeof(x).sharding.mesh
  if mesh.explicit_axes and not mesh.auto_axes:
    return zeros
  x = jax.lax.optimization_barrier(x)
  return jnp.where(x > jnp.inf, x.astype(zeros.dtype), zeros)


def alike(
  leaves: Sequence[jax.Array], like: Sequence[jax.Array]
) -> list[jax.Array]:
  """``leaves``, each sharded as the one of ``like``, which has its shape.

  On Auto axes the compiler alone knows how that is, and is told to do the same.
  """
  found = list(map(as_sharded, leaves, like))
  manual = jax.sharding.get_abstract_mesh().manual_axes
  if manual and not _varies(jax.lax.axis_index(manual[0])):
    return found  # With check_vma=False no type tells what varies.
  for i, x in enumerate(like):
    if mesh_of(x).auto_axes and not _varies(x):
      found[i] = sharding_group.lie_as(found[i], x)
  return found


def _varies(x: jax.Array) -> bool:
  """Whether devices along an axis of a ``shard_map`` have each their own.

  XLA fails where such arrays are to be sharded alike.
  """
  kind = jax.typeof(x)  # jax 0.8 has it as vma.
  newer = getattr(getattr(kind, 'manual_axis_type', None), 'varying', ())
  return bool(newer or getattr(kind, 'vma', ()))


def on_devices_of(state: Any, params: Any) -> Any:
  """A new state with its scalars on all devices, where a step leaves them.

  A scalar on one device would have the second step compiled once more. Within a
  shard_map they are, and must not depend on parameters, which may differ there.
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
  if not sharding.mesh.explicit_axes or jax.typeof(x).sharding == sharding:
    return x
  return jax.sharding.reshard(x, sharding)


def cut(x: jax.Array, sizes: Sequence[int], axis: int) -> Sequence[jax.Array]:
  """The parts of ``x`` along an axis, sharded as it.

  Where shardings are part of types, and devices do not divide every part, the
  axis is not sharded: there a cut would be an error.
  """
  sharding = jax.typeof(x).sharding
  spec = list(sharding.spec)
  names = names_of(spec[axis])
  devices = math.prod(sharding.mesh.shape[name] for name in names)
  if any(size % devices for size in sizes):
    spec[axis] = None
    x = jax.sharding.reshard(x, NamedSharding(sharding.mesh, P(*spec)))
  return jax.lax.split(x, sizes, axis)


def automatic(
  function: Callable[[Sequence[jax.Array]], Sequence[jax.Array]],
  arrays: Sequence[jax.Array],
) -> Sequence[jax.Array]:
  """``function(arrays)`` with Explicit axes as Auto ones, where there are any.

  The results, of the same shapes as the arrays, then have their shardings.
  """
  shardings = [jax.typeof(x).sharding for x in arrays]
  explicit = {name for s in shardings for name in s.mesh.explicit_axes}
  if not explicit:
    return function(arrays)
  return jax.sharding.auto_axes(
    function, axes=tuple(sorted(explicit)), out_sharding=shardings
  )(arrays)


def mesh_with(x: jax.Array, axes: MeshAxes) -> jax.sharding.AbstractMesh:
  """``x``'s mesh, or that of ``jax.set_mesh``; ValueError without the axes."""
  mesh, names = mesh_of(x), (axes,) if isinstance(axes, str) else axes
  if not set(names) <= set(mesh.axis_names):
    raise ValueError(
      f'shard_over={axes!r} names axes of a mesh, but the mesh here has'
      f' axes {mesh.axis_names}. Call update inside `with'
      ' jax.set_mesh(mesh):` with a mesh that has them.'
    )
  manual = [name for name in names if name in mesh.manual_axes]
  if manual:
    others = tuple(name for name in names if name not in manual)
    mend = f'Name only the others, shard_over={others!r}.' if others else (
      'Where each device holds whole matrices here, leave shard_over out. Where'
      ' it holds slices, an update of them is wrong: make the shard_map manual'
      ' over other axes only.'
    )  # fmt: skip
    raise ValueError(
      f'shard_over={axes!r}, but a shard_map around this is manual over'
      f' {manual}. {mend}'
    )
  return mesh
