# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a program does with its parameters.

The program is a jaxpr. Every value in it is described by a ``Value``; what a
primitive makes of those of its operands, ``primitives`` says.
"""

from collections import Counter
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend import core
import jax.numpy as jnp

from optax_namo._routing import names
from optax_namo._routing import views as v

Eqn = Any  # jax.extend.core.JaxprEqn, whose avals have no shape for mypy.


PLAIN, MADE, DATA, LEARNED = range(4)


class Value(NamedTuple):
  """What is known of a value.

  Attributes:
    views: The parameters that it is a view of, and outputs of products with
      parameters that it has in it, but for those that were already operands of
      others.
    data: ``PLAIN`` where it depends on parameters and constants alone, ``MADE``
      where a product of the two has come before, ``DATA`` where it depends on
      data, ``LEARNED`` where a product or a look-up of a parameter has come
      before that. What depends on several values has the last of theirs.
    selects: Whether it is a one-hot of integers.
    fixed: Whether it depends on no argument, as constants of NumPy do not.
  """

  views: tuple[v.View, ...] = ()
  data: int = PLAIN
  selects: bool = False
  fixed: bool = True

  @property
  def parameters(self) -> list[v.View]:
    return [view for view in self.views if not view.is_output]

  @property
  def outputs(self) -> list[v.View]:
    return [view for view in self.views if view.is_output]

  @property
  def is_data(self) -> bool:
    return self.data >= DATA

  @property
  def is_weight(self) -> bool:
    return bool(not self.is_data and self.parameters)

  @property
  def is_constant(self) -> bool:
    return not (self.is_data or self.parameters)

  def as_data(self) -> 'Value':
    """The same of parameters that are data, as tokens are."""
    return Value(tuple(self.outputs), LEARNED, fixed=False)

  def without_outputs(self) -> 'Value':
    """The same where nothing that gave it learns of what becomes of it."""
    return self._replace(views=tuple(self.parameters))

  def moved(self, change: Callable[..., v.Axes | None], *args: Any) -> 'Value':
    """The same with other axes, and without the parameters that lose them."""
    views = [
      view._replace(axes=(view.axes and change(view, *args)) or ())
      for view in self.views
    ]
    kept = (view for view in views if view.axes or view.is_output)
    return self._replace(views=tuple(kept))


Values = list[Value]


class Use(NamedTuple):
  """A product of a parameter."""

  strength: int  # 2 with data, 1 with a constant, 0 with another parameter.
  spec: Any  # The matrices that it makes of the parameter; None for none.
  primitive: str
  first: bool  # Whether nothing was learned before it.
  looked: bool  # Whether an index of data has selected what it takes.


class Trace:
  """What a program does with its parameters, found by running it.

  Attributes:
    uses: The products of each leaf, and how many there are.
    marks: What else is told of leaves: ``'seen'`` (used at all), ``'looked'``
      (an index of data selects from them), ``'depthwise'``, ``'consumed'``
      (their products are operands of later ones), ``'opaque'`` (they go where
      no rule follows, and the primitive).
    cuts: Entries at which the axis ``(leaf, axis)`` is cut.
  """

  def __init__(
    self,
    paths: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    rule: Callable[['Trace', Eqn, Values], Values],
  ):
    self.paths, self.shapes, self._rule = paths, shapes, rule
    self.surrogate = False  # Within what has a derivative of its own.
    self.uses: dict[int, Counter[Use]] = defaultdict(Counter)
    self.marks: dict[str, dict[int, str]] = defaultdict(dict)
    self.cuts: dict[tuple[int, int], set[int]] = defaultdict(set)

  def mark(self, what: str, views: Iterable[v.View], why: str = '') -> None:
    self.marks[what].update({view.leaf: why for view in views})

  def run(self, jaxpr: Any, consts: Sequence[Any], values: Values) -> Values:
    """The results of a jaxpr."""
    known = dict(zip(jaxpr.invars, values))
    # An array that the function closes over may be data, as its arguments are.
    for var, const in zip(jaxpr.constvars, consts):
      known[var] = Value(data=DATA if jnp.size(const) > 1 else PLAIN)
    constant = Value()

    def read(atom):
      return constant if isinstance(atom, core.Literal) else known[atom]

    for eqn in jaxpr.eqns:
      # The forward pass of a gradient tells all, and its products come first.
      if 'transpose(' in str(eqn.source_info.name_stack):
        found = [Value(data=LEARNED, fixed=False)] * len(eqn.outvars)
      else:
        found = self._rule(self, eqn, [read(atom) for atom in eqn.invars])
      for var, value in zip(eqn.outvars, found):
        chosen = _is_choice(eqn, var) and not self.surrogate
        known[var] = value.without_outputs() if chosen else value
    return [read(atom) for atom in jaxpr.outvars]

  def mixed(self, values: Values, views: Iterable[v.View] = ()) -> Value:
    """A value that depends on all these, and has these views."""
    for value in values:
      self.mark('seen', value.parameters)
    hidden = [v.output(view) for value in values for view in value.outputs]
    kept = [
      view
      for view in (*hidden, *views)
      if not (view.is_output and view.leaf in self.marks['consumed'])
    ]
    return Value(
      v.merged(kept),
      max([PLAIN, *(value.data for value in values)]),
      fixed=all(value.fixed for value in values),
    )

  def joined(self, values: Values, scaled: bool = False) -> Value:
    """The same, with all views, where entries are added or lie side by side.

    Parameters among data are data, as tokens and positions are, unless they are
    ``scaled``. A product of two stays one even then: a frozen weight is data.
    """
    lost = not scaled and any(
      value.is_data and not value.fixed for value in values
    )
    views = [
      view
      for value in values
      for view in value.views
      if view.is_output or not lost or (view.inner and not view.looked)
    ]
    return self.mixed(values, views)

  def cut(self, leaf: int, digit: v.Digit, *ends: int) -> None:
    """Notes where a slice cuts an axis of a parameter, all of which it has."""
    if digit.size * digit.stride >= self.shapes[leaf][digit.axis]:
      self.cuts[leaf, digit.axis].update(
        int(digit.start + end * digit.stride) for end in ends
      )

  def acts_as_data(self, value: Value) -> bool:
    """Whether a weight, in a product with another one, is data.

    Tokens and positions are, which the program alone cannot know.
    """
    wide = [x.leaf for x in value.parameters if len(self.shapes[x.leaf]) > 1]
    named = all(names.is_embedding(self.paths[leaf]) for leaf in wide)
    return value.data == MADE or bool(wide and named)

  def look_up(self, value: Value) -> Value:
    """A value after an index of data has selected."""
    self.mark('looked', value.parameters)
    views = (
      view if view.is_output else view._replace(looked=True)
      for view in value.views
    )
    return value._replace(views=tuple(views), data=LEARNED)


def _is_choice(eqn: Eqn, var: Any) -> bool:
  """Whether no gradient passes, as through an argmax or a comparison."""
  kind: Any = getattr(var.aval, 'dtype', None)
  indices = eqn.primitive.name in ('argmax', 'argmin', 'top_k', 'sort')
  return kind == jnp.bool_ or (indices and jnp.issubdtype(kind, jnp.integer))
