# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a program does with its parameters.

The program is a jaxpr. Every value in it is described by a ``Value``, and each
primitive has a rule from those of its operands to those of its results.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
import functools
import math
from typing import Any, NamedTuple

from jax.extend import core
import jax.numpy as jnp

from optax_namo._routing import names
from optax_namo._routing import views as v

_Eqn = Any  # jax.extend.core.JaxprEqn, whose avals have no shape for mypy.


class Value(NamedTuple):
  """What is known of a value.

  Attributes:
    views: The parameters that it is a view of. It is a *weight* if it has any,
      and no data.
    results: The products with parameters that it has in it, as views of their
      outputs; but for those that were already operands of others.
    data: 0 if it depends on parameters and constants alone, 1 if on data, 2 if
      a product or a look-up of a parameter has come before.
    selects: Whether it is a one-hot of integers.
  """

  views: tuple[v.View, ...] = ()
  results: tuple[v.View, ...] = ()
  data: int = 0
  selects: bool = False

  @property
  def weight(self) -> bool:
    return bool(self.views) and not self.data


_Values = list[Value]


class Use(NamedTuple):
  """A product of a parameter."""

  strength: int  # 2 with data, 1 with a constant, 0 with another parameter.
  spec: Any  # The matrices that it makes of the parameter; None for none.
  primitive: str
  first: bool  # Whether nothing was learned before it.
  where: int  # Tells products apart.


class Trace:
  """What a program does with its parameters, found by running its rules.

  Attributes:
    uses: The products of each leaf; a set in order.
    marks: What else is told of leaves: ``'seen'`` (used at all), ``'looked'``
      (an index of data selects from them), ``'selected'`` (matrices after it),
      ``'depthwise'``, ``'consumed'`` (their products are operands of later
      ones), ``'opaque'`` (they go where no rule follows, and the primitive).
    cuts: Entries at which the axis ``(leaf, axis)`` is cut.
  """

  def __init__(
    self, paths: Sequence[str], shapes: Sequence[tuple[int, ...]], split: bool
  ):
    self.paths, self.shapes, self.split = paths, shapes, split
    self.uses: dict[int, dict[Use, None]] = defaultdict(dict)
    self.marks: dict[str, dict[int, str]] = defaultdict(dict)
    self.cuts: dict[tuple[int, int], set[int]] = defaultdict(set)

  def mark(self, what: str, views: Iterable[v.View], why: str = '') -> None:
    self.marks[what].update({view.leaf: why for view in views})

  def run(self, jaxpr: Any, consts: Sequence[Any], values: _Values) -> _Values:
    """The results of a jaxpr."""
    known = dict(zip(jaxpr.invars, values))
    # An array that the function closes over is data, as its arguments are.
    for var, const in zip(jaxpr.constvars, consts):
      known[var] = Value(data=int(jnp.size(const) > 1))
    constant = Value()

    def read(atom):
      return constant if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
      rule = _RULES.get(eqn.primitive.name, _other)
      found = rule(self, eqn, [read(atom) for atom in eqn.invars])
      known.update(zip(eqn.outvars, found))
    return [read(atom) for atom in jaxpr.outvars]

  def union(self, values: Sequence[Value]) -> Value:
    """A value that depends on all these, and is a view of no parameter."""
    for value in values:
      self.mark('seen', value.views)
    results = (result for value in values for result in value.results)
    consumed = self.marks['consumed']
    return Value(
      results=_lost(
        result for result in results if result.leaf not in consumed
      ),
      data=max((value.data for value in values), default=0),
    )

  def look_up(self, value: Value) -> Value:
    """A value after an index of data has selected."""
    self.mark('looked', value.views)
    views = tuple(view._replace(looked=True) for view in value.views)
    return value._replace(views=views, data=2)


def _lost(results: Iterable[v.View]) -> tuple[v.View, ...]:
  """Results that are somewhere in a value."""
  return tuple(
    v.View(leaf, ()) for leaf in dict.fromkeys(r.leaf for r in results)
  )


def _mapped(
  value: Value,
  change: Callable[[v.Axes], v.Axes | None],
  plain: Value | None = None,
) -> Value:
  """``plain`` with a value's views and results, whose axes change."""
  views, results = (
    [view._replace(axes=change(view.axes) or ()) for view in some if view.axes]
    for some in (value.views, value.results)
  )
  plain = plain or value._replace(results=_lost(value.results))
  views = [view for view in views if view.axes]
  return _joined([Value(results=tuple(results))], plain, views)


def _joined(values: Iterable[Value], plain: Value, views: Any) -> Value:
  """``plain`` with these views, and its results where ``values`` have them."""
  left = {result.leaf for result in plain.results}
  placed = [x for value in values for x in value.results if x.axes]
  results = (*plain.results, *(x for x in placed if x.leaf in left))
  results = v.merged(results) if placed else plain.results
  return plain._replace(views=v.merged(views), results=results)


# Entries of one operand, the first, in other places.


def _moved(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  value, *indices = values
  plain = trace.union(values)._replace(selects=value.selects)
  if not (value.views or value.results):
    return [plain] * len(eqn.outvars)
  name, old = eqn.primitive.name, eqn.invars[0].aval.shape
  known, outs = not any(index.data for index in indices), []
  for i, var in enumerate(eqn.outvars):
    move = v.Move(old, var.aval.shape, eqn.params, i, known)
    for view in value.views + value.results:
      if trace.split and name in ('slice', 'split'):
        _cut(trace, view, move)
    out = _mapped(value, functools.partial(v.MOVES[name], move), plain)
    if len(out.views) < len(value.views) and var.aval.shape:
      _opaque(trace, eqn, [value])
    outs.append(out if known or not value.views else trace.look_up(out))
  return outs


def _cut(trace: Trace, view: v.View, move: v.Move) -> None:
  """Notes where a static slice cuts the axes of a parameter."""
  for digits, old, new, start in zip(view.axes, *move[:2], v.starts(move)):
    unit = math.prod(digit.size for digit in digits[1:])
    # Else no part is one piece of the parameter.
    if digits and new < old and not (start % unit or new % unit):
      leaf, (axis, size, stride, begin) = view.leaf, digits[0]
      if size * stride >= trace.shapes[leaf][axis]:
        ends = start // unit, (start + new) // unit
        trace.cuts[leaf, axis].update(begin + end * stride for end in ends)


# Entries of several operands.


def _concatenated(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """A weight if all operands are: not tokens or positions beside data."""
  out, rank = trace.union(values), len(eqn.outvars[0].aval.shape)
  views = [view for value in values for view in value.views]
  views = [view for view in views if len(view.axes) == rank and not out.data]
  out = _joined(values, out, views)
  if trace.split and eqn.primitive.name == 'concatenate':
    starts = defaultdict(list)
    for view in out.results + out.views:
      for digit in view.axes and view.axes[eqn.params['dimension']][:1]:
        starts[view.leaf, digit.axis].append(digit.start)
    for key, some in starts.items():  # They do not go separate ways.
      gone = range(min(some) + 1, max(some) + 1)
      trace.cuts[key].difference_update(gone)
  return [out]


def _elementwise(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """A view stays one when it is scaled, but not when data are added.

  A product of two parameters stays one even then: a frozen weight is data.
  """
  name, new = eqn.primitive.name, eqn.outvars[0].aval.shape
  plain, sized = trace.union(values), []
  for value, atom in zip(values, eqn.invars):
    old = atom.aval.shape
    if old != new and (value.views or value.results):
      stretch = functools.partial(v.stretched, v.Move(old, new))
      value = _mapped(value, stretch)
    if math.prod(old) > 1:
      sized.append(value)
  scales = len(sized) < 2 or name in ('mul', 'div')
  if name == 'select_n':  # A mask scales; its two cases are added.
    scales = sum(one.data and not one.views for one in values[1:]) == 0
  views = [view for value in sized for view in value.views]
  if plain.data and not scales:
    views = [view for view in views if view.inner and not view.looked]
  keeps = name in ('mul', 'convert_element_type')
  selects = keeps and any(value.selects for value in values)
  return [_joined(sized, plain._replace(selects=selects), views)]


def _equal(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """Integers compared with a list of known ones are a one-hot of them."""
  known = any(
    not value.data and not value.views and math.prod(atom.aval.shape) > 1
    for value, atom in zip(values, eqn.invars)
  )
  integers = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
  return [trace.union(values)._replace(selects=known and integers)]


def _each(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """Each operand has a result of its own."""
  return [trace.union([value])._replace(views=value.views) for value in values]


def _stopped(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """Nothing is learned through it."""
  return [trace.union(values)]


def _other(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """A call of a jaxpr, or elementwise; else no rule follows."""
  arity = len(values), len(eqn.outvars)
  for inner in eqn.params.values():
    jaxpr, consts = getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ())
    if isinstance(jaxpr, core.Jaxpr) and (
      (len(jaxpr.invars), len(jaxpr.outvars)) == arity
    ):
      return trace.run(jaxpr, consts, values)
  if not any(one.views or one.results or one.selects for one in values):
    return [trace.union(values)] * len(eqn.outvars)
  new = eqn.outvars[0].aval.shape if len(eqn.outvars) == 1 else None
  shapes = [atom.aval.shape for atom in eqn.invars]
  alike = new is not None and all(
    len(old) in (0, len(new)) and all(i in (1, j) for i, j in zip(old, new))
    for old in shapes
  )
  return (_elementwise if alike else _opaque)(trace, eqn, values)


def _opaque(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  """Notes the matrices that no rule follows from here."""
  views = [view for value in values if value.weight for view in value.views]
  hidden = [view for view in views if sum(map(bool, view.axes)) > 1]
  out = trace.union(values)
  if eqn.outvars and hidden:
    trace.mark('opaque', hidden, eqn.primitive.name)
    trace.mark('consumed', out.results)
    out = out._replace(results=_lost(hidden))
  return [out] * len(eqn.outvars)


# Products.


class _Side(NamedTuple):
  """The axes of an operand of a product."""

  contracted: Sequence[int]
  free: Sequence[int]
  places: dict[int, int]  # Where those that stay are in the result.

  def placed(self, view: v.View, rank: int) -> v.View:
    """A view of the operand as one of the result."""
    axes: list[Any] = [()] * rank
    for axis, place in self.places.items():
      axes[place] = view.axes[axis]
    inner = view.inner + view.digits(self.contracted)
    return view._replace(axes=tuple(axes), inner=inner)


def _use(
  trace: Trace, eqn: _Eqn, view: v.View, side: _Side, other: Value
) -> bool:
  """Notes whether a product takes a view as a matrix."""
  contracted, free = view.digits(side.contracted), view.digits(side.free)
  if not (contracted and free):
    contracted, free = contracted or view.inner, free or view.inner
  if not (contracted and free):
    return False
  strength = 0 if other.weight else 2 if other.data else 1
  spec = v.spec(trace.shapes[view.leaf], contracted, free)
  first = strength > 0 and other.data < 2
  use = Use(strength, spec, eqn.primitive.name, first, id(eqn))
  trace.uses[view.leaf][use] = None
  if view.looked:
    trace.mark('selected', [view])
  return True


def _product(
  trace: Trace, eqn: _Eqn, values: _Values, sides: Sequence[_Side]
) -> _Values:
  """The product of two operands."""
  out, rank = trace.union(values), len(eqn.outvars[0].aval.shape)
  if all(value.weight for value in values):
    # Tokens and positions are data, which the program alone cannot know.
    data = [
      all(names.is_embedding(trace.paths[view.leaf]) for view in value.views)
      for value in values
    ]
    values = [
      value._replace(views=(), data=2) if data == [i == 0, i == 1] else value
      for i, value in enumerate(values)
    ]
    out = out._replace(data=max(value.data for value in values))
  contracts = any(side.contracted for side in sides)
  placed = [
    [side.placed(view, rank) for view in value.views]
    for value, side in zip(values, sides)
  ]
  acting = []
  for i, (one, other) in enumerate([values, values[::-1]]):
    if not one.views or (one.data and other.weight):
      continue
    if contracts and other.selects:
      found = [a._replace(inner=b.inner) for a, b in zip(placed[i], one.views)]
      out = out._replace(views=tuple(found))
      return [trace.look_up(out) if other.data else out]
    used = [_use(trace, eqn, view, sides[i], other) for view in one.views]
    if one.weight or any(used):
      acting.append(i)
  if not contracts:  # It only broadcasts.
    return [out._replace(views=v.merged(placed[0] + placed[1]))]
  if not acting:
    return [out]
  for i, value in enumerate(values):
    if acting != [i] or value.data:  # Data may scale the parameter.
      trace.mark('consumed', value.results)
  views = v.merged(view for i in acting for view in placed[i])
  out = out._replace(results=views if trace.split else _lost(views))
  if not out.data:
    return [out._replace(views=views)]
  return [out._replace(data=2)]


def _dot(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
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
    places = {axis: k for k, axis in enumerate(batch[i])}
    places |= {axis: place + k for k, axis in enumerate(free)}
    sides.append(_Side(contracted[i], free, places))
    place += len(free)
  return _product(trace, eqn, values[:2], sides)


def _convolution(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  image, kernel = values
  trace.union(values)
  shape, numbers = eqn.invars[1].aval.shape, eqn.params['dimension_numbers']
  out, channels, *_ = numbers.rhs_spec
  groups = eqn.params['feature_group_count'] * eqn.params['batch_group_count']
  # The groups, which lead the outputs, on an axis of their own.
  new = (*shape[:out], groups, shape[out] // groups, *shape[out + 1 :])
  views = []
  for view in kernel.views:
    axes = v.reshaped(v.Move(shape, new), view.axes)
    if axes is None:
      return _opaque(trace, eqn, values)
    # Groups that are an axis of the parameter are a batch.
    sizes = trace.shapes[view.leaf]
    whole = all(digit.size == sizes[digit.axis] for digit in axes[out])
    if groups > 1 == shape[channels] and not (whole and axes[out + 1]):
      trace.mark('depthwise', [view])
    else:
      views.append(view._replace(axes=axes))
  # An image is no matrix, even if it is learned.
  image = image._replace(views=(), data=max(image.data, 2 * image.weight))
  contracted = [i for i in range(len(new)) if i not in (out, out + 1)]
  places = {out + 1: numbers.out_spec[1]} if groups == 1 else {}
  sides = _Side((), (), {}), _Side(contracted, (out + 1,), places)
  kernel = kernel._replace(views=tuple(views))
  return _product(trace, eqn, [image, kernel], sides)


# Control flow.


def _either(trace: Trace, one: Value, other: Value) -> Value:
  """What is one value or the other."""
  if one == other:
    return one
  both = trace.union([one, other])._replace(
    selects=one.selects and other.selects
  )
  return _joined(
    (one, other), both, () if both.data else one.views + other.views
  )


def _loop(
  trace: Trace, body: Any, consts: _Values, carry: _Values, xs: _Values
) -> _Values:
  """Runs the body until what it carries stays the same."""
  for _ in range(8):
    outs = trace.run(body.jaxpr, body.consts, consts + carry + xs)
    after = [_either(trace, *pair) for pair in zip(carry, outs)]
    if after == carry:
      break
    carry = after
  return carry + outs[len(carry) :]


def _scan(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  consts = eqn.params['num_consts']
  carried, count = consts + eqn.params['num_carry'], eqn.params['num_carry']
  inside = lambda axes: axes[1:]
  xs = [_mapped(x, inside) for x in values[carried:]]
  body = eqn.params['jaxpr']
  outs = _loop(trace, body, values[:consts], values[consts:carried], xs)
  outside = lambda axes: ((), *axes)
  ys = [_mapped(y, outside) for y in outs[count:]]
  return outs[:count] + ys


def _while(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  values = values[eqn.params['cond_nconsts'] :]
  consts, body = eqn.params['body_nconsts'], eqn.params['body_jaxpr']
  return _loop(trace, body, values[:consts], values[consts:], [])


def _cond(trace: Trace, eqn: _Eqn, values: _Values) -> _Values:
  outs = [
    trace.run(branch.jaxpr, branch.consts, values[1:])
    for branch in eqn.params['branches']
  ]
  either = functools.partial(_either, trace)
  return [functools.reduce(either, some) for some in zip(*outs)]


# All others are calls, or elementwise.
_RULES: dict[str, Callable[[Trace, _Eqn, _Values], _Values]] = {
  **dict.fromkeys(v.MOVES, _moved),
  **dict.fromkeys(
    ('concatenate', 'dynamic_update_slice', 'scatter', 'scatter-add'),
    _concatenated,
  ),
  'eq': _equal,
  **dict.fromkeys(('optimization_barrier', 'psum', 'psum_invariant'), _each),
  'stop_gradient': _stopped,
  **dict.fromkeys(('dot_general', 'ragged_dot_general'), _dot),
  'conv_general_dilated': _convolution,
  'scan': _scan,
  'while': _while,
  'cond': _cond,
  **dict.fromkeys(
    ('pallas_call', 'ffi_call', 'pure_callback', 'io_callback'), _opaque
  ),
}
