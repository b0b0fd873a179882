# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Euclidean norms of arrays of any magnitude.

Squares of float32 entries below 1e-19 or above 1e19 leave float32's range.
Entries are divided by a power of two near the largest of them first, which
rounds nothing: gradients times a power of two give bit-identical updates.
"""

import jax
import jax.numpy as jnp


def largest(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """The largest magnitude over ``axes``, kept with size 1."""
  return jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)


def power_of_two(x: jax.Array) -> jax.Array:
  """The power of two nearest to each entry of x >= 0; 1 for zero."""
  info = jnp.finfo(x.dtype)
  # From 1.5 * 2**127 on, float32 would round up to infinity.
  x = jnp.minimum(x, 2.0 ** (info.maxexp - 2))
  unit = jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=0)
  return jnp.where(unit == 0, 1, unit)


def norm_in(unit: jax.Array, x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """``||x / unit||`` over ``axes``, kept with size 1."""
  return jnp.sqrt(jnp.sum(jnp.square(x / unit), axis=axes, keepdims=True))


def norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """``||x||`` over ``axes``, kept with size 1, in ``x.dtype``."""
  unit = power_of_two(largest(x, axes))
  return unit * norm_in(unit, x, axes)


def normalize(x: jax.Array) -> jax.Array:
  """``x / ||x||_F`` for each matrix of a stack; a zero matrix stays zero."""
  # Two divisions: the reciprocal of a norm near 1e-38 is not a float32.
  x = x / power_of_two(largest(x, (-2, -1)))
  size = norm_in(jnp.ones_like(x, shape=()), x, (-2, -1))
  return x / jnp.where(size == 0, 1, size)
