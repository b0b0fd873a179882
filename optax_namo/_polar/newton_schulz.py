# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The polar factor of a matrix, by Newton-Schulz iteration."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Callable, Sequence
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Polynomial

from optax_namo import _hyperparameters as hyperparameters
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import norms
from optax_namo._polar import preconditioning as preconditionings
from optax_namo._polar import reflection

Row = polynomials.Row
Product = Callable[[jax.Array, jax.Array], jax.Array]
# Rows of coefficients, those of a run for steps on the same R.
Runs = tuple[tuple[Row, ...], ...]
# How many products of m x m matrices evaluate a polynomial of R, by the number
# of its coefficients: none, R^2, and for four and five R^2 (c + dR + eR^2).
_EVALUATION = {2: 0, 3: 1, 4: 2, 5: 2}
# To how many bits of mantissa an accelerator's products round float32 operands,
# by jax.default_matmul_precision. By default NVIDIA GPUs round to TF32 (10), as
# they do with 'high', and TPUs to bfloat16 (7).
_BITS = {'highest': 23, 'float32': 23, 'F32_F32_F32': 23, 'BF16_BF16_F32': 7}


def newton_schulz(
  x: jax.Array | None = None,
  *,
  steps: int = 5,
  coefficients: polynomials.Coefficients = 'muon',
  preconditioning: preconditionings.Preconditioning = 'frobenius',
  dtype: Any = None,
) -> jax.Array:
  r"""Approximate polar factor of each matrix, by Newton-Schulz iteration.

  .. math::
    X_0 = x / \|x\|_F, \qquad
    X_{k+1} = a X_k + b (X_k X_k^T) X_k + c (X_k X_k^T)^2 X_k

  Each step is an odd polynomial of the singular values, of degree 5 here and at
  most 9. It leaves the singular vectors alone and drives the values towards
  one. The iteration commutes with transposition. It runs on the side with fewer
  rows, and on the Gram matrix ``X X^T`` where that takes fewer products.

  Args:
    x: Stack of matrices, shape ``(..., m, n)``, floating.
    steps: Number of iterations.
    coefficients: A named set: ``'muon'``, ``'polar_express'``, ``'cans'``,
      ``'dion'``, or ``'minimax'`` (the fast choice: 3 steps with
      ``'schatten'``). Or a row of two to five numbers ``(a, b, c, ...)``. Or a
      sequence of rows, such as ``minimax_coefficients`` makes: step k takes the
      k-th, and the last one repeats. Named sets get a margin for rounding in 16
      bits; rows of your own need one.
    preconditioning: What ``x`` is divided by. ``'frobenius'``: its norm.
      ``'schatten'``: the norm of order 8, far closer to the largest singular
      value. It costs no product more where the first row has three numbers or
      more, and one of m x m otherwise. ``'spectral'``: the largest singular
      value, by an eigenvalue decomposition of ``x x^T``. ``'aol'``: each row,
      on the side with fewer, by its own number. That leads to the polar factor
      of the scaled matrix, not of ``x``. On momenta of a small GPT the two are
      26% apart at step 1, 11% at step 300. For square matrices transposition
      matters then.
    dtype: The dtype of the operands of each product; sums are
      ``promote_types(dtype, float32)``. None means
      ``promote_types(x.dtype, float32)``; ``jnp.bfloat16`` is the fast choice
      on accelerators. The matrix is normalized before it is cast, so that
      float16 neither overflows nor underflows. Float32 products are as precise
      as ``jax.default_matmul_precision`` says. By default their operands are
      rounded to TF32 on recent NVIDIA GPUs and to bfloat16 on TPUs. With
      ``'highest'`` they are what they are on CPUs.

  Returns:
    Array of ``x``'s shape and dtype, singular values close to one. A zero
    matrix stays zero, exactly. With products in full float32 the default is
    within 1e-5 of the iteration in float64 on Gaussian matrices. That holds
    also where one row or column is up to 1e6 times the others. Up to a
    condition number of 1e6 it is within 1e-3.

  Raises:
    ValueError: ``x`` has fewer than two axes, ``steps`` is below one, the
      coefficients are unknown, misshapen or not finite, or ``preconditioning``
      is unknown.
    TypeError: ``x`` or ``dtype`` is not real floating.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from optax_namo import newton_schulz
    >>> x = jax.random.normal(jax.random.key(0), (3, 64, 256))
    >>> values = jnp.linalg.svd(newton_schulz(x), compute_uv=False)
    >>> bool((0.6 < values.min()) & (values.max() < 1.25))
    True
    >>> fast = newton_schulz(
    ...   x, steps=3, coefficients='minimax', preconditioning='schatten'
    ... )
    >>> values = jnp.linalg.svd(fast, compute_uv=False)
    >>> bool((0.85 < values.min()) & (values.max() < 1.15))
    True

  References:
    Jordan et al., `Muon <https://kellerjordan.github.io/posts/muon>`_, 2024;
    Boissin et al., `Turbo-Muon <https://arxiv.org/abs/2512.04632>`_, for 'aol'
  """
  x = matrices('newton_schulz', x)
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise TypeError(f'newton_schulz needs real floats, got dtype {x.dtype}.')
  if not isinstance(steps, int) or steps < 1:
    raise ValueError(f'steps must be a positive int, got {steps!r}.')
  rows = polynomials.checked(coefficients)
  hyperparameters.choice(
    'preconditioning', preconditioning, preconditionings.NAMES
  )
  dtype = hyperparameters.floating_dtype('dtype', dtype)
  dtype = jnp.dtype(dtype or jnp.promote_types(x.dtype, jnp.float32))
  return _iterate(x, rows, steps, preconditioning, dtype)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4), inline=True)
def _iterate(
  x: jax.Array,
  coefficients: polynomials.Name | tuple[Row, ...],
  steps: int,
  preconditioning: str,
  dtype: Any,
) -> jax.Array:
  """``newton_schulz`` of checked arguments."""
  tall = x.shape[-2] > x.shape[-1]
  y = norms.scaled(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
  y = (y.mT if tall else y).astype(dtype)
  if math.prod(x.shape[:-2]) == 1:  # A matrix compiles to less than a stack.
    y = y.reshape(y.shape[-2:])

  def with_bits(bits):
    rows, gain = polynomials.schedule(coefficients, steps, bits)
    runs = cheapest(rows, gain, *y.shape[-2:])
    return lambda y: iterate(y, runs, preconditioning, bits)

  if dtype == jnp.float32:
    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    bits = _BITS.get(precision)
    y = jax.lax.platform_dependent(
      y,
      cpu=with_bits(23),
      tpu=with_bits(bits or 7),
      default=with_bits(bits or 10),
    )
  else:
    y = with_bits(jnp.finfo(dtype).nmant)(y)
  return (y.mT if tall else y).reshape(x.shape).astype(x.dtype)


def cheapest(rows: Sequence[Row], gain: float, m: int, n: int) -> Runs:
  """The runs with the fewest products.

  Either every step is a run, which is the standard form, or R is computed
  afresh only where the product of slopes at zero would pass ``gain``.
  """
  alone = tuple((row,) for row in rows)
  together: list[tuple[Row, ...]] = [()]
  slope = 1.0
  for row in rows:
    slope *= abs(row[0])
    if together[-1] and slope > gain:
      together.append(())
      slope = abs(row[0])
    together[-1] += (row,)
  return min(alone, tuple(together), key=lambda runs: flops(runs, m, n))


def flops(runs: Runs, m: int, n: int, preconditioning: str = '') -> int:
  """FLOPs of the products on an m x n matrix, ``m <= n``.

  A run begins with R = Y Y^T and ends with Q Y. Each step evaluates T; each but
  the last of a run updates R and Q, which takes three products of m x m.
  """
  rows = [row for run in runs for row in run]
  square = sum(_EVALUATION[len(row)] for row in rows)
  square += 3 * (len(rows) - len(runs))
  if preconditioning == 'schatten' and len(rows[0]) < 3:
    square += 1
  return 2 * m * m * (2 * n * len(runs) + m * square)


def iterate(
  y: jax.Array, runs: Runs, preconditioning: str | None, bits: int
) -> jax.Array:
  """Every run in turn, on ``(..., m, n)`` with ``m <= n``.

  Products have operands of ``y``'s dtype and round them to ``bits`` of
  mantissa. The first run scales ``y`` by the preconditioning, if there is one.
  """
  first, *others = runs
  y = _run(y, first, preconditioning, bits)
  return _repeat(lambda y, run: _run(y, run, None, bits), y, others)


def _repeat(step: Callable[..., Any], carry: Any, rows: Sequence[Any]) -> Any:
  """``carry = step(carry, row)`` for each row; equal ones in a loop."""
  for row, equal in itertools.groupby(rows):
    count = len(tuple(equal))
    if count == 1:
      carry = step(carry, row)
    else:
      body = lambda _, carry, row=row: step(carry, row)
      carry = jax.lax.fori_loop(0, count, body, carry)
  return carry


def _run(
  y: jax.Array, rows: Sequence[Row], preconditioning: str | None, bits: int
) -> jax.Array:
  """Steps on ``R = Y Y^T``, ``(..., m, m)``, and one product with Y.

  Every step multiplies Y from the left by a polynomial T of R. Polynomials of R
  commute, so they gather in Q, and R is updated on its own: ``R <- T R T``. Q
  and R are float32 or wider.
  """
  dtype, wide = y.dtype, jnp.promote_types(y.dtype, jnp.float32)
  product = functools.partial(_product, dtype=dtype)
  squares = jnp.sum(jnp.square(y.astype(wide)), axis=-2, keepdims=True)
  turned = lambda x: x
  # Not in few bits, where rounding leaves enough of the largest column outside
  # its one entry to drown the rest. Nor for 'aol', which scales the rows of Y:
  # H Y has others.
  if len(rows) > 1 and bits >= 23 and preconditioning != 'aol':
    turned = reflection.of_largest_column(y, squares)
  y = turned(y)
  r = product(y, y.mT)
  scale = square = None
  if preconditioning == 'schatten':
    r, square = _square(r, product, bits)
  if preconditioning is not None:
    scale = preconditionings.diagonal(preconditioning, squares, r, square)
    square = None if square is None else scale**4 * square
    r = r * (scale * scale.mT)

  def step(carry, row):
    r, t, q = carry
    r, t = _polynomial(row, product(product(r, t), t), None, product, bits)
    return r, t, product(t, q)

  r, t = _polynomial(rows[0], r, square, product, bits)
  *_, q = _repeat(step, (r, t, t), rows[1:])
  q = turned(q)
  if scale is not None and preconditioning == 'aol':
    y = y.astype(wide) * scale  # Q D may pass float16's range.
  elif scale is not None:
    q = q * scale.mT
  return product(q, y).astype(dtype)


def _product(x: jax.Array, y: jax.Array, dtype: Any) -> jax.Array:
  """``x @ y`` with operands of the dtype and sums of float32 or wider."""
  x, y = x.astype(dtype), y.astype(dtype)
  wide = jnp.promote_types(dtype, jnp.float32)
  return jnp.matmul(x, y, preferred_element_type=wide)


def _square(
  r: jax.Array, product: Product, bits: int
) -> tuple[jax.Array, jax.Array]:
  """R as products round it, and its square: they cancel only if of one R."""
  info = jnp.finfo(r.dtype)
  if bits < info.nmant:
    r = jax.lax.reduce_precision(r, info.nexp, bits)
  return r, product(r, r)


def _polynomial(
  row: Row, r: jax.Array, square: jax.Array | None, product: Product, bits: int
) -> tuple[jax.Array, jax.Array]:
  """R, as ``_square`` leaves it, and ``row[0] I + row[1] R + row[2] R^2 ...``.

  ``square`` is R^2 where it is known already.
  """
  if square is None and len(row) > 2:
    r, square = _square(r, product, bits)
  identity = jnp.eye(r.shape[-1], dtype=r.dtype)

  def terms(a, b, c=0.0):
    linear = jnp.broadcast_to(a * identity, r.shape) + b * r
    return linear + c * square if c else linear

  if len(row) <= 3:
    return r, terms(*row)
  # low(z) + z^2 high(z) of z = R - center, with the center that makes the last
  # coefficient but one zero: where singular values are large, z is small, and
  # so are the terms that cancel.
  degree = len(row) - 1
  center = min(max(-row[-2] / (degree * row[-1]), 0.0), 2.0)
  coefficients = Polynomial(row)(Polynomial((center, 1.0))).coef
  z = Polynomial((-center, 1.0))
  low, high = (Polynomial(part)(z) for part in np.split(coefficients, [2]))
  t = product(terms(*(z**2).coef), terms(*high.coef))
  return r, terms(*low.coef) + t


def matrices(name: str, x: Any) -> jax.Array:
  """The array, checked to be one of matrices."""
  if x is None:
    raise TypeError(
      f'{name} needs matrices (..., m, n). For an orthogonalizer with other'
      f' arguments use functools.partial({name}, steps=3), say.'
    )
  x = jnp.asarray(x)
  if x.ndim < 2:
    raise ValueError(
      f'{name} works on matrices (..., m, n), got an array of shape {x.shape}.'
      ' Vectors and scalars belong to AdamW, an orthogonalizer for'
      ' optax.inject_hyperparams to its static_args.'
    )
  return x
