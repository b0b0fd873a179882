# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The polar factor of a matrix: by Newton-Schulz, and exactly by SVD."""

from collections.abc import Sequence
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Triplet = tuple[float, float, float]

# (a, b, c) of one step X <- aX + b(XX^T)X + c(XX^T)^2 X.
COEFFICIENTS: dict[str, tuple[Triplet, ...]] = {
  # Keller Jordan's Muon, which the NAMO reference code uses unchanged:
  # https://kellerjordan.github.io/posts/muon, "Tuning the coefficients".
  # The slope at zero is maximal, singular values end in about [0.7, 1.2].
  'muon': ((3.4445, -4.7750, 2.0315),),
}


def _unit(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """A power of two near the largest magnitude over ``axes``, 1 for zeros.

  Dividing by it rounds nothing, so that gradients multiplied by a power of two
  give bit-identical updates.
  """
  info = jnp.finfo(x.dtype)
  largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)
  # From 1.5 * 2**127 on, float32 would round up to infinity.
  largest = jnp.minimum(largest, 2.0 ** (info.maxexp - 2))
  unit = jax.lax.reduce_precision(
    largest, exponent_bits=info.nexp, mantissa_bits=0
  )
  return jnp.where(unit == 0, 1, unit)


def norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
  """Euclidean norm over ``axes``, kept with size 1, at any magnitude.

  Squares of float32 entries below 1e-19 or above 1e19 leave float32's range;
  dividing by a power of two first keeps the largest square between 1/2 and 16.

  Args:
    x: Array of floats.
    axes: The axes to reduce.

  Returns:
    The norms, in ``x.dtype``, exactly zero where every entry is zero.
  """
  unit = _unit(x, axes)
  return unit * jnp.sqrt(
    jnp.sum(jnp.square(x / unit), axis=axes, keepdims=True)
  )


def _normalize(x: jax.Array) -> jax.Array:
  """``x / ||x||_F`` for each matrix of a stack; a zero matrix stays zero."""
  # Two divisions: the reciprocal of a norm near 1e-38 is not a float32.
  x = x / _unit(x, (-2, -1))
  size = jnp.sqrt(jnp.sum(jnp.square(x), axis=(-2, -1), keepdims=True))
  return x / jnp.where(size == 0, 1, size)


def _triplets(
  coefficients: str | Sequence[float] | Sequence[Sequence[float]], steps: int
) -> np.ndarray:
  """The ``(steps, 3)`` coefficients; the last row repeats where rows end."""
  if isinstance(coefficients, str):
    if coefficients not in COEFFICIENTS:
      raise ValueError(
        f'coefficients={coefficients!r} is unknown; known names are'
        f' {sorted(COEFFICIENTS)}. A triplet (a, b, c) or a sequence of them,'
        ' one for each step, works too.'
      )
    coefficients = COEFFICIENTS[coefficients]
  try:
    rows = np.asarray(coefficients, np.float64)
  except (TypeError, ValueError):
    rows = np.empty(0)
  if rows.ndim == 1:
    rows = rows[None]
  if rows.ndim != 2 or rows.shape[-1] != 3 or not len(rows):
    raise ValueError(
      'coefficients must be a name, a triplet (a, b, c) or a sequence of'
      f' triplets, got {coefficients!r}.'
    )
  if not np.isfinite(rows).all():
    raise ValueError(f'coefficients must be finite, got {coefficients!r}.')
  return rows[np.minimum(np.arange(steps), len(rows) - 1)]


def newton_schulz(
  x: jax.Array,
  *,
  steps: int = 5,
  coefficients: str | Sequence[float] | Sequence[Sequence[float]] = 'muon',
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
    coefficients: ``'muon'``, a triplet ``(a, b, c)``, or a sequence of triplets
      of which step k takes the k-th and the last one repeats.
    dtype: The dtype of the iteration; None means
      ``promote_types(x.dtype, float32)``. The matrix is normalized before it is
      cast, so that float16 neither overflows nor underflows.

  Returns:
    Array of ``x``'s shape and dtype, singular values close to one. A zero
    matrix stays zero, exactly.

  Raises:
    ValueError: ``x`` has fewer than two axes, ``steps`` is below one, or the
      coefficients are unknown, misshapen or not finite.
    TypeError: ``x`` is not real floating.

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
  rows = _triplets(coefficients, steps)
  wide = jnp.promote_types(x.dtype, jnp.float32)
  return _iterate(x, tuple(map(tuple, rows.tolist())), dtype or wide)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _iterate(x: jax.Array, rows: tuple[Triplet, ...], dtype: Any) -> jax.Array:
  """The checked iteration: normalize, cast, and one row of (a, b, c) a step."""
  tall = x.shape[-2] > x.shape[-1]
  y = _normalize(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
  y = (y.mT if tall else y).astype(dtype)
  y = gram_form(y, rows) if _gram_pays(y) else standard_form(y, rows)
  return (y.mT if tall else y).astype(x.dtype)


def _gram_pays(y: jax.Array) -> bool:
  """Whether the Gram form takes fewer FLOPs and loses no accuracy.

  For an m x n matrix and s steps the standard form takes s (4 m^2 n + 2 m^3)
  FLOPs, the Gram form 4 m^2 n + 2 (4 s - 3) m^3: fewer if n > 1.5 m, whatever
  s > 1. In 16 bits it doubles the error at a condition number of 100.
  """
  m, n = y.shape[-2:]
  return n > 1.5 * m and jnp.finfo(y.dtype).bits >= 32


def standard_form(y: jax.Array, rows: tuple[Triplet, ...]) -> jax.Array:
  """The iteration on the matrix itself, ``(..., m, n)`` with ``m <= n``."""
  for a, b, c in rows:
    gram = y @ y.mT  # (..., m, m)
    y = a * y + (b * gram + c * (gram @ gram)) @ y
  return y


def gram_form(y: jax.Array, rows: tuple[Triplet, ...]) -> jax.Array:
  """The same iteration on ``R = Y Y^T``, ``(..., m, m)``, and one product.

  Every step multiplies Y from the left by ``a I + P``, ``P = b R + c R^2``, a
  polynomial of R. Polynomials of R commute, so the factors gather in Q, and R
  is updated on its own: ``R <- (a I + P) R (a I + P)``.
  """
  r = y @ y.mT
  q = jnp.broadcast_to(jnp.eye(r.shape[-1], dtype=r.dtype), r.shape)
  for i, (a, b, c) in enumerate(rows):
    p = b * r + c * (r @ r)
    q = a * q + (q @ p if i else p)
    if i + 1 < len(rows):
      r = a * r + r @ p
      r = a * r + r @ p
  return q @ y


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
  u, s, vt = jnp.linalg.svd(_normalize(x.astype(wide)), full_matrices=False)
  # Float32 matrices of lower rank have up to 4 epsilon there at 512 x 512.
  zero = float(jnp.finfo(wide).eps) * math.sqrt(max(x.shape[-2:]))
  u = jnp.where((s <= zero * s[..., :1])[..., None, :], 0, u)
  return (u @ vt).astype(x.dtype)
