# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the names of leaves say, in the conventions of JAX's libraries.

Patterns are searched in '/'-joined paths and match whole components.
"""

from collections.abc import Sequence
import itertools
import re
from typing import NamedTuple

from optax.contrib import MuonDimensionNumbers

_M = MuonDimensionNumbers
_Shape = tuple[int, ...]
Shapes = dict[str, _Shape]

# A name of a layer speaks for its own leaves, 'head' and 'head/kernel', not for
# what a container of this name holds.
_OWN = r'(/[^/]+)?$'
_EMBEDDING = (
  # Embed_0/embedding, pos_embedding, class tokens.
  r'(?i:([^/]*_|pos|un)?embed[^/]*|(pos|tok)[^/]*_emb|pos[^/]*_encoding'
  r'|wte|wpe|cls|[^/]*_tokens?|latents?)|[a-z]+Embed(ding)?'
)
_HEAD = r'(lm_|mlm_|value_)?head|classifier|logits|logits?_?dense'
# No multi_head.
_HEADS = rf'{_HEAD}|((?!multi_)[a-z]+_)?head(_?\d+)?|(to|lm)_logits|readout'
# The last layer where these stand alone; within blocks they are layers.
_LAST = r'output|decoder|fc_out|proj_out'

# AdamW's, whatever the rank: (why, path). The NAMO reference code sends
# embeddings and output heads there.
_ADAMW = (
  ('embedding', rf'(^|/)({_EMBEDDING}){_OWN}'),
  # Lone leaves: of Equinox and of plain trees.
  ('embedding', r'(^|/)(([a-z]+_)?emb|W_(E|pos)|pos|position)$'),
  ('embedding', r'(^|/)([a-z]+_)?emb/(weight|embeddings)$'),
  ('state space', r'(^|/)A_log$'),
  ('head', rf'(?i)(^|/)({_HEADS}){_OWN}'),
  ('depthwise', rf'(?i)(^|/)[^/]*depthwise[^/]*{_OWN}'),
  ('layer scale', r'(?i)(^|/)layer_?scale[^/]*(/|$)'),
  # Stacked ones too, of Flax, Equinox, Haiku (offset) and Keras (beta, gamma).
  ('norm', r'(^|/)(scale|gamma)$'),
  ('norm', r'(?i)(^|/)([^/]*norm|([^/]*_)?ln)(_?[a-z\d])?/(weight|w)$'),
  ('bias', r'(^|/)(bias(_n|_[ih]h)?|beta|offset)$'),
  ('bias', r'(^|/)bias(_\d+)?/b$'),
)
# As `why`: within a head of several layers whose last is not told.
IN_A_HEAD = 'within a head'

IN_OUT, OUT_IN = '(..., in, out)', '(out, in, ...)'


class Convention(NamedTuple):
  """How a library names a layer's leaf, and the bias beside it."""

  leaf: str  # Pattern of the name.
  biases: tuple[str, ...]
  layouts: tuple[str, ...]  # What is found under the name, its own first.

  @property
  def certain(self) -> bool:
    """Whether the name says how its axes lie, and that it is no vector."""
    return bool(self.leaf) and len(self.layouts) == 1


_CONVENTIONS = (
  # Flax and Keras.
  Convention(r'(recurrent_)?kernel$', ('bias',), (IN_OUT,)),
  # Haiku.
  Convention(r'w(_[ih])?$', ('b', 'bias'), (IN_OUT,)),
  # Equinox and PyTorch; but others, too, call what is (in, out) a weight.
  Convention(r'weight(_[ih]h)?$', ('bias',), (OUT_IN, IN_OUT)),
  # Any other name says nothing.
  Convention(r'', ('bias',), (IN_OUT,)),
)


def _convolutions(n):
  """In n dimensions: (spatial..., in, out) but for ``weight``.

  In three the name must say so: they look like a stack of those in two, as
  these do like a stack of those in one.
  """
  kernel = _M(tuple(range(n + 1)), (n + 1,))
  rows = [
    # Haiku's and Keras's (spatial..., out, in). Flax's are as its others.
    (rf'{n}_?d_transpose[^/]*/(kernel|w)', _M((*range(n), n + 1), (n,))),
    (rf'_?{n}_?d[^/]*/(kernel|w)', kernel),
    (r'(?!local|_?\d_?d)[^/]*/(kernel|w)', kernel),
    (r'(?!local)[^/]*/weight', _M(tuple(range(1, n + 2)), (0,))),
  ]
  return [
    ('convolution', f'(?i)(^|/)conv{path}$', n + 2, axes)
    for path, axes in (rows if n < 3 else rows[:2])
  ]


_OUTPUT = 'out|attention_output|attn_out_proj'
# Layers where no bias tells the axes of their leaf: (why, path, rank, axes).
# Without axes it is a matrix, as its name lays it out.
_LAYERS = (
  # Experts, (expert, in, out).
  ('experts', r'(?i)(^|/)([^/]*_)?experts?(_[^/]*)?(/|$)', 3, None),
  ('experts', r'(^|/)Moe[^/]*/w[io](_\d)?$', 3, None),
  # All heads are one matrix, in Flax's attention, in Keras's, in Tunix's.
  ('attention', r'(^|/)(query|key|value)/kernel$', 3, _M((0,), (1, 2))),
  ('attention', r'(^|/)[qkv]_proj/(kernel|w)$', 3, _M((0,), (1, 2))),
  ('attention', rf'(^|/)({_OUTPUT})/kernel$', 3, _M((0, 1), (2,))),
  ('attention', r'(^|/)o_proj/(kernel|w)$', 3, _M((0, 1), (2,))),
  # Gemma's: (heads, in, out), (2, heads, in, out), (heads, in, out) back.
  ('attention', r'(^|/)q_einsum/w$', 3, _M((1,), (0, 2))),
  ('attention', r'(^|/)q?kv_einsum/w$', 4, _M((2,), (1, 3))),
  ('attention', r'(^|/)attn_vec_einsum/w$', 3, _M((0, 1), (2,))),
  *_convolutions(1),
  *_convolutions(2),
  *_convolutions(3),
  # Adapters; and linear layers by the names that Haiku gives them.
  ('LoRA', r'(^|/)lora_[ab]$', 2, None),
  ('linear', r'(^|/)(linear(_\d+)?|query|key|value)/w$', 2, None),
)
# Haiku stacks along the first axis.
_HAIKU = r'(^|/)(conv\d_d[^/]*|linear(_\d+)?|query|key|value)/w$'
# Two layers of one module that share what is between them.
_PAIRS = (
  *(('query/kernel', f'{name}/kernel') for name in _OUTPUT.split('|')),
  ('q_proj/kernel', 'o_proj/kernel'),
  ('q_proj/w', 'o_proj/w'),
  ('lora_a', 'lora_b'),
)


def plain(paths: Sequence[str]) -> list[str]:
  """Paths without what wraps the leaves: 'kernel/raw', or all in one box."""
  ends = {path.rpartition('/')[2] for path in paths}
  if len(ends) == 1 < len(paths) and not any(map(_says, ends)):
    return plain(list(map(parent, paths)))
  leaf = r'(^|/)(kernel|weight|w|embeddings?|bias|scale)/[^/]+$'
  within = lambda path: re.search(leaf, path) and not _says(path)
  # A normalized weight; with a bias beside it, a layer of this name.
  whole = lambda path: (
    re.search(r'(^|/)(kernel|weight)/weight$', path)
    and f'{parent(path)}/bias' not in paths
  )
  return [parent(x) if within(x) or whole(x) else x for x in paths]


def _says(path: str) -> bool:
  """Whether the name of a leaf says something."""
  leaf = path.rpartition('/')[2]
  plain_ones = re.match(r'([bwW]_?\d*|lora_[ab])$', leaf)
  return bool(plain_ones or convention(leaf).leaf) or _told(leaf)


def _told(path: str) -> bool:
  return any(re.search(pattern, path) for _, pattern in _ADAMW)


def adamw(path: str, shapes: Shapes) -> str:
  """Why the leaf's name makes it AdamW's, or an empty string."""
  for why, pattern in _ADAMW:
    if re.search(pattern, path):
      return why
  within = re.search(rf'(?i)^(.*/)?({_HEAD}|cls)/', path)
  if within:
    layers = {
      parent(other)
      for other, shape in shapes.items()
      if other.startswith(within[0]) and len(shape) > 1 and not _told(other)
    }
    last = _last(layers)
    if last is None or parent(path) == last:
      return IN_A_HEAD if last is None else 'head'
  elif re.search(rf'(^|/)({_EMBEDDING})/', path):
    # What has a kernel, or a bias, is a layer that makes embeddings.
    if not convention(path).certain and bias(path, shapes) is None:
      return 'embedding'
  elif _is_last(path, shapes):
    return 'head'
  # `b` is Haiku's bias, but also an adapter's matrix.
  if beside := re.search(r'(^|/)b([_\d]*)$', path):
    for name in (f'w{beside[2]}', f'W{beside[2]}', 'w_i', 'w_h'):
      weight = f'{path[: beside.start()]}{beside[1]}{name}'
      if weight in shapes and bias(weight, shapes) == shapes[path]:
        return 'bias'
  return ''


def parent(path: str) -> str:
  return path.rpartition('/')[0]


def _last(layers: set[str]) -> str | None:
  """Which of a head's layers is its last, if names tell."""
  named = [x for x in layers if re.search(rf'/({_LAST}|out|out_proj)$', x)]
  if len(named) == 1:
    return named[0]
  if len({re.sub(r'_?\d+', '', layer) for layer in layers}) > 1:
    return None
  numbers = lambda layer: list(map(int, re.findall(r'\d+', layer)))
  return max(layers, key=numbers, default='')


def _is_last(path: str, shapes: Shapes) -> bool:
  """Whether it stands alone, where the model's own layers are."""
  last = re.search(rf'^(\D*/)?({_LAST}){_OWN}', path)
  return (
    last is not None
    and len(shapes[path]) == 2
    and all(other.startswith(last[1] or '') for other in shapes)
    and len({parent(other) for other in shapes}) > 1
    and not any(
      re.search(rf'(?i)(^|/)({_HEADS}){_OWN}', other) for other in shapes
    )
  )


def convention(path: str) -> Convention:
  """The convention that the leaf's name is of."""
  leaf = path.rpartition('/')[2]
  return next(one for one in _CONVENTIONS if re.match(one.leaf, leaf))


def bias(path: str, shapes: Shapes) -> _Shape | None:
  """The shape of the bias beside a leaf: b1 beside W1, the other of a pair."""
  module, slash, leaf = path.rpartition('/')
  rank, biases = len(shapes[path]), convention(path).biases
  if leaf[:1] in ('w', 'W'):
    biases += (f'b{leaf[1:]}',)
  elif leaf.isdigit() and rank == 2:
    pair = [other for other in shapes if parent(other) == module]
    biases = ('1',) if leaf == '0' and len(pair) == 2 else ()
  for name in biases:
    shape = shapes.get(f'{module}{slash}{name}')
    # Of an adapter's w and b, neither is the other's bias.
    alike = name in convention(path).biases and shape == shapes[path]
    if shape is not None and (name == 'bias' or len(shape) < rank or alike):
      return shape
  return None


def matrix(path: str, rank: int) -> MuonDimensionNumbers:
  """The last two axes as a matrix in the layout of the leaf's name."""
  if convention(path).layouts[0] == OUT_IN:
    return _M((rank - 1,), (rank - 2,))
  return _M((rank - 2,), (rank - 1,))


def layer(path: str, shapes: Shapes) -> tuple[str, MuonDimensionNumbers | None]:
  """The layer that has the leaf's name and rank: why, and its axes.

  No axes where the name says a layer, and the shapes no such layer, or perhaps
  one of a stack along another axis.
  """
  rank, alone, unsure = len(shapes[path]), bias(path, shapes) is None, ''
  for stack, row in itertools.product((0, 1), _LAYERS):
    why, pattern, base, numbers = row
    found = rank == base + stack and re.search(pattern, path)
    if not found or (stack and why == 'experts'):
      continue
    pair = _pair(path[: found.start()], shapes, base)
    sure = stack == 0 or not alone or bool(re.search(_HAIKU, path))
    if why in ('attention', 'LoRA') and alone:
      sure = pair or (pair is None and not (stack or '_proj/' in path))
    elif base == 4 and alone and re.search(r'(^|/)(Scan|Vmap)[A-Z]', path):
      sure = (
        False  # Linen lifted it: perhaps a stack of those in one dimension.
      )
    if sure and numbers is None:
      return why, matrix(path, rank)
    if sure:
      return why, _M(*(tuple(i + stack for i in axes) for axes in numbers))
    unsure = why
  return unsure, None


def _pair(module: str, shapes: Shapes, rank: int) -> bool | None:
  """Whether two layers share what is between them; None without such."""
  for pair in _PAIRS:
    a, b = (shapes.get(f'{module}/{name}'.lstrip('/'), ()) for name in pair)
    if min(len(a), len(b)) >= rank:
      return a[1 - rank :] == b[-rank:-1] and a[:-rank] == b[:-rank]
  return None
