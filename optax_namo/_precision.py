# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic in float32 or wider, whatever the parameters are kept in."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_namo._layout import sharding
from optax_namo._layout import trees


def check_real(what: str, tree: Any) -> None:
  """Raises TypeError where a leaf of a tree is not real floating.

  Args:
    what: What the tree holds, one of it: 'parameter' or 'gradient'.
    tree: The tree of arrays.
  """
  for path, x in jax.tree_util.tree_leaves_with_path(tree):
    try:
      dtype = jnp.result_type(x)
    except TypeError as error:
      raise TypeError(
        f'the {trees.named(what, path)} is a {type(x).__name__} and no array.'
        ' Give the optimizer the arrays alone, as eqx.filter(model,'
        ' eqx.is_inexact_array) takes them out of an Equinox model.'
      ) from error
    if not jnp.issubdtype(dtype, jnp.floating):
      raise TypeError(
        f'the {trees.named(what, path)} has dtype {dtype}; only real floating'
        ' parameters can be optimized. Leave it out with optax.partition or'
        ' optax.masked.'
      )


def widen(tree: Any) -> Any:
  """Parameters in ``promote_types(dtype, float32)``, leaf by leaf.

  Args:
    tree: Parameters; a ``jax.ShapeDtypeStruct`` counts as zeros, as for optax.

  Returns:
    The tree of arrays in float32 or float64.

  Raises:
    TypeError: A leaf is not real floating.
  """
  check_real('parameter', tree)

  def cast(x):
    dtype = jnp.promote_types(jnp.result_type(x), jnp.float32)
    if isinstance(x, jax.ShapeDtypeStruct):
      return jnp.zeros_like(x, dtype=dtype)
    return jnp.asarray(x).astype(dtype)

  return jax.tree.map(cast, tree)


def widen_gradients(gradients: Any, params: Any) -> Any:
  """Gradients in the dtypes and shardings of widened parameters.

  Args:
    gradients: Gradients; their own dtypes count where there are no parameters.
    params: What ``widen`` returned, or None.

  Returns:
    The tree of arrays in float32 or float64.

  Raises:
    TypeError: A gradient is not real floating.
    ValueError: Its shape is not the parameter's; it would broadcast.
  """
  check_real('gradient', gradients)
  if params is None:
    return widen(gradients)

  def cast(path, g, p):
    if jnp.shape(g) != jnp.shape(p):
      raise ValueError(
        f'the {trees.named("gradient", path)} has shape {jnp.shape(g)}, its'
        f' parameter {jnp.shape(p)}. They must be the same.'
      )
    return sharding.as_sharded(jnp.asarray(g).astype(p.dtype), p)

  return jax.tree_util.tree_map_with_path(cast, gradients, params)
