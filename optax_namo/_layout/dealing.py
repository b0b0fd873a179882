# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole matrices to each device of a mesh, and back.

Each device holds one block of every matrix. Matrices are dealt like cards: of
as many as there are devices, each device sends its block of the j-th to the
j-th device, in one exchange over all mesh axes that divide them, and gets one
whole matrix for it. The results go back the same way.
"""

from collections.abc import Callable, Iterable, Sequence
import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import stacking
from optax_namo._layout.axes import Axes
from optax_namo._layout.axes import axes_of
from optax_namo._layout.sharding import Names
from optax_namo._layout.sharding import names_of


class _Kind(NamedTuple):
  """How all blocks of a matrix lie in it."""

  shape: tuple[int, ...]  # Of all blocks: one axis a holder, then a block's.
  order: tuple[int, ...]  # Of these axes, each beside what it divides.
  sides: tuple[int, int]
  turned: bool  # Whether the matrix is then transposed.


class _Stack(NamedTuple):
  """A device's blocks of the matrices of one leaf, or of several alike."""

  blocks: jax.Array
  axis: int  # Along which they are stacked.
  order: tuple[int, ...]  # In which the axes travel, this one first.
  kind: _Kind

  @property
  def length(self) -> int:
    return self.blocks.shape[self.axis]


def travel(
  function: stacking.Orthogonalizer,
  *leaves: jax.Array,
  dimension_numbers: Sequence[MuonDimensionNumbers],
  specs: Sequence[P],
  holders: Names,
  alike: Names,
) -> tuple[jax.Array, ...]:
  """What one device does, with its blocks of leaves of one shape of matrices.

  Args:
    function: Of stacks of whole matrices.
    *leaves: This device's part of each.
    dimension_numbers: Of each leaf.
    specs: The layout of each.
    holders: The mesh axes over which the blocks of a matrix lie.
    alike: Those over which devices have the same.

  Returns:
    The same blocks of the results.
  """
  axes = [axes_of(n, x.ndim) for n, x in zip(dimension_numbers, leaves)]
  stacks = [_stack(x, a, s, holders) for x, a, s in zip(leaves, axes, specs)]
  batch = sum(stack.length for stack in stacks)
  share = lambda names: -(-batch // _count(holders + names))
  # With nothing won, devices that have the same do the same.
  sharing = min(
    (names for k in range(len(alike) + 1)
     for names in itertools.combinations(alike, k)),
    key=lambda names: (share(names), _count(names)),
  )  # fmt: skip
  deal = functools.partial(_deal, function, holders=holders, sharing=sharing)
  devices = _count(holders + sharing)
  entries = math.prod(stacks[0].kind.sides)
  places = devices * stacking.most_matrices(entries)

  # Each of several rounds takes a part of every stack. So single blocks make
  # stacks, and no more stacks than a round has places go together.
  together: dict[Any, list[int]] = {}
  for i, stack in enumerate(stacks):
    alone = batch > places and stack.length == 1
    kin = (stack.blocks.shape, stack.axis, stack.order, stack.kind)
    together.setdefault(kin if alone else i, []).append(i)
  groups = list(together.values())
  chunks = lambda k: [groups[i : i + k] for i in range(0, len(groups), k)]

  def dealt(size):
    """Matrices to each device, fill counted, with so many stacks together."""
    total = 0
    for some in chunks(size):
      lengths = [sum(stacks[i].length for i in group) for group in some]
      rounds, parts = _parts(lengths, places)
      total += rounds * -(-sum(parts) // devices)
    return total

  # As many together as can be, unless fewer leave less to fill: of 3 stacks of
  # 32 eight devices take 6 matrices a round, of 2 they take 8.
  size = len(groups)
  if batch > places:
    few = 1.05 * share(sharing)
    most = min(size, places)
    size = min(range(most, 0, -1), key=lambda k: max(few, dealt(k)))
  results = [stack.blocks for stack in stacks]
  for some in chunks(size):
    joined = [_joined([stacks[i] for i in group]) for group in some]
    for group, stack, x in zip(some, joined, _rounds(deal, joined, places)):
      for i, part in zip(group, jnp.split(x, len(group), stack.axis)):
        results[i] = part
  return tuple(map(_unstacked, results, leaves, axes))


def _count(names: Iterable[str]) -> int:
  """How many devices differ along mesh axes."""
  return math.prod(map(jax.lax.axis_size, names))


def _parts(lengths: Sequence[int], places: int) -> tuple[int, list[int]]:
  """The fewest rounds, and how many of each stack go into one."""
  cut = lambda rounds: [-(-length // rounds) for length in lengths]
  rounds = next(k for k in itertools.count(1) if sum(cut(k)) <= places)
  return rounds, cut(rounds)


def _rounds(
  deal: Callable[[Sequence[_Stack]], Sequence[jax.Array]],
  stacks: Sequence[_Stack],
  places: int,
) -> Sequence[jax.Array]:
  """``deal`` of all blocks, ``places`` of them at a time or fewer.

  A round takes its part of every stack from where it lies, and puts the results
  there, so that no more than a round is ever copied.
  """
  rounds, parts = _parts([stack.length for stack in stacks], places)
  if rounds == 1:
    return deal(stacks)

  def turn(k, blocks):
    taken, starts = [], []
    for x, stack, size in zip(blocks, stacks, parts):
      starts.append(jnp.minimum(k * size, stack.length - size))
      part = jax.lax.dynamic_slice_in_dim(x, starts[-1], size, stack.axis)
      taken.append(stack._replace(blocks=part))
    results = []
    for x, stack, old, start, new in zip(
      blocks, stacks, taken, starts, deal(taken)
    ):
      if rounds * old.length > stack.length:
        # The last part begins with blocks that are done.
        index = jax.lax.broadcasted_iota(jnp.int32, new.shape, old.axis)
        new = jnp.where(index < k * old.length - start, old.blocks, new)
      results.append(
        jax.lax.dynamic_update_slice_in_dim(x, new, start, old.axis)
      )
    return results

  blocks = [stack.blocks for stack in stacks]
  return jax.lax.fori_loop(0, rounds, turn, blocks)


def _deal(
  function: stacking.Orthogonalizer,
  stacks: Sequence[_Stack],
  holders: Names,
  sharing: Names,
) -> Sequence[jax.Array]:
  """One round: the blocks of the results of all of the stacks' matrices."""
  dtype = stacks[0].blocks.dtype
  travels = _travels(function, dtype)
  # Blocks of one shape keep it: accelerators copy what is flattened.
  shapes = {x.kind.shape[len(holders) :] for x in stacks}
  block = shapes.pop() if len(shapes) == 1 else (-1,)
  rows = [
    x.blocks.transpose(x.order).reshape(x.length, *block).astype(travels)
    for x in stacks
  ]
  batch = sum(map(len, rows))
  devices = _count(holders + sharing)
  # Replicas take turns, so that zeros which fill up come last with all of them.
  deal = (-(-batch // devices), _count(holders), _count(sharing))
  filled = math.prod(deal)
  fill = jnp.zeros((filled - batch, *rows[0].shape[1:]), travels)
  cards = jnp.concatenate([*rows, fill]).reshape(*deal, *block)
  place = lambda names: jax.lax.axis_index(names) if names else 0
  kinds = [stack.kind for stack in stacks for _ in range(stack.length)]
  distinct = list(dict.fromkeys(kinds))
  indices = [distinct.index(kind) for kind in kinds] + [0] * (filled - batch)
  which = jnp.asarray(np.reshape(indices, deal), jnp.int32)
  which = which[:, place(holders), place(sharing)]

  def exchange(x):
    return jax.lax.all_to_all(x, holders, 1, 1) if holders else x

  def by_kind(function, x):
    """``function(x, kind)`` of each card by its kind."""
    each = [function(x, kind) for kind in distinct]
    if len(distinct) == 1:
      return each[0]
    return jax.lax.select_n(
      jax.lax.broadcast_in_dim(which, each[0].shape, (0,)), *each
    )

  whole = by_kind(_whole, exchange(cards[:, :, place(sharing)]))
  if filled > batch:
    stacking.log_fill(batch, whole.shape[1:], filled, devices)
  whole = stacking.checked(function, whole.astype(dtype)).astype(travels)
  each = (len(whole), _count(holders), *block)
  cards = exchange(
    by_kind(lambda x, kind: _blocks(x, kind).reshape(each), whole)
  )
  cards = jax.lax.collapse(cards, 0, 2)
  if sharing:
    turns = -(-batch // _count(sharing))
    cards = jax.lax.all_gather(cards[:turns], sharing, axis=1)
    cards = jax.lax.collapse(cards, 0, 2)
  lengths = [x.length for x in stacks]
  parts = jax.lax.split(cards, [*lengths, len(cards) - batch])

  results = []
  for part, x in zip(parts, stacks):
    blocks = part.reshape([x.blocks.shape[axis] for axis in x.order])
    back = [x.order.index(axis) for axis in range(x.blocks.ndim)]
    results.append(blocks.transpose(back).astype(dtype))
  return results


def _travels(function: stacking.Orthogonalizer, dtype: jnp.dtype) -> jnp.dtype:
  """The dtype of what is exchanged: bfloat16 where ``newton_schulz`` has it.

  It rounds to that what comes, and has the results from products of it.
  """
  asked = getattr(function, 'keywords', {}).get('dtype')
  few = asked is not None and jnp.dtype(asked) == jnp.bfloat16
  return jnp.dtype(jnp.bfloat16) if few else dtype


def _stack(x: jax.Array, axes: Axes, spec: P, holders: Names) -> _Stack:
  """The blocks of a leaf, along the one axis of its batch or a new first one.

  The side that the earlier axis of a mesh divides travels first, so that
  kernels P('fsdp', 'tensor') and P('tensor', 'fsdp') are of one kind.
  """

  def dividing(side):
    return [name for axis in side for name in names_of(spec[axis])]

  def size(side):
    return _count(dividing(side)) * math.prod(x.shape[axis] for axis in side)

  first, second = axes.input, axes.output
  last = len(holders)
  begins = lambda side: min(map(holders.index, dividing(side)), default=last)
  swapped = begins(second) < begins(first)
  if swapped:
    first, second = second, first
  sides = size(first), size(second)
  turned = sides[0] > sides[1] or (sides[0] == sides[1] and swapped)
  shape = [jax.lax.axis_size(name) for name in holders]
  order: list[int] = []
  for side in (first, second):
    for i, axis in enumerate(side):
      if i == 0 or spec[axis]:
        order += [*map(holders.index, names_of(spec[axis])), len(shape)]
        shape.append(x.shape[axis])
      else:  # It is not divided, so it is one with that before it.
        shape[-1] *= x.shape[axis]
  kind = _Kind(tuple(shape), tuple(order), sides, turned)
  if len(axes.batch) == 1:
    return _Stack(x, axes.batch[0], axes.batch + first + second, kind)
  to = _batch_first(axes)
  blocks = x.transpose(to).reshape(
    -1, *(x.shape[i] for i in to[len(axes.batch) :])
  )
  shift = 1 - len(axes.batch)
  matrix = [to.index(axis) + shift for axis in first + second]
  return _Stack(blocks, 0, (0, *matrix), kind)


def _batch_first(axes: Axes) -> tuple[int, ...]:
  return axes.batch + tuple(sorted(axes.matrix))


def _unstacked(blocks: jax.Array, like: jax.Array, axes: Axes) -> jax.Array:
  """The leaf of ``like``'s shape whose blocks these are."""
  if len(axes.batch) == 1:
    return blocks
  to = _batch_first(axes)
  x = blocks.reshape([like.shape[axis] for axis in to])
  return x.transpose([to.index(axis) for axis in range(like.ndim)])


def _joined(stacks: Sequence[_Stack]) -> _Stack:
  first = stacks[0]
  blocks = jnp.concatenate([x.blocks for x in stacks], first.axis)
  return first._replace(blocks=blocks)


def _whole(blocks: jax.Array, kind: _Kind) -> jax.Array:
  """Matrices (batch, m, n), m <= n, from all their blocks, one a holder."""
  x = blocks.reshape(-1, *kind.shape)
  x = x.transpose(0, *(1 + i for i in kind.order)).reshape(-1, *kind.sides)
  return x.mT if kind.turned else x


def _blocks(stack: jax.Array, kind: _Kind) -> jax.Array:
  """The inverse of ``_whole``, (batch, *kind.shape)."""
  x = stack.mT if kind.turned else stack
  x = x.reshape(-1, *(kind.shape[i] for i in kind.order))
  back = [1 + kind.order.index(i) for i in range(len(kind.order))]
  return x.transpose(0, *back)
