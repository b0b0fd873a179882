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
from optax.contrib import MuonDimensionNumbers

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

  The first evidence that a leaf has decides: ``rules``; names of embeddings,
  output heads, norms and biases, or at most one axis above 1 (AdamW); the type
  of its layer, where the tree carries it. Of two axes, a ``weight`` is
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
    >>> tx = namo_d(0.05, weight_dimension_numbers=functools.partial(
    ...     matrix_dimension_numbers, rules=rules, strict=True))
    >>> state = tx.init(params)
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
  shapes = dict(zip(plain, map(jnp.shape, jax.tree.leaves(params))))
  stacks = {
    shape[0]
    for path, shape in shapes.items()
    if _is_wide(shape) and names.adamw(path, {}) == 'norm'
  }
  found = []
  for path, name, told in zip(paths, plain, layer_types.told(params)):
    rule = next((rule for rule in rules if re.search(rule[0], path)), None)
    if rule:
      one = Decision(rule[1], f'rule {rule[0]}')
    else:
      one = _decision(name, shapes, told, stacks)
    spec = dims.canonical(one.numbers, path, shapes[name])
    found.append(one._replace(numbers=spec))
  message = _message(paths, list(shapes.values()), found)
  if strict and (unused or any(one.doubt for one in found)):
    raise ValueError(f'{unused} {message}'.strip())
  if unused or message:
    warn(f'{unused} {message}'.strip())
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


def _is_wide(shape: _Shape) -> bool:
  """Whether more than one axis is above 1: else it is a vector."""
  return sum(size > 1 for size in shape) > 1


_OTHERWISE = 'the bias beside it says otherwise'


def _decision(
  path: str,
  shapes: names.Shapes,
  told: layer_types.Told | None,
  stacks: set[int],
) -> Decision:
  """The decision on a leaf: the first evidence that it has."""
  shape, rank = shapes[path], len(shapes[path])
  if why := names.adamw(path, shapes):
    return Decision(None, why)
  if told and told.numbers is None:
    return Decision(None, told.type)
  if not _is_wide(shape):
    return Decision(None, f'rank {rank}' if rank < 2 else 'vector')
  bias = names.bias(path, shapes)
  if told:
    if bias is None or _fits(told.numbers, shape, bias):
      return Decision(told.numbers, told.type)
    return Decision(None, told.type, _OTHERWISE)
  if why := names.unsure(path, shapes):
    return Decision(None, why, why)
  if bias == shape:
    doubt = _OTHERWISE if names.layout(path) == names.IN_OUT else ''
    return Decision(None, 'bias of its shape', doubt)

  why, groups = names.readings(path, shapes, shape[0] in stacks)
  fitting = [[way for way in g if _fits(way, shape, bias)] for g in groups]
  found = next(filter(None, fitting), [])
  if bias is not None and (found or rank > 2 or _fits(_ROWS, shape, bias)):
    if not found:
      return Decision(None, 'bias', _OTHERWISE)
    name, why = why, 'bias'
  else:
    name, found = why, groups[0]
  if len(found) != 1:
    return Decision(None, why, 'nothing tells its axes')
  doubt = ''
  if path.rpartition('/')[2].isdigit():  # Perhaps an embedding or a head.
    doubt = 'it has a number for a name'
  elif name == 'rank 2' and all(fitting):
    doubt = 'the bias beside it fits either axis'
  return Decision(found[0], why, doubt)


_ROWS = MuonDimensionNumbers((1,), (0,))


def _fits(
  numbers: MuonDimensionNumbers, shape: _Shape, bias: _Shape | None
) -> bool:
  """Whether the bias has the batch and output axes, and then only ones.

  A convolution's in Equinox is (out, 1, 1).
  """
  if bias is None or isinstance(numbers, dims.SplitMatrices):
    return bias is not None
  inputs = axes.axes_of(numbers, len(shape)).input
  rest = tuple(n for axis, n in enumerate(shape) if axis not in inputs)
  return rest == bias[: len(rest)] and set(bias[len(rest) :]) <= {1}


def _message(
  paths: Sequence[str], shapes: Sequence[_Shape], found: Sequence[Decision]
) -> str:
  """What to warn of, with the mend; empty if there is nothing."""
  none = all(one.numbers is None for one in found) and any(
    _is_wide(shape) and not one.why.startswith('rule')
    for shape, one in zip(shapes, found)
  )
  alike: dict[Any, list[str]] = {}
  for path, shape, one in zip(paths, shapes, found):
    if one.doubt:
      key = re.sub(r'\d+', '*', path), shape, one.doubt, one.numbers
      alike.setdefault(key, []).append(path)
  if not (alike or none):
    return ''
  loud = 'NO LEAF IS A MATRIX, all train with AdamW. ' if none else ''
  by_use = 'dimension_numbers_by_use(loss, params, ...) reads the program'
  if not alike:
    return f'{loud}If some are matrices: {by_use}.'
  matrices = [path for path, one in zip(paths, found) if one.numbers]
  listed, rules = [], []
  for (_, shape, doubt, numbers), some in alike.items():
    more = f' and {len(some) - 1} like it' if len(some) > 1 else ''
    group = 'taken for a matrix' if numbers else 'AdamW'
    listed.append(f'{some[0]!r}{more} of shape {shape}: {doubt}, {group}')
    if not numbers:
      rules.append(_rule(some, matrices))
  known = ', '.join(dict.fromkeys(rules))
  return (
    f'{loud}matrix_dimension_numbers goes by names and cannot be sure of'
    f' {"; ".join(listed)}. {by_use} instead.'
    f'{f" To keep AdamW: rules=[{known}]." * bool(known)}'
  )


def _rule(paths: Sequence[str], matrices: Sequence[str]) -> str:
  """A rule that keeps these leaves, and no matrix, with AdamW, as code."""
  pattern = re.sub(r'\d+', r'\\d+', re.escape(paths[0]))
  if any(re.search(f'^{pattern}$', path) for path in matrices):
    pattern = f'({"|".join(map(re.escape, paths))})'
  quote = '"' if "'" in pattern else "'"
  return f'(r{quote}^{pattern}${quote}, None)'
