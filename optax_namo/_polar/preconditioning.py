# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scalings of a matrix before Newton-Schulz, read from R.

With R = Y Y^T none of them costs a product with Y: a diagonal D turns R into
D R D, and what D does to Y is gathered with the polynomials of R.
"""

from typing import get_args, Literal

import jax
import jax.numpy as jnp

from optax_namo._polar import norms

Preconditioning = Literal['frobenius', 'schatten', 'spectral', 'aol']
NAMES = get_args(Preconditioning)


def diagonal(
  name: str, columns: jax.Array, r: jax.Array, square: jax.Array | None
) -> jax.Array:
  """D's diagonal, ``(..., 1, 1)`` or ``(..., m, 1)``, for a norm of at most 1.

  ``columns`` are the squared norms of Y's columns, ``(..., 1, n)``; ``square``
  is R^2 for ``'schatten'``, else None.
  """
  if name == 'frobenius':
    squares = jnp.sum(columns, axis=-1, keepdims=True)
  elif square is not None:
    # ||R^2||_F is the fourth power of Y's norm of order 8.
    fourth = norms.root(norms.sum_of_squares(square, (r.ndim - 2, r.ndim - 1)))
    squares = norms.root(fourth)
  elif name == 'spectral':
    squares = jnp.linalg.eigvalsh(r)[..., -1:, None]
  else:
    squares = jnp.sum(jnp.abs(r), axis=-1, keepdims=True)
  return jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))
