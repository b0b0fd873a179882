# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves of a model are matrices, and along which axes."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Sequence
import difflib
import functools
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

_M = MuonDimensionNumbers
_Shape = tuple[int, ...]


def matrix_dimension_numbers(
  params: Any,
  *,
  rules: Sequence[tuple[str, Any]] = (),
  strict: bool = False,
) -> Any:
  r"""The default routing, by names: a model's matrices, and their axes.

  The first evidence that a leaf has decides:

  1. ``rules``.
  2. Names of embeddings, output heads, layer scales, norms and biases, a bias
     of the leaf's own shape, or at most one axis above 1: AdamW. A head's name
     speaks for its own layer, or for the last one in a module of this name.
  3. The type of the layer, where the tree carries it: Equinox's and Haliax's.
  4. The name and rank of a layer: attention (all heads are one matrix),
     convolutions, experts, LoRA; if the bias beside it agrees.
  5. That bias. It has the leaf's outputs, behind the batch axes that lead both:
     the leaf's last axes but for a ``weight``, which is ``(out, in, ...)``
     unless only ``(..., in, out)`` fits.
  6. At rank 2, the leaf's name: ``weight`` is ``(out, in)``, others
     ``(in, out)``.

  What is left, and where two of these say different things, goes to AdamW with
  a warning. There is one, too, for a leaf that has a number for a name, which
  may be anything. ``dimension_numbers_by_use`` reads the program instead.

  Args:
    params: A pytree of arrays: Linen parameters, ``nnx.State``, an Equinox
      module's (``eqx.filter(model, eqx.is_inexact_array)``), Haiku parameters
      or any other. Shapes suffice (``jax.ShapeDtypeStruct``).
    rules: Pairs of a regular expression, searched in the '/'-joined path, and
      ``optax.contrib.MuonDimensionNumbers``, ``SplitMatrices`` or None (AdamW).
    strict: Whether what would be a warning is an error.

  Returns:
    A tree of ``params``' own structure: dimension numbers or None at each leaf.

  Raises:
    ValueError: ``strict``, and a guess, or a rule that matches no leaf.
      ``rules`` or ``strict`` for a lone scalar, the step that
      ``optax.inject_hyperparams`` calls it with.
    TypeError: ``rules`` are no pairs.

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
  decisions = decided(params, rules, strict)
  structure: Any = jax.tree.structure(params)
  return structure.unflatten([one.numbers for one in decisions])


def specs_of(params: Any) -> list[dims.Spec]:
  """What ``matrix_dimension_numbers`` finds, in the order of the leaves."""
  return [one.numbers for one in decided(params)]


def decided(
  params: Any, rules: Sequence[tuple[str, Any]] = (), strict: bool = False
) -> list[Decision]:
  """The decision on each leaf, in order; warns where the caller is."""
  paths = trees.paths(params)
  unused = _unused(rules, paths)
  decisions = _decisions(params, paths, rules)
  message = f'{unused} {_message(decisions)}'.strip()
  if message and strict:
    raise ValueError(message)
  if message:
    warnings.warn(message, stacklevel=_callers_level())
  return decisions


def _callers_level() -> int:
  """The ``stacklevel`` of the first frame that is no library's of these."""
  frame, level = sys._getframe(1), 1
  libraries = ('optax_namo', 'optax', 'jax', 'flax', 'equinox', 'functools')
  while frame.f_back and (
    frame.f_globals.get('__name__', '').partition('.')[0] in libraries
  ):
    frame, level = frame.f_back, level + 1
  return level


class Decision(NamedTuple):
  """Where a leaf goes."""

  path: str
  shape: _Shape
  numbers: Any  # None for AdamW.
  why: str  # The evidence in a word or two.
  doubt: str = ''  # Why this is a guess, if it is one.


_LIKE_ITS_BIAS = 'bias of its shape'
_OTHERWISE = 'the bias beside it says otherwise'
# A norm, as `why`.
_NORM = rf'^(norm|{_LIKE_ITS_BIAS})$|(Layer|RMS|Rms|Group|Batch)Norm'


def _decisions(
  params: Any, paths: Sequence[str], rules: Sequence[tuple[str, Any]]
) -> list[Decision]:
  """The decision on each leaf, in the order of the tree."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  plain = names.plain(paths)
  # Some may read alike, as of 'a/w' beside {'a': {'w': ...}}.
  plain = ['#/' * plain[:i].count(path) + path for i, path in enumerate(plain)]
  shapes = {name: jnp.shape(leaf) for name, (_, leaf) in zip(plain, leaves)}
  types = layer_types.told(params)
  told = {name: types.get(path) for name, (path, _) in zip(plain, leaves)}
  vectors = {name: _vector(name, shapes, told[name]) for name in shapes}
  stacks = {
    names.parent(names.parent(name)): one.shape[:-1]
    for name, one in vectors.items()
    if one and re.search(_NORM, one.why) and _is_wide(one.shape)
  }

  def decision(path: str, name: str) -> Decision:
    for pattern, numbers in rules:
      if re.search(pattern, path):
        return Decision(path, shapes[name], numbers, f'rule {pattern}')
    found = vectors[name] or _matrix(name, shapes, told[name], stacks)
    return found._replace(path=path)

  decisions = map(decision, paths, plain)
  return [
    one._replace(numbers=dims.canonical(one.numbers, one.path, one.shape))
    for one in decisions
  ]


def _unused(rules: Any, paths: Sequence[str]) -> str:
  """What to warn of rules that match no leaf; TypeError for what is no rule."""
  unused = []
  for rule in rules:
    if not (isinstance(rule, tuple | list) and len(rule) == 2):
      raise TypeError(
        'rules must be a list of pairs of a pattern and dimension numbers, such'
        f" as [(r'^head/kernel$', None)], got {rules!r}."
      )
    if not any(re.search(rule[0], path) for path in paths):
      unused.append(rule[0])
  if not unused or not paths:
    return ''
  (nearest,) = difflib.get_close_matches(unused[0], paths, n=1, cutoff=0.0)
  return f'rules {unused} match no path; nearest to the first is {nearest!r}.'


def _is_wide(shape: _Shape) -> bool:
  """Whether more than one axis is above 1: else it is a vector."""
  return sum(size > 1 for size in shape) > 1


def _vector(
  path: str, shapes: names.Shapes, told: layer_types.Told | None
) -> Decision | None:
  """The decision on a leaf that is AdamW's, whatever its axes; or None."""
  shape = shapes[path]
  why, doubt = names.adamw(path, shapes), ''
  if not why and told:
    why = '' if told.numbers else told.type
  elif not why and len(shape) > 1 and names.bias(path, shapes) == shape:
    why = _LIKE_ITS_BIAS
    doubt = _OTHERWISE if names.convention(path).certain else ''
  if not why and not _is_wide(shape):
    why = f'rank {len(shape)}' if len(shape) < 2 else 'vector'
  if why == names.IN_A_HEAD and _is_wide(shape):
    doubt = 'of the layers of this head the last is not told'
  return Decision(path, shape, None, why, doubt) if why else None


def _matrix(
  path: str,
  shapes: names.Shapes,
  told: layer_types.Told | None,
  stacks: dict[str, _Shape],
) -> Decision:
  """The decision on a leaf of two axes or more by these axes."""
  shape, bias = shapes[path], names.bias(path, shapes)
  rank, convention = len(shape), names.convention(path)
  matrix = functools.partial(Decision, path, shape)
  adamw = functools.partial(matrix, None)
  if told and isinstance(told.numbers, dims.SplitMatrices):
    return matrix(told.numbers, told.type)
  why, guess = told or names.layer(path, shapes)
  if bias is None:
    stack = () if told else _stack(path, stacks)
    if stack and shape[: len(stack)] == stack:
      if rank == len(stack) + 1 and not convention.certain:
        return adamw('norms beside it')
      if guess and rank > 2 and 0 in guess[0] + guess[1]:
        return adamw(why, 'norms beside it are stacked')
    if guess:
      return matrix(guess, why)
  else:
    other = (names.OUT_IN,) * (rank == 2)
    layout, read = _readings(shape, bias, convention.layouts + other)
    if guess and _fits(guess, shape, bias):
      return matrix(guess, 'bias' if not told and read == [guess] else why)
    if len(read) == 1 and not (why == 'attention' and rank > 3):
      unlike = convention.certain and layout not in convention.layouts
      if told or unlike or (guess and not convention.leaf):
        return adamw('bias', _OTHERWISE)
      return matrix(read[0], 'bias', _guess(path, shape))
    if told:
      return matrix(guess, why)
  if rank > 2:
    return adamw('unexplained', 'nothing tells its axes')
  leaf = path.rpartition('/')[2]
  why = f'name {leaf}' if convention.leaf else 'rank 2'
  return matrix(names.matrix(path, rank), why, _guess(path))


def _stack(path: str, stacks: dict[str, _Shape]) -> _Shape:
  """The axes that stack the nearest norms."""
  while path:
    path = names.parent(path)
    if path in stacks:
      return stacks[path]
  return ()


def _guess(path: str, beside_bias: _Shape = ()) -> str:
  """What to doubt of a matrix."""
  leaf = path.rpartition('/')[2]
  if leaf.isdigit():  # Perhaps an embedding or a head.
    return 'it has a number for a name'
  if re.match(r'W|w\d', leaf) and len(set(beside_bias)) == 1:
    return 'the bias beside it fits either axis'
  return ''


def _readings(
  shape: _Shape, bias: _Shape, layouts: Sequence[str]
) -> tuple[str, list[MuonDimensionNumbers]]:
  """The first layout in which the bias has a leaf's outputs, and the ways."""
  rank = len(shape)
  for layout in layouts:
    if layout == names.IN_OUT:
      ways = [
        _M(tuple(range(batch, out)), tuple(range(out, rank)))
        for batch in range(rank - 1)
        for out in range(batch + 1, rank)
      ]
    else:
      ways = [_M(tuple(range(i + 1, rank)), (i,)) for i in range(rank - 1)]
    fitting = [numbers for numbers in ways if _fits(numbers, shape, bias)]
    if fitting:
      return layout, fitting
  return '', []


def _fits(numbers: MuonDimensionNumbers, shape: _Shape, bias: _Shape) -> bool:
  """Whether the bias has the batch and output axes, and then only ones.

  A convolution's in Equinox is (out, 1, 1).
  """
  inputs = axes.axes_of(numbers, len(shape)).input
  rest = tuple(n for axis, n in enumerate(shape) if axis not in inputs)
  return rest == bias[: len(rest)] and set(bias[len(rest) :]) <= {1}


def _message(decisions: Sequence[Decision]) -> str:
  """What to warn of, with the mend; empty if there is nothing."""
  alike: dict[Any, list[str]] = {}
  for one in decisions:
    if one.doubt:
      key = re.sub(r'\d+', '*', one.path), one.shape, one.doubt, one.numbers
      alike.setdefault(key, []).append(one.path)
  if not alike:
    return ''
  listed, rules = [], []
  for (_, shape, doubt, numbers), paths in alike.items():
    more = f' and {len(paths) - 1} like it' if len(paths) > 1 else ''
    group = 'taken for a matrix' if numbers else 'AdamW'
    listed.append(f'{paths[0]!r}{more} of shape {shape}: {doubt}, {group}')
    if not numbers:
      rules.append(_rule(paths, decisions))
  none = all(one.numbers is None for one in decisions)
  loud = 'NO LEAF IS A MATRIX, all train with AdamW. ' if none else ''
  known = ', '.join(dict.fromkeys(rules))
  return (
    f'{loud}matrix_dimension_numbers goes by names and cannot be sure of'
    f' {"; ".join(listed)}. dimension_numbers_by_use(loss, params, ...) reads'
    f' the program instead. {f"To keep AdamW: rules=[{known}]." * bool(known)}'
  ).strip()


def _rule(paths: Sequence[str], decisions: Sequence[Decision]) -> str:
  """A rule that keeps these leaves, and no matrix, with AdamW, as code."""
  pattern = re.sub(r'\d+', r'\\d+', re.escape(paths[0]))
  if any(
    one.numbers and re.search(f'^{pattern}$', one.path) for one in decisions
  ):
    pattern = f'({"|".join(map(re.escape, paths))})'
  quote = '"' if "'" in pattern else "'"
  return f'(r{quote}^{pattern}${quote}, None)'
