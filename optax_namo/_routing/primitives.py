# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What each primitive makes of parameters: rules for a ``program.Trace``."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
import functools
import itertools
import math
from typing import Any, NamedTuple

from jax.extend import core
import jax.numpy as jnp

from optax_namo._routing import views as v
from optax_namo._routing.program import Eqn
from optax_namo._routing.program import LEARNED
from optax_namo._routing.program import MADE
from optax_namo._routing.program import Trace
from optax_namo._routing.program import Use
from optax_namo._routing.program import Value
from optax_namo._routing.program import Values

_Places = list[tuple[int, int]]


# Entries of one operand, the first, in other places.


def _kept(gone: Iterable[int], rank: int) -> _Places:
  """The places of axes, all but some of which stay, in order."""
  return [(i, j) for j, i in enumerate(i for i in range(rank) if i not in gone)]


def _places(eqn: Eqn, known: bool) -> _Places:
  """Which axes of the operand stay, and where."""
  name, p, rank = eqn.primitive.name, eqn.params, eqn.invars[0].aval.ndim
  if name == 'transpose':
    return [(i, j) for j, i in enumerate(p['permutation'])]
  if name == 'broadcast_in_dim':
    return [*enumerate(p['broadcast_dimensions'])]
  if name == 'all_gather':
    at = rank if p['tiled'] else p['all_gather_dimension']
    return [(i, i + (i >= at)) for i in range(rank)]
  if name != 'gather':
    gone = p['dimensions'] if name == 'squeeze' else p.get('axes', ())
    return _kept(gone, rank)
  numbers = p['dimension_numbers']
  batch = numbers.operand_batching_dims
  gone = {*numbers.collapsed_slice_dims, *batch}
  shape = range(eqn.outvars[0].aval.ndim)
  rows = [j for j in shape if j not in numbers.offset_dims]
  places = [*zip((i for i, _ in _kept(gone, rank)), numbers.offset_dims)]
  places += zip(batch, [rows[i] for i in numbers.start_indices_batching_dims])
  if known and len(rows) == len(gone) == 1:  # It permutes the entries.
    places.append((gone.pop(), rows[0]))
  return places


def _still_selects(
  value: Value, old: Sequence[int], new: Sequence[int]
) -> bool:
  """A one-hot that is stretched, [..., None] times activations, is a mask."""
  return value.selects and math.prod(new) <= math.prod(old)


def _moved(trace: Trace, eqn: Eqn, values: Values) -> Values:
  (value, *indices), old = values, eqn.invars[0].aval.shape
  name, p, outs = eqn.primitive.name, eqn.params, []
  known = not any(index.is_data for index in indices)
  places = _places(eqn, known)
  # Of a dynamic slice they are not known; one with strides is no piece.
  starts = p.get('start_indices') if max(p.get('strides') or [1]) == 1 else None
  for i, var in enumerate(eqn.outvars):
    new = last = var.aval.shape
    if name in ('split', 'unstack'):
      at, sizes = p['axis'], p.get('sizes', [1] * len(eqn.outvars))
      starts = [int(sum(sizes[:i])) * (axis == at) for axis in range(len(old))]
      new = (*old[:at], sizes[i], *old[at + 1 :])
    if name == 'reshape':
      moved = value.moved(v.reshaped, old, new, p['dimensions'])
    else:
      moved = value.moved(v.placed, places, old, new, starts, trace.cut)
    if name == 'unstack':
      moved = moved.moved(v.placed, _kept([at], len(old)), new, last)
    if len(moved.parameters) < len(value.parameters) and last:
      _opaque(trace, eqn, [value])
    selects = _still_selects(value, old, last)
    out = trace.mixed(values, moved.views)._replace(selects=selects)
    outs.append(out if known or not value.parameters else trace.look_up(out))
  return outs


# Entries of several operands.


def _concatenated(trace: Trace, eqn: Eqn, values: Values) -> Values:
  rank, starts = len(eqn.outvars[0].aval.shape), defaultdict(set)
  if eqn.primitive.name == 'stack':
    at = eqn.params['axis']
    one_more = lambda x: (*x.axes[:at], (), *x.axes[at:])
    return [trace.joined([value.moved(one_more) for value in values])]
  alike = lambda x: x.axes if len(x.axes) == rank else None
  if eqn.primitive.name == 'concatenate':
    at = eqn.params['dimension']
    flat = [
      x
      for value in values
      for x in value.parameters
      if rank == 1 and len(x.axes[0]) > 1
    ]
    if len({x.leaf for x in flat}) > 1:  # Which is where is not followed.
      trace.mark('opaque', flat, eqn.primitive.name)
      return [trace.mixed(values)]
    for view in (view for value in values for view in value.views if view.axes):
      for digit in view.axes[at][:1]:
        starts[view.leaf, digit.axis].add(digit.start)
  out = trace.joined([value.moved(alike) for value in values])
  for key, some in starts.items():  # They do not go separate ways.
    trace.cuts[key] -= set(range(min(some) + 1, max(some) + 1))
  return [out]


def _elementwise(trace: Trace, eqn: Eqn, values: Values) -> Values:
  name, new = eqn.primitive.name, eqn.outvars[0].aval.shape
  shapes = [atom.aval.shape for atom in eqn.invars]
  scales = name in ('mul', 'div') or sum(math.prod(n) > 1 for n in shapes) < 2
  if name == 'select_n':  # A mask scales; its two cases are added.
    scales = not any(one.is_data and not one.parameters for one in values[1:])
  stretched = [
    value.moved(v.placed, _kept((), len(old)), old, new)
    for value, old in zip(values, shapes)
  ]
  selects = any(map(_still_selects, values, shapes, itertools.repeat(new)))
  if name == 'select_n':  # A cache that is updated at a place is no one-hot.
    selects &= all(one.selects or one.is_constant for one in values[1:])
  elif name not in ('mul', 'div', 'convert_element_type', 'and'):
    selects = False
  return [trace.joined(stretched, scales)._replace(selects=selects)]


def _equal(trace: Trace, eqn: Eqn, values: Values) -> Values:
  """Integers compared with a list of known ones are a one-hot of them."""
  known = any(
    value.fixed and math.prod(atom.aval.shape) > 1
    for value, atom in zip(values, eqn.invars)
  )
  integers = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
  return [trace.mixed(values)._replace(selects=known and integers)]


def _other(trace: Trace, eqn: Eqn, values: Values) -> Values:
  """A call of a jaxpr, or elementwise; else no rule follows."""
  arity = len(values), len(eqn.outvars)
  for inner in eqn.params.values():
    jaxpr, consts = getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ())
    if isinstance(jaxpr, core.Jaxpr) and (
      (len(jaxpr.invars), len(jaxpr.outvars)) == arity
    ):
      before = trace.surrogate
      trace.surrogate = before or eqn.primitive.name.startswith('custom_')
      outs = trace.run(jaxpr, consts, values)
      trace.surrogate = before
      return outs
  if len(eqn.outvars) != 1:
    return _opaque(trace, eqn, values)
  new = eqn.outvars[0].aval.shape
  alike = all(
    len(old) in (0, len(new)) and all(i in (1, j) for i, j in zip(old, new))
    for old in [atom.aval.shape for atom in eqn.invars]
  )
  return (_elementwise if alike else _opaque)(trace, eqn, values)


def _opaque(trace: Trace, eqn: Eqn, values: Values) -> Values:
  """Notes the matrices that no rule follows from here."""
  weights = [value.parameters for value in values if value.is_weight]
  hidden = [x for some in weights for x in some if sum(map(bool, x.axes)) > 1]
  out = trace.mixed(values)
  if eqn.outvars and hidden:
    trace.mark('opaque', hidden, eqn.primitive.name)
    trace.mark('consumed', out.outputs)
    out = out._replace(views=v.merged(map(v.output, hidden)))
  return [out] * len(eqn.outvars)


# Products.


class _Side(NamedTuple):
  """The axes of an operand of a product."""

  shape: Sequence[int]
  contracted: Sequence[int] = ()
  free: Sequence[int] = ()
  places: Sequence[tuple[int, int]] = ()  # Of those that stay, in the result.


def _use(
  trace: Trace, eqn: Eqn, view: v.View, side: _Side, other: Value
) -> bool:
  """Notes whether a product takes a view as a matrix."""
  contracted, free = view.digits(side.contracted), view.digits(side.free)
  if not (contracted and free):
    contracted, free = contracted or view.inner, free or view.inner
  if not (contracted and free):
    return False
  strength = 0 if other.is_weight else 2 if other.is_data else 1
  spec = v.spec(trace.shapes[view.leaf], contracted, free)
  first = strength > 0 and other.data < LEARNED
  use = Use(strength, spec, eqn.primitive.name, first, view.looked)
  trace.uses[view.leaf][use] += 1
  return True


def _product(
  trace: Trace, eqn: Eqn, values: Values, sides: Sequence[_Side]
) -> Values:
  """The product of two operands."""
  new = eqn.outvars[0].aval.shape
  contracts = any(side.contracted for side in sides)
  trace.mixed(values)
  if all(value.is_weight for value in values):
    data = [trace.acts_as_data(value) for value in values]
    if any(data) and not all(data):
      values = [x.as_data() if is_ else x for x, is_ in zip(values, data)]
  acting, views = [], []
  for i, (value, other, side) in enumerate(zip(values, values[::-1], sides)):
    selected = contracts and other.selects
    lost = () if selected or other.is_constant else side.contracted
    placed = [
      view._replace(
        axes=v.placed(view, side.places, side.shape, new),
        inner=view.inner + view.digits(lost),
      )
      for view in value.parameters
    ]
    # Else data scale a parameter.
    acts = not (value.is_data and other.is_weight)
    if acts and placed and selected:
      out = trace.mixed(values, placed)
      return [trace.look_up(out) if other.is_data else out]
    if acts:
      used = [_use(trace, eqn, x, side, other) for x in value.parameters]
      acts = value.is_weight or any(used)
      rows = (x for x in value.parameters if x.looked)
      if contracts and any(x.digits(side.contracted) for x in rows):
        trace.mark('consumed', other.outputs)  # Logits of rows looked up.
    if acts:
      acting.append(i)
    if acts or not contracts:
      views += placed
  if not (acting and contracts):  # It broadcasts, or is one of activations.
    return [trace.mixed(values, views)]
  for i, value in enumerate(values):
    if acting != [i] or value.is_data:  # Data may scale the parameter.
      trace.mark('consumed', value.outputs)
  outputs = [v.output(view, view.axes) for view in views]
  out = trace.mixed(values, outputs)
  if out.is_data:
    return [out._replace(data=LEARNED)]
  with_constant = any(value.is_constant for value in values)
  out = trace.mixed(values, outputs + views)
  return [out._replace(data=MADE) if with_constant else out]


def _dot(trace: Trace, eqn: Eqn, values: Values) -> Values:
  numbers, groups = eqn.params.get('ragged_dot_dimension_numbers'), ()
  if numbers is None:
    contracted, batch = eqn.params['dimension_numbers']
  else:
    contracted, batch = numbers.dot_dimension_numbers
    groups = numbers.rhs_group_dimensions
    if not groups:  # The groups are an axis of the result alone.
      return _opaque(trace, eqn, values)
  sides, place = [], len(batch[0])
  for i, atom in enumerate(eqn.invars[:2]):
    other = {*contracted[i], *batch[i], *(groups if i else ())}
    free = [axis for axis in range(atom.aval.ndim) if axis not in other]
    places = [(axis, k) for k, axis in enumerate(batch[i])]
    places += [(axis, k) for k, axis in enumerate(free, place)]
    sides.append(_Side(atom.aval.shape, contracted[i], free, places))
    place += len(free)
  return _product(trace, eqn, values[:2], sides)


def _convolution(trace: Trace, eqn: Eqn, values: Values) -> Values:
  image, kernel = values
  trace.mixed(values)
  shape, numbers = eqn.invars[1].aval.shape, eqn.params['dimension_numbers']
  out, channels, *_ = numbers.rhs_spec
  groups = eqn.params['feature_group_count'] * eqn.params['batch_group_count']
  # The groups, which lead the outputs, on an axis of their own.
  new = (*shape[:out], groups, shape[out] // groups, *shape[out + 1 :])
  views = []
  for view in kernel.parameters:
    axes = v.reshaped(view, shape, new)
    if axes is None:
      return _opaque(trace, eqn, values)
    # Groups that are an axis of the parameter are a batch.
    sizes = trace.shapes[view.leaf]
    whole = all(digit.size == sizes[digit.axis] for digit in axes[out])
    stacked = len(sizes) > len(shape)
    if groups > 1 == shape[channels] and not (
      stacked and whole and axes[out + 1]
    ):
      trace.mark('depthwise', [view])
    else:
      views.append(view._replace(axes=axes))
  # An image is no matrix, even if it is learned.
  image = image.as_data() if image.is_weight else image
  contracted = [i for i in range(len(new)) if i not in (out, out + 1)]
  places = [(out + 1, numbers.out_spec[1])] if groups == 1 else []
  sides = _Side(()), _Side(new, contracted, (out + 1,), places)
  kernel = kernel._replace(views=(*views, *kernel.outputs))
  return _product(trace, eqn, [image, kernel], sides)


# Control flow.


def _either(trace: Trace, one: Value, other: Value) -> Value:
  """What is one value or the other."""
  return one if one == other else trace.joined([one, other])


def _loop(
  trace: Trace, body: Any, consts: Values, carry: Values, xs: Values
) -> Values:
  """Runs the body until what it carries stays the same."""
  for _ in range(100):
    outs = trace.run(body.jaxpr, body.consts, consts + carry + xs)
    after = [_either(trace, *pair) for pair in zip(carry, outs)]
    if after == carry:
      break
    carry = after
  return carry + outs[len(carry) :]


def constants_and_carry(params: Any) -> tuple[int, int]:
  """How many of a scan's operands are constants, and how many its carry."""
  if 'ft_in' in params:  # From jax 0.12 on.
    consts, carry, _ = params['ft_in'].unpack()
    return len(consts), len(carry)
  return params['num_consts'], params['num_carry']


def _scan(trace: Trace, eqn: Eqn, values: Values) -> Values:
  consts, count = constants_and_carry(eqn.params)
  carried = consts + count
  xs = [x.moved(lambda view: view.axes[1:]) for x in values[carried:]]
  body = eqn.params['jaxpr']
  outs = _loop(trace, body, values[:consts], values[consts:carried], xs)
  ys = [y.moved(lambda view: ((), *view.axes)) for y in outs[count:]]
  return outs[:count] + ys


def _while(trace: Trace, eqn: Eqn, values: Values) -> Values:
  values = values[eqn.params['cond_nconsts'] :]
  consts, body = eqn.params['body_nconsts'], eqn.params['body_jaxpr']
  return _loop(trace, body, values[:consts], values[consts:], [])


def _cond(trace: Trace, eqn: Eqn, values: Values) -> Values:
  outs = [
    trace.run(branch.jaxpr, branch.consts, values[1:])
    for branch in eqn.params['branches']
  ]
  either = functools.partial(_either, trace)
  return [functools.reduce(either, some) for some in zip(*outs)]


_MOVES = (
  *('transpose', 'reshape', 'broadcast_in_dim', 'squeeze', 'rev', 'pad'),
  *('tile', 'slice', 'split', 'unstack', 'dynamic_slice', 'gather'),
  *('all_gather', 'argmax', 'argmin', 'reduce_sum', 'reduce_max'),
  *('reduce_min', 'reduce_prod', 'reduce_and', 'reduce_or'),
)
# All others are calls, or elementwise.
_RULES: dict[str, Callable[[Trace, Eqn, Values], Values]] = {
  **dict.fromkeys(_MOVES, _moved),
  **dict.fromkeys(
    ('concatenate', 'stack', 'dynamic_update_slice', 'scatter', 'scatter-add'),
    _concatenated,
  ),
  'eq': _equal,
  **dict.fromkeys(
    ('optimization_barrier', 'psum', 'psum_invariant', 'device_put'),
    lambda trace, _, values: [
      trace.mixed([value], value.views) for value in values
    ],
  ),
  'stop_gradient': lambda trace, _, values: [
    value.without_outputs() for value in values
  ],
  **dict.fromkeys(('dot_general', 'ragged_dot_general'), _dot),
  'conv_general_dilated': _convolution,
  'scan': _scan,
  'while': _while,
  'cond': _cond,
  **dict.fromkeys(
    ('pallas_call', 'ffi_call', 'pure_callback', 'io_callback'), _opaque
  ),
}


def rule(trace: Trace, eqn: Eqn, values: Values) -> Values:
  """What an equation makes of its operands."""
  return _RULES.get(eqn.primitive.name, _other)(trace, eqn, values)
