# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves of a model are matrices, and along which axes, by names."""

from __future__ import annotations  # help() shows names, not unions.

import collections
from collections.abc import Sequence
import difflib
import itertools
import re
import sys
from typing import Any, NamedTuple
import warnings

import jax
import jax.numpy as jnp

from optax_namo._layout import axes
from optax_namo._layout import trees
from optax_namo._routing import dimension_numbers as dims
from optax_namo._routing import layer_types
from optax_namo._routing import names

_Shape = tuple[int, ...]


def matrix_dimension_numbers(
  params: Any,
  *,
  rules: Sequence[tuple[str, Any]] = (),
  strict: bool = False,
) -> Any:
  r"""The default routing, by names: a model's matrices, and their axes.

  The first evidence that a leaf has decides. First come the ``rules``. Then
  come, for AdamW, the names of embeddings, output heads, norms and biases, and
  leaves of at most one axis above 1. Then comes the type of the leaf's layer,
  where the tree carries it. Of two axes, a ``weight`` is
  ``(out, in)`` and all others ``(in, out)``, or what fits the bias beside it.
  Of more, a leaf is what its layer's name says (attention, convolutions,
  experts), or its bias, if that leaves one reading.

  Where two pieces of evidence conflict, or two readings are left, the leaf goes
  to AdamW, with a warning. ``dimension_numbers_by_use`` reads the program
  instead.

  Args:
    params: A pytree of arrays: Linen parameters, ``nnx.State``, an Equinox
      module's (``eqx.filter(model, eqx.is_inexact_array)``), Haiku parameters
      or any other. Shapes suffice (``jax.ShapeDtypeStruct``).
    rules: Pairs of a regular expression, searched in the '/'-joined path, and
      ``optax.contrib.MuonDimensionNumbers``, ``SplitMatrices`` or None (AdamW).
    strict: Whether a guess is an error, and a rule that matches no leaf.

  Returns:
    A tree of ``params``' own structure: dimension numbers or None at each leaf.

  Raises:
    ValueError: ``strict``; or ``rules`` or ``strict`` for a lone scalar, the
      step that ``optax.inject_hyperparams`` calls it with.
    TypeError: ``rules`` are no pairs of a regular expression and a spec.

  Examples:
    >>> import functools
    >>> import jax.numpy as jnp
    >>> from optax.contrib import MuonDimensionNumbers
    >>> from optax_namo import matrix_dimension_numbers, namo_d
    >>> params = {'wte': jnp.ones((9, 4)), 'mix': jnp.ones((2, 4, 4))}
    >>> rules = [(r'^mix$', MuonDimensionNumbers(1, 2))]
    >>> numbers = matrix_dimension_numbers(params, rules=rules)
    >>> numbers['wte'] is None, numbers['mix'].output_axis
    (True, (2,))
    >>> tx = namo_d(0.035, weight_dimension_numbers=functools.partial(
    ...     matrix_dimension_numbers, rules=rules, strict=True))
    >>> state = tx.init(params)

  References:
    Section 4 of arXiv 2602.17080 for the two groups; the numbers are those of
    ``optax.contrib.muon``, optax 0.2.7.
  """
  leaf = jax.tree_util.all_leaves([params])
  if (rules or strict) and leaf and not jnp.shape(params):
    raise ValueError(
      'matrix_dimension_numbers got a scalar for the parameters.'
      ' optax.inject_hyperparams takes a callable for a schedule and calls it'
      ' with the step, which would lose the rules: name it in its static_args,'
      " 'weight_dimension_numbers'."
    )
  structure: Any = jax.tree.structure(params)
  found = decided(params, rules, strict)
  return structure.unflatten([one.numbers for one in found])


def specs_of(params: Any) -> list[dims.Spec]:
  """What ``matrix_dimension_numbers`` finds, in the order of the leaves."""
  return [one.numbers for one in decided(params)]


class Decision(NamedTuple):
  """Where a leaf goes."""

  numbers: Any  # None for AdamW.
  why: str  # The evidence in a word or two.
  doubt: str = ''  # Why this is a guess, if it is one.


def decided(
  params: Any, rules: Sequence[tuple[str, Any]] = (), strict: bool = False
) -> list[Decision]:
  """The decision on each leaf, in order; warns where the caller is."""
  paths = trees.paths(params)
  unused = _unused(rules, paths)
  plain = names.plain(paths)
  # Some may read alike, as of 'a/w' beside {'a': {'w': ...}}.
  seen: Any = collections.defaultdict(itertools.count)
  plain = ['#/' * next(seen[path]) + path for path in plain]
  shapes = names.Shapes(zip(plain, map(jnp.shape, jax.tree.leaves(params))))
  stacks = names.stacks(shapes)
  found = []
  for path, name, told in zip(paths, plain, layer_types.told(params)):
    rule = next((rule for rule in rules if re.search(rule[0], path)), None)
    if rule:
      one = Decision(rule[1], f'rule {rule[0]}')
    else:
      one = _decision(name, shapes, told, stacks)
    spec = dims.canonical(one.numbers, path, shapes[name])
    found.append(one._replace(numbers=spec))
  message = f'{unused} {_message(paths, list(shapes.values()), found)}'.strip()
  if strict and (unused or any(one.doubt for one in found)):
    raise ValueError(message)
  if message:
    warn(message)
  return found


def warn(message: str) -> None:
  """Warns at the line outside of these libraries that led here."""
  frame, level = sys._getframe(1), 2
  libraries = ('optax_namo', 'optax', 'jax', 'flax', 'equinox', 'functools')
  while frame.f_back and (
    frame.f_globals.get('__name__', '').partition('.')[0] in libraries
  ):
    frame, level = frame.f_back, level + 1
  warnings.warn(message, stacklevel=level)


def _unused(rules: Any, paths: Sequence[str]) -> str:
  """What to warn of rules that match no leaf; TypeError for what is no rule."""
  unused = []
  for rule in rules:
    try:
      pattern, _ = rule if isinstance(rule, tuple | list) else ()
      if not any([re.search(pattern, path) for path in paths] or [True]):
        unused.append(pattern)
    except (TypeError, ValueError, re.error) as error:
      raise TypeError(
        'rules must be a list of pairs of a regular expression and dimension'
        f" numbers, such as [(r'^head/kernel$', None)], got {rule!r}: {error}."
      ) from None
  if not unused:
    return ''
  (nearest,) = difflib.get_close_matches(unused[0], paths, n=1, cutoff=0.0)
  return f'rules {unused} match no path; nearest to the first is {nearest!r}.'


_OTHERWISE = 'the bias beside it says otherwise'


def _decision(
  path: str,
  shapes: names.Shapes,
  told: layer_types.Told | None,
  stacks: set[int],
) -> Decision:
  """The decision on a leaf: the first evidence that it has."""
  shape, bias = shapes[path], names.bias(path, shapes)
  if why := names.adamw(path, shapes):
    return Decision(None, why)
  if told and told.numbers is None:
    return Decision(None, told.type)
  if not axes.is_wide(shape):
    return Decision(None, 'vector' if len(shape) > 1 else f'rank {len(shape)}')
  if told:
    why, groups = told.type, [[told.numbers]]
  elif why := names.unsure(path, shapes):
    return Decision(None, why, why)
  elif bias == shape:
    doubt = _OTHERWISE if names.layout(path) == names.IN_OUT else ''
    return Decision(None, 'bias of its shape', doubt)
  else:
    why, groups = names.readings(path, shapes, shape[0] in stacks)
  ways = groups[0]
  if bias is not None:
    why = why if told else 'bias'
    fitting = [[one for one in g if _fits(one, shape, bias)] for g in groups]
    ways = next(filter(None, fitting), [])
    if not ways:
      return Decision(None, why, _OTHERWISE)
  doubt = ''
  if len(ways) == len(shape) == 2:
    doubt = 'the bias beside it fits either axis'
  elif len(ways) != 1:
    return Decision(None, why, 'nothing tells its axes')
  if path.rpartition('/')[2].isdigit():  # Perhaps an embedding or a head.
    doubt = 'it has a number for a name'
  return Decision(ways[0], why, doubt)


def _fits(numbers: Any, shape: _Shape, bias: _Shape) -> bool:
  """Whether the bias has the batch and output axes, and then only ones.

  A convolution's in Equinox is (out, 1, 1).
  """
  if isinstance(numbers, dims.SplitMatrices):
    return True
  inputs = axes.axes_of(numbers, len(shape)).input
  rest = tuple(n for axis, n in enumerate(shape) if axis not in inputs)
  return rest == bias[: len(rest)] and set(bias[len(rest) :]) <= {1}


def _message(
  paths: Sequence[str], shapes: Sequence[_Shape], found: Sequence[Decision]
) -> str:
  """What to warn of, with the mend; empty if there is nothing."""
  message = ''
  if all(one.numbers is None for one in found) and any(
    not one.why.startswith('rule')
    # A lone vector is a model that optax.flatten or ravel_pytree has flattened.
    and (axes.is_wide(shape) or not path and max(shape, default=1) > 1)
    for path, shape, one in zip(paths, shapes, found)
  ):
    message = 'NO LEAF IS A MATRIX, all train with AdamW. '
  alike: dict[Any, list[str]] = {}
  for path, shape, one in zip(paths, shapes, found):
    if one.doubt:
      group = 'taken for a matrix' if one.numbers else 'AdamW'
      what = f'of shape {shape}: {one.doubt}, {group}'
      alike.setdefault((re.sub(r'\d+', '*', path), what), []).append(path)
  listed = [
    f'{some[0]!r}{f" and {len(some) - 1} like it" * (len(some) > 1)} {what}'
    for (_, what), some in alike.items()
  ]
  if listed:
    message += (
      'matrix_dimension_numbers goes by names and cannot be sure of'
      f' {"; ".join(listed)}. '
    )
  elif message:
    message += 'If some are matrices: '
  return message and (
    f'{message}dimension_numbers_by_use(loss, params, ...) reads the program,'
    " or a rule says what a leaf is: (r'^path$', None) for AdamW."
  )
