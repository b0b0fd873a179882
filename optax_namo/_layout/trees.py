# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trees of parameters: boxes around leaves, their paths, prefixes.

Flax's ``nnx.Variable`` and Linen's ``Partitioned``, or a named array of Haliax,
are boxes: they wrap one array and name its axes. A momentum has its parameter's
axes and stays in its box, by which Flax shards it. State of another shape, such
as one scale for each column, must not inherit the box.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers


def is_box(node: Any) -> bool:
  """Whether a node of a tree of parameters wraps one leaf without naming it.

  Its only child is a leaf, or what a mask left of one, under ``.value`` (Flax)
  or under no name (nodes registered without keys, as Haliax's).
  """
  content = _content(node)
  structure: Any = jax.tree.structure(content)
  return content is not node and structure.num_nodes == 1


def unflattener(treedef: Any, *, boxed: bool) -> Callable[[Iterable[Any]], Any]:
  """From one entry for each leaf of the parameters to a tree like theirs.

  An entry is an array, or what stands for it: a tuple of its parts, or
  ``optax.MaskedNode()``.

  Args:
    treedef: The structure of the parameters.
    boxed: Whether arrays stay in their parameters' boxes: those of the
      parameters' shapes do. Parts never do, and a masked leaf leaves no
      ``nnx.Variable``, for NNX reads the shape of what is in one.
  """
  places = treedef.unflatten(range(treedef.num_leaves))
  if not any(map(is_box, jax.tree.leaves(places, is_leaf=is_box))):
    return treedef.unflatten

  def fill(entries, node):
    leaves = jax.tree.leaves(node)
    if not leaves:  # Masked.
      return node if boxed else _content(node)
    (i,) = leaves
    entry = entries[i]
    if isinstance(entry, optax.MaskedNode):
      stays = boxed and not _is_variable(node)
    else:
      stays = boxed and not isinstance(entry, tuple)
    return jax.tree.map(lambda _: entry, node) if stays else entry

  def unflatten(entries):
    filled = functools.partial(fill, list(entries))
    return jax.tree.map(filled, places, is_leaf=is_box)

  return unflatten


def _is_variable(node: Any) -> bool:
  """Whether it is an ``nnx.Variable``, by name: Flax is not imported."""
  return any(
    cls.__name__ == 'Variable' and cls.__module__.startswith('flax.nnx')
    for cls in type(node).__mro__
  )


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


def _unboxed(tree: Any, is_leaf: Callable[[Any], bool]) -> Any:
  """A tree of values with what is in its boxes in place of them."""
  boxed = lambda x: not is_leaf(x) and _only_child(x) is not x
  return jax.tree.map(
    lambda x: _content(x) if boxed(x) else x,
    tree,
    is_leaf=lambda x: is_leaf(x) or boxed(x),
  )


def _content(node: Any) -> Any:
  child = _only_child(node)
  return node if child is node else _content(child)


def path_string(path: Sequence[Any]) -> str:
  """``'/'``-joined path of a leaf, without the boxes around it.

  Those of Flax add ``.value``, those of Haliax a child without a name. Keys
  that are paths themselves, tuples or with dots, come apart.
  """
  path = tuple(path)
  while len(path) > 1 and (
    getattr(path[-1], 'name', None) == 'value'
    or path[-1] == jax.tree_util.FlattenedIndexKey(0)
  ):
    path = path[:-1]
  return _joined(path)


def paths(tree: Any) -> list[str]:
  """The same of all leaves; of what is no box, a field ``value`` stays."""
  tree = jax.tree.map(_with_keys, tree, is_leaf=_is_mapping)
  nodes = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_box)
  return [_joined(path) for path, node in nodes for _ in jax.tree.leaves(node)]


def _is_mapping(node: Any) -> bool:
  return isinstance(node, Mapping) and not isinstance(node, dict)


def _with_keys(node: Any) -> Any:
  """A dict of a mapping whose leaves have no keys, as those of a FlatMap."""
  paths = jax.tree_util.tree_leaves_with_path(node) if _is_mapping(node) else ()
  keys = {type(path[0]) for path, _ in paths}
  return dict(node) if keys == {jax.tree_util.FlattenedIndexKey} else node


def _joined(path: Sequence[Any]) -> str:
  keys = [getattr(key, 'key', None) for key in path]
  parts = [
    '/'.join(map(str, key))
    if isinstance(key, tuple)
    else jax.tree_util.keystr((entry,), simple=True)
    for key, entry in zip(keys, path)
  ]
  return '/'.join(parts).replace('.', '/')


def named(what: str, path: Sequence[Any]) -> str:
  """A leaf for an error; the tree may be a single array, without a path."""
  return f'{what} {path_string(path)!r}' if path else what


def _is_function(x: Any) -> bool:
  """Whether it is a function; Equinox models are callable trees."""
  return callable(x) and jax.tree_util.all_leaves([x])


def resolved(prefix_or_function: Any, tree: Any) -> Any:
  """A prefix of a tree, where a function of the tree may stand for it."""
  if _is_function(prefix_or_function):
    return prefix_or_function(tree)
  return prefix_or_function


def check_containers(tree: Any) -> None:
  """Raises TypeError where a container takes apart what is put into it."""
  # By type, for a container may have an == of its own.
  is_entry = lambda x: isinstance(x, MuonDimensionNumbers)
  whole = jax.tree.map(lambda _: MuonDimensionNumbers(), tree)
  if not all(map(is_entry, jax.tree.leaves(whole, is_leaf=is_entry))):
    raise TypeError(
      f'a container in the {type(tree).__name__} of parameters holds arrays'
      ' alone, and neither Factored updates nor dimension numbers, as the'
      ' FlatMap of Haiku does. Use dicts:'
      ' hk.data_structures.to_mutable_dict(params).'
    )


def spread(
  what: str,
  prefix: Any,
  tree: Any,
  is_leaf: Callable[[Any], bool] | None = None,
) -> Any:
  """A prefix of a tree, with its values at all leaves of that tree.

  Args:
    what: What the prefix must be, for the error.
    prefix: The values.
    tree: Parameters or gradients.
    is_leaf: What is a value of ``prefix``.

  Returns:
    A tree of ``tree``'s structure.

  Raises:
    ValueError: It is no prefix of ``tree``.
  """

  def spread_over(prefix):
    return jax.tree.map(
      lambda value, subtree: jax.tree.map(lambda _: value, subtree),
      prefix,
      tree,
      is_leaf=is_leaf,
    )

  try:
    return spread_over(prefix)
  except (ValueError, TypeError) as error:
    try:  # Made of boxed parameters, for the arrays that nnx.Optimizer updates.
      return spread_over(_unboxed(prefix, is_leaf or (lambda x: False)))
    except (ValueError, TypeError):
      check_containers(tree)
    raise ValueError(
      f'{what} with the structure of the parameters, or a prefix of it; a'
      ' callable from the parameters to such a tree always fits. Got'
      f' {jax.tree.structure(prefix, is_leaf=is_leaf)} for parameters'
      f' {jax.tree.structure(tree)}.'
    ) from error


def check_mask(mask: Any) -> None:
  """Raises TypeError where a mask holds what is no boolean."""
  for leaf in [] if _is_function(mask) else jax.tree.leaves(mask):
    if not isinstance(leaf, bool | np.bool_):
      raise TypeError(
        'weight_decay_mask must be a tree of booleans, True for what decays,'
        f' or a function from the parameters to one, got {leaf!r}. Under'
        ' optax.inject_hyperparams name a function in static_args.'
      )


def check_kept(
  kind: str, kept: Any, shapes: Sequence[tuple[int, ...]], mend: str
) -> None:
  """Raises ValueError where state has other shapes than the gradients need.

  They would broadcast, and train something else. The error names the ``kind``
  of state, and the ``mend``.
  """
  leaves = jax.tree_util.tree_leaves_with_path(kept)
  if len(leaves) != len(shapes):
    raise ValueError(
      f'the state holds {kind} of {len(leaves)} arrays and the gradients are'
      f' {len(shapes)}.{mend}'
    )
  for (path, x), shape in zip(leaves, shapes):
    if jnp.shape(x) != shape:
      raise ValueError(
        f'the state keeps {kind} of shape {jnp.shape(x)} at'
        f' {path_string(path)!r}, but the gradients need {shape}.{mend}'
      )


def decay_mask(mask: Any, params: Any) -> Any:
  """Which leaves decay: a boolean at each leaf of the parameters.

  They are all parameters, so that a mask sees every leaf's siblings.
  """
  mask = resolved(mask, params)
  check_mask(mask)
  return spread(
    "the weight decay's mask must be a tree of booleans", mask, params
  )


def where(keep: Any, new: Any, old: Any) -> Any:
  """``new`` at the leaves where a tree of booleans says so, ``old`` elsewhere.

  What stands in place of a leaf in ``new`` and ``old`` may be a tree itself.
  """
  return jax.tree.map(lambda k, n, o: n if k else o, keep, new, old)
