# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Many devices: the mesh of a run, and what lies where on it.

A mesh has an axis 'data', 'fsdp' or both. Both split the batch. 'fsdp' splits
the parameters too, and the optimizer's state with them: each array of two axes
or more along its smallest axis that the mesh's axis divides. Of a kernel that
is the model's width, which ``shard_over`` supposes. Vectors, scalars and the
norms of columns are whole on every device, and so are arrays none of whose axes
can be divided.

The compiler derives all communication from this (Auto axes). One device is a
mesh of one.
"""

import math
import os
import re
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np

_AXES = ('data', 'fsdp')


def mesh_axes(text: str) -> dict[str, int]:
  """The sizes of a mesh's axes, by name.

  Args:
    text: Axes in the order of the devices, or '' for none.

  Returns:
    The sizes, each 1 or more.

  Raises:
    ValueError: It names no such axes.

  Examples:
    >>> mesh_axes('data:2,fsdp:4')
    {'data': 2, 'fsdp': 4}
  """
  axes: dict[str, int] = {}
  for entry in text.split(',') if text else ():
    name, _, size = entry.partition(':')
    known = name in _AXES and name not in axes
    if not (known and size.isdecimal() and int(size)):
      raise ValueError(
        f'mesh={text!r}: {entry!r} is no axis. Give data:N, fsdp:N or both,'
        " with N of 1 or more, as in 'data:2,fsdp:4'."
      )
    axes[name] = int(size)
  return axes


def make_mesh(text: str) -> Mesh:
  """The mesh of the first devices, or of all devices of several processes.

  Args:
    text: See ``mesh_axes``; '' is one device.

  Returns:
    The mesh.

  Raises:
    ValueError: The mesh does not fit the devices there are.
  """
  axes = mesh_axes(text) or {'data': 1}
  _enough_threads()
  wanted, present = math.prod(axes.values()), jax.device_count()
  processes = jax.process_count()
  if processes > 1 and wanted != present:
    raise ValueError(
      f'mesh={text!r} is of {wanted} devices, but the {processes} processes'
      f' have {present}, and must use them all: --mesh=fsdp:{present}, say.'
    )
  if wanted > present:
    raise ValueError(
      f'mesh={text!r} is of {wanted} devices, but there are {present}:'
      f' --mesh=fsdp:{present} uses them all.'
    )
  return jax.make_mesh(
    tuple(axes.values()),
    tuple(axes),
    axis_types=(AxisType.Auto,) * len(axes),
    devices=jax.devices()[:wanted],
  )


def _enough_threads() -> None:
  """Two for each virtual device, before jax starts: see docs/devices.md."""
  flag = 'xla_force_host_platform_device_count'
  virtual = re.search(rf'{flag}=(\d+)', os.environ.get('XLA_FLAGS', ''))
  if virtual and 2 * int(virtual[1]) > (os.cpu_count() or 1):
    os.environ.setdefault('PJRT_NPROC', str(2 * int(virtual[1])))


def device() -> str:
  """What this process computes on, in words."""
  kind = jax.devices()[0].device_kind
  if kind != 'cpu':
    return kind
  # Those that it may use: two processes may have a core each.
  pinned = getattr(
    os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1)
  )
  cores = len(pinned(0))
  return f'{cores} CPU cores' if cores > 1 else '1 CPU core'


def shardings(mesh: Mesh, tree: Any) -> Any:
  """Where the leaves of a state lie; parameters and momentum lie alike.

  Args:
    mesh: The mesh.
    tree: Arrays, or ``jax.ShapeDtypeStruct``s.

  Returns:
    A tree of ``NamedSharding``s.
  """
  devices = mesh.shape.get('fsdp', 1)

  def place(leaf):
    shape = leaf.shape
    divisible = [i for i, n in enumerate(shape) if n % devices == 0]
    if devices == 1 or not divisible or sum(n > 1 for n in shape) < 2:
      return NamedSharding(mesh, P())
    axis = min(divisible, key=lambda i: shape[i])
    # No None behind: jit's results have none, and would be compiled for anew.
    return NamedSharding(mesh, P(*[None] * axis, 'fsdp'))

  return jax.tree.map(place, tree)


def constrain(mesh: Mesh, tree: Any) -> Any:
  """Inside jit: the same tree, laid out as ``shardings`` says."""
  return jax.lax.with_sharding_constraint(tree, shardings(mesh, tree))


def gather(mesh: Mesh, tree: Any) -> Any:
  """The whole tree on the first device of every process."""
  whole = jax.device_put(tree, NamedSharding(mesh, P()))
  return jax.tree.map(lambda x: x.addressable_data(0), whole)


def _of_batch(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
  *outer, _, _ = shape
  return NamedSharding(mesh, P(*[None] * len(outer), mesh.axis_names, None))


def local_rows(mesh: Mesh, shape: tuple[int, ...]) -> np.ndarray:
  """Which rows of a batch are on this process's devices.

  Args:
    mesh: The mesh.
    shape: The shape of the batch, (..., batch, time).

  Returns:
    Ascending indices into the rows of all axes but the last, flattened.
  """
  index = np.arange(math.prod(shape[:-1])).reshape(shape[:-1])
  held = _of_batch(mesh, shape).addressable_devices_indices_map(shape)
  return np.unique(
    np.concatenate([index[w[:-1]].ravel() for w in held.values() if w])
  )


def place_batch(
  mesh: Mesh, local: np.ndarray, shape: tuple[int, ...]
) -> jax.Array:
  """The batch of which every process gives its ``local_rows``.

  Args:
    mesh: The mesh.
    local: The rows that ``local_rows`` names, (local rows, time).
    shape: The shape of the batch, (..., batch, time).

  Returns:
    The batch, spread over all axes of the mesh.
  """
  return jax.make_array_from_process_local_data(
    _of_batch(mesh, shape),
    local.reshape(*shape[:-2], -1, shape[-1]),
    shape,
  )
