# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the types of modules say: Equinox's and Haliax's carry them in the tree.

By their names, up the classes they are made from: neither is imported.
"""

from collections.abc import Callable, Iterator
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
  if groups == 1:
    return numbers
  if groups == layer.in_channels:  # Depthwise.
    return None
  sizes = (layer.out_channels // groups,) * groups
  return dims.SplitMatrices(numbers, out, sizes)


def _named(layer: Any, rank: int) -> MuonDimensionNumbers | None:
  """Haliax names axes: those of the layer's Out are outputs, in any order."""
  axes = [axis.name for axis in layer.weight.axes]
  batch = rank - len(axes)  # Axes that jax.vmap put in front have no names.

  def named(spec):
    one = isinstance(spec, str) or hasattr(spec, 'name')
    names = [getattr(axis, 'name', axis) for axis in ([spec] if one else spec)]
    return tuple(batch + i for i, axis in enumerate(axes) if axis in names)

  inputs = named(layer.In) + named(getattr(layer, 'Spatial', ()))
  outputs = named(layer.Out)
  return _M(inputs, outputs) if inputs and outputs else None


def _adamw(layer: Any, rank: int) -> None:
  return None


class Told(NamedTuple):
  """What a layer's type says of a leaf."""

  type: str
  numbers: dims.Spec


# (package, classes, the leaf's path within the layer, its axes). The gates of a
# recurrent cell are one matrix, as the heads of attention are.
_TYPES = (
  ('equinox.nn', r'Linear', r'^weight(/|$)', _linear),
  ('equinox.nn', r'GRUCell|LSTMCell', r'^weight_[ih]h(/|$)', _linear),
  ('equinox.nn', r'Conv|ConvTranspose', r'^weight(/|$)', _conv),
  ('equinox.nn', r'Embedding', r'^weight(/|$)', _adamw),
  ('equinox.nn', r'(Layer|RMS|Group|Batch)Norm', r'', _adamw),
  ('equinox.nn', r'PReLU', r'^negative_slope$', _adamw),
  ('equinox.nn', r'WeightNorm', r'^g$', _adamw),
  ('equinox.nn', r'StateIndex', r'', _adamw),
  ('equinox.nn', r'Shared', r'^$', _adamw),  # See _tied.
  ('haliax.nn', r'\w*Linear|Conv|ConvTranspose', r'^weight$', _named),
  ('haliax.nn', r'Embedding', r'^weight$', _adamw),
  ('haliax.nn', r'(Layer|Rms)Norm\w*', r'', _adamw),
)


def _rows(node: Any) -> list[tuple[str, str, Callable[[Any, int], dims.Spec]]]:
  """The rows of the table for a node, with the name of its type."""
  return [
    (f'{package}.{cls.__name__}', leaf, axes)
    for cls in type(node).__mro__
    for package, classes, leaf, axes in _TYPES
    if f'{cls.__module__}.'.startswith(f'{package}.')
    and re.fullmatch(classes, cls.__name__)
  ]


def told(tree: Any) -> dict[tuple[Any, ...], Told]:
  """What types say, by the leaves' keys; inner layers speak last.

  ``tree`` may be of parameters, gradients or what ``optax.masked`` leaves of
  them: it has the layers' types and, in place of a leaf, perhaps nothing.
  """
  types: dict[tuple[Any, ...], Told] = {}
  tied: dict[tuple[Any, ...], Told] = {}
  for path, layer in _layers(tree):
    if type(layer).__name__ == 'Shared':
      tied |= _tied(path, layer)
    for within, leaf in jax.tree_util.tree_leaves_with_path(layer):
      for name, pattern, axes in _rows(layer):
        if re.search(pattern, trees.path_string(within)):
          rank = len(jnp.shape(leaf))
          numbers = axes(layer, rank) if rank > 1 else None
          types[path + within] = Told(name, numbers)
          break
  return types | tied


def _tied(path: tuple[Any, ...], shared: Any) -> dict[tuple[Any, ...], Told]:
  """An output layer that is kept where its embedding was taken out."""
  taken = [
    {layer.num_embeddings, layer.embedding_size}
    for _, layer in _layers(shared, (), shared)
    if type(layer).__name__ == 'Embedding' and not jax.tree.leaves(layer)
  ]
  return {
    path + within: Told('equinox.nn.Shared', None)
    for within, leaf in jax.tree_util.tree_leaves_with_path(shared)
    if len(jnp.shape(leaf)) > 1 and set(jnp.shape(leaf)) in taken
  }


def _layers(
  tree: Any, path: tuple[Any, ...] = (), outer: Any = None
) -> Iterator[tuple[Any, Any]]:
  """The nodes that the table knows, outer ones first, with their paths."""
  known = lambda x: x is not outer and bool(_rows(x))
  for below, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=known):
    if known(node):
      yield path + below, node
      yield from _layers(node, path + below, node)
