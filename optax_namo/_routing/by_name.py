# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves of a model are matrices, and along which axes."""

from __future__ import annotations  # help() shows names, not unions.

import collections
from collections.abc import Iterable, Sequence
import difflib
import functools
import re
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
  r"""The default routing: a model's matrices, and their axes.

  The first evidence that a leaf has decides, in this order:

  1. ``rules``.
  2. Names of embeddings, positions, output heads, layer scales, norms and
     biases: AdamW.
  3. The type of the layer, where the tree carries it: Equinox's and Haliax's.
     Others that are no matrices are told by a bias of their own shape, or by a
     rank below 2: AdamW.
  4. The bias beside the leaf. It has the leaf's outputs, behind the batch axes
     that lead both: the leaf's last axes but for a ``weight``, which is
     ``(out, in, ...)`` unless only ``(..., in, out)`` fits. Of rank 2,
     ``(out, in)`` is read whatever the name, where only that fits.
  5. The name and rank of a layer: attention (all heads are one matrix),
     convolutions, experts, LoRA.
  6. The norms beside it: if they are stacked, so is the leaf.
  7. Of rank 2, the leaf's name: ``weight`` is ``(out, in)``, any other
     ``(in, out)``.

  A leaf of rank 3 and more that nothing explains is AdamW's, with a warning.
  There is one, too, where a bias contradicts a type or a name, and where the
  tree has no names at all.

  Args:
    params: A pytree of arrays: Linen parameters, ``nnx.State``, an Equinox
      module's (``eqx.filter(model, eqx.is_inexact_array)``), Haiku parameters
      or any other. Shapes suffice (``jax.ShapeDtypeStruct``).
    rules: Rules of your own, tried first: pairs of a regular expression,
      searched in the '/'-joined path, and
      ``optax.contrib.MuonDimensionNumbers``, ``SplitMatrices`` or None (AdamW).
    strict: Whether what would be a warning is an error.

  Returns:
    A tree of ``params``' own structure: dimension numbers or None at each leaf.

  Raises:
    ValueError: ``strict``, and a leaf that nothing explains, evidence that
      contradicts itself, or a tree without names. ``rules`` or ``strict`` for
      a lone scalar, the step that ``optax.inject_hyperparams`` calls it with.

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
  """The decision on each leaf, in order; warns for its caller's caller."""
  unused = _unused(rules, params)
  decisions = _decisions(params, rules)
  message = f'{unused} {_message(decisions)}'.strip()
  if message and strict:
    raise ValueError(message)
  if message:
    warnings.warn(message, stacklevel=3)
  return decisions


class Decision(NamedTuple):
  """Where a leaf goes.

  Attributes:
    path: '/'-joined path of the leaf.
    shape: The leaf's shape.
    numbers: Its dimension numbers, or None for AdamW.
    why: The evidence in a word or two.
    against: Evidence that contradicts it; empty if there is none.
    likely: Dimension numbers to propose where there is no evidence.
  """

  path: str
  shape: _Shape
  numbers: Any
  why: str
  against: str = ''
  likely: MuonDimensionNumbers | None = None


# As `why`; the first two where there is no evidence.
_RANK_2, _UNEXPLAINED = 'rank 2', 'unexplained'
_LIKE_ITS_BIAS = 'bias of its shape'
# A norm, as `why`.
_NORM = rf'^(norm|{_LIKE_ITS_BIAS})$|(Layer|RMS|Rms|Group|Batch)Norm'


def _decisions(params: Any, rules: Sequence[tuple[str, Any]]) -> list[Decision]:
  """The decision on each leaf, in the order of the tree."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  paths = [trees.path_string(path) for path, _ in leaves]
  names = _unique(paths)
  shapes = {name: jnp.shape(leaf) for name, (_, leaf) in zip(names, leaves)}
  types = layer_types.told(params)
  vectors = {name: _vector(name, shapes, types.get(name)) for name in shapes}
  stacks = _stacks(filter(None, vectors.values()), shapes)

  def decision(path: str, name: str) -> Decision:
    for pattern, numbers in rules:
      if re.search(pattern, path):
        return Decision(path, shapes[name], numbers, f'rule {pattern}')
    found = vectors[name] or _matrix(name, shapes, types.get(name), stacks)
    return found._replace(path=path)

  decisions = map(decision, paths, names)
  return [
    one._replace(numbers=dims.canonical(one.numbers, one.path, one.shape))
    for one in decisions
  ]


def _unique(paths: Sequence[str]) -> list[str]:
  """Paths apart that read alike, as of 'a/w' beside {'a': {'w': ...}}."""
  seen: collections.Counter[str] = collections.Counter()
  names = []
  for path in paths:
    names.append(f'#{seen[path]}/{path}' if seen[path] else path)
    seen[path] += 1
  return names


def _unused(rules: Any, params: Any) -> str:
  """What to warn of rules that match no leaf; TypeError for what is no rule."""
  paths = [
    trees.path_string(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
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
  return (
    f'rules {unused} match no path of the parameters; nearest to the first is'
    f' {nearest!r}.'
  )


def _vector(
  path: str, shapes: dict[str, _Shape], told: layer_types.Told | None
) -> Decision | None:
  """The decision on a leaf that is AdamW's, whatever its axes; or None."""
  shape = shapes[path]
  why = names.adamw(path, shapes)
  if why:
    return Decision(path, shape, None, why)
  if told:
    return None if told.numbers else Decision(path, shape, None, told.type)
  if names.bias(path, shapes) == shape:
    certain = names.convention(path).certain and len(shape) > 1
    against = 'its name' if certain else ''
    return Decision(path, shape, None, _LIKE_ITS_BIAS, against)
  if len(shape) < 2:
    return Decision(path, shape, None, f'rank {len(shape)}')
  return None


class _Stack(NamedTuple):
  """What norms tell of the leaves beside them."""

  depth: int  # How many axes are a stack.
  first: bool  # Whether these can only be the first ones.


def _stacks(
  vectors: Iterable[Decision], shapes: dict[str, _Shape]
) -> dict[str, _Stack]:
  """What the norms directly within a module tell of it, by its path.

  They tell how many axes are a stack if these lead all that lies within. Where
  all have the norm's last axis, too, the stack may be along that instead, as
  ``nn.scan`` with another axis makes it.
  """
  norms: dict[str, set[_Shape]] = {}
  for one in vectors:
    if re.search(_NORM, one.why):
      leading = one.shape[:-1]
      while leading and leading[-1] == 1:  # Haiku's BatchNorm: (1, 1, 1, d).
        leading = leading[:-1]
      whole = leading + one.shape[-1:]
      norms.setdefault(_parent(_parent(one.path)), set()).add(whole)
  within: dict[str, list[_Shape]] = {module: [] for module in norms}
  for path, shape in shapes.items():
    while path:
      path = _parent(path)
      if path in within:
        within[path].append(shape)
  stacks = {}
  for module, wholes in norms.items():
    depth, certain = max(len(max(wholes)) - 1, 0), True
    if depth:
      certain = len({shape[: depth + 1] for shape in within[module]}) > 1
      depth *= len({shape[:depth] for shape in within[module]}) == 1
    stacks[module] = _Stack(depth, certain)
  return stacks


def _parent(path: str) -> str:
  return path.rpartition('/')[0]


def _stacked(path: str, shape: _Shape, stacks: dict[str, _Stack]) -> int:
  """How many axes of a leaf are a stack, as the nearest norms tell."""
  while path:
    path = _parent(path)
    if path in stacks:
      depth, first = stacks[path]
      # A vector lies beside them, whichever axis is the stack.
      return depth if first or len(shape) == depth + 1 else 0
  return 0


def _matrix(
  path: str,
  shapes: dict[str, _Shape],
  told: layer_types.Told | None,
  stacks: dict[str, _Stack],
) -> Decision:
  """The decision on a leaf of rank 2 or more by its axes."""
  shape, bias = shapes[path], names.bias(path, shapes)
  rank, stacked = len(shape), _stacked(path, shape, stacks)
  decision = functools.partial(Decision, path, shape)
  if told and isinstance(told.numbers, dims.SplitMatrices):
    return decision(told.numbers, told.type)
  convention, likely = names.convention(path), names.matrix(path, rank)
  why, guess = told or names.layer(path, shapes, stacked) or ('', None)
  if bias is None:
    if guess:
      return decision(guess, why)
    if stacked and rank - stacked == 2:
      return decision(likely, 'norms beside it')
    if stacked and rank - stacked == 1 and not convention.certain:
      return decision(None, 'norms beside it')
  else:
    layout, read = _readings(convention, shape, bias)
    if guess and _fits(guess, shape, bias):
      confirmed = not told and read == [guess]
      return decision(guess, 'bias' if confirmed else why)
    if len(read) == 1:
      doubt = convention.certain and layout not in convention.layouts
      against = why if told else 'its name' if doubt else ''
      return decision(read[0], 'bias', against)
    if told:
      return decision(guess, why)
    likely = read[-1] if read else likely
  if rank == 2:
    leaf = path.rpartition('/')[2]
    return decision(likely, f'name {leaf}' if convention.leaf else _RANK_2)
  return decision(None, _UNEXPLAINED, likely=likely)


def _readings(
  convention: names.Convention, shape: _Shape, bias: _Shape
) -> tuple[str, list[MuonDimensionNumbers]]:
  """The axes that a leaf can have, given the bias beside it, and their layout.

  The layouts of the leaf's name are tried in turn, at rank 2 the other one,
  too; each with the bias as it stands and, only if that explains nothing,
  without its trailing ones (a convolution's in Equinox, (out, 1, 1)).
  """
  layouts = convention.layouts
  if len(shape) == 2:
    layouts += (names.OUT_IN,)
  for layout in layouts:
    for form in _forms(bias):
      read = _READERS[layout](shape, form)
      if read:
        return layout, read
  return '', []


def _forms(bias: _Shape) -> list[_Shape]:
  """A bias as it stands, and without its trailing ones, one after the other."""
  ones = next((i for i, n in enumerate(bias[:0:-1]) if n > 1), len(bias) - 1)
  return [bias[: len(bias) - i] for i in range(max(ones, 0) + 1)]


def _outputs_last(leaf: _Shape, bias: _Shape) -> list[MuonDimensionNumbers]:
  """(batch..., in..., out...) beside (batch..., out...)."""
  rank, inputs = len(leaf), len(leaf) - len(bias)
  return [
    _M(tuple(range(batch, batch + inputs)), tuple(range(batch + inputs, rank)))
    for batch in range(len(bias))
    if inputs > 0 and bias == leaf[:batch] + leaf[batch + inputs :]
  ]


def _outputs_first(leaf: _Shape, bias: _Shape) -> list[MuonDimensionNumbers]:
  """(batch..., out, in...) beside (batch..., out)."""
  outputs = len(bias)
  if 0 < outputs < len(leaf) and bias == leaf[:outputs]:
    return [_M(tuple(range(outputs, len(leaf))), (outputs - 1,))]
  return []


_READERS = {names.IN_OUT: _outputs_last, names.OUT_IN: _outputs_first}


def _fits(numbers: MuonDimensionNumbers, shape: _Shape, bias: _Shape) -> bool:
  """Whether the bias has the batch and output axes, and no others."""
  inputs = axes.axes_of(numbers, len(shape)).input
  rest = tuple(n for axis, n in enumerate(shape) if axis not in inputs)
  return rest in _forms(bias)


def _message(decisions: list[Decision]) -> str:
  """What to warn about, with the mend; empty if there is nothing."""
  parts = []
  unexplained = [one for one in decisions if one.why == _UNEXPLAINED]
  if unexplained:
    named = _listed(unexplained)
    parts.append(
      f'matrix_dimension_numbers cannot tell the axes of {named}. Say which'
      f' they are with rules=[{_rule(unexplained[0])}], or None in their place'
      ' for AdamW, where they go without.'
    )
  contradicted = [one for one in decisions if one.against]
  if contradicted:
    named = _listed(contradicted)
    parts.append(
      f'matrix_dimension_numbers goes by the bias beside {named}. Say whether'
      f' that is right with rules=[{_rule(contradicted[0])}].'
    )
  nameless = [one for one in decisions if one.why == _RANK_2]
  letters = any(re.search(r'[^\W\d_]', one.path) for one in decisions)
  if nameless and len(decisions) > 1 and not letters:
    parts.append(
      'matrix_dimension_numbers goes by names, and no path of the parameters'
      ' has a letter: it takes every leaf of rank 2 for an (in, out) matrix,'
      ' embeddings and output heads too. For the variables of a Keras model:'
      ' numbers = matrix_dimension_numbers({v.path: v.value for v in'
      ' variables}), weight_dimension_numbers=[numbers[v.path] for v in'
      ' variables].'
    )
  return ' '.join(parts)


def _listed(decisions: list[Decision]) -> str:
  """Leaves for a message; those that differ in numbers alone once."""
  alike: dict[Any, list[Decision]] = {}
  for one in decisions:
    key = re.sub(r'\d+', '*', one.path), one.shape, one.against
    alike.setdefault(key, []).append(one)
  parts = []
  for (_, shape, against), members in alike.items():
    more = f' and {len(members) - 1} like it' if len(members) > 1 else ''
    doubt = f' ({against} says otherwise)' if against else ''
    parts.append(f'{members[0].path!r}{more} of shape {shape}{doubt}')
  return ', '.join(parts)


def _rule(one: Decision) -> str:
  """A rule for the leaf, as code."""
  quote = '"' if "'" in one.path else "'"
  path = re.sub(r'\d+', r'\\d+', re.escape(one.path))
  pattern = f'r{quote}^{path}${quote}'
  numbers = one.numbers or one.likely
  if numbers is None:
    return f'({pattern}, None)'
  _, *groups = axes.axes_of(numbers, len(one.shape))
  inputs, outputs = (axes[0] if len(axes) == 1 else axes for axes in groups)
  return (
    f'({pattern}, MuonDimensionNumbers(reduction_axis={inputs},'
    f' output_axis={outputs}))'
  )
