# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves of a model are matrices, read off the program that uses them.

The program is a jaxpr. Every value in it is described by a ``Value``, and each
primitive has a rule from those of its operands to those of its results.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import math
from typing import Any, Literal, NamedTuple
import warnings

import jax
from jax.extend import core
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

from optax_namo import _hyperparameters as hyperparameters
from optax_namo._routing import by_name
from optax_namo._routing import dimension_numbers as dims
from optax_namo._routing import names
from optax_namo._routing import views as v

_CONTRACTED, _FREE, _BATCH = range(3)


class Value(NamedTuple):
  """What is known of a value.

  Attributes:
    views: The parameters that it is a view of. It is a *weight* if it has any,
      and no data.
    data: 0 if it depends on parameters and constants alone, 1 if on data, 2 if
      a product or a look-up of a parameter has come before.
    carried: The parameters of the products that it results from, but for those
      whose products were already operands of others.
    selects: Whether it is a one-hot of integers.
    results: Where the outputs of products with parameters are in it.
  """

  views: tuple[v.View, ...] = ()
  data: int = 0
  carried: frozenset[int] = frozenset()
  selects: bool = False
  results: tuple[v.View, ...] = ()

  @property
  def weight(self) -> bool:
    return bool(self.views) and not self.data


class Use(NamedTuple):
  """A product of a parameter.

  Attributes:
    strength: 2 with data, 1 with a constant, 0 with another parameter.
    spec: The matrices that it makes of the parameter; None if they are none.
    primitive: Its name.
    first: Whether nothing was learned before it.
    where: Tells products apart.
  """

  strength: int
  spec: Any
  primitive: str
  first: bool
  where: int


class _Trace:
  """What a program does with its parameters, found by running its rules."""

  def __init__(self, params: Any, split: bool):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    self.paths = [dims.path_string(path) for path, _ in leaves]
    self.shapes = [jnp.shape(leaf) for _, leaf in leaves]
    self.split = split
    self.uses: dict[int, dict[Use, None]] = {}
    self.seen: set[int] = set()
    self.looked: set[int] = set()
    self.selected: set[int] = set()  # Looked up, and then a matrix.
    self.depthwise: set[int] = set()
    self.consumed: set[int] = set()  # Their products are operands of others.
    self.opaque: dict[int, str] = {}
    self.cuts: dict[tuple[int, int], set[int]] = {}  # Entries of (leaf, axis).

  def run(
    self,
    jaxpr: Any,
    consts: Sequence[Any],
    values: Sequence[Value],
  ) -> list[Value]:
    """The results of a jaxpr."""
    # An array that the function closes over is data, as its arguments are.
    captured = [Value(data=int(jnp.size(const) > 1)) for const in consts]
    known = dict(zip(jaxpr.constvars, captured))
    known.update(zip(jaxpr.invars, values))
    constant = Value()

    def read(atom):
      return constant if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
      operands = [read(atom) for atom in eqn.invars]
      rule = _RULES.get(eqn.primitive.name) or _other
      known.update(zip(eqn.outvars, rule(self, eqn, operands)))
    return [read(atom) for atom in jaxpr.outvars]

  def union(self, values: Sequence[Value], data: int = 0) -> Value:
    """A value that depends on all these, and is a view of no parameter."""
    carried = frozenset().union(*(value.carried for value in values))
    self.seen.update(view.leaf for value in values for view in value.views)
    data = max([data, *(value.data for value in values)])
    return Value(data=data, carried=carried - self.consumed)

  def look_up(self, values: tuple[v.View, ...]) -> tuple[v.View, ...]:
    """The views after an index from the data has selected."""
    self.looked.update(view.leaf for view in values)
    return tuple(view._replace(looked=True) for view in values)

  def embeds(self, leaf: int) -> bool:
    """Whether a parameter is data by its name: latents, tokens, positions."""
    return names.adamw(self.paths[leaf], {}) == 'embedding'

  def use(
    self,
    eqn: Any,
    view: v.View,
    roles: Sequence[int],
    strength: int,
    first: bool,
  ) -> bool:
    """Whether a product takes a view as a matrix, which is noted."""
    contracted, free = (
      tuple(
        digit
        for digits, role in zip(view.axes, roles)
        for digit in digits
        if role == wanted
      )
      for wanted in (_CONTRACTED, _FREE)
    )
    if not (contracted and free):
      contracted, free = contracted or view.inner, free or view.inner
    if not (contracted and free) or len(self.shapes[view.leaf]) < 2:
      return False
    spec = v.spec(self.shapes[view.leaf], contracted, free)
    use = Use(strength, spec, eqn.primitive.name, first, id(eqn))
    self.uses.setdefault(view.leaf, {})[use] = None
    if view.looked:
      self.selected.add(view.leaf)
    return True

  def cut(self, view: v.View, axis: int, dim: int, ends: Sequence[int]) -> None:
    """Notes that a value is cut along an axis of it."""
    for digit in view.axes[axis][:1]:
      below = dim // max(1, math.prod(one.size for one in view.axes[axis][1:]))
      unit, length = dim // below, self.shapes[view.leaf][digit.axis]
      if digit.size * digit.stride < length or any(end % unit for end in ends):
        continue  # No part is one piece of the parameter.
      cuts = self.cuts.setdefault((view.leaf, digit.axis), set())
      cuts.update(digit.start + end // unit * digit.stride for end in ends)


# Rules that move the axes of one operand, the first.


def _moved(
  trace: _Trace,
  eqn: Any,
  value: Value,
  others: Sequence[Value],
  move: Callable[[v.View], v.Axes | None],
) -> Value:
  """The value of a result that holds the entries of one operand."""
  if not (value.views or value.results):
    return trace.union([value, *others])._replace(selects=value.selects)

  def moved(some):
    found = [(view, move(view)) for view in some]
    return tuple(one._replace(axes=axes) for one, axes in found if axes)

  out = trace.union([value, *others])._replace(
    views=moved(value.views),
    selects=value.selects,
    results=moved(value.results),
  )
  if len(out.views) < len(value.views) and eqn.outvars[0].aval.shape:
    _opaque(trace, eqn, [value])
  return out


def _moves(axes: Callable[[Any, v.Axes], v.Axes | None]) -> Any:
  """The rule of a primitive that moves the axes of its first operand."""

  def rule(trace, eqn, values):
    first, *rest = values
    move = lambda view: axes(eqn, view.axes)
    return [_moved(trace, eqn, first, rest, move)]

  return rule


def _transpose(eqn, axes):
  return tuple(axes[i] for i in eqn.params['permutation'])


def _reshape(eqn, axes):
  old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
  order = eqn.params['dimensions'] or range(len(old))
  axes, old = [axes[i] for i in order], [old[i] for i in order]
  return v.reshaped(axes, old, new)


def _broadcast(eqn, axes):
  old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
  found: list[tuple[v.Digit, ...]] = [()] * len(new)
  for i, out in enumerate(eqn.params['broadcast_dimensions']):
    found[out] = axes[i] if old[i] == new[out] else ()
  return tuple(found)


def _without(name):
  def axes_left(eqn, axes):
    gone = eqn.params[name]
    return tuple(axis for i, axis in enumerate(axes) if i not in gone)

  return axes_left


def _gathered(eqn, axes):
  """A manual mesh axis gathers the shards along an axis, or on a new one."""
  if eqn.params['tiled']:
    return axes
  new = eqn.params['all_gather_dimension']
  return (*axes[:new], (), *axes[new:])


# Rules that cut, select and join.


def _part(
  trace: _Trace,
  value: Value,
  view: v.View,
  shape: Sequence[int],
  starts: Sequence[int],
  sizes: Sequence[int],
) -> v.Axes:
  """The axes of a static slice."""
  found = []
  for axis, (dim, start, size) in enumerate(zip(shape, starts, sizes)):
    digits = view.axes[axis]
    if digits and size < dim:
      if trace.split and view in value.results or value.weight:
        trace.cut(view, axis, dim, (start, start + size))
      first, *rest = digits
      unit = math.prod(one.size for one in rest)
      start = first.start + start // unit * first.stride
      digits = (first._replace(start=start), *rest) if size > 1 else ()
    found.append(digits)
  return tuple(found)


def _slice(trace, eqn, values):
  (value,), old = values, eqn.invars[0].aval.shape
  starts, sizes = eqn.params['start_indices'], eqn.outvars[0].aval.shape
  move = lambda view: _part(trace, value, view, old, starts, sizes)
  return [_moved(trace, eqn, value, [], move)]


def _split(trace, eqn, values):
  (value,), old, found = values, eqn.invars[0].aval.shape, []
  axis, start = eqn.params['axis'], 0
  for size, out in zip(eqn.params['sizes'], eqn.outvars):
    starts = [start * (i == axis) for i in range(len(old))]
    move = lambda view, starts=starts, out=out: _part(
      trace, value, view, old, starts, out.aval.shape
    )
    found.append(_moved(trace, eqn, value, [], move))
    start += int(size)
  return found


def _dynamic_slice(trace, eqn, values):
  value, *indices = values
  old, sizes = eqn.invars[0].aval.shape, eqn.params['slice_sizes']

  def move(view):
    return tuple(
      axis if size == dim or size > 1 else ()
      for axis, dim, size in zip(view.axes, old, sizes)
    )

  out = _moved(trace, eqn, value, indices, move)
  if any(index.data for index in indices) and value.views:
    out = out._replace(views=trace.look_up(out.views), data=2)
  return [out]


def _gather(trace, eqn, values):
  value, index = values
  numbers, sizes = eqn.params['dimension_numbers'], eqn.params['slice_sizes']
  old, new = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
  gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
  kept = [i for i in range(len(old)) if i not in gone]
  index_axes = [i for i in range(len(new)) if i not in numbers.offset_dims]

  def move(view):
    found = [()] * len(new)
    for out, i in zip(numbers.offset_dims, kept):
      found[out] = view.axes[i] if sizes[i] > 1 or old[i] == 1 else ()
    for i, j in zip(
      numbers.operand_batching_dims, numbers.start_indices_batching_dims
    ):
      found[index_axes[j]] = view.axes[i]
    # Known entries of one axis in another order.
    if not index.data and len(index_axes) == len(gone) == 1:
      (i,) = gone
      found[index_axes[0]] = view.axes[i]
    return tuple(found)

  out = _moved(trace, eqn, value, [index], move)
  if index.data and value.views:
    out = out._replace(views=trace.look_up(out.views), data=2)
  return [out]


def _concatenate(trace, eqn, values):
  out = trace.union(values)
  axis = eqn.params['dimension']
  if not out.data:  # Else positions, tokens: no more a weight.
    parts = v.merged(sum((value.views for value in values), ()))
    out = out._replace(views=parts)
  if trace.split:
    results = sum((value.results for value in values), ())
    joined: dict[tuple[int, int], list[int]] = {}
    for one in results + out.views:
      for digit in one.axes[axis][:1]:
        joined.setdefault((one.leaf, digit.axis), []).append(digit.start)
    for key, starts in joined.items():
      between = trace.cuts.get(key, set())
      between -= {end for end in between if min(starts) < end <= max(starts)}
    out = out._replace(results=v.merged(results))
  return [out]


def _updated(trace, eqn, values):
  """What is written into an array: a weight if all of it is."""
  out = trace.union(values)
  if not out.data:
    rank = len(eqn.outvars[0].aval.shape)
    parts = sum((value.views for value in values[:2]), ())
    parts = tuple(view for view in parts if len(view.axes) == rank)
    out = out._replace(views=v.merged(parts))
  return [out]


# Elementwise rules.


def _elementwise(trace, eqn, values, scales=False):
  """A view stays one but where data are added to it.

  A product of two parameters stays one even then, beside a frozen weight.
  """
  out, new = trace.union(values), eqn.outvars[0].aval.shape
  sized = [
    _stretched(value, atom.aval.shape, new)
    for value, atom in zip(values, eqn.invars)
    if math.prod(atom.aval.shape) > 1
  ]
  views = sum((value.views for value in sized), ())
  if views:
    if len(sized) > 1 and out.data and not scales:
      views = tuple(one for one in views if one.inner and not one.looked)
    out = out._replace(views=v.merged(views))
  if trace.split:
    results = sum((value.results for value in sized), ())
    out = out._replace(results=v.merged(results))
  return [out]


def _stretched(value, old, new):
  """An operand, whose axes of size 1 are as long as the result's."""
  if old == new or not (value.views or value.results):
    return value
  views, results = (
    tuple(
      view._replace(
        axes=tuple(
          digits if i == j else () for digits, i, j in zip(view.axes, old, new)
        )
      )
      for view in some
    )
    for some in (value.views, value.results)
  )
  return value._replace(views=views, results=results)


def _scale(trace, eqn, values):
  (out,) = _elementwise(trace, eqn, values, scales=True)
  return [out._replace(selects=any(value.selects for value in values))]


def _select(trace, eqn, values):
  """A mask scales; two cases are added."""
  which, *cases = values
  mixed = sum(math.prod(atom.aval.shape) > 1 for atom in eqn.invars[1:]) > 1
  mixed = mixed and any(one.data and not one.views for one in cases)
  return _elementwise(trace, eqn, values, scales=not mixed)


def _cast(trace, eqn, values):
  (out,) = _elementwise(trace, eqn, values)
  return [out._replace(selects=values[0].selects)]


def _equal(trace, eqn, values):
  """Integers compared with a list of known ones are a one-hot of them."""
  constant = any(
    not value.data and not value.views and math.prod(atom.aval.shape) > 1
    for value, atom in zip(values, eqn.invars)
  )
  integers = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
  return [trace.union(values)._replace(selects=constant and integers)]


def _each(trace, eqn, values):
  """Each operand has a result of its own."""
  return [trace.union([value])._replace(views=value.views) for value in values]


def _stop(trace, eqn, values):
  """Nothing is learned through it."""
  return [trace.union(values)]


def _other(trace, eqn, values):
  """A call of another jaxpr, or elementwise; else its use is unknown."""
  for inner in eqn.params.values():
    if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):
      consts = getattr(inner, 'consts', ())
      jaxpr = getattr(inner, 'jaxpr', inner)
      if len(jaxpr.invars) == len(values) and (
        len(jaxpr.outvars) == len(eqn.outvars)
      ):
        return trace.run(jaxpr, consts, values)
  plain = trace.union(values)
  if not any(value.views or value.results for value in values):
    return [plain] * len(eqn.outvars)
  new = eqn.outvars[0].aval.shape if eqn.outvars else ()
  if not eqn.primitive.multiple_results and all(
    _stretches(atom.aval.shape, new) for atom in eqn.invars
  ):
    return _elementwise(trace, eqn, values)
  return [_opaque(trace, eqn, values)] * len(eqn.outvars)


def _stretches(old, new):
  """Whether an elementwise operand may have this shape."""
  return not old or (
    len(old) == len(new) and all(i in (1, j) for i, j in zip(old, new))
  )


def _opaque(trace, eqn, values):
  """Notes the matrices whose use is unknown from here."""
  hidden = {
    view.leaf
    for value in values
    for view in value.views
    if value.weight and sum(map(len, view.axes)) > 1
  }
  out = trace.union(values)
  if eqn.outvars and hidden:
    trace.opaque.update(dict.fromkeys(hidden, eqn.primitive.name))
    trace.consumed |= out.carried
    out = out._replace(carried=frozenset(hidden))
  return out


# Products.


def _product(trace, eqn, values, roles, places):
  """A product of two operands.

  Args:
    trace: The trace.
    eqn: The equation.
    values: Both operands.
    roles: The role of each axis, of both.
    places: The axis of the result at which each is, or None; of both.
  """
  out, rank = trace.union(values), len(eqn.outvars[0].aval.shape)
  contracts = any(_CONTRACTED in some for some in roles)
  if all(value.weight for value in values):
    values = [
      value._replace(views=(), data=2)
      if all(trace.embeds(view.leaf) for view in value.views)
      else value
      for value in values
    ]
    out = out._replace(data=max(value.data for value in values))

  def placed(side, keeps_inner=True):
    found = []
    for view in values[side].views:
      axes, inner = [()] * rank, view.inner
      for digits, role, place in zip(view.axes, roles[side], places[side]):
        if place is not None:
          axes[place] = digits
        elif role == _CONTRACTED and keeps_inner:
          inner += digits
      found.append(view._replace(axes=tuple(axes), inner=inner))
    return tuple(found)

  acting = []
  for side in (0, 1):
    one, other = values[side], values[1 - side]
    if not one.views or (one.data and other.weight):
      continue
    if other.selects and contracts:  # By one-hots of data, or known entries.
      if not other.data:
        return [out]
      found = trace.look_up(placed(side, keeps_inner=False))
      return [out._replace(views=found, data=2)]
    strength = 0 if other.weight else 2 if other.data else 1
    first = strength > 0 and other.data < 2
    used = [
      trace.use(eqn, view, roles[side], strength, first) for view in one.views
    ]
    if one.weight or any(used):
      acting.append(side)
  if not contracts:  # No more than a broadcast one.
    return [out._replace(views=v.merged(placed(0) + placed(1)))]
  if not acting:
    return [out]
  operands = acting if len(acting) > 1 else [1 - acting[0]]
  for side in operands:
    trace.consumed |= values[side].carried
  weights = [view for side in acting for view in values[side].views]
  out = out._replace(carried=frozenset(view.leaf for view in weights))
  if not out.data:
    found = sum((placed(side) for side in acting), ())
    return [out._replace(views=v.merged(found))]
  out = out._replace(data=2)
  if trace.split:
    found = sum((placed(side) for side in acting), ())
    out = out._replace(results=found)
  return [out]


def _dot(trace, eqn, values):
  contract, batch = eqn.params['dimension_numbers']
  return _dot_product(trace, eqn, values, contract, batch, ((), ()))


def _ragged_dot(trace, eqn, values):
  numbers = eqn.params['ragged_dot_dimension_numbers']
  contract, batch = numbers.dot_dimension_numbers
  ragged = numbers.lhs_ragged_dimensions
  groups = ((), numbers.rhs_group_dimensions)
  if set(ragged) & set(contract[0]):  # Groups are an axis of the result alone.
    return [_opaque(trace, eqn, values)]
  return _dot_product(trace, eqn, values[:2], contract, batch, groups)


def _dot_product(trace, eqn, values, contract, batch, groups):
  roles, places, free = [], [], len(batch[0])
  for side in (0, 1):
    roles.append([])
    places.append([])
    for axis in range(len(eqn.invars[side].aval.shape)):
      if axis in contract[side] or axis in groups[side]:
        inner = axis in contract[side]
        roles[side].append(_CONTRACTED if inner else _BATCH)
        places[side].append(None)
      elif axis in batch[side]:
        roles[side].append(_BATCH)
        places[side].append(list(batch[side]).index(axis))
      else:
        roles[side].append(_FREE)
        places[side].append(free)
        free += 1
  return _product(trace, eqn, values, roles, places)


def _conv(trace, eqn, values):
  image, kernel = values
  shape = eqn.invars[1].aval.shape
  numbers = eqn.params['dimension_numbers']
  out, channels, *_ = numbers.rhs_spec
  groups = eqn.params['feature_group_count'] * eqn.params['batch_group_count']
  # The groups, which lead the outputs, on an axis of their own.
  new = (*shape[:out], groups, shape[out] // groups, *shape[out + 1 :])
  trace.union(values)
  grouped = []
  for view in kernel.views:
    axes = v.reshaped(view.axes, shape, new)
    if axes is None:
      return [_opaque(trace, eqn, values)]
    sizes = trace.shapes[view.leaf]
    # Groups that are an axis of the parameter are a batch.
    whole = all(digit.size == sizes[digit.axis] for digit in axes[out])
    if groups > 1 == shape[channels] and not (whole and axes[out + 1]):
      trace.depthwise.add(view.leaf)
    else:
      grouped.append(view._replace(axes=axes))
  # An image is no matrix, even if it is learned.
  image = image._replace(views=(), data=max(image.data, 2 * image.weight))
  roles = [_CONTRACTED] * len(new)
  roles[out], roles[out + 1] = _BATCH, _FREE
  places = [None] * len(new)
  places[out + 1] = numbers.out_spec[1] if groups == 1 else None
  return _product(
    trace,
    eqn,
    [image, kernel._replace(views=tuple(grouped))],
    [[_BATCH] * len(shape), roles],
    [[None] * len(shape), places],
  )


# Control flow.


def _carried_on(trace, one, other):
  """What is either of two values."""
  if one == other:
    return one
  both = trace.union([one, other])
  if not both.data:
    both = both._replace(views=v.merged(one.views + other.views))
  return both._replace(
    selects=one.selects and other.selects,
    results=v.merged(one.results + other.results),
  )


def _loop(trace, body, consts, carry, xs):
  """Runs the body of a loop until what it carries stays the same."""
  for _ in range(8):
    outs = trace.run(body.jaxpr, body.consts, [*consts, *carry, *xs])
    after = [_carried_on(trace, *pair) for pair in zip(carry, outs)]
    if after == carry:
      break
    carry = after
  return [*carry, *outs[len(carry) :]]


def _scan(trace, eqn, values):
  ends = eqn.params['num_consts'], eqn.params['num_carry']
  consts, rest = values[: ends[0]], values[ends[0] :]
  carry, xs = rest[: ends[1]], rest[ends[1] :]

  def stepped(value, change):
    views, results = (
      tuple(view._replace(axes=change(view.axes)) for view in some)
      for some in (value.views, value.results)
    )
    return value._replace(views=views, results=results)

  xs = [stepped(value, lambda axes: axes[1:]) for value in xs]
  outs = _loop(trace, eqn.params['jaxpr'], consts, carry, xs)
  ys = [stepped(value, lambda axes: ((), *axes)) for value in outs[ends[1] :]]
  return [*outs[: ends[1]], *ys]


def _while(trace, eqn, values):
  before, consts = eqn.params['cond_nconsts'], eqn.params['body_nconsts']
  values = values[before:]
  body = eqn.params['body_jaxpr']
  return _loop(trace, body, values[:consts], values[consts:], [])


def _cond(trace, eqn, values):
  found = None
  for branch in eqn.params['branches']:
    outs = trace.run(branch.jaxpr, branch.consts, values[1:])
    found = found or outs
    found = [_carried_on(trace, *pair) for pair in zip(found, outs)]
  return found


_RULES = {
  'transpose': _moves(_transpose),
  'reshape': _moves(_reshape),
  'broadcast_in_dim': _moves(_broadcast),
  'squeeze': _moves(_without('dimensions')),
  **dict.fromkeys(
    (
      *('reduce_sum', 'reduce_max', 'reduce_min', 'reduce_prod', 'reduce_and'),
      *('reduce_or', 'reduce_xor', 'argmax', 'argmin'),
    ),
    _moves(_without('axes')),
  ),
  'rev': _moves(lambda eqn, axes: axes),
  'pad': _moves(lambda eqn, axes: axes),
  'all_gather': _moves(_gathered),
  'slice': _slice,
  'split': _split,
  'dynamic_slice': _dynamic_slice,
  'gather': _gather,
  'concatenate': _concatenate,
  **dict.fromkeys(
    ('dynamic_update_slice', 'scatter', 'scatter-add', 'scatter-mul'), _updated
  ),
  **dict.fromkeys(('mul', 'div'), _scale),
  'select_n': _select,
  'convert_element_type': _cast,
  'eq': _equal,
  **dict.fromkeys(
    ('optimization_barrier', 'psum', 'psum_invariant', 'pvary'), _each
  ),
  'stop_gradient': _stop,
  'dot_general': _dot,
  'ragged_dot_general': _ragged_dot,
  'conv_general_dilated': _conv,
  'scan': _scan,
  'while': _while,
  'cond': _cond,
  **dict.fromkeys(
    ('pallas_call', 'ffi_call', 'pure_callback', 'io_callback'),
    lambda trace, eqn, values: [_opaque(trace, eqn, values)] * len(eqn.outvars),
  ),
}


# From what a program does to where its parameters go.


def dimension_numbers_by_use(
  function: Callable[..., Any],
  params: Any,
  *args: Any,
  output_heads: Literal['adamw', 'matrix'] = 'adamw',
  first_layers: Literal['adamw', 'matrix'] = 'matrix',
  split: bool = False,
  strict: bool = False,
) -> Any:
  r"""A model's matrices and their axes, read off the program that uses them.

  The function is traced, and nothing computed. Names play no part. In a product
  of a parameter with data,

  .. math::

    y_{b \ldots o} = \sum_i x_{b \ldots i} W_{b i o},

  the contracted axes are the inputs, the free ones the outputs, and the others
  a batch of matrices: those of ``lax.scan``, ``jax.vmap``, experts, groups, or
  layers that an index selects. A convolution contracts its spatial axes, too.
  AdamW's are parameters that no product contracts; those looked up, by an index
  or a one-hot, tied to an output or not; depthwise convolutions; and output
  heads, whose product no other product with a parameter follows.

  Args:
    function: The loss, or any function of the parameters that ends where the
      loss does, its head included. Keywords go in by ``functools.partial``.
    params: Its first argument: a pytree of arrays. Shapes suffice
      (``jax.ShapeDtypeStruct``), here and in ``args``.
    *args: The others: the batch, state, keys.
    output_heads: Where heads go.
    first_layers: Where matrices go that see data before anything learned has,
      embeddings included.
    split: Whether a matrix whose outputs are cut into parts that go separate
      ways, as queries, keys and values, is ``SplitMatrices``.
    strict: Whether what would be a warning is an error.

  Returns:
    A tree of ``params``' own structure: dimension numbers or None (AdamW) at
    each leaf. What the program does not tell is as ``matrix_dimension_numbers``
    says, with a warning: a leaf whose uses contradict each other, that the
    function does not use, or that goes into a kernel or a callback.

  Raises:
    ValueError: ``strict``, and a leaf that the program does not tell; or an
      option is unknown.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from optax_namo import dimension_numbers_by_use, namo_d
    >>> def loss(params, x):
    ...   hidden = jax.nn.relu(x @ params['in'].T + params['bias'])
    ...   return jnp.mean((hidden @ params['out']) ** 2)
    >>> params = {'in': jnp.ones((8, 4)), 'bias': jnp.ones(8),
    ...           'out': jnp.ones((8, 2))}
    >>> numbers = dimension_numbers_by_use(loss, params, jnp.ones((16, 4)))
    >>> numbers['in']
    MuonDimensionNumbers(reduction_axis=(1,), output_axis=(0,))
    >>> numbers['out'] is None  # The output head.
    True
    >>> tx = namo_d(0.05, weight_dimension_numbers=numbers)
  """
  options = output_heads, first_layers, split, strict
  return decided(function, params, args, *options)[0]


def decided(
  function: Callable[..., Any],
  params: Any,
  args: Sequence[Any],
  output_heads: Literal['adamw', 'matrix'] = 'adamw',
  first_layers: Literal['adamw', 'matrix'] = 'matrix',
  split: bool = False,
  strict: bool = False,
) -> tuple[Any, Any]:
  """The dimension numbers of all leaves, and why; warns for its caller's."""
  for name, value in (
    ('output_heads', output_heads),
    ('first_layers', first_layers),
  ):
    hyperparameters.choice(name, value, ('adamw', 'matrix'))
  closed = jax.make_jaxpr(function)(params, *args)
  trace = _Trace(params, split)
  weights = [
    Value((v.whole(i, shape),)) for i, shape in enumerate(trace.shapes)
  ]
  others = [Value(data=1)] * (len(closed.jaxpr.invars) - len(weights))
  trace.run(closed.jaxpr, closed.consts, weights + others)
  found = [
    _judged(trace, leaf, output_heads, first_layers)
    for leaf in range(len(weights))
  ]
  structure = jax.tree.structure(params)
  unknown = [leaf for leaf, (_, why) in enumerate(found) if why[:1] == '?']
  if unknown:
    message = _message(trace, [(leaf, found[leaf][1][2:]) for leaf in unknown])
    if strict:
      raise ValueError(message)
    warnings.warn(message, stacklevel=3)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      given, why = by_name.decided(params, (), False)
    given = jax.tree.leaves(given, is_leaf=dims.is_spec)
    for leaf, told in enumerate(jax.tree.leaves(why)):
      if leaf in unknown:
        found[leaf] = given[leaf], f'by name: {told}'
  numbers, whys = zip(*found) if found else ((), ())
  return structure.unflatten(numbers), structure.unflatten(whys)


def _judged(
  trace: _Trace, leaf: int, output_heads: str, first_layers: str
) -> tuple[Any, str]:
  """The dimension numbers of a leaf, and why; '? ' first if they are unknown."""
  shape, uses = trace.shapes[leaf], list(trace.uses.get(leaf, ()))
  if len(shape) < 2:
    return None, f'rank {len(shape)}'
  if sum(size > 1 for size in shape) < 2:
    return None, 'vector'
  if leaf in trace.looked - trace.selected:
    return None, 'looked up'
  strength = max((use.strength for use in uses), default=0)
  if leaf in trace.opaque and not strength:
    return None, f'? goes into {trace.opaque[leaf]}'
  if not uses:
    if leaf not in trace.seen:
      return None, '? is not used'
    return None, 'depthwise' if leaf in trace.depthwise else 'elementwise'
  uses = [use for use in uses if use.strength == strength]
  specs = Counter(use.spec for use in uses)
  # With both sides exchanged it is the same matrix.
  if None in specs or len({frozenset(_numbers(spec)) for spec in specs}) > 1:
    ways = ', '.join(dict.fromkeys(use.primitive for use in uses))
    return None, f'? is used in ways that contradict each other ({ways})'
  spec = max(specs, key=specs.__getitem__)
  numbers = _numbers(spec)
  if output_heads == 'adamw' and leaf not in trace.consumed:
    return None, 'last product'
  if first_layers == 'adamw' and all(use.first for use in uses):
    return None, 'first product'
  if isinstance(spec, MuonDimensionNumbers):
    if 1 in dims.matrix_shape(spec, shape)[1:]:
      return None, 'vector'
    spec = _parts(trace, leaf, spec)
  axes = ', '.join(map(str, numbers.reduction_axis))
  plural = 'axis' if len(numbers.reduction_axis) == 1 else 'axes'
  return spec, f'contracts {plural} {axes} in {uses[0].primitive}'


def _numbers(
  spec: MuonDimensionNumbers | dims.SplitMatrices,
) -> MuonDimensionNumbers:
  return (
    spec.dimension_numbers if isinstance(spec, dims.SplitMatrices) else spec
  )


def _parts(
  trace: _Trace, leaf: int, numbers: MuonDimensionNumbers
) -> MuonDimensionNumbers | dims.SplitMatrices:
  """The parts that a matrix is cut into along its outputs, if it is split."""
  if trace.split:
    for axis in numbers.output_axis:
      size = trace.shapes[leaf][axis]
      ends = sorted({0, size, *trace.cuts.get((leaf, axis), ())})
      if len(ends) > 2:
        sizes = tuple(end - start for start, end in zip(ends, ends[1:]))
        return dims.SplitMatrices(numbers, axis, sizes)
  return numbers


def _message(trace: _Trace, unknown: Sequence[tuple[int, str]]) -> str:
  """What to warn about, with the mend."""
  named = ', '.join(
    f'{trace.paths[leaf]!r} of shape {trace.shapes[leaf]} {why}'
    for leaf, why in unknown
  )
  return (
    f'dimension_numbers_by_use cannot read the axes of all leaves: {named}.'
    ' There it goes by names, as matrix_dimension_numbers does: look at'
    ' routing_table, and replace the numbers of a leaf where they are wrong.'
  )
