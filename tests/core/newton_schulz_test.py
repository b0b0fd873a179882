# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Newton-Schulz: the polynomial, its precision, both forms, their cost."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import _muon
import pytest

from benchmarks.steps import unrolled
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz
from optax_namo._polar import preconditioning as preconditionings
from tests.helpers import normal as _normal
from tests.helpers import relative_error as _error
from tests.helpers import tolerance as _tolerance


def _values(x):
  return np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)


@pytest.mark.accelerator
class TestPolynomial(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((8, 20), (20, 8), (12, 12), (1, 9), (9, 1), (1, 1))
  def test_polynomial_of_the_singular_values(self, m, n):
    """The result is U p(S / |S|) V^T, p the composed scalar iteration."""
    x = _normal(0, m, n)
    u, s, vt = np.linalg.svd(np.asarray(x, np.float64), full_matrices=False)
    s = s / np.linalg.norm(s)
    for _ in range(5):
      s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    found = self.variant(optax_namo.newton_schulz)(x)
    chex.assert_trees_all_close(
      found, (u * s) @ vt, atol=_tolerance(5e-6), rtol=0
    )


@pytest.mark.accelerator
def test_agrees_with_optax():
  x = _normal(0, 16, 40)
  coefficients = jnp.asarray((3.4445, -4.7750, 2.0315))
  expected = _muon.orthogonalize_via_newton_schulz(x, coefficients)
  chex.assert_trees_all_close(
    optax_namo.newton_schulz(x), expected, atol=_tolerance(1e-5)
  )


@pytest.mark.accelerator
def test_stacks_are_independent():
  x = _normal(0, 2, 3, 5, 7)
  found = optax_namo.newton_schulz(x)
  for i in np.ndindex(2, 3):
    chex.assert_trees_all_close(
      found[i], optax_namo.newton_schulz(x[i]), atol=_tolerance(1e-6)
    )


@pytest.mark.accelerator
def test_commutes_with_transposition():
  x = _normal(0, 3, 9, 5)
  chex.assert_trees_all_close(
    optax_namo.newton_schulz(x).mT,
    optax_namo.newton_schulz(x.mT),
    atol=_tolerance(1e-6),
  )


@pytest.mark.accelerator
def test_coefficient_rows():
  x = _normal(0, 6, 6)
  # The cubic iteration converges to the polar factor itself.
  cubic = optax_namo.newton_schulz(x, steps=40, coefficients=(1.5, -0.5, 0))
  chex.assert_trees_all_close(
    cubic, optax_namo.polar_svd(x), atol=_tolerance(1e-4)
  )
  # Rows run out and the last repeats; more rows than steps are cut.
  rows = [(2.0, -1.0, 0.0), (1.5, -0.5, 0.0)]
  by_hand = x / jnp.linalg.norm(x)
  for a, b, _ in [rows[0], rows[1], rows[1]]:
    by_hand = a * by_hand + b * by_hand @ by_hand.T @ by_hand
  found = optax_namo.newton_schulz(x, steps=3, coefficients=rows)
  chex.assert_trees_all_close(found, by_hand, atol=_tolerance(1e-6))
  chex.assert_trees_all_close(
    optax_namo.newton_schulz(x, steps=1, coefficients=rows),
    optax_namo.newton_schulz(x, steps=1, coefficients=rows[0]),
  )


@pytest.mark.accelerator
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
def test_dtypes(dtype):
  x = _normal(0, 8, 16, dtype=dtype)
  found = optax_namo.newton_schulz(x)
  assert found.dtype == jnp.dtype(dtype)
  expected = optax_namo.newton_schulz(x.astype(jnp.float32))
  chex.assert_trees_all_equal(found, expected.astype(dtype))
  rough = optax_namo.newton_schulz(x.astype(jnp.float32), dtype=jnp.bfloat16)
  assert rough.dtype == jnp.float32
  error = jnp.linalg.norm(rough - expected) / jnp.linalg.norm(expected)
  assert 1e-3 <= float(error) <= 1e-1


@pytest.mark.accelerator
@pytest.mark.parametrize('exponent', [-35, -30, -20, 20, 30, 37])
@pytest.mark.parametrize('preconditioning', preconditionings.NAMES)
def test_any_magnitude(exponent, preconditioning):
  function = functools.partial(
    optax_namo.newton_schulz, preconditioning=preconditioning
  )
  x = jnp.clip(_normal(0, 5, 8), -3, 3)
  chex.assert_trees_all_close(
    function(x * 10.0**exponent), function(x), atol=_tolerance(1e-5)
  )
  chex.assert_trees_all_equal(function(x * 2.0 ** (3 * exponent)), function(x))


@pytest.mark.accelerator
@pytest.mark.parametrize('preconditioning', preconditionings.NAMES)
def test_zero_stays_zero_beside_others(preconditioning):
  x = jnp.stack([_normal(0, 4, 6), jnp.zeros((4, 6))])
  found = optax_namo.newton_schulz(x, preconditioning=preconditioning)
  np.testing.assert_array_equal(found[1], 0)
  assert _values(found[0]).min() > 0.5


def _conditioned(m, n, exponent):
  """Gaussian for None, else singular values log-spaced to 10**-exponent."""
  if exponent is None:
    return _normal(0, m, n)
  rng = np.random.default_rng(0)
  u = np.linalg.qr(rng.normal(size=(m, m)))[0]
  v = np.linalg.qr(rng.normal(size=(n, n)))[0][:, :m]
  return jnp.asarray((u * np.logspace(0, -exponent, m)) @ v.T, jnp.float32)


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


@pytest.mark.accelerator
@pytest.mark.parametrize('shape', [(32, 64), (256, 64), (48, 48)])
@pytest.mark.parametrize(
  'coefficients', ['muon', 'polar_express', 'cans', 'dion']
)
@jax.default_matmul_precision('highest')
def test_float32(shape, coefficients):
  """Every set of coefficients, both forms, against the plain iteration."""
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
    assert _error(found, expected) < bound, exponent


@pytest.mark.accelerator
@pytest.mark.parametrize('shape', [(64, 128), (256, 64), (48, 48), (64, 512)])
@pytest.mark.parametrize(
  'coefficients', ['muon', 'polar_express', 'cans', 'dion']
)
def test_bfloat16(shape, coefficients):
  """At most 1.1 times the error of the plain bfloat16 iteration."""
  m, n = min(shape), max(shape)
  rows, _ = polynomials.schedule(coefficients, 5, 7)
  for exponent in (None, 1, 2, 3, 6):
    x = _conditioned(m, n, exponent)
    x = x / jnp.linalg.norm(x)
    exact = _textbook(np.asarray(x, np.float64), rows, np.float64)
    plain = _textbook_jit(x, rows, jnp.bfloat16)
    found = _lying(shape, x, coefficients=coefficients, dtype=jnp.bfloat16)
    assert _error(found, exact) / _error(plain, exact) < 1.1


@pytest.mark.accelerator
def test_longer_than_one_r_in_16_bits_is_restarted():
  """Five steps on one R would miss the bound above, or this is idle."""
  x = _conditioned(64, 512, 3)
  x = x / jnp.linalg.norm(x)
  exact = _textbook(np.asarray(x, np.float64), _ROWS, np.float64)
  plain = _error(_textbook_jit(x, _ROWS, jnp.bfloat16), exact)
  once = newton_schulz.iterate(x.astype(jnp.bfloat16), (_ROWS,), 'frobenius', 7)
  assert _error(once, exact) > 1.1 * plain


@pytest.mark.parametrize(
  'precision, bits',
  [
    (None, 10),
    ('high', 10),
    ('highest', 23),
    ('float32', 23),
    ('F32_F32_F32', 23),
    ('BF16_BF16_F32', 7),
  ],
)
def test_on_a_gpu_as_the_default_matmul_precision_says(precision, bits):
  """'highest' on an H100 once was TF32: R was rounded by hand."""
  x = jax.ShapeDtypeStruct((8, 8), jnp.float32)
  with jax.default_matmul_precision(precision):
    there = jax.export.export(
      jax.jit(newton_schulz.newton_schulz), platforms=('cuda',)
    )(x).mlir_module()
  rounded = [n for n in (7, 10) if f'format = e8m{n}' in there]
  assert rounded == ([bits] if bits < 23 else [])


_SCHEDULES = {
  'quintic': _ROWS,
  'cubic': ((1.5, -0.5),) * 4,
  'septic': optax_namo.minimax_coefficients(0.1, (7, 7)),
  'nonic': optax_namo.minimax_coefficients(3e-3, (9, 9, 9)),
  'mixed': optax_namo.minimax_coefficients(0.02, (3, 5, 7, 9)),
}


@pytest.mark.accelerator
@pytest.mark.parametrize('name', _SCHEDULES)
@jax.default_matmul_precision('highest')
def test_forms_agree(name):
  rows = _SCHEDULES[name]
  x = _normal(0, 6, 10)
  u, s, vt = np.linalg.svd(np.float64(x), full_matrices=False)
  s = s / np.linalg.norm(s)
  for row in rows:
    s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
  for runs in ((rows,), tuple((row,) for row in rows), (rows[:1], rows[1:])):
    found = newton_schulz.iterate(x, runs, 'frobenius', 23)
    chex.assert_trees_all_close(found, (u * s) @ vt, atol=2e-5, rtol=0)


@pytest.mark.parametrize('name', _SCHEDULES)
@pytest.mark.parametrize('shape', [(64, 80), (64, 256)])
@pytest.mark.parametrize('preconditioning', ['frobenius', 'schatten'])
def test_takes_the_fewest_products(name, shape, preconditioning):
  """FLOPs of the compiled program: those of the formula, and the fewest."""
  rows = _SCHEDULES[name]
  function = functools.partial(
    optax_namo.newton_schulz,
    steps=len(rows),
    coefficients=rows,
    preconditioning=preconditioning,
  )
  with unrolled():
    compiled = jax.jit(function).lower(_normal(0, *shape)).compile()
  candidates = ((rows,), tuple((row,) for row in rows))
  expected = min(
    newton_schulz.flops(runs, *shape, preconditioning) for runs in candidates
  )
  # Entrywise work is the rest: some 10 a product.
  found = compiled.cost_analysis()['flops']
  assert 1.0 <= found / expected <= 1.0 + 8 / min(shape)


def test_formula_of_the_flops():
  """Products of the table in docs/cost.md, at n = m."""
  count = lambda runs: newton_schulz.flops(runs, 1, 1) / 2
  for rows, gram, square in ((_ROWS, 17, 15), (_SCHEDULES['nonic'], 12, 12)):
    # Both forms have two products with Y in a run.
    assert count((rows,)) - 2 == gram
    assert count(tuple((row,) for row in rows)) == square
  extra = newton_schulz.flops((((1.5, -0.5),),), 1, 1, 'schatten') / 2
  assert extra - count((((1.5, -0.5),),)) == 1
