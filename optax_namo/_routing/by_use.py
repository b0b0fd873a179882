# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves of a model are matrices, read off the program that uses them."""

from __future__ import annotations  # help() shows names, not unions.

import collections
from collections.abc import Callable, Sequence
import functools
import itertools
from typing import Any, Literal
import warnings

import jax
import jax.numpy as jnp

from optax_namo import _hyperparameters as hyperparameters
from optax_namo._layout import axes
from optax_namo._layout import trees
from optax_namo._routing import by_name
from optax_namo._routing import dimension_numbers as dims
from optax_namo._routing import names
from optax_namo._routing import primitives
from optax_namo._routing import program
from optax_namo._routing import views


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

  The function is traced, and nothing computed. Names tell positions and latents
  where a product has no data, nothing else. In one of a parameter with data,

  .. math::

    y_{b \ldots o} = \sum_i x_{b \ldots i} W_{b i o},

  the contracted axes are the inputs and the free ones the outputs. The others
  are a batch of matrices: those of ``lax.scan``, ``jax.vmap``, experts, groups,
  or layers that an index selects. A convolution contracts its spatial axes,
  too; all heads of an attention are one matrix.

  Four kinds of parameters are AdamW's: those that no product contracts, those
  looked up, depthwise convolutions, and output heads. A look-up is by an index
  or a one-hot, tied to an output or not. A head is a parameter whose product no
  other product with a parameter follows.

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
    says, with a warning. That is a leaf whose uses contradict each other, that
    the function does not use, or that goes into a kernel or a callback.

  Raises:
    ValueError: ``strict``, and a leaf that the program does not tell; or an
      option is unknown.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from optax_namo import dimension_numbers_by_use, namo_d
    >>> def loss(params, x):
    ...   hidden = jax.nn.relu(x @ params['in'].T)
    ...   return jnp.mean((hidden @ params['out']) ** 2)
    >>> params = {'in': jnp.ones((8, 4)), 'out': jnp.ones((8, 2))}
    >>> numbers = dimension_numbers_by_use(loss, params, jnp.ones((16, 4)))
    >>> numbers['in']
    MuonDimensionNumbers(reduction_axis=(1,), output_axis=(0,))
    >>> numbers['out'] is None  # The output head.
    True
    >>> tx = namo_d(0.035, weight_dimension_numbers=numbers)

  References:
    Section 4 of arXiv 2602.17080 for the two groups; the numbers are those of
    ``optax.contrib.muon``, optax 0.2.7.
  """
  options = output_heads, first_layers, split
  found = decided(function, params, args, strict, *options)
  structure: Any = jax.tree.structure(params)
  return structure.unflatten([one.numbers for one in found])


def decided(
  function: Callable[..., Any],
  params: Any,
  args: Sequence[Any],
  strict: bool = False,
  output_heads: str = 'adamw',
  first_layers: str = 'matrix',
  split: bool = False,
) -> list[by_name.Decision]:
  """The decision on each leaf, in order; warns where the caller is."""
  hyperparameters.choice('output_heads', output_heads, ('adamw', 'matrix'))
  hyperparameters.choice('first_layers', first_layers, ('adamw', 'matrix'))
  hyperparameters.flag('split', split)
  closed = jax.make_jaxpr(function)(params, *args)
  shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
  trace = program.Trace(trees.paths(params), shapes, primitives.rule)
  weights = [
    program.Value((views.whole(i, n),), fixed=False)
    for i, n in enumerate(shapes)
  ]
  others = [program.Value(data=program.DATA, fixed=False)] * (
    len(closed.jaxpr.invars) - len(weights)
  )
  trace.run(closed.jaxpr, closed.consts, weights + others)
  found = [
    _decision(trace, leaf, output_heads, first_layers, split)
    for leaf in range(len(weights))
  ]
  if not any(one.doubt for one in found):
    return found
  untold = ', '.join(
    f'{path!r} of shape {shape} {one.doubt}'
    for path, shape, one in zip(trace.paths, shapes, found)
    if one.doubt
  )
  message = (
    f'dimension_numbers_by_use cannot read the axes of all leaves: {untold}.'
    ' There it goes by names, as matrix_dimension_numbers does: look at'
    ' routing_table, and replace the numbers of a leaf where they are wrong.'
  )
  if strict:
    raise ValueError(message)
  by_name.warn(message)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    by_names = by_name.decided(params)
  return [
    name._replace(why=f'by name: {name.why}') if one.doubt else one
    for name, one in zip(by_names, found)
  ]


def _decision(
  trace: program.Trace,
  leaf: int,
  output_heads: str,
  first_layers: str,
  split: bool,
) -> by_name.Decision:
  """The decision on a leaf."""
  adamw = functools.partial(by_name.Decision, None)
  shape, counts = trace.shapes[leaf], trace.uses[leaf]
  marked = {what: why[leaf] for what, why in trace.marks.items() if leaf in why}
  strength = max((use.strength for use in counts), default=0)
  if not axes.is_wide(shape):
    return adamw(f'rank {len(shape)}' if len(shape) < 2 else 'vector')
  if 'looked' in marked and not any(use.looked for use in counts):
    return adamw('looked up')
  if 'opaque' in marked and not strength:
    return adamw('', f'goes into {marked["opaque"]}')
  if not counts:
    why = 'depthwise' if 'depthwise' in marked else 'elementwise'
    return adamw(why, '' if 'seen' in marked else 'is not used')
  own = trace.paths[leaf].rpartition('/')[2]
  if strength < 2 and names.is_embedding(own):
    return adamw('embedding')  # Positions that a constant resizes.
  uses = [use for use in counts if use.strength == strength]
  # With both sides exchanged it is the same matrix.
  sides = {use.spec and frozenset(dims.of_parts(use.spec)) for use in uses}
  if None in sides or len(sides) > 1:
    ways = ', '.join(dict.fromkeys(use.primitive for use in uses))
    return adamw('', f'is used in ways that contradict each other ({ways})')
  if output_heads == 'adamw' and 'consumed' not in marked:
    return adamw('last product')
  if first_layers == 'adamw' and all(use.first for use in uses):
    return adamw('first product')
  often = collections.Counter[Any]()
  for use in uses:
    often[use.spec] += counts[use]
  ((spec, _),) = often.most_common(1)
  numbers = dims.of_parts(spec)
  if 1 in axes.matrix_shape(numbers, shape)[1:]:
    return adamw('vector')
  for axis in numbers.output_axis if split and spec is numbers else ():
    ends = sorted({0, shape[axis], *trace.cuts[leaf, axis]})
    if len(ends) > 2:
      sizes = tuple(end - start for start, end in itertools.pairwise(ends))
      spec = dims.SplitMatrices(numbers, axis, sizes)
      break
  inputs = ', '.join(map(str, numbers.reduction_axis))
  plural = 'axis' if len(numbers.reduction_axis) == 1 else 'axes'
  why = f'contracts {plural} {inputs} in {uses[0].primitive}'
  return by_name.Decision(spec, why)
