# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the types of modules say: Equinox's and Haliax's carry them in the tree.

By their names, up the classes they are made from: neither is imported.
"""

from collections.abc import Sequence
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
  names = [name(axis) for axis in layer.weight.axes]
  batch = rank - len(names)  # Axes that jax.vmap put in front have no names.

  def side(*axes):
    found = {name(axis) for axis in jax.tree.leaves(axes)}
    return tuple(i for i, x in enumerate(names, batch) if x in found)

  inputs = side(layer.In, getattr(layer, 'Spatial', ()))
  outputs = side(layer.Out)
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
  found: list[Told | None] = []

  def visit(node, layers):
    """Below the layers around a node, with its path in each."""
    inner = lambda x: x is not node
    children = jax.tree_util.tree_leaves_with_path(node, is_leaf=inner)
    if len(children) == 1 and not children[0][0]:
      found.append(_told(node, layers))
      return
    if not isinstance(node, dict | list | tuple):
      layers = [*layers, (node, ())]
    for path, child in children:
      visit(child, [(layer, within + path) for layer, within in layers])

  visit(tree, [])
  return found


def _told(leaf: Any, layers: Sequence[tuple[Any, Any]]) -> Told | None:
  """What the innermost layer around a leaf says of it."""
  shape = jnp.shape(leaf)
  if any(_tied(layer, shape) for layer, _ in layers):
    return Told('equinox.nn.Shared', None)
  for layer, path in layers[::-1]:
    for cls in type(layer).__mro__:
      for package, classes, pattern, axes in _TYPES:
        if (
          cls.__module__.startswith(package)
          and re.fullmatch(classes, cls.__name__)
          and re.match(pattern, trees.path_string(path))
        ):
          numbers = axes(layer, len(shape)) if axes and len(shape) > 1 else None
          return Told(f'{package}.{cls.__name__}', numbers)
  return None


def _tied(shared: Any, shape: Sequence[int]) -> bool:
  """Whether a leaf is kept where its embedding was taken out."""
  is_embedding = lambda node: type(node).__name__ == 'Embedding'
  return type(shared).__name__ == 'Shared' and any(
    is_embedding(node)
    and not jax.tree.leaves(node)
    and {node.num_embeddings, node.embedding_size} == set(shape)
    for node in jax.tree.leaves(shared, is_leaf=is_embedding)
  )
