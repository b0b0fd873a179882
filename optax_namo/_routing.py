# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves of a Flax model are matrices, and along which axes."""

from collections.abc import Sequence
import re
from typing import Any
import warnings

import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

from optax_namo import _dimension_numbers as dims

_M = MuonDimensionNumbers

# What a path says on its own: whole components, whatever the rank. The NAMO
# reference code sends embeddings and output heads to AdamW.
_ADAMW = (
  # Embeddings, positions and class tokens: Embed_0/embedding, pos_embedding.
  r'(?i)(^|/)([^/]*_|pos|un)?embed[^/]*(/|$)',
  r'(?i)(^|/)((pos|tok)[^/]*_emb|pos[^/]*_encoding|wte|wpe)(/|$)',
  r'(?i)(^|/)(cls|[^/]*_token)(/|$)',
  # Output heads.
  r'(?i)(^|/)(lm_head|head|logits)(/|$)',
  # Norms and biases, stacked ones too.
  r'(^|/)(bias|scale|beta|gamma)$',
)

# Where no bias beside the kernel tells the axes, the names and ranks of Flax's
# layers do: (path, rank, dimension numbers). One axis more than the layer has
# is a stack of layers. A convolution in three dimensions must say so: it looks
# like a stack of convolutions in two.
_MATRICES = (
  # Experts, (expert, in, out).
  (r'(?i)(^|/)([^/]*_)?experts?(_[^/]*)?(/|$)', 3, _M((1,), (2,))),
  # Both MultiHeadAttentions; all heads are one matrix.
  (r'(^|/)(query|key|value)/kernel$', 3, _M((0,), (1, 2))),
  (r'(^|/)(query|key|value)/kernel$', 4, _M((1,), (2, 3))),
  (r'(^|/)out/kernel$', 3, _M((0, 1), (2,))),
  (r'(^|/)out/kernel$', 4, _M((1, 2), (3,))),
  # (spatial..., in, out).
  (r'(?i)(^|/)conv(?!local)[^/]*/kernel$', 3, _M((0, 1), (2,))),
  (r'(?i)(^|/)conv(?!local)[^/]*/kernel$', 4, _M((0, 1, 2), (3,))),
  (r'(?i)(^|/)conv_?3d[^/]*/kernel$', 5, _M((0, 1, 2, 3), (4,))),
  # Stacked adapters, (layer, in, rank) and (layer, rank, out).
  (r'(^|/)lora_[ab]$', 3, _M((1,), (2,))),
)


def matrix_dimension_numbers(
  params: Any,
  *,
  rules: Sequence[tuple[str, Any]] = (),
  strict: bool = False,
) -> Any:
  r"""The default routing: a Flax model's matrices, and their axes.

  In this order, for each leaf: ``rules``; embeddings, positions, output heads,
  norms and biases by their names, and all leaves of rank below 2, are AdamW's;
  a leaf of rank 2 is one ``(in, out)`` matrix; of rank 3 and more, the bias
  beside it tells the axes (its trailing axes are outputs, leading axes that it
  shares with the kernel are batch, what is left is reduced), or else its name:
  Flax's attention, convolutions, experts, LoRA. What nothing explains is
  AdamW's, with a warning.

  Args:
    params: A pytree of arrays: Linen parameters, ``nnx.State``, or any other.
      Shapes suffice (``jax.ShapeDtypeStruct``).
    rules: Rules of your own, tried first: pairs of a regular expression,
      searched in the '/'-joined path, and
      ``optax.contrib.MuonDimensionNumbers``, ``SplitMatrices`` or None (AdamW).
    strict: Whether a leaf that nothing explains is an error.

  Returns:
    A tree of ``params``' own structure: dimension numbers or None at each leaf.

  Raises:
    ValueError: ``strict``, and a leaf of rank 3 or more that nothing explains.

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
  leaves = jax.tree_util.tree_leaves_with_path(params)
  shapes = {dims.path_string(path): jnp.shape(x) for path, x in leaves}
  unexplained = []

  def route(path, leaf):
    name, shape = dims.path_string(path), jnp.shape(leaf)
    return dims.normalize(find(name, shape), name, shape)

  def find(name, shape):
    for pattern, numbers in rules:
      if re.search(pattern, name):
        return numbers
    if len(shape) < 2 or any(re.search(pattern, name) for pattern in _ADAMW):
      return None
    if len(shape) == 2:
      return _M(0, 1)
    named = [
      numbers
      for pattern, rank, numbers in _MATRICES
      if len(shape) == rank and re.search(pattern, name)
    ][:1]
    bias = shapes.get(f'{name.rpartition("/")[0]}/bias'.lstrip('/'))
    if bias is not None:
      read = _readings(shape, bias)
      # A bias that contradicts the name says that it is another layer.
      named = read if len(read) == 1 else [n for n in named if n in read]
    elif _is_no_attention(name, shapes):
      named = []
    if not named:
      unexplained.append((name, shape))
      return None
    return named[0]

  routed = jax.tree_util.tree_map_with_path(route, params)
  if unexplained:
    message = _unexplained(unexplained)
    if strict:
      raise ValueError(message)
    warnings.warn(f'{message} They go to AdamW.', stacklevel=2)
  return routed


def _readings(
  kernel: tuple[int, ...], bias: tuple[int, ...]
) -> list[MuonDimensionNumbers]:
  """The axes that a kernel can have, given the bias beside it.

  The bias has the kernel's outputs, its last axes, behind the batch axes that
  lead both; what is left of the kernel is reduced.
  """
  rank, inputs = len(kernel), len(kernel) - len(bias)
  return [
    _M(tuple(range(batch, batch + inputs)), tuple(range(batch + inputs, rank)))
    for batch in range(len(bias))
    if inputs > 0 and bias == kernel[:batch] + kernel[batch + inputs :]
  ]


def _is_no_attention(name: str, shapes: dict[str, tuple[int, ...]]) -> bool:
  """Whether query and out beside each other do not share their heads.

  Of attention, (d, heads, head_dim) and (heads, head_dim, d); stacks of dense
  layers have these names, too.
  """
  match = re.search(r'(^|/)(query|key|value|out)/kernel$', name)
  if not match:
    return False
  prefix = name[: match.start(2)]
  query = shapes.get(f'{prefix}query/kernel', ())
  out = shapes.get(f'{prefix}out/kernel', ())
  return bool(query and out) and query[-2:] != out[-3:-1]


def _unexplained(leaves: list[tuple[str, tuple[int, ...]]]) -> str:
  """The message about leaves whose axes are not known, with the mend."""
  found = ', '.join(f'{name!r} of shape {shape}' for name, shape in leaves)
  name, shape = leaves[0]
  quote = '"' if "'" in name else "'"
  return (
    f'matrix_dimension_numbers cannot tell the axes of {found}. Say which they'
    f' are with rules=[(r{quote}^{re.escape(name)}${quote},'
    f' MuonDimensionNumbers(reduction_axis={len(shape) - 2},'
    f' output_axis={len(shape) - 1}))], or None in their place for AdamW.'
  )
