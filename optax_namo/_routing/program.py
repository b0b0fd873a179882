# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a program does with its parameters.

The program is a jaxpr. Every value in it is described by a ``Value``, and each
primitive has a rule from those of its operands to those of its results.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any, NamedTuple

from jax.extend import core
import jax.numpy as jnp

from optax_namo._routing import names
from optax_namo._routing import views as v


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


_Values = list[Value]


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


class Trace:
  """What a program does with its parameters, found by running its rules.

  Attributes:
    uses: The products of each leaf; a set in order.
    seen: Leaves that are used at all.
    looked: Leaves that an index of data selects from.
    selected: Those that are matrices after it.
    depthwise: Leaves of depthwise convolutions.
    consumed: Leaves whose products are operands of later ones.
    opaque: Leaves that go where no rule follows, and the primitive.
    cuts: Entries at which the axis ``(leaf, axis)`` is cut.
  """

  def __init__(
    self, paths: Sequence[str], shapes: Sequence[tuple[int, ...]], split: bool
  ):
    self.paths, self.shapes, self.split = paths, shapes, split
    self.uses: dict[int, dict[Use, None]] = {}
    self.seen: set[int] = set()
    self.looked: set[int] = set()
    self.selected: set[int] = set()
    self.depthwise: set[int] = set()
    self.consumed: set[int] = set()
    self.opaque: dict[int, str] = {}
    self.cuts: dict[tuple[int, int], set[int]] = {}

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
    carried = frozenset().union(*(value.carried for value in values))
    self.seen.update(view.leaf for value in values for view in value.views)
    data = max((value.data for value in values), default=0)
    return Value(data=data, carried=carried - self.consumed)

  def look_up(self, value: Value) -> Value:
    """A value after an index of data has selected."""
    self.looked.update(view.leaf for view in value.views)
    views = tuple(view._replace(looked=True) for view in value.views)
    return value._replace(views=views, data=2)

  def use(
    self, eqn: v.Eqn, view: v.View, roles: Sequence[str], other: Value
  ) -> bool:
    """Notes whether a product takes a view as a matrix."""
    contracted, free = (
      sum((axis for axis, is_ in zip(view.axes, roles) if is_ == role), ())
      for role in (_CONTRACTED, _FREE)
    )
    if not (contracted and free):
      contracted, free = contracted or view.inner, free or view.inner
    if not (contracted and free):
      return False
    strength = 0 if other.weight else 2 if other.data else 1
    spec = v.spec(self.shapes[view.leaf], contracted, free)
    first = strength > 0 and other.data < 2
    use = Use(strength, spec, eqn.primitive.name, first, id(eqn))
    self.uses.setdefault(view.leaf, {})[use] = None
    if view.looked:
      self.selected.add(view.leaf)
    return True

  def embeds(self, view: v.View) -> bool:
    """Whether a parameter is an embedding by its name."""
    return names.adamw(self.paths[view.leaf], {}) == 'embedding'

  def cut(self, view: v.View, eqn: v.Eqn, out: int) -> None:
    """Notes where a static slice cuts the axes of a parameter."""
    old, _ = v.shapes(eqn)
    for digits, dim, ends in zip(view.axes, old, v.window(eqn, out)):
      unit = math.prod(digit.size for digit in digits[1:])
      for digit in digits[:1] if ends != (0, dim) else ():
        length = self.shapes[view.leaf][digit.axis]
        # Else no part is one piece of the parameter.
        if digit.size * digit.stride >= length and not any(
          end % unit for end in ends
        ):
          cuts = self.cuts.setdefault((view.leaf, digit.axis), set())
          cuts.update(digit.start + end // unit * digit.stride for end in ends)


def _mapped(value: Value, change: Callable[[v.Axes], v.Axes | None]) -> Value:
  """A value whose axes change; views without any are gone."""
  views, results = (
    tuple(
      view._replace(axes=axes)
      for view in some
      for axes in [change(view.axes)]
      if axes
    )
    for some in (value.views, value.results)
  )
  return value._replace(views=views, results=results)


# Entries of one operand, the first, in other places.


def _moved(
  trace: Trace, eqn: v.Eqn, values: _Values, move: v.Move | None = None
) -> _Values:
  value, *indices = values
  move = move or v.MOVES[eqn.primitive.name]
  plain = trace.union(values)._replace(selects=value.selects)
  if not (value.views or value.results):
    return [plain] * len(eqn.outvars)
  outs = []
  for i, var in enumerate(eqn.outvars):
    if trace.split and eqn.primitive.name in ('slice', 'split'):
      for view in value.views + value.results:
        trace.cut(view, eqn, i)
    out = _mapped(value, functools.partial(move, eqn, out=i))
    if len(out.views) < len(value.views) and var.aval.shape:
      _opaque(trace, eqn, [value])
    out = plain._replace(views=out.views, results=out.results)
    by_data = value.views and any(index.data for index in indices)
    outs.append(trace.look_up(out) if by_data else out)
  return outs


def _gather(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  known = not values[1].data
  return _moved(trace, eqn, values, functools.partial(v.gathered, known=known))


# Entries of several operands.


def _joined(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """A weight if all operands are: not tokens or positions beside data."""
  rank = len(eqn.outvars[0].aval.shape)
  out = trace.union(values)
  views = sum((value.views for value in values if not out.data), ())
  views = v.merged(tuple(view for view in views if len(view.axes) == rank))
  results = v.merged(sum((value.results for value in values), ()))
  if trace.split and eqn.primitive.name == 'concatenate':
    starts: dict[tuple[int, int], list[int]] = {}
    for view in results + views:
      for digit in view.axes[eqn.params['dimension']][:1]:
        starts.setdefault((view.leaf, digit.axis), []).append(digit.start)
    for key, some in starts.items():  # They do not go separate ways.
      cuts = trace.cuts.get(key, set())
      cuts -= {cut for cut in cuts if min(some) < cut <= max(some)}
  return [out._replace(views=views, results=results)]


def _elementwise(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """A view stays one when it is scaled, but not when data are added.

  A product of two parameters stays one even then: a frozen weight is data.
  """
  name, new = eqn.primitive.name, eqn.outvars[0].aval.shape
  out, sized = trace.union(values), []
  for value, atom in zip(values, eqn.invars):
    old = atom.aval.shape
    if old != new and (value.views or value.results):
      value = _mapped(value, functools.partial(v.stretched, old=old, new=new))
    if math.prod(old) > 1:
      sized.append(value)
  scales = len(sized) < 2 or name in ('mul', 'div')
  if name == 'select_n':  # A mask scales; its two cases are added.
    scales = sum(one.data and not one.views for one in values[1:]) == 0
  views = sum((value.views for value in sized), ())
  if out.data and not scales:
    views = tuple(view for view in views if view.inner and not view.looked)
  results = sum((value.results for value in sized), ())
  keeps = name in ('mul', 'convert_element_type')
  return [
    out._replace(
      views=v.merged(views),
      results=v.merged(results),
      selects=keeps and any(value.selects for value in values),
    )
  ]


def _equal(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """Integers compared with a list of known ones are a one-hot of them."""
  known = any(
    not value.data and not value.views and math.prod(atom.aval.shape) > 1
    for value, atom in zip(values, eqn.invars)
  )
  integers = jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)
  return [trace.union(values)._replace(selects=known and integers)]


def _each(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """Each operand has a result of its own."""
  return [trace.union([value])._replace(views=value.views) for value in values]


def _stopped(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """Nothing is learned through it."""
  return [trace.union(values)]


def _other(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """A call of a jaxpr, or elementwise; else no rule follows."""
  for inner in eqn.params.values():
    jaxpr, consts = getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ())
    if isinstance(jaxpr, core.Jaxpr) and (
      (len(jaxpr.invars), len(jaxpr.outvars)) == (len(values), len(eqn.outvars))
    ):
      return trace.run(jaxpr, consts, values)
  if not any(one.views or one.results or one.selects for one in values):
    return [trace.union(values)] * len(eqn.outvars)

  def fits(old, new):
    alike = len(old) == len(new) and all(i in (1, j) for i, j in zip(old, new))
    return not old or alike

  if not eqn.primitive.multiple_results and all(
    fits(atom.aval.shape, eqn.outvars[0].aval.shape) for atom in eqn.invars
  ):
    return _elementwise(trace, eqn, values)
  return _opaque(trace, eqn, values)


def _opaque(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  """Notes the matrices that no rule follows from here."""
  hidden = {
    view.leaf
    for value in values
    for view in value.views
    if value.weight and sum(map(bool, view.axes)) > 1
  }
  out = trace.union(values)
  if eqn.outvars and hidden:
    trace.opaque.update(dict.fromkeys(hidden, eqn.primitive.name))
    trace.consumed |= out.carried
    out = out._replace(carried=frozenset(hidden))
  return [out] * len(eqn.outvars)


# Products.

_CONTRACTED, _FREE, _BATCH = 'contracted', 'free', 'batch'


class _Side(NamedTuple):
  """The axes of an operand of a product: their roles, and places after it."""

  roles: list[str]
  places: list[int | None]

  def placed(self, view: v.View, rank: int) -> v.View:
    """A view of the operand as one of the result."""
    axes: list[tuple[v.Digit, ...]] = [()] * rank
    inner = view.inner
    for digits, role, place in zip(view.axes, *self):
      if place is not None:
        axes[place] = digits
      elif role == _CONTRACTED:
        inner += digits
    return view._replace(axes=tuple(axes), inner=inner)


def _product(
  trace: Trace, eqn: v.Eqn, values: _Values, sides: Sequence[_Side]
) -> _Values:
  """The product of two operands."""
  trace.union(values)
  if all(value.weight for value in values):
    # Tokens and positions are data, which the program alone cannot know.
    data = [all(map(trace.embeds, value.views)) for value in values]
    values = [
      value._replace(views=(), data=2) if data == [i == 0, i == 1] else value
      for i, value in enumerate(values)
    ]
  out, rank = trace.union(values), len(eqn.outvars[0].aval.shape)
  contracts = any(_CONTRACTED in side.roles for side in sides)
  placed = [
    tuple(side.placed(view, rank) for view in value.views)
    for value, side in zip(values, sides)
  ]
  acting = []
  for i, (one, other) in enumerate([values, values[::-1]]):
    if not one.views or (one.data and other.weight):
      continue
    if contracts and other.selects:
      before = [view.inner for view in one.views]
      found = tuple(
        view._replace(inner=inner) for view, inner in zip(placed[i], before)
      )
      out = out._replace(views=found)
      return [trace.look_up(out) if other.data else out]
    used = [trace.use(eqn, view, sides[i].roles, other) for view in one.views]
    if one.weight or any(used):
      acting.append(i)
  if not contracts:  # It only broadcasts.
    return [out._replace(views=v.merged(placed[0] + placed[1]))]
  if not acting:
    return [out]
  for i, value in enumerate(values):
    if acting != [i] or value.data:  # Data may scale the parameter.
      trace.consumed |= value.carried
  views = v.merged(sum((placed[i] for i in acting), ()))
  out = out._replace(carried=frozenset(view.leaf for view in views))
  if not out.data:
    return [out._replace(views=views)]
  return [out._replace(data=2, results=views if trace.split else ())]


def _dot(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  numbers, groups = eqn.params.get('ragged_dot_dimension_numbers'), ()
  if numbers is None:
    contracted, batch = eqn.params['dimension_numbers']
  else:
    contracted, batch = numbers.dot_dimension_numbers
    groups = numbers.rhs_group_dimensions
    if not groups:  # The groups are an axis of the result alone.
      return _opaque(trace, eqn, values)
  sides, free = [], len(batch[0])
  for i, atom in enumerate(eqn.invars[:2]):
    side = _Side([], [])
    for axis in range(atom.aval.ndim):
      role, place = _FREE, None
      if axis in contracted[i]:
        role = _CONTRACTED
      elif axis in batch[i]:
        role, place = _BATCH, list(batch[i]).index(axis)
      elif i == 1 and axis in groups:
        role = _BATCH
      else:
        place, free = free, free + 1
      side.roles.append(role)
      side.places.append(place)
    sides.append(side)
  return _product(trace, eqn, values[:2], sides)


def _convolution(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  image, kernel = values
  trace.union(values)
  shape, numbers = eqn.invars[1].aval.shape, eqn.params['dimension_numbers']
  out, channels, *_ = numbers.rhs_spec
  groups = eqn.params['feature_group_count'] * eqn.params['batch_group_count']
  # The groups, which lead the outputs, on an axis of their own.
  new = (*shape[:out], groups, shape[out] // groups, *shape[out + 1 :])
  views = []
  for view in kernel.views:
    axes = v.reshaped(view.axes, shape, new)
    if axes is None:
      return _opaque(trace, eqn, values)
    # Groups that are an axis of the parameter are a batch.
    sizes = trace.shapes[view.leaf]
    whole = all(digit.size == sizes[digit.axis] for digit in axes[out])
    if groups > 1 == shape[channels] and not (whole and axes[out + 1]):
      trace.depthwise.add(view.leaf)
    else:
      views.append(view._replace(axes=axes))
  # An image is no matrix, even if it is learned.
  image = image._replace(views=(), data=max(image.data, 2 * image.weight))
  side = _Side([_CONTRACTED] * len(new), [None] * len(new))
  side.roles[out : out + 2] = _BATCH, _FREE
  side.places[out + 1] = numbers.out_spec[1] if groups == 1 else None
  kernel = kernel._replace(views=tuple(views))
  return _product(trace, eqn, [image, kernel], [_Side([], []), side])


# Control flow.


def _either(trace: Trace, one: Value, other: Value) -> Value:
  """What is one value or the other."""
  if one == other:
    return one
  both = trace.union([one, other])
  return both._replace(
    views=() if both.data else v.merged(one.views + other.views),
    selects=one.selects and other.selects,
    results=v.merged(one.results + other.results),
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


def _scan(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  consts = eqn.params['num_consts']
  carried, count = consts + eqn.params['num_carry'], eqn.params['num_carry']
  xs = [_mapped(value, lambda axes: axes[1:]) for value in values[carried:]]
  body = eqn.params['jaxpr']
  outs = _loop(trace, body, values[:consts], values[consts:carried], xs)
  ys = [_mapped(value, lambda axes: ((), *axes)) for value in outs[count:]]
  return outs[:count] + ys


def _while(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  values = values[eqn.params['cond_nconsts'] :]
  consts, body = eqn.params['body_nconsts'], eqn.params['body_jaxpr']
  return _loop(trace, body, values[:consts], values[consts:], [])


def _cond(trace: Trace, eqn: v.Eqn, values: _Values) -> _Values:
  outs = [
    trace.run(branch.jaxpr, branch.consts, values[1:])
    for branch in eqn.params['branches']
  ]
  either = functools.partial(_either, trace)
  return [functools.reduce(either, some) for some in zip(*outs)]


# All others are calls, or elementwise.
_RULES: dict[str, Callable[[Trace, v.Eqn, _Values], _Values]] = {
  **dict.fromkeys(v.MOVES, _moved),
  'gather': _gather,
  'concatenate': _joined,
  'dynamic_update_slice': _joined,
  'scatter': _joined,
  'scatter-add': _joined,
  'eq': _equal,
  'optimization_barrier': _each,
  'psum': _each,
  'psum_invariant': _each,
  'stop_gradient': _stopped,
  'dot_general': _dot,
  'ragged_dot_general': _dot,
  'conv_general_dilated': _convolution,
  'scan': _scan,
  'while': _while,
  'cond': _cond,
  'pallas_call': _opaque,
  'ffi_call': _opaque,
  'pure_callback': _opaque,
  'io_callback': _opaque,
}
