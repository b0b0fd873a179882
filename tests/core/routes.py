# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The router's answer on a tree of parameters, for tests to read."""

import jax
import jax.numpy as jnp

import optax_namo
from optax_namo._layout import trees
from optax_namo._routing import dimension_numbers as dims


def routes(params, **options):
  """``(reduction axes, output axes)`` or None (AdamW) of each leaf, by path.

  The answer's structure must be that of the parameters.
  """
  numbers = optax_namo.matrix_dimension_numbers(params, **options)
  assert jax.tree.structure(numbers, is_leaf=dims.is_spec) == (
    jax.tree.structure(params, is_leaf=lambda x: x is None)
  )
  leaves = jax.tree_util.tree_leaves_with_path(numbers, is_leaf=dims.is_spec)
  found = {trees.path_string(path): spec for path, spec in leaves}
  assert len(found) == len(leaves), 'two leaves of one path'
  return {k: None if v is None else tuple(v) for k, v in found.items()}


def matrices(params, **options):
  """The same of the matrices alone."""
  return {k: v for k, v in routes(params, **options).items() if v is not None}


def why(params, **options):
  """The column ``why`` of the routing table, by path."""
  return {
    route.path: route.why
    for route in optax_namo.routing_table(params, **options)
  }


def ones(*shape):
  """The shape of a leaf, which is all that a router looks at."""
  return jax.ShapeDtypeStruct(shape, jnp.float32)
