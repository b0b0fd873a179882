# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic in float32 or wider, whatever the parameters are kept in."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_namo import _dimension_numbers as dims
from optax_namo import _sharding


def widen(tree: Any, like: Any = None) -> Any:
  """Casts a tree to ``promote_types(dtype, float32)``, leaf by leaf.

  Args:
    tree: Parameters or gradients.
    like: The tree whose dtypes count; None means ``tree`` itself.

  Returns:
    The tree of arrays in float32 or float64.

  Raises:
    TypeError: A leaf is not real floating.
  """

  def cast(path, x, y):
    dtype = jnp.result_type(y)
    if not jnp.issubdtype(dtype, jnp.floating):
      raise TypeError(
        f'the parameter {dims.path_string(path)!r} has dtype {dtype};'
        ' only real floating parameters can be optimized. Leave it out with'
        ' optax.partition or optax.masked.'
      )
    return jnp.asarray(x).astype(jnp.promote_types(dtype, jnp.float32))

  return jax.tree_util.tree_map_with_path(
    cast, tree, tree if like is None else like
  )


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
    return _sharding.on_devices_of(inner.init(params), params)

  def update(updates, state, params=None, **extra_args):
    wide = widen(updates, params)
    if params is not None:
      params = widen(params)
      wide = jax.tree.map(_sharding.as_sharded, wide, params)
    wide, state = inner.update(wide, state, params, **extra_args)
    narrow = jax.tree.map(
      lambda new, old: new.astype(jnp.result_type(old)), wide, updates
    )
    return narrow, state

  return optax.GradientTransformationExtraArgs(init, update)
