# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What names say, as tables: patterns of '/'-joined paths, whole components."""

import collections
from collections.abc import Mapping, Sequence
import functools
import itertools
import re

from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import axes as axes_

_M = MuonDimensionNumbers
_Shape = tuple[int, ...]

# A name of a layer speaks for its own leaves, 'head' and 'head/kernel', not for
# what a container of this name holds.
_OWN = r'(/[^/]+)?$'
_TOKENS = r'(?i:tok|cls|([^/]*_)?tokens?|latents?)'
_EMBEDDING = (
  # Embed_0/embedding, pos_embedding, class tokens.
  r'(?i:([^/]*_|pos|un)?embed[^/]*|([^/]*_)?(pos|tok)[^/]*_embs?'
  r'|pos[^/]*_enc(oding)?s?|(pos[^/]*|tok(en)?|vocab)_table|vocab|wte|wpe)'
  r'|[a-z]+Embed(ding)?'
  rf'|{_TOKENS}'
)
# Lone leaves, of plain trees and of Equinox, or layers of one leaf.
_TABLES = (
  r'(([a-z]+_)?emb|W_(E|pos)|pe|([a-z]+_)?pos|position(s|al)?'
  r'|rel[^/]*_bias(_table)?|registers|([a-z]+_)?prompts?|codebook)'
  r'(/(weight|embeddings|table))?'
)
# With a bias beside them they are layers.
_UNBIASED = rf'(^|/)({_TOKENS}(/[^/]+)?|{_TABLES})$'
# No multi_head.
_HEAD = (
  r'classifier|logits?|logits?_?dense|((?!multi_)[a-z]+_)?head(_?\d+)?'
  r'|(to|lm)_logits|readout|to_vocab|vocab_proj(ection)?'
)
# AdamW's, whatever the rank: (why, path). The NAMO reference code sends
# embeddings and output heads there.
_ADAMW = (
  ('embedding', rf'(^|/)({_EMBEDDING}){_OWN}'),
  ('embedding', rf'(^|/){_TABLES}$'),
  ('head', rf'(?i)(^|/)({_HEAD}){_OWN}'),
  ('head', r'(^|/)W_U$'),
  ('state space', r'(^|/)A_log$'),
  ('depthwise', rf'(?i)(^|/)[^/]*depthwise[^/]*{_OWN}'),
  ('layer scale', r'(?i)(^|/)layer_?scale[^/]*(/|$)'),
  # Stacked ones too, of Flax, Equinox, Haiku (offset) and Keras (beta, gamma).
  ('norm', r'(^|/)(scale|gamma)$'),
  ('norm', r'(?i)(^|/)([^/]*norm|([^/]*_)?ln)(_?[a-z\d])?/(weight|w)$'),
  ('bias', r'(^|/)(bias(_n|_[ih]h)?|beta|offset)$|(^|/)bias(_\d+)?/b$'),
)
# Which leaf is meant, or what it is, they do not tell.
_UNSURE = (
  ('within a head', rf'(?i)(^|/)({_HEAD}|cls)/[^/]+/.'),
  ('within an embedding', rf'(^|/)({_EMBEDDING})/[^/]+/(.*/)?(?!kernel)[^/]+$'),
  ('a weight in a kernel', r'(^|/)kernel/weight$'),
)
# The output head where it stands alone; within blocks it is a layer.
_LAST = (
  r'^(\D*/)?(output(_layer|_proj(ection)?)?|final_(layer|proj(ection)?)'
  r'|decoder|fc_out|proj_out)(/[^/]+)?$'
)

# Leaves by their names: of Flax, Keras, Haiku; of Equinox and PyTorch, though
# others call what is (in, out) so, too.
IN_OUT, OUT_IN = '(..., in, out)', '(..., out, in)'
_LAYOUTS = (
  (IN_OUT, r'(^|/)((recurrent_)?kernel|w(_[ih])?)$'),
  (OUT_IN, r'(^|/)weight(_[ih]h)?$'),
)

_OUT = r'(^|/)(out|attention_output|attn_out_proj)'
_QUERY, _BACK, _SECOND = _M((0,), (1, 2)), _M((0, 1), (2,)), _M((1,), (2,))
# Layers of rank 3 and more: (why, path, rank, axes). All heads are one matrix.
_LAYERS = (
  ('experts', r'(?i)(^|/)([^/]*_)?experts?(_[^/]*)?/', 3, _SECOND),
  ('experts', r'(^|/)Moe[^/]*/w[io](_\d)?$', 3, _SECOND),
  ('linear', r'layer_stack.*/(linear(_\d+)?|query|key|value)/w$', 3, _SECOND),
  ('attention', r'(^|/)(query|key|value)/kernel$', 3, _QUERY),
  ('attention', r'(^|/)[qkv]_proj/(kernel|w)$', 3, _QUERY),
  ('attention', rf'{_OUT}/kernel$|(^|/)o_proj/(kernel|w)$', 3, _BACK),
  # Gemma's: (heads, in, out), (2, heads, in, out), (heads, in, out) back.
  ('einsum', r'(^|/)q_einsum/w$', 3, _M((1,), (0, 2))),
  ('einsum', r'(^|/)q?kv_einsum/w$', 4, _M((2,), (1, 3))),
  ('einsum', r'(^|/)attn_vec_einsum/w$', 3, _BACK),
)  # fmt: skip
_CONVOLUTION = (
  r'(?i)(?:^|/)conv(?![^/]*local)(?:_?(\d)_?d)?([^/]*)/(kernel|w|weight)$'
)
# Where Linen and Haiku stack layers.
_LIFTED = r'(^|/)(Scan|Vmap)[A-Z]|layer_stack'


class Shapes(dict[str, _Shape]):
  """The shapes of all leaves by their paths."""

  @functools.cached_property
  def below(self) -> Mapping[tuple[str, int], list[str]]:
    """The paths within a name, one or two levels down."""
    found: dict[tuple[str, int], list[str]] = collections.defaultdict(list)
    for path in self:
      module = parent(path)
      found[module, 1].append(path)
      found[parent(module), 2].append(path)
    return found


def plain(paths: Sequence[str]) -> list[str]:
  """Paths without what wraps the leaves: 'kernel/raw', or all in one box."""
  ends = {path.rpartition('/')[2] for path in paths}
  if len(ends) == 1 < len(paths) and not any(map(_says, ends)):
    return plain(list(map(parent, paths)))
  leaf = r'(^|/)(kernel|weight|w|embeddings?|bias|scale)/[^/]+$'
  within = lambda path: re.search(leaf, path) and not _says(path)
  found = [parent(path) if within(path) else path for path in paths]
  return found if found == list(paths) else plain(found)


def _says(path: str) -> bool:
  """Whether the name of a leaf says something."""
  leaf = path.rpartition('/')[2]
  plain_ones = re.match(r'([bwW]_?\d*|lora_[ab])$', leaf)
  return bool(plain_ones or layout(leaf) or _first(_ADAMW, leaf))


def _first(table: Sequence[tuple[str, str]], path: str) -> str:
  return next((why for why, p in table if re.search(p, path)), '')


def parent(path: str) -> str:
  return path.rpartition('/')[0]


def adamw(path: str, shapes: Shapes) -> str:
  """Why the leaf's name makes it AdamW's, or an empty string."""
  has_bias = bias(path, shapes) is not None
  why = _first(_ADAMW, path)
  if why and not (has_bias and re.search(_UNBIASED, path)):
    return why
  last = len(shapes[path]) == 2 and re.search(_LAST, path)
  if last and len(set(map(parent, shapes))) > 1:
    is_beside = lambda x: (
      x.startswith(last[1] or '') and _first(_ADAMW, x) != 'head'
    )
    if all(map(is_beside, shapes)):
      return 'head'
  # `b` is Haiku's bias, but also an adapter's matrix.
  module, slash, leaf = path.rpartition('/')
  weights = [f'{module}{slash}{x}{leaf[1:]}' for x in ('w', 'W', 'w_i', 'w_h')]
  beside = [bias(x, shapes) for x in weights if leaf[:1] == 'b' and x in shapes]
  return 'bias' if shapes[path] in beside else ''


def is_embedding(path: str) -> bool:
  return _first(_ADAMW, path) == 'embedding'


def unsure(path: str, shapes: Shapes) -> str:
  """Why the name of what a leaf is in leaves it open what it is."""
  why = _first(_UNSURE, path)
  return '' if 'embedding' in why and bias(path, shapes) is not None else why


def bias(path: str, shapes: Shapes) -> _Shape | None:
  """The shape of the bias beside a leaf: b1 beside W1, the other of a pair."""
  module, slash, leaf = path.rpartition('/')
  beside, rank = ['bias'], len(shapes[path])
  if leaf[:1] in ('w', 'W'):
    beside.append(f'b{leaf[1:]}')
  if leaf in ('w_i', 'w_h'):
    beside.append('b')
  if leaf == '0' and rank == 2 == len(shapes.below[module, 1]):
    beside = ['1']
  for name in beside:
    shape = shapes.get(f'{module}{slash}{name}')
    if shape is not None and (
      len(shape) < rank or (name == 'bias' and shape == shapes[path])
    ):
      return shape
  return None


def stacks(shapes: Shapes) -> set[int]:
  """How many layers are stacked, by the norms among them."""
  return {
    shape[0]
    for path, shape in shapes.items()
    if axes_.is_wide(shape) and _first(_ADAMW, path) == 'norm'
  }


def layout(path: str) -> str:
  """How a leaf's name lays out its axes, if it does."""
  return _first(_LAYOUTS, path)


def readings(
  path: str, shapes: Shapes, stacked: bool
) -> tuple[str, list[list[MuonDimensionNumbers]]]:
  """What a leaf's axes may be by its name and rank, the likeliest first.

  Args:
    path: The leaf's.
    shapes: Of all leaves.
    stacked: Whether its first axis may be that of stacked layers.

  Returns:
    What says so, and groups of readings. A bias chooses in the first group
    where it fits one; without a bias the first group must be one.
  """
  rank, has_bias = len(shapes[path]), bias(path, shapes) is not None
  stacked = stacked or bool(re.search(_LIFTED, path))
  if found := re.search(_CONVOLUTION, path):
    ways = _convolutions(rank, has_bias or stacked, *found.groups())
    return 'convolution', [ways]
  for why, pattern, base, numbers in _LAYERS:
    stack = rank - base
    if stack in (0, 1) and re.search(pattern, path):
      told = _paired(path, shapes) if why == 'attention' else not stack
      ways = [_M(*(tuple(i + stack for i in axes) for axes in numbers))]
      return why, [ways if has_bias or told else []]
  in_out = [
    _M(tuple(range(batch, out)), tuple(range(out, rank)))
    for batch in range(rank - 1)
    for out in range(batch + 1, rank)
  ]
  out_in = [_M(tuple(range(i + 1, rank)), (i,)) for i in range(rank - 1)]
  why = f'name {path.rpartition("/")[2]}'
  if layout(path) == IN_OUT:
    return why, [in_out]
  if stacked and not has_bias:
    return 'norms beside it', [[]]
  if layout(path) == OUT_IN:
    return why, [out_in, in_out]
  return f'rank {rank}', [in_out + out_in * (has_bias and rank == 2)]


def _convolutions(
  rank: int, stacked: bool, said: str, rest: str, leaf: str
) -> list[MuonDimensionNumbers]:
  """In one dimension, two or three, as the name says, stacked or not."""
  ways = []
  for base in [int(said) + 2] if said else (3, 4, 5):
    stack = rank - base
    if stack == 0 or (stack == 1 and (stacked or (rank > 4 and not said))):
      inputs = list(range(rank - base, rank))
      flipped = said and '_transpose' in rest.lower()
      out = inputs.pop(0 if leaf == 'weight' else -2 if flipped else -1)
      ways.append(_M(tuple(inputs), (out,)))
  return ways


def _paired(path: str, shapes: Shapes) -> bool:
  """Whether two layers of an attention, as query and out, share its heads."""
  module, rank = parent(parent(path)), len(shapes[path])
  near = (shapes[other] for other in shapes.below[module, 2])
  layers = [shape for shape in near if len(shape) == rank > 2]
  return any(
    a[-2:] == b[-3:-1] and a[:-3] == b[:-3]
    for a, b in itertools.permutations(layers, 2)
  )
