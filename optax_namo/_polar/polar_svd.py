# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The exact polar factor of a matrix, by SVD: the oracle."""

from __future__ import annotations  # help() shows names, not unions.

import math

import jax
import jax.numpy as jnp

from optax_namo._polar import norms
from optax_namo._polar.newton_schulz import matrices


def polar_svd(x: jax.Array) -> jax.Array:
  r"""Exact polar factor of each matrix, by singular value decomposition.

  .. math:: x = U S V^T \mapsto U V^T

  It is the oracle for ``newton_schulz``, and an ``orthogonalizer`` of its own
  where the cost of an SVD does not matter. Directions whose singular value is
  at most ``epsilon sqrt(max(m, n))`` of the largest are dropped, since their
  vectors are noise. So a zero matrix stays zero, and ``u v^T`` stays itself.

  Args:
    x: Stack of matrices, shape ``(..., m, n)``, floating. float16 and bfloat16
      are decomposed in float32.

  Returns:
    Array of ``x``'s shape and dtype.

  Raises:
    ValueError: ``x`` has fewer than two axes.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from optax_namo import polar_svd
    >>> o = polar_svd(jax.random.normal(jax.random.key(0), (3, 5)))
    >>> bool(jnp.allclose(o @ o.T, jnp.eye(3), atol=1e-5))
    True

  References:
    Algorithm 1 and 2, ``Orth``, in arXiv 2602.17080.
  """
  x = matrices('polar_svd', x)
  wide = jnp.promote_types(x.dtype, jnp.float32)
  y = norms.scaled(x.astype(wide))
  # LAPACK may not return from a matrix with some entries that are not finite.
  size = jnp.sum(jnp.abs(y), (-2, -1), keepdims=True)
  y = jnp.where(jnp.isfinite(size), y, jnp.nan)
  u, s, vt = jnp.linalg.svd(y, full_matrices=False)
  # Float32 matrices of lower rank have up to 4 epsilon there at 512 x 512.
  zero = float(jnp.finfo(wide).eps) * math.sqrt(max(x.shape[-2:]))
  u = jnp.where((s <= zero * s[..., :1])[..., None, :], 0, u)
  return (u @ vt).astype(x.dtype)
