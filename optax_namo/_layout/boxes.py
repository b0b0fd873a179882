# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parameters in boxes: state of another shape must not inherit them.

Flax's ``nnx.Variable`` and Linen's ``Partitioned``, or a named array of Haliax,
wrap one array and name its axes. A momentum has its parameter's axes and stays
in its box, by which Flax shards it; one scale for each column has not.
"""

from collections.abc import Sequence
from typing import Any

import jax


def is_box(node: Any) -> bool:
  """Whether a node of a tree of parameters wraps one leaf without naming it.

  Its only child is a leaf, or what a mask left of one, under ``.value`` (Flax)
  or under no name (nodes registered without keys, as Haliax's).
  """
  content = _only_child(node)
  if content is node:
    return False
  structure: Any = jax.tree.structure(content)
  return structure.num_nodes == 1 or is_box(content)


def unflatten(treedef: Any, entries: Sequence[Any], *, boxed: bool) -> Any:
  """A tree of state, from one entry for each leaf of a tree of parameters.

  Args:
    treedef: The structure of the parameters.
    entries: An array for each of their leaves, or a tree of several.
    boxed: Whether arrays stay in their parameters' boxes: those of the
      parameters' shapes do. Trees of several never do.

  Returns:
    The tree of the entries.
  """

  def fill(node):
    leaves = jax.tree.leaves(node)
    if not leaves:  # Masked.
      return node if boxed else _content(node)
    (i,) = leaves
    if boxed and jax.tree_util.all_leaves([entries[i]]):
      return jax.tree.map(lambda _: entries[i], node)
    return entries[i]

  places = treedef.unflatten(range(treedef.num_leaves))
  return jax.tree.map(fill, places, is_leaf=is_box)


def _only_child(node: Any) -> Any:
  """What a node wraps under no name of its own; or the node itself."""
  if isinstance(node, tuple):  # A field of a NamedTuple may be called value.
    return node
  children, _ = jax.tree_util.tree_flatten_with_path(
    node, is_leaf=lambda child: child is not node
  )
  if len(children) != 1 or len(children[0][0]) != 1:
    return node
  (key,), child = children[0]
  nameless = isinstance(key, jax.tree_util.FlattenedIndexKey)
  return child if nameless or getattr(key, 'name', None) == 'value' else node


def _content(node: Any) -> Any:
  child = _only_child(node)
  return node if child is node else _content(child)
