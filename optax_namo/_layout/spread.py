# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves travel together over a mesh, and how they lie there.

A block's place in its matrix is its leaf's layout. On Explicit mesh axes that
is part of the leaf's type. On Auto axes the compiler alone knows it, and one is
supposed here: where it is another, the compiler moves the leaf to it first.
"""

import collections
from collections.abc import Sequence
import functools
import itertools
import math
from typing import Any

import jax
from jax.sharding import PartitionSpec as P
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import dealing
from optax_namo._layout import sharding
from optax_namo._layout import stacking
from optax_namo._layout.axes import Axes
from optax_namo._layout.axes import axes_of
from optax_namo._layout.axes import matrix_shape
from optax_namo._layout.sharding import Names
from optax_namo._layout.sharding import names_of


def map_stacks(
  function: stacking.Orthogonalizer,
  leaves: Sequence[jax.Array],
  numbers: Sequence[MuonDimensionNumbers],
  shard_over: sharding.MeshAxes | None,
) -> Sequence[jax.Array]:
  """``stacking.map_stacks``, with whole matrices spread over mesh axes, if any.

  They are spread over the axes of ``shard_over`` and over all that divide them.
  An axis that divides a batch keeps its matrices apart. Where an axis divides
  neither, each of its devices has what the others have: they share the work
  where that leaves fewer matrices to each, and exchange results.
  """
  if shard_over is None:
    return stacking.map_stacks(function, leaves, numbers)
  full = [x for x in leaves if x.size]
  if not full:
    return leaves
  mesh = sharding.mesh_with(full[0], shard_over)
  names = names_of(shard_over)
  free = [name for name in mesh.axis_names if name not in mesh.manual_axes]
  automatic = [name for name in free if name in mesh.auto_axes]
  width = _width(leaves, numbers)
  groups: dict[Any, list[tuple[int, P]]] = {}
  for i, (x, n) in enumerate(zip(leaves, numbers)):
    if not x.size:
      continue
    axes = axes_of(n, x.ndim)
    spec = _layout(x, axes, names, mesh, width)
    held = [names_of(spec[axis]) for axis in axes.matrix]
    holders = set(itertools.chain(*held))
    apart = set(itertools.chain(*(names_of(spec[axis]) for axis in axes.batch)))
    alike = set(names) - holders - apart
    in_order = lambda chosen: tuple(name for name in free if name in chosen)
    _, *sides = matrix_shape(n, x.shape)
    key = (min(sides), max(sides), x.dtype, in_order(holders), in_order(alike))
    groups.setdefault(key, []).append((i, spec))

  def mapped(leaves):
    results = list(leaves)
    here = jax.sharding.get_abstract_mesh()
    for (*_, holders, alike), members in groups.items():
      places, specs = zip(*members)
      divided = {n for spec in specs for entry in spec for n in names_of(entry)}
      parts = _spread(
        *(leaves[i] for i in places),
        function=function,
        dimension_numbers=tuple(numbers[i] for i in places),
        specs=specs,
        holders=holders,
        alike=alike,
        mesh=mesh if here.empty else here,
        # Over the axis of a vmap, too, which nothing names.
        manual=frozenset(divided.union(names, automatic)),
      )
      for i, part in zip(places, parts):
        results[i] = part
    return results

  # Else the compiler would have what comes in, and a state that it is made of,
  # lie as on its way.
  behind = list(map(jax.lax.optimization_barrier, leaves))
  return sharding.automatic(mapped, behind)


# Compiled once, also where update is not.
@functools.partial(
  jax.jit,
  static_argnames=(
    'function', 'dimension_numbers', 'specs', 'holders', 'alike', 'mesh',
    'manual',
  ),
)  # fmt: skip
def _spread(
  *leaves: jax.Array,
  function: stacking.Orthogonalizer,
  dimension_numbers: tuple[MuonDimensionNumbers, ...],
  specs: tuple[P, ...],
  holders: Names,
  alike: Names,
  mesh: jax.sharding.AbstractMesh,
  manual: frozenset[str],
) -> tuple[jax.Array, ...]:
  """``dealing.travel`` on every device, each with its blocks."""
  travel = functools.partial(
    dealing.travel,
    function,
    dimension_numbers=dimension_numbers,
    specs=specs,
    holders=holders,
    alike=alike,
  )
  return jax.shard_map(
    travel,
    mesh=mesh,
    in_specs=specs,
    out_specs=specs,
    axis_names=set(manual),
    check_vma=False,
  )(*leaves)


def _width(
  leaves: Sequence[jax.Array], numbers: Sequence[MuonDimensionNumbers]
) -> int:
  """The side that most leaves have, the shorter of two: a model's width."""
  sides = collections.Counter[int]()
  for x, n in zip(leaves, numbers):
    sides.update(dict.fromkeys(matrix_shape(n, x.shape)[1:], 1))
  return max(sides, key=lambda side: (sides[side], -side))


def _layout(
  x: jax.Array,
  axes: Axes,
  names: Sequence[str],
  mesh: jax.sharding.AbstractMesh,
  width: int,
) -> P:
  """How a leaf lies: as its type says, and supposedly over the other ``names``.

  The last two are FSDP and tensor parallelism, or the last is FSDP alone. FSDP
  divides the side of the model's width, the input side of a square, and tensor
  parallelism the other one. Those before divide a batch, as expert parallelism
  does, the last of them the axis next to the matrices. An axis that cannot
  divide what it should takes the next that it can.
  """
  spec = [list(names_of(entry)) for entry in jax.typeof(x).sharding.spec]
  near, far, batch = axes.input, axes.output, axes.batch[::-1]
  side = lambda group: math.prod(x.shape[axis] for axis in group)
  if side(near) != width and side(far) == width:
    near, far = far, near
  orders = list(zip(names[-2:], (near + far + batch, far + near + batch)))
  orders += [(name, batch + near + far) for name in reversed(names[:-2])]
  for name, order in orders:
    if name in mesh.explicit_axes:
      continue
    for axis in order:
      if not spec[axis] and x.shape[axis] % mesh.shape[name] == 0:
        spec[axis].append(name)
        break
  return P(*(tuple(names) or None for names in spec))
