# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Newton-Schulz and the exact polar factor."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import _muon

from benchmarks import restarts
from benchmarks.steps import unrolled
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as orthogonalize


def _normal(*shape, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), dtype)


def _values(x):
  return np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)


_PRECONDITIONED = tuple(
  functools.partial(optax_namo.newton_schulz, preconditioning=name)
  for name in ('frobenius', 'schatten', 'spectral', 'aol')
)


class NewtonSchulzTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((8, 20), (20, 8), (12, 12), (1, 9), (9, 1), (1, 1))
  def test_polynomial_of_the_singular_values(self, m, n):
    """The result is U p(S / |S|) V^T, p the composed scalar iteration."""
    x = _normal(m, n)
    u, s, vt = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(5):
      s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    found = self.variant(optax_namo.newton_schulz)(x)
    chex.assert_trees_all_close(found, (u * s) @ vt, atol=5e-6, rtol=0)

  def test_agrees_with_optax(self):
    x = _normal(16, 40)
    coefficients = jnp.asarray((3.4445, -4.7750, 2.0315))
    expected = _muon.orthogonalize_via_newton_schulz(x, coefficients)
    chex.assert_trees_all_close(
      optax_namo.newton_schulz(x), expected, atol=1e-5
    )

  def test_stacks_are_independent(self):
    x = _normal(2, 3, 5, 7)
    found = optax_namo.newton_schulz(x)
    for i in np.ndindex(2, 3):
      chex.assert_trees_all_close(
        found[i], optax_namo.newton_schulz(x[i]), atol=1e-6
      )

  def test_commutes_with_transposition(self):
    x = _normal(3, 9, 5)
    chex.assert_trees_all_close(
      optax_namo.newton_schulz(x).mT, optax_namo.newton_schulz(x.mT), atol=1e-6
    )

  def test_coefficient_rows(self):
    x = _normal(6, 6)
    # The cubic iteration converges to the polar factor itself.
    cubic = optax_namo.newton_schulz(x, steps=40, coefficients=(1.5, -0.5, 0))
    chex.assert_trees_all_close(cubic, optax_namo.polar_svd(x), atol=1e-4)
    # Rows run out and the last repeats; more rows than steps are cut.
    rows = [(2.0, -1.0, 0.0), (1.5, -0.5, 0.0)]
    by_hand = x / jnp.linalg.norm(x)
    for a, b, _ in [rows[0], rows[1], rows[1]]:
      by_hand = a * by_hand + b * by_hand @ by_hand.T @ by_hand
    found = optax_namo.newton_schulz(x, steps=3, coefficients=rows)
    chex.assert_trees_all_close(found, by_hand, atol=1e-6)
    chex.assert_trees_all_close(
      optax_namo.newton_schulz(x, steps=1, coefficients=rows),
      optax_namo.newton_schulz(x, steps=1, coefficients=rows[0]),
    )

  @parameterized.parameters('bfloat16', 'float16', 'float32')
  def test_dtypes(self, dtype):
    x = _normal(8, 16, dtype=dtype)
    found = optax_namo.newton_schulz(x)
    self.assertEqual(found.dtype, jnp.dtype(dtype))
    expected = optax_namo.newton_schulz(x.astype(jnp.float32))
    chex.assert_trees_all_equal(found, expected.astype(dtype))
    rough = optax_namo.newton_schulz(x.astype(jnp.float32), dtype=jnp.bfloat16)
    self.assertEqual(rough.dtype, jnp.float32)
    error = jnp.linalg.norm(rough - expected) / jnp.linalg.norm(expected)
    self.assertBetween(float(error), 1e-3, 1e-1)

  @parameterized.product(
    exponent=(-35, -30, -20, 20, 30, 37),
    function=(*_PRECONDITIONED, optax_namo.polar_svd),
  )
  def test_any_magnitude(self, exponent, function):
    x = jnp.clip(_normal(5, 8), -3, 3)
    chex.assert_trees_all_close(
      function(x * 10.0**exponent), function(x), atol=1e-5
    )
    chex.assert_trees_all_equal(
      function(x * 2.0 ** (3 * exponent)), function(x)
    )

  @parameterized.parameters(*_PRECONDITIONED, optax_namo.polar_svd)
  def test_zero_stays_zero_beside_others(self, function):
    x = jnp.stack([_normal(4, 6), jnp.zeros((4, 6))])
    found = function(x)
    np.testing.assert_array_equal(found[1], 0)
    self.assertGreater(_values(found[0]).min(), 0.5)


def _conditioned(m, n, exponent):
  """Gaussian for None, else singular values log-spaced to 10**-exponent."""
  if exponent is None:
    return _normal(m, n)
  rng = np.random.default_rng(0)
  u = np.linalg.qr(rng.normal(size=(m, m)))[0]
  v = np.linalg.qr(rng.normal(size=(n, n)))[0][:, :m]
  return jnp.asarray((u * np.logspace(0, -exponent, m)) @ v.T, jnp.float32)


def _error(found, expected):
  found, expected = (np.asarray(x, np.float64) for x in (found, expected))
  return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def _textbook(x, rows, dtype):
  """The iteration as printed, every array of one dtype."""
  x = x.astype(dtype)
  for a, b, c in rows:
    gram = x @ x.T
    x = a * x + (b * gram + c * (gram @ gram)) @ x
  return x


def _lying(shape, x, **options):
  """newton_schulz of a wide x, which it is given in one shape or the other."""
  if x.shape == shape:
    return optax_namo.newton_schulz(x, **options)
  return optax_namo.newton_schulz(x.T, **options).T


_ROWS = ((3.4445, -4.7750, 2.0315),) * 5
_textbook_jit = jax.jit(_textbook, static_argnums=(1, 2))


class PrecisionTest(parameterized.TestCase):
  """Every set of coefficients, both forms, against float64."""

  @parameterized.product(
    shape=((32, 64), (256, 64), (48, 48)),
    coefficients=('muon', 'polar_express', 'cans', 'dion'),
  )
  def test_float32(self, shape, coefficients):
    m, n = min(shape), max(shape)
    rows, _ = polynomials.schedule(coefficients, 5, 23)
    for exponent in (None, 1, 2, 4, 6):
      x = _conditioned(m, n, exponent)
      x = x / jnp.linalg.norm(x)
      expected = _textbook_jit(x, rows, jnp.float32)
      # Measured: 4e-6 on Gaussian matrices, else 3e-4, other sets 1e-3.
      bound = 1e-5 if exponent is None else 1e-3
      if coefficients != 'muon':
        bound = 2e-3
      found = _lying(shape, x, coefficients=coefficients)
      self.assertLess(_error(found, expected), bound, exponent)

  @parameterized.product(
    shape=((64, 128), (256, 64), (48, 48), (64, 512)),
    coefficients=('muon', 'polar_express', 'cans', 'dion'),
  )
  def test_bfloat16(self, shape, coefficients):
    """At most 1.1 times the error of the plain bfloat16 iteration."""
    m, n = min(shape), max(shape)
    rows, _ = polynomials.schedule(coefficients, 5, 7)
    for exponent in (None, 1, 2, 3, 6):
      x = _conditioned(m, n, exponent)
      x = x / jnp.linalg.norm(x)
      exact = _textbook(np.asarray(x, np.float64), rows, np.float64)
      plain = _textbook_jit(x, rows, jnp.bfloat16)
      found = _lying(shape, x, coefficients=coefficients, dtype=jnp.bfloat16)
      self.assertLess(_error(found, exact) / _error(plain, exact), 1.1)

  def test_longer_than_one_r_in_16_bits_is_restarted(self):
    """Five steps on one R would miss the bound above, or this is idle."""
    x = _conditioned(64, 512, 3)
    x = x / jnp.linalg.norm(x)
    exact = _textbook(np.asarray(x, np.float64), _ROWS, np.float64)
    plain = _error(_textbook_jit(x, _ROWS, jnp.bfloat16), exact)
    once = orthogonalize.iterate(
      x.astype(jnp.bfloat16), (_ROWS,), 'frobenius', 7
    )
    self.assertGreater(_error(once, exact), 1.1 * plain)

  @parameterized.parameters(
    (None, 10),
    ('high', 10),
    ('highest', 23),
    ('float32', 23),
    ('F32_F32_F32', 23),
    ('BF16_BF16_F32', 7),
  )
  def test_on_a_gpu_as_the_default_matmul_precision_says(self, precision, bits):
    """'highest' on an H100 once was TF32: R was rounded by hand."""
    x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    with jax.default_matmul_precision(precision):
      there = jax.export.export(
        jax.jit(orthogonalize.newton_schulz), platforms=('cuda',)
      )(x).mlir_module()
    rounded = [n for n in (7, 10) if f'format = e8m{n}' in there]
    self.assertEqual(rounded, [bits] if bits < 23 else [])


class CoefficientsTest(parameterized.TestCase):
  def test_names_that_optax_knows(self):
    presets = _muon._NS_COEFFS_PRESET_DICT
    self.assertEqual(
      polynomials.COEFFICIENTS['muon'], (tuple(presets['standard']),)
    )
    self.assertEqual(polynomials.COEFFICIENTS['dion'], tuple(presets['dion']))

  @parameterized.parameters(
    ('muon', 5, 0.68, 1.14),
    ('dion', 5, 0.97, 1.04),
    ('polar_express', 5, 0.87, 1.13),
    ('cans', 5, 0.88, 1.12),
  )
  def test_singular_values_end_near_one(self, name, steps, low, high):
    s = np.linspace(0.02, 1, 10_001)
    for a, b, c in polynomials.schedule(name, steps, 23)[0]:
      s = a * s + b * s**3 + c * s**5
    self.assertBetween(s.min(), low, low + 0.02)
    self.assertBetween(s.max(), high - 0.02, high)

  def test_polar_express_lands_on_one(self):
    """Where rounding needs no margin: the published polynomials themselves."""
    s = np.logspace(-3, 0, 10_001)
    rows, _ = polynomials.schedule('polar_express', 8, 23)
    for i, (a, b, c) in enumerate(rows):
      margin = 1.01 if i < 7 else 1
      s = a * margin * s + b * margin**3 * s**3 + c * margin**5 * s**5
    np.testing.assert_allclose(s, 1, atol=1e-6)


_SCHEDULES = {
  'quintic': _ROWS,
  'cubic': ((1.5, -0.5),) * 4,
  'septic': optax_namo.minimax_coefficients(0.1, (7, 7)),
  'nonic': optax_namo.minimax_coefficients(3e-3, (9, 9, 9)),
  'mixed': optax_namo.minimax_coefficients(0.02, (3, 5, 7, 9)),
}


class FormsTest(parameterized.TestCase):
  @parameterized.parameters(*_SCHEDULES)
  def test_agree(self, name):
    rows = _SCHEDULES[name]
    x = _normal(6, 10)
    u, s, vt = np.linalg.svd(np.float64(x), full_matrices=False)
    s = s / np.linalg.norm(s)
    for row in rows:
      s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
    for runs in ((rows,), tuple((row,) for row in rows), (rows[:1], rows[1:])):
      found = orthogonalize.iterate(x, runs, 'frobenius', 23)
      chex.assert_trees_all_close(found, (u * s) @ vt, atol=2e-5, rtol=0)

  @parameterized.product(
    name=tuple(_SCHEDULES),
    shape=((64, 80), (64, 256)),
    preconditioning=('frobenius', 'schatten'),
  )
  def test_takes_the_fewest_products(self, name, shape, preconditioning):
    """FLOPs of the compiled program: those of the formula, and the fewest."""
    rows = _SCHEDULES[name]
    function = functools.partial(
      optax_namo.newton_schulz,
      steps=len(rows),
      coefficients=rows,
      preconditioning=preconditioning,
    )
    with unrolled():
      compiled = jax.jit(function).lower(_normal(*shape)).compile()
    candidates = ((rows,), tuple((row,) for row in rows))
    expected = min(
      orthogonalize.flops(runs, *shape, preconditioning) for runs in candidates
    )
    # Entrywise work is the rest: some 10 a product.
    found = compiled.cost_analysis()['flops']
    self.assertBetween(found / expected, 1.0, 1.0 + 8 / min(shape))

  def test_formula(self):
    """Products of the table in docs/cost.md, at n = m."""
    count = lambda runs: orthogonalize.flops(runs, 1, 1) / 2
    for rows, gram, square in ((_ROWS, 17, 15), (_SCHEDULES['nonic'], 12, 12)):
      # Both forms have two products with Y in a run.
      self.assertEqual(count((rows,)) - 2, gram)
      self.assertEqual(count(tuple((row,) for row in rows)), square)
    extra = orthogonalize.flops((((1.5, -0.5),),), 1, 1, 'schatten') / 2
    self.assertEqual(extra - count((((1.5, -0.5),),)), 1)


_OWN_STEPS = {  # name: steps and preconditioning it is meant for
  'muon': (5, 'frobenius'),
  'dion': (5, 'frobenius'),
  'minimax': (3, 'schatten'),
}


class DominantColumnTest(parameterized.TestCase):
  """Against the float64 iteration, relative to the whole matrix."""

  def _check(self, stack, bound, coefficients='muon'):
    steps, preconditioning = _OWN_STEPS[coefficients]
    rows, _ = polynomials.schedule(coefficients, steps, 23)
    stack = jnp.asarray(stack, jnp.float32)
    found = optax_namo.newton_schulz(
      stack,
      steps=steps,
      coefficients=coefficients,
      preconditioning=preconditioning,
    )
    expected = restarts.exact(stack, rows, preconditioning)
    for matrix, o in zip(expected, found):
      self.assertLess(_error(o, matrix), bound)

  @parameterized.product(
    shape=((64, 512), (12, 32), (128, 384), (64, 80), (64, 64), (80, 16)),
    coefficients=tuple(_OWN_STEPS),
  )
  def test_of_either_side(self, shape, coefficients):
    stack = []
    for i, factor in enumerate((10, 1e2, 2e3, 1e4, 1e6)):
      for at in ((..., 5), (5, ...)):
        stack.append(np.array(_normal(*shape, seed=i)))
        stack[-1][at] *= factor
    self._check(np.stack(stack), 2e-5, coefficients)

  def test_a_steep_set(self):
    """The value of 'cans' at one, where a huge column is, moves 5e4 times."""
    x = np.array(_normal(64, 80))
    x[:, 5] *= 1e5
    rows = polynomials.COEFFICIENTS['cans']
    low, high = 1 - 1e-8, 1.0
    for a, b, c in rows:
      low, high = (a * s + b * s**3 + c * s**5 for s in (low, high))
    self.assertBetween((high - low) / 1e-8, 4e4, 6e4)
    for form in (tuple((row,) for row in rows), (rows,)):
      found = orthogonalize.iterate(jnp.asarray(x), form, 'frobenius', 23)
      expected = restarts.exact(x, rows, 'frobenius')
      self.assertBetween(_error(found, expected), 1e-4, 3e-2)

  def test_entries_of_one_size(self):
    """Nothing is the largest: neither a column nor one of its entries."""
    signs = np.sign(np.asarray(_normal(2, 32, 96)))
    signs[1, :, 5] *= 2e3
    self._check(signs, 1e-5)

  @parameterized.parameters(2, 8)
  def test_several(self, count):
    """They drown the rest, unless they point the same way."""
    stack = np.array(_normal(2, 64, 512))
    stack[0, :, :count] *= 2e3
    stack[1, :, :count] = 2e3 * stack[1, :, :1] * np.arange(1, count + 1)
    self._check(stack[:1], 3e-3)
    self._check(stack[1:], 2e-4)


class PreconditioningTest(parameterized.TestCase):
  @parameterized.parameters(
    ('schatten', (3.4445, -4.775, 2.0315)),
    ('schatten', (1.5, -0.5)),
    ('spectral', (3.4445, -4.775, 2.0315)),
  )
  def test_divides_by_the_norm(self, name, row):
    x = _normal(8, 20)
    u, s, vt = np.linalg.svd(np.float64(x), full_matrices=False)
    s = s / {'schatten': np.sum(s**8) ** 0.125, 'spectral': s.max()}[name]
    for _ in range(3):
      s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
    found = optax_namo.newton_schulz(
      x, steps=3, coefficients=row, preconditioning=name
    )
    chex.assert_trees_all_close(found, (u * s) @ vt, atol=2e-5, rtol=0)

  @parameterized.parameters((6, 10), (10, 6), (7, 7))
  def test_aol_as_in_optax(self, m, n):
    x = _normal(m, n)
    coefficients = jnp.asarray((3.4445, -4.7750, 2.0315))
    expected = _muon.orthogonalize_via_newton_schulz(
      x, coefficients, preconditioning='aol'
    )
    found = optax_namo.newton_schulz(x, preconditioning='aol')
    chex.assert_trees_all_close(found, expected, atol=2e-5)

  def test_aol_is_the_factor_of_another_matrix(self):
    x = _normal(6, 10) * jnp.logspace(0, 2, 6)[:, None]
    found = optax_namo.newton_schulz(
      x, steps=40, coefficients=(1.5, -0.5), preconditioning='aol'
    )
    scale = jnp.sum(jnp.abs(x @ x.T), 1, keepdims=True) ** -0.5
    chex.assert_trees_all_close(
      found, optax_namo.polar_svd(scale * x), atol=1e-4
    )
    self.assertGreater(_error(found, optax_namo.polar_svd(x)), 0.1)


class FewBitsTest(parameterized.TestCase):
  """No singular value leaves [0, 1.3]."""

  @parameterized.product(
    name=tuple(polynomials.COEFFICIENTS),
    dtype=('bfloat16', 'float16'),
    shape=((64, 64), (32, 128), (64, 512)),
  )
  def test_bounded(self, name, dtype, shape):
    stack = restarts.matrices(*shape, seed=sum(shape))
    for steps in restarts.steps_of(name):
      found = optax_namo.newton_schulz(
        stack,
        steps=steps,
        coefficients=name,
        preconditioning=restarts.preconditioning_of(name),
        dtype=jnp.dtype(dtype),
      )
      self.assertLessEqual(np.linalg.norm(found, 2, axis=(1, 2)).max(), 1.3)

  @parameterized.parameters(*polynomials.COEFFICIENTS)
  def test_float32_on_tpus(self, name):
    """Products of one bfloat16 pass, by rounding their operands."""
    stack = restarts.matrices(32, 128, 0)
    for steps in restarts.steps_of(name):
      rows, gain = polynomials.schedule(name, steps, 7)
      runs = orthogonalize.cheapest(rows, gain, 32, 128)
      found = restarts.iterated(
        stack, runs, restarts.preconditioning_of(name), jnp.float32, 7
      )
      self.assertLessEqual(np.linalg.norm(found, 2, axis=(1, 2)).max(), 1.3)

  @parameterized.parameters('cans', 'minimax')
  def test_what_safety_is_for(self, name):
    """Bare rows on one R leave it by far."""
    stack = restarts.matrices(32, 128, 0)
    rows = polynomials.COEFFICIENTS[name]
    found = restarts.iterated(
      stack, (rows,), restarts.preconditioning_of(name), jnp.bfloat16, 7
    )
    highest = np.linalg.norm(np.nan_to_num(found, nan=9), 2, axis=(1, 2)).max()
    self.assertGreater(highest, 1.3)


class PolarSvdTest(parameterized.TestCase):
  @parameterized.parameters((4, 9), (9, 4), (5, 5), (1, 6), (6, 1))
  def test_is_the_polar_factor(self, m, n):
    with jax.enable_x64(True):
      x = _normal(m, n, dtype=jnp.float64)
      o = optax_namo.polar_svd(x)
      np.testing.assert_allclose(_values(o), 1.0, atol=1e-12)
      # x = o h with h symmetric and positive semi-definite.
      h = np.asarray(o.T @ x)
      np.testing.assert_allclose(h, h.T, atol=1e-12)
      self.assertGreater(np.linalg.eigvalsh((h + h.T) / 2).min(), -1e-12)

  def test_low_precision(self):
    x = _normal(4, 6, dtype=jnp.bfloat16)
    found = optax_namo.polar_svd(x)
    self.assertEqual(found.dtype, jnp.bfloat16)
    np.testing.assert_allclose(_values(found), 1.0, atol=2e-2)


if __name__ == '__main__':
  absltest.main()
