# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the types of modules say: Equinox's and Haliax's carry them in the tree.

By their names, up the classes they are made from: neither is imported.
"""

from collections.abc import Iterator, Sequence
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import trees
from optax_namo._routing import dimension_numbers as dims

_M = MuonDimensionNumbers


def _linear(layer: Any, rank: int) -> MuonDimensionNumbers:
  """(out, in), behind the axes of ``filter_vmap``."""
  return _M((rank - 1,), (rank - 2,))


def _conv(layer: Any, rank: int) -> dims.Spec:
  """(out, in, spatial...), behind the axes of ``filter_vmap``."""
  out, groups = rank - 2 - layer.num_spatial_dims, layer.groups
  numbers = _M(tuple(range(out + 1, rank)), (out,))
  if groups == layer.in_channels > 1:
    return None  # Depthwise.
  sizes = (layer.out_channels // groups,) * groups
  return numbers if groups == 1 else dims.SplitMatrices(numbers, out, sizes)


def _named(layer: Any, rank: int) -> MuonDimensionNumbers | None:
  """Haliax names axes: those of the layer's Out are outputs, in any order."""
  name = lambda axis: getattr(axis, 'name', axis)
  axes = [name(axis) for axis in layer.weight.axes]
  batch = rank - len(axes)  # Axes that jax.vmap put in front have no names.
  sides = [
    {name(axis) for axis in (side if isinstance(side, tuple) else (side,))}
    for side in (layer.In, layer.Out)
  ]
  sides[0] |= set(getattr(layer, 'Spatial', ()))
  inputs, outputs = (
    tuple(batch + i for i, axis in enumerate(axes) if axis in side)
    for side in sides
  )
  return _M(inputs, outputs) if inputs and outputs else None


# (package, classes, the leaf's path within the layer, its axes; None for
# AdamW). The gates of a cell are one matrix, as the heads of attention are.
_TYPES = (
  ('equinox.nn', r'Linear', r'weight(/|$)', _linear),
  ('equinox.nn', r'GRUCell|LSTMCell', r'weight_[ih]h(/|$)', _linear),
  ('equinox.nn', r'Conv|ConvTranspose', r'weight(/|$)', _conv),
  ('equinox.nn', r'Embedding', r'weight(/|$)', None),
  ('equinox.nn', r'(Layer|RMS|Group|Batch)Norm|StateIndex', r'', None),
  ('equinox.nn', r'PReLU|WeightNorm', r'(negative_slope|g)$', None),
  ('haliax.nn', r'\w*Linear|Conv|ConvTranspose', r'weight$', _named),
  ('haliax.nn', r'Embedding|(Layer|Rms)Norm\w*', r'', None),
)


class Told(NamedTuple):
  """What a layer's type says of a leaf."""

  type: str
  numbers: dims.Spec


def told(tree: Any) -> list[Told | None]:
  """What types say of each leaf, in order; inner layers speak last.

  ``tree`` may be of parameters, gradients or what ``optax.masked`` leaves of
  them: it has the layers' types and, in place of a leaf, perhaps nothing.
  """
  found = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    says, rank = None, len(jnp.shape(leaf))
    for i, layer in enumerate(_way(tree, path)):
      if type(layer).__name__ == 'Shared' and _tied(layer, jnp.shape(leaf)):
        says = Told('equinox.nn.Shared', None)
        break
      within = trees.path_string(path[i:])
      for name, pattern, axes in _rows(layer):
        if re.match(pattern, within):
          says = Told(name, axes(layer, rank) if axes and rank > 1 else None)
          break
    found.append(says)
  return found


def _way(tree: Any, path: Sequence[Any]) -> Iterator[Any]:
  """The nodes from the root down to a leaf's, as far as their keys tell."""
  yield tree
  for key in path:
    if hasattr(key, 'name'):
      tree = getattr(tree, key.name)
    elif isinstance(key, jax.tree_util.FlattenedIndexKey):
      return
    else:
      tree = tree[key.idx if hasattr(key, 'idx') else key.key]
    yield tree


def _rows(node: Any) -> Iterator[tuple[str, str, Any]]:
  """The rows of the table for a node, with the name of its type."""
  for cls in type(node).__mro__:
    for package, classes, leaf, axes in _TYPES:
      if cls.__module__.startswith(package) and (
        re.fullmatch(classes, cls.__name__)
      ):
        yield f'{package}.{cls.__name__}', leaf, axes


def _tied(shared: Any, shape: Sequence[int]) -> bool:
  """Whether a leaf is kept where its embedding was taken out."""
  is_embedding = lambda node: type(node).__name__ == 'Embedding'
  return any(
    is_embedding(node)
    and not jax.tree.leaves(node)
    and {node.num_embeddings, node.embedding_size} == set(shape)
    for node in jax.tree.leaves(shared, is_leaf=is_embedding)
  )
