# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How far the steps on one R may go, and with what margin, in few bits.

  python -m benchmarks.restarts

For every set of coefficients and every precision of the products' operands,
runs Newton-Schulz on hard spectra with each margin and each gain (the product
of slopes at zero at which R is computed afresh), and prints the largest
singular value and the largest error against the float64 iteration. Chosen is
the smallest margin with which rounding lifts the largest value by less than 5%
at 5 and 8 steps, and with it the largest gain that does so and errs at most 1.1
times as much as a fresh R at every step: `polynomials.SAFETY`.

TPUs multiply float32 in one bfloat16 pass by default: that is emulated by
rounding the operands of each product.
"""

import functools
from unittest import mock

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns
from optax_namo._polar import norms

_SHAPES = ((64, 64), (32, 128), (8, 64), (64, 512))
_MARGINS = (1.0, 1.02, 1.05, 1.1)
_GAINS = (10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
_LIFT = 1.05
_SETS = flags.DEFINE_list('sets', list(polynomials.COEFFICIENTS), 'Which.')
# name: (dtype of the operands, bits of their mantissa as products see them)
PRECISIONS = {
  'bfloat16': (jnp.bfloat16, 7),
  'float32 on TPUs': (jnp.float32, 7),
  'float16': (jnp.float16, 10),
  'float32 on GPUs': (jnp.float32, 10),
}


def spectra(m: int, seed: int) -> np.ndarray:
  """Singular values in rows, from 1 down to 1e-6."""
  rng = np.random.default_rng(seed)
  half = np.ones(m)
  half[m // 2 :] = np.geomspace(1, 1e-6, m - m // 2)
  dominant = 10 ** -rng.uniform(1, 3, m)
  dominant[0] = 1
  tail = np.geomspace(1e-3, 1e-6, m)
  tail[0] = 1
  return np.stack([np.geomspace(1, 1e-6, m), half, dominant, tail, np.ones(m)])


def matrices(m: int, n: int, seed: int) -> np.ndarray:
  """A stack of m x n matrices, float32: the spectra in random directions and
  along the axes, and one Gaussian."""
  rng = np.random.default_rng(seed)
  u, _ = np.linalg.qr(rng.normal(size=(m, m)))
  v, _ = np.linalg.qr(rng.normal(size=(n, m)))
  values = spectra(m, seed)
  along = values[:, :, None] * np.eye(m, n)
  gaussian = rng.normal(size=(1, m, n))
  stack = np.concatenate([(u * values[:, None]) @ v.T, along, gaussian])
  return stack.astype(np.float32)


def preconditioning_of(name: str) -> str:
  return 'schatten' if name == 'minimax' else 'frobenius'


def steps_of(name: str) -> tuple[int, ...]:
  return (3,) if name == 'minimax' else (5, 8)


def emulated(x, y, dtype, bits):
  """A product whose operands are rounded to so many bits."""
  rounded = lambda a: jax.lax.reduce_precision(a, 8, bits)
  x, y = rounded(x.astype(jnp.float32)), rounded(y.astype(jnp.float32))
  return jnp.matmul(x, y, preferred_element_type=jnp.float32)


def iterated(x, runs, preconditioning, dtype, bits):
  """``newton_schulz`` with runs and bits given."""
  with mock.patch.object(
    ns, '_product', functools.partial(emulated, bits=bits)
  ):

    @jax.jit
    def run(x):
      y = norms.scaled(x).astype(dtype)
      y = ns.iterate(y, runs, preconditioning, bits)
      return y.astype(jnp.float32)

    return np.asarray(run(x), np.float64)


def exact(x, rows, preconditioning):
  """The iteration on singular values, in float64."""
  u, s, vt = np.linalg.svd(np.float64(x), full_matrices=False)
  order = {'frobenius': 2, 'schatten': 8}[preconditioning]
  s = s / np.sum(s**order, axis=-1, keepdims=True) ** (1 / order)
  for row in rows:
    s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
  return (u * s[..., None, :]) @ vt


def plans(name, margin, gain):
  """Shape, rows and runs of all that is tried."""
  table = polynomials.COEFFICIENTS[name]
  for steps in steps_of(name):
    rows = [table[min(k, len(table) - 1)] for k in range(steps)]
    rows = tuple(polynomials.with_margin(row, margin) for row in rows)
    for m, n in _SHAPES:
      yield (m, n), rows, ns.cheapest(rows, gain, m, n)


def worst(name, precision, margin, gain):
  """Largest singular value, that in float64, and the largest relative error."""
  dtype, bits = PRECISIONS[precision]
  top = unrounded = error = 0.0
  norm = lambda a: np.linalg.norm(a, axis=(-2, -1))
  for shape, rows, runs in plans(name, margin, gain):
    x = matrices(*shape, seed=sum(shape))
    found = iterated(x, runs, preconditioning_of(name), dtype, bits)
    if not np.isfinite(found).all():
      return np.inf, 1.0, np.inf
    expected = exact(x, rows, preconditioning_of(name))
    top = max(top, np.linalg.norm(found, 2, axis=(-2, -1)).max())
    unrounded = max(unrounded, np.linalg.norm(expected, 2, (-2, -1)).max())
    error = max(error, (norm(found - expected) / norm(expected)).max())
  return top, unrounded, error


def choose(name, precision):
  """The smallest margin, and with it the largest gain, that hold."""
  for margin in _MARGINS:
    top, unrounded, fresh = worst(name, precision, margin, 0.0)
    if top < _LIFT * unrounded:
      break
  chosen, before = 1.0, list(plans(name, margin, 1.0))
  for gain in _GAINS:
    now = list(plans(name, margin, gain))
    if now != before:
      top, unrounded, error = worst(name, precision, margin, gain)
      if top > _LIFT * unrounded or error > 1.1 * fresh:
        break
    chosen, before = gain, now
  return margin, chosen


def main(argv):
  del argv
  for name in _SETS.value:
    for precision in PRECISIONS:
      margin, gain = choose(name, precision)
      print(f'{name}, {precision}: margin {margin}, gain {gain}', flush=True)


if __name__ == '__main__':
  app.run(main)
