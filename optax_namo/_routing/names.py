# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the names of leaves say, in the conventions of JAX's libraries.

Patterns are searched in '/'-joined paths and match whole components.
"""

import re
from typing import NamedTuple

from optax.contrib import MuonDimensionNumbers

_M = MuonDimensionNumbers
_Shape = tuple[int, ...]

# AdamW's, whatever the rank: (why, path). The NAMO reference code sends
# embeddings and output heads there.
_ADAMW = (
  # Embed_0/embedding, pos_embedding, class tokens.
  ('embedding', r'(?i)(^|/)([^/]*_|pos|un)?embed[^/]*(/|$)'),
  ('embedding', r'(?i)(^|/)((pos|tok)[^/]*_emb|pos[^/]*_encoding)(/|$)'),
  ('embedding', r'(?i)(^|/)(wte|wpe|cls|[^/]*_tokens?|latents?)(/|$)'),
  ('embedding', r'(^|/)[a-z]+Embed(ding)?(/|$)'),
  # Lone leaves: of Equinox and of plain trees.
  ('embedding', r'(^|/)(([a-z]+_)?emb|W_(E|pos)|pos|position)$'),
  ('embedding', r'(^|/)([a-z]+_)?emb/(weight|embeddings)$'),
  ('state space', r'(^|/)A_log$'),
  # No multi_head.
  ('head', r'(?i)(^|/)((lm_|mlm_|value_)?head|classifier)(/|$)'),
  ('head', r'(?i)(^|/)(logits|logits?_?dense)(/|$)'),
  ('head', r'(?i)(^|/)((?!multi_)[a-z]+_)?head(_?\d+)?(/[^/]+)?$'),
  ('head', r'(?i)(^|/)((to|lm)_logits|readout)(/[^/]+)?$'),
  ('layer scale', r'(?i)(^|/)layer_?scale[^/]*(/|$)'),
  # Stacked ones too, of Flax, Equinox, Haiku (offset) and Keras (beta, gamma).
  ('norm', r'(^|/)(scale|gamma)$'),
  ('norm', r'(?i)(^|/)([^/]*norm|([^/]*_)?ln)(_?[a-z\d])?/(weight|w)$'),
  ('bias', r'(^|/)(bias(_n|_[ih]h)?|beta|offset)$'),
  ('bias', r'(^|/)bias(_\d+)?/b$'),
)

IN_OUT, OUT_IN = '(..., in, out)', '(out, in, ...)'


class Convention(NamedTuple):
  """How a library names a layer's leaf.

  Attributes:
    leaf: Pattern of the path.
    biases: Names of the bias beside it.
    layouts: The layouts that are found under the name, its own first.
  """

  leaf: str
  biases: tuple[str, ...]
  layouts: tuple[str, ...]

  @property
  def certain(self) -> bool:
    """Whether the name says how its axes lie, and that it is no vector."""
    return bool(self.leaf) and len(self.layouts) == 1


_CONVENTIONS = (
  # Flax and Keras.
  Convention(r'(^|/)(recurrent_)?kernel$', ('bias',), (IN_OUT,)),
  # Haiku.
  Convention(r'(^|/)w(_[ih])?$', ('b', 'bias'), (IN_OUT,)),
  # Equinox and PyTorch; but others, too, call what is (in, out) a weight.
  Convention(r'(^|/)weight(_[ih]h)?$', ('bias',), (OUT_IN, IN_OUT)),
  # Any other name says nothing.
  Convention(r'', ('bias',), (IN_OUT,)),
)


class _Layer(NamedTuple):
  """A layer by name and rank, where no bias tells the axes of its leaf."""

  why: str
  leaf: str  # Pattern of the path.
  rank: int
  axes: MuonDimensionNumbers | None  # None: a matrix, as its name lays it out.
  stacks: bool = True  # One axis more can only be a stack of such layers.


def _convolutions(path, spatial, axes, stacks=True):
  return [
    _Layer('convolution', path.format(n), n + 2, axes(n), stacks)
    for n in spatial
  ]


_LAYERS = (
  # Experts, (expert, in, out).
  _Layer(
    'experts', r'(?i)(^|/)([^/]*_)?experts?(_[^/]*)?(/|$)', 3, None, False
  ),
  # All heads are one matrix, in Flax's attention and in Keras's.
  _Layer('attention', r'(^|/)(query|key|value)/kernel$', 3, _M((0,), (1, 2))),
  _Layer(
    'attention', r'(^|/)(attention_output|out)/kernel$', 3, _M((0, 1), (2,))
  ),
  # Transposed, by Haiku's and Keras's names: (spatial..., out, in). Flax's are
  # as its other convolutions.
  *_convolutions(
    r'(?i)(^|/)conv{}_?d_transpose[^/]*/(kernel|w)$',
    (1, 2, 3),
    lambda n: _M((*range(n), n + 1), (n,)),
  ),
  # (spatial..., in, out). In three dimensions the name must say so: they look
  # like a stack of those in two, as these do like a stack of those in one.
  *_convolutions(
    r'(?i)(^|/)conv_?{}_?d[^/]*/(kernel|w)$',
    (1, 2, 3),
    lambda n: _M(tuple(range(n + 1)), (n + 1,)),
  ),
  *_convolutions(
    r'(?i)(^|/)conv(?!local)[^/]*/(kernel|w)$',
    (1, 2),
    lambda n: _M(tuple(range(n + 1)), (n + 1,)),
    False,
  ),
  # (out, in, spatial...).
  *_convolutions(
    r'(?i)(^|/)conv(?!local)[^/]*/weight$',
    (1, 2),
    lambda n: _M(tuple(range(1, n + 2)), (0,)),
    False,
  ),
  # Adapters; and linear layers by the name that Haiku gives them.
  _Layer('LoRA', r'(^|/)lora_[ab]$', 2, None),
  _Layer('linear', r'(^|/)linear(_\d+)?/w$', 2, None),
)


# Linen names lifted modules so: perhaps stacks, perhaps not.
_LIFTED = r'(^|/)(Scan|Vmap)[A-Z]'


def adamw(path: str, shapes: dict[str, _Shape]) -> str:
  """Why the leaf's name makes it AdamW's, or an empty string."""
  for why, pattern in _ADAMW:
    if re.search(pattern, path):
      return why
  # `b` is Haiku's bias, but also an adapter's matrix.
  if re.search(r'(^|/)b$', path):
    for weight in ('w', 'w_i', 'w_h'):
      beside = f'{path[:-1]}{weight}'
      if beside in shapes and bias(beside, shapes) == shapes[path]:
        return 'bias'
  return ''


def convention(path: str) -> Convention:
  """The convention that the leaf's name is of."""
  return next(one for one in _CONVENTIONS if re.search(one.leaf, path))


def bias(path: str, shapes: dict[str, _Shape]) -> _Shape | None:
  """The shape of the bias beside a leaf."""
  parent = path[: path.rfind('/') + 1]
  for name in convention(path).biases:
    shape = shapes.get(f'{parent}{name}')
    # Of an adapter's w and b, neither is the other's bias.
    rank = len(shapes[path])
    if shape is not None and (
      name != 'b' or len(shape) < rank or shape == shapes[path]
    ):
      return shape
  return None


def matrix(path: str, rank: int) -> MuonDimensionNumbers:
  """The last two axes as a matrix in the layout of the leaf's name."""
  if convention(path).layouts[0] == OUT_IN:
    return _M((rank - 1,), (rank - 2,))
  return _M((rank - 2,), (rank - 1,))


def layer(
  path: str, shapes: dict[str, _Shape], depth: int
) -> tuple[str, MuonDimensionNumbers] | None:
  """The layer that has the leaf's name and rank: why, and its axes.

  Args:
    path: The leaf's path.
    shapes: The shapes of all leaves.
    depth: How many of its axes are known to be a stack.
  """
  rank, alone = len(shapes[path]), bias(path, shapes) is None
  for why, pattern, base, numbers, stacks in _LAYERS:
    stack = rank - base
    if re.search(pattern, path) and (
      stack in (0, depth) or (stacks and stack == 1)
    ):
      if why == 'attention' and alone and _is_no_attention(path, shapes):
        continue
      if not (stacks or depth) and base == 4 and re.search(_LIFTED, path):
        continue  # In two dimensions, or a stack of those in one.
      if numbers is None:
        return why, matrix(path, rank)
      return why, _M(*(tuple(i + stack for i in axes) for axes in numbers))
  return None


def _is_no_attention(path: str, shapes: dict[str, _Shape]) -> bool:
  """Whether query and out beside each other do not share their heads.

  Of attention, (d, heads, head_dim) and (heads, head_dim, d); stacks of dense
  layers have these names, too.
  """
  module = path.rpartition('/')[0].rpartition('/')[0]
  query, out = (
    shapes.get(f'{module}/{name}/kernel'.lstrip('/'), ())
    for name in ('query', 'out')
  )
  return bool(query and out) and query[-2:] != out[-3:-1]
