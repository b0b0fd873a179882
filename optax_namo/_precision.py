# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic in float32 or wider, whatever the parameters are kept in."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_namo._layout import sharding
from optax_namo._routing import dimension_numbers as dims


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
        f'the {named(what, path)} is a {type(x).__name__} and no array. Give'
        ' the optimizer the arrays alone, as eqx.filter(model,'
        ' eqx.is_inexact_array) takes them out of an Equinox model.'
      ) from error
    if not jnp.issubdtype(dtype, jnp.floating):
      raise TypeError(
        f'the {named(what, path)} has dtype {dtype}; only real floating'
        ' parameters can be optimized. Leave it out with optax.partition or'
        ' optax.masked.'
      )


def named(what: str, path: tuple[Any, ...]) -> str:
  """A leaf for an error; the tree may be a single array, without a path."""
  return f'{what} {dims.path_string(path)!r}' if path else what


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


def _widen_gradients(gradients: Any, params: Any) -> Any:
  """Gradients in the dtypes and shardings of widened parameters.

  Raises:
    TypeError: A gradient is not real floating.
    ValueError: Its shape is not the parameter's; it would broadcast.
  """
  check_real('gradient', gradients)

  def cast(path, g, p):
    if jnp.shape(g) != jnp.shape(p):
      raise ValueError(
        f'the {named("gradient", path)} has shape {jnp.shape(g)}, its'
        f' parameter {jnp.shape(p)}. They must be the same.'
      )
    return sharding.as_sharded(jnp.asarray(g).astype(p.dtype), p)

  return jax.tree_util.tree_map_with_path(cast, gradients, params)


def in_wide_precision(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
  """Runs a transformation on widened trees; updates keep the gradients' dtype.

  The state is that of the widened parameters and so keeps its dtypes from step
  to step, also where gradients and parameters differ in theirs.

  Args:
    inner: The transformation to run.

  Returns:
    A transformation with ``inner``'s state.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params):
    params = widen(params)
    return sharding.on_devices_of(inner.init(params), params)

  def update(updates, state, params=None, **extra_args):
    if params is None:
      check_real('gradient', updates)
      wide = widen(updates)
    else:
      params = widen(params)
      wide = _widen_gradients(updates, params)
    wide, new_state = inner.update(wide, state, params, **extra_args)
    # A hyperparameter of float64 would widen Adam's moments.
    new_state = jax.tree.map(
      lambda new, old: new.astype(old.dtype), new_state, state
    )
    narrow = jax.tree.map(
      lambda new, old: new.astype(jnp.result_type(old)), wide, updates
    )
    return narrow, new_state

  return optax.GradientTransformationExtraArgs(init, update)
