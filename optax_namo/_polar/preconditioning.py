# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scalings of a matrix before Newton-Schulz, read from R.

With R = Y Y^T none of them costs a product with Y: a diagonal D turns R into
D R D, and what D does to Y is gathered with the polynomials of R.
"""

from collections.abc import Callable
from typing import get_args, Literal

import jax
import jax.numpy as jnp

from optax_namo._polar import norms

Preconditioning = Literal['frobenius', 'schatten', 'spectral', 'aol']
NAMES = get_args(Preconditioning)


def scaled(
  name: str,
  columns: jax.Array,
  r: jax.Array,
  square_of: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Scales R so that no singular value of D Y is above one.

  Args:
    name: One of ``NAMES``.
    columns: The squared norms of Y's columns, shape ``(..., 1, n)``.
    r: Y Y^T, shape ``(..., m, m)``.
    square_of: Returns a matrix as products see it, and its square.

  Returns:
    D's diagonal, shape ``(..., 1, 1)`` or ``(..., m, 1)``; D R D; and its
    square where it is known, else None.
  """
  square = None
  if name == 'frobenius':
    squares = jnp.sum(columns, axis=-1, keepdims=True)
  elif name == 'schatten':
    r, square = square_of(r)
    # ||R^2||_F is the fourth power of Y's norm of order 8.
    fourth = norms.root(norms.sum_of_squares(square, (r.ndim - 2, r.ndim - 1)))
    squares = norms.root(fourth)
  elif name == 'spectral':
    squares = jnp.linalg.eigvalsh(r)[..., -1:, None]
  else:
    squares = jnp.sum(jnp.abs(r), axis=-1, keepdims=True)
  s = jax.lax.rsqrt(jnp.where(squares > 0, squares, 1))
  if square is not None:
    square = s**4 * square
  return s, r * (s * s.mT), square
