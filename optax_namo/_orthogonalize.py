# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The polar factor of a matrix: by Newton-Schulz, and exactly by SVD."""

from collections.abc import Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from optax_namo import _coefficients
from optax_namo import _norms
from optax_namo._coefficients import Triplet

# How far the steps on one R may amplify its rounding: the product of their
# slopes at zero. The small eigenvalues of R drown in the rounding of products,
# and Q then takes them for what they are not. In float32 five steps of 'muon'
# (485) stay within 1e-3 of the standard form at condition number 1e6; with
# operands of 16 bits runs up to 30 err less than the standard form does.
# Both are measured in tests/core/orthogonalize_test.py.
GAIN = {32: 512, 16: 30}


def newton_schulz(
  x: jax.Array,
  *,
  steps: int = 5,
  coefficients: _coefficients.Coefficients = 'muon',
  dtype: Any = None,
) -> jax.Array:
  r"""Approximate polar factor of each matrix, by Newton-Schulz iteration.

  .. math::
    X_0 = x / \|x\|_F, \qquad
    X_{k+1} = a X_k + b (X_k X_k^T) X_k + c (X_k X_k^T)^2 X_k

  An odd polynomial of the singular values, which leaves the singular vectors
  alone and drives the values towards one. The iteration commutes with
  transposition; it runs on the side with fewer rows, on the Gram matrix
  ``X X^T`` where that takes fewer FLOPs.

  Args:
    x: Stack of matrices, shape ``(..., m, n)``, floating.
    steps: Number of iterations.
    coefficients: ``'muon'``, ``'polar_express'``, ``'cans'``, ``'dion'``, a
      triplet ``(a, b, c)``, or a sequence of triplets of which step k takes the
      k-th; the last one repeats.
    dtype: The dtype of the operands of each product; sums are
      ``promote_types(dtype, float32)``. None means
      ``promote_types(x.dtype, float32)``; ``jnp.bfloat16`` is the fast choice
      on accelerators. The matrix is normalized before it is cast, so that
      float16 neither overflows nor underflows. Float32 products are as precise
      as ``jax.default_matmul_precision`` says: by default they are rounded to
      TF32 on recent NVIDIA GPUs and to bfloat16 on TPUs.

  Returns:
    Array of ``x``'s shape and dtype, singular values close to one. A zero
    matrix stays zero, exactly.

  Raises:
    ValueError: ``x`` has fewer than two axes, ``steps`` is below one, or the
      coefficients are unknown, misshapen or not finite.
    TypeError: ``x`` or ``dtype`` is not real floating.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from optax_namo import newton_schulz
    >>> x = jax.random.normal(jax.random.key(0), (3, 64, 256))
    >>> values = jnp.linalg.svd(newton_schulz(x), compute_uv=False)
    >>> bool((0.6 < values.min()) & (values.max() < 1.25))
    True

  References:
    Jordan et al., `Muon <https://kellerjordan.github.io/posts/muon>`_, 2024
  """
  x = jnp.asarray(x)
  if x.ndim < 2:
    raise ValueError(
      'newton_schulz works on matrices (..., m, n), got an array of shape'
      f' {x.shape}; vectors and scalars belong to AdamW.'
    )
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f'newton_schulz needs real floats, got dtype {x.dtype}.')
  if not isinstance(steps, int) or steps < 1:
    raise ValueError(f'steps must be a positive int, got {steps!r}.')
  rows = _coefficients.triplets(coefficients, steps)
  dtype = dtype or jnp.promote_types(x.dtype, jnp.float32)
  if not jnp.issubdtype(dtype, jnp.floating):
    raise TypeError(f'dtype must be a real floating dtype, got {dtype!r}.')
  return _iterate(x, rows, jnp.dtype(dtype))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _iterate(x: jax.Array, rows: tuple[Triplet, ...], dtype: Any) -> jax.Array:
  """The checked iteration: normalize, cast, and one row of (a, b, c) a step."""
  tall = x.shape[-2] > x.shape[-1]
  y = _norms.normalize(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
  y = (y.mT if tall else y).astype(dtype)
  if not _gram_pays(y):
    y = standard_form(y, rows)
  elif dtype == jnp.float32:
    # Accelerators round its products to TF32 or bfloat16 by default.
    y = jax.lax.platform_dependent(
      y,
      cpu=functools.partial(restarted_gram_form, rows=rows, gain=GAIN[32]),
      default=functools.partial(restarted_gram_form, rows=rows, gain=GAIN[16]),
    )
  else:
    bits = 32 if jnp.finfo(dtype).bits >= 32 else 16
    y = restarted_gram_form(y, rows, GAIN[bits])
  return (y.mT if tall else y).astype(x.dtype)


def _gram_pays(y: jax.Array) -> bool:
  """Whether the Gram form takes fewer FLOPs.

  For an m x n matrix and s steps the standard form takes s (4 m^2 n + 2 m^3)
  FLOPs, the Gram form 4 m^2 n + 2 (4 s - 3) m^3: fewer if n > 1.5 m, whatever
  s > 1; equal if s = 1.
  """
  m, n = y.shape[-2:]
  return n > 1.5 * m


def _product(x: jax.Array, y: jax.Array, dtype: Any) -> jax.Array:
  """``x @ y`` with operands of the dtype and sums of float32 or wider."""
  wide = jnp.promote_types(dtype, jnp.float32)
  return jnp.matmul(
    x.astype(dtype), y.astype(dtype), preferred_element_type=wide
  )


def _polynomial(r: jax.Array, row: Triplet, dtype: Any) -> jax.Array:
  """``a I + b R + c R^2``, by which a step multiplies Y from the left."""
  a, b, c = row
  identity = jnp.broadcast_to(jnp.eye(r.shape[-1], dtype=r.dtype), r.shape)
  return a * identity + b * r + c * _product(r, r, dtype)


def standard_form(y: jax.Array, rows: Sequence[Triplet]) -> jax.Array:
  """The iteration on the matrix itself, ``(..., m, n)`` with ``m <= n``."""
  dtype = y.dtype
  for row in rows:
    r = _product(y, y.mT, dtype)  # (..., m, m)
    y = _product(_polynomial(r, row, dtype), y, dtype).astype(dtype)
  return y


def gram_form(y: jax.Array, rows: Sequence[Triplet]) -> jax.Array:
  """The same iteration on ``R = Y Y^T``, ``(..., m, m)``, and one product.

  Every step multiplies Y from the left by a polynomial T of R. Polynomials of R
  commute, so they gather in Q, and R is updated on its own: ``R <- T R T``. Q
  and R are float32 or wider.
  """
  dtype = y.dtype
  r = _product(y, y.mT, dtype)
  q = t = _polynomial(r, rows[0], dtype)
  for row in rows[1:]:
    r = _product(_product(r, t, dtype), t, dtype)
    t = _polynomial(r, row, dtype)
    q = _product(q, t, dtype)
  return _product(q, y, dtype).astype(dtype)


def restarted_gram_form(
  y: jax.Array, rows: Sequence[Triplet], gain: float
) -> jax.Array:
  """The Gram form, with R computed afresh where its gain would pass."""
  runs: list[list[Triplet]] = [[]]
  for row in rows:
    if runs[-1] and abs(math.prod(a for a, _, _ in (*runs[-1], row))) > gain:
      runs.append([])
    runs[-1].append(row)
  for run in runs:
    y = gram_form(y, run)
  return y


def polar_svd(x: jax.Array) -> jax.Array:
  r"""Exact polar factor of each matrix, by singular value decomposition.

  .. math:: x = U S V^T \mapsto U V^T

  The oracle for ``newton_schulz``, and an ``orthogonalizer`` of its own where
  the cost of an SVD does not matter. Directions whose singular value is zero to
  rounding, at most ``epsilon sqrt(max(m, n))`` of the largest, are dropped, for
  their vectors are noise: a zero matrix stays zero and ``u v^T`` stays itself.

  Args:
    x: Stack of matrices, shape ``(..., m, n)``, floating. float16 and bfloat16
      are decomposed in float32.

  Returns:
    Array of ``x``'s shape and dtype.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from optax_namo import polar_svd
    >>> o = polar_svd(jax.random.normal(jax.random.key(0), (3, 5)))
    >>> bool(jnp.allclose(o @ o.T, jnp.eye(3), atol=1e-5))
    True

  References:
    Algorithm 1 and 2, ``Orth``, in arXiv 2602.17080.
  """
  wide = jnp.promote_types(x.dtype, jnp.float32)
  u, s, vt = jnp.linalg.svd(
    _norms.normalize(x.astype(wide)), full_matrices=False
  )
  # Float32 matrices of lower rank have up to 4 epsilon there at 512 x 512.
  zero = float(jnp.finfo(wide).eps) * math.sqrt(max(x.shape[-2:]))
  u = jnp.where((s <= zero * s[..., :1])[..., None, :], 0, u)
  return (u @ vt).astype(x.dtype)
