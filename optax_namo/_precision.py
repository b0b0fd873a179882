# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic in float32 or wider, whatever the parameters are kept in."""

from typing import Any

import jax
import jax.numpy as jnp

from optax_namo._layout import sharding
from optax_namo._layout import trees


def check_real(what: str, tree: Any) -> None:
  """Raises TypeError where a leaf, one 'gradient' say, is not real floating."""
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


def widen(tree: Any, what: str = 'parameter') -> Any:
  """Parameters in float32, or in float64 where they have it.

  A ``jax.ShapeDtypeStruct`` counts as zeros, as for optax. For ``what`` see
  ``check_real``.
  """
  check_real(what, tree)

  def cast(x):
    dtype = jnp.result_type(x)
    if jnp.finfo(dtype).bits <= 32:  # JAX does not promote 8 bits.
      dtype = jnp.dtype(jnp.float32)
    if isinstance(x, jax.ShapeDtypeStruct):
      return jnp.zeros_like(x, dtype=dtype)
    same = isinstance(x, jax.Array) and x.dtype == dtype
    return x if same else jnp.asarray(x).astype(dtype)

  return jax.tree.map(cast, tree)


def widen_gradients(gradients: Any, params: Any) -> Any:
  """Gradients in the dtypes and shardings of widened parameters.

  Their own dtypes count where there are no parameters.

  Raises:
    TypeError: A gradient is not real floating.
    ValueError: Its shape is not the parameter's; it would broadcast.
  """
  if params is None:
    return widen(gradients, 'gradient')
  theirs: Any = jax.tree.structure(params)
  if jax.tree.structure(gradients) != theirs:
    raise ValueError(_other_structure(gradients, params))
  check_real('gradient', gradients)

  def cast(path, g, p):
    if jnp.shape(g) != jnp.shape(p):
      raise ValueError(
        f'the {trees.named("gradient", path)} has shape {jnp.shape(g)}, its'
        f' parameter {jnp.shape(p)}. They must be the same.'
      )
    return sharding.as_sharded(jnp.asarray(g).astype(p.dtype), p)

  return jax.tree_util.tree_map_with_path(cast, gradients, params)


def _other_structure(gradients: Any, params: Any) -> str:
  """What is wrong: a leaf that only one of the trees has, or containers."""
  ours, theirs = map(dict.fromkeys, map(trees.paths, (gradients, params)))
  message = 'the gradients must have the structure of the parameters. '
  if missing := [path for path in theirs if path not in ours]:
    return message + (
      f'There is none for {missing[0]!r}: give zeros where a parameter has no'
      ' gradient, not None; or leave such parameters out of both.'
    )
  if others := [path for path in ours if path not in theirs]:
    return message + (
      f'There is one for {others[0]!r}, and no such parameter: leave it out of'
      ' the gradients, too.'
    )
  return message + (
    'They have the same leaves in other containers: of a FrozenDict beside a'
    ' dict flax.core.unfreeze makes a dict.'
  )
