# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Euclidean norms of arrays of any magnitude.

Squares of float32 entries below 1e-19 or above 1e19 leave float32's range:
entries are divided by a unit of their own magnitude first.
"""

import math

import jax
import jax.numpy as jnp


def largest(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """The largest magnitude over ``axes``, kept with size 1."""
  size = jnp.abs(jax.lax.stop_gradient(x))
  # jnp.max(initial=0) would be a reduction from -inf and a maximum after it.
  zero = jnp.zeros([], x.dtype)
  return jnp.expand_dims(jax.lax.reduce(size, zero, jax.lax.max, axes), axes)


def unit(x: jax.Array) -> jax.Array:
  """``x >= 0`` where it can be divided by: it and its reciprocal are normal.

  Units cancel, and derivatives take them for constants: 1 in the place of 0
  keeps those at a zero gradient of ordinary size.
  """
  tiny = jnp.finfo(x.dtype).tiny
  x = jnp.minimum(jax.lax.stop_gradient(x), 1 / tiny)
  return jnp.where(x < tiny, 1, x)


def sum_of_squares(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """``||x||^2`` over ``axes``, kept with size 1."""
  return jnp.sum(jnp.square(x), axis=axes, keepdims=True)


@jax.custom_jvp
def root(x: jax.Array) -> jax.Array:
  """``sqrt(x)``, with derivative 0 instead of infinity at zero.

  Meta-gradients pass through the norms of columns that are zero.
  """
  return jnp.sqrt(x)


@root.defjvp
def _root_jvp(primals, tangents):
  (x,), (tangent,) = primals, tangents
  y = root(x)
  slope = jnp.where(x == 0, 0, 0.5 / jnp.where(x == 0, 1, y))
  return y, slope * tangent


def norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """``||x||`` over ``axes``, kept with size 1, in ``x.dtype``."""
  size = unit(largest(x, axes))
  return size * root(sum_of_squares(x / size, axes))


def scaled(x: jax.Array) -> jax.Array:
  """Each m x n matrix of a stack divided by a power of two, exactly.

  The largest entry becomes about (m n)^-1/4: then squares and their sums stay
  normal numbers, also those of a few large entries in float16.
  """
  m, n = x.shape[-2:]
  info = jnp.finfo(x.dtype)
  # To a power of two; from 1.5 * 2**127 on to infinity, which unit bounds.
  size = jax.lax.reduce_precision(
    largest(x, (x.ndim - 2, x.ndim - 1)), info.nexp, mantissa_bits=0
  )
  about = 2.0 ** round(0.25 * math.log2(max(m * n, 1)))
  return x / unit(size * about)
