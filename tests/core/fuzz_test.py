# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random runs against float64: 100 by default, 2,000 by ``pytest -m fuzz``.

A few trees and sets of options, each compiled once; hyperparameters, gradients
and their magnitudes are drawn. JAX's checks for NaN, leaked tracers and rank
promotion are on, and warnings are errors.
"""

import contextlib
import functools
from typing import NamedTuple

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers as Axes
import pytest

import optax_namo
from tests.oracles import bounded
from tests.oracles.bounded import Options

pytestmark = pytest.mark.filterwarnings('error')

_STEPS = 5


class Leaf(NamedTuple):
  shape: tuple[int, ...]
  numbers: Axes | optax_namo.SplitMatrices | None
  dtype: str = 'float32'


_TREES = {
  'plain': {
    'wide': Leaf((4, 7), Axes(0, 1)),
    'tall': Leaf((7, 4), Axes(0, 1)),
    'square': Leaf((5, 5), Axes(0, 1)),
    'transposed': Leaf((3, 6), Axes(1, 0)),
    'bias': Leaf((6,), None),
  },
  'views': {
    'layers': Leaf((2, 3, 5), Axes(1, 2)),
    'conv': Leaf((2, 2, 2, 5), Axes((0, 1, 2), 3)),
    'query': Leaf((6, 2, 2), Axes(0, (1, 2))),
    'qkv': Leaf(
      (4, 9), optax_namo.SplitMatrices(Axes(0, 1), axis=1, sizes=(3, 4, 2))
    ),
    'embedding': Leaf((5, 3), None),
  },
  'mixed': {
    'bfloat16': Leaf((3, 8), Axes(0, 1), 'bfloat16'),
    'float16': Leaf((4, 4), Axes(0, 1), 'float16'),
    'row': Leaf((1, 7), Axes(0, 1)),
    'column': Leaf((7, 1), Axes(0, 1), 'bfloat16'),
    'single': Leaf((1, 1), Axes(0, 1)),
    'bias': Leaf((4,), None, 'bfloat16'),
    'scalar': Leaf((), None),
  },
  'float64': {
    'wide': Leaf((4, 6), Axes(0, 1), 'float64'),
    'bias': Leaf((4,), None, 'float64'),
  },
}
_CASES = (
  ('plain', Options(None, True, 'adaptive', 'rms', False, False)),
  ('plain', Options('input', False, 'decoupled', 'none', True, False)),
  ('views', Options('output', True, 'adaptive', 'width', True, False)),
  ('mixed', Options('input', True, 'decoupled', 'rms', False, False)),
  ('mixed', Options(None, False, 'adaptive', 'width', False, False)),
  ('float64', Options('output', True, 'adaptive', 'rms', True, True)),
)


@functools.cache
def _runner(case):
  """The updates of a run at parameters that stay, compiled once."""
  tree, options = _CASES[case]
  optimizer = optax_namo.namo
  fixed = {
    'nesterov': options.nesterov,
    'decay': options.decay,
    'shape_scale': options.shape_scale,
    'orthogonalizer': optax_namo.polar_svd if options.exact else None,
    'weight_dimension_numbers': {k: x.numbers for k, x in _TREES[tree].items()},
  }
  if options.columns:
    optimizer = functools.partial(
      optax_namo.namo_d, columns=options.columns, clamp=None
    )

  @jax.jit
  def run(params, gradients, hyper):
    hyper = dict(hyper)
    clamp = hyper.pop('clamp')
    if options.clamped:
      hyper['clamp'] = clamp
    tx = optimizer(**fixed, **hyper)

    def step(state, gradient):
      updates, state = tx.update(gradient, state, params)
      return state, updates

    return jax.lax.scan(step, tx.init(params), gradients)[1]

  return run


_KINDS = ('normal', 'zero', 'rank_one', 'no_column', 'no_row', 'same_rows',
          'one_entry', 'odd_column', 'odd_row')  # fmt: skip


def _gradient(kind, rng, shape):
  """One gradient; its first axis counts as rows, its last as columns."""
  x = rng.normal(size=shape)
  if kind == 'zero' or x.ndim < 2:
    return x * (kind != 'zero')
  if kind == 'rank_one':
    x = np.broadcast_to(x[:1], shape) * rng.normal(
      size=(shape[0],) + (1,) * (x.ndim - 1)
    )
  elif kind == 'no_column':
    x[..., 0] = 0
  elif kind == 'no_row':
    x[0] = 0
  elif kind == 'same_rows':
    x = np.broadcast_to(x[:1], shape)
  elif kind == 'one_entry':
    x = np.where(np.arange(x.size).reshape(shape) == x.size // 2, x, 0)
  elif kind == 'odd_column':
    x[..., -1] *= 10.0 ** rng.integers(-5, 6)
  elif kind == 'odd_row':
    x[-1] *= 10.0 ** rng.integers(-5, 6)
  return x


def _gradients(leaf, seed, steps, exponent):
  """(steps, ...) in the leaf's dtype."""
  rng = np.random.default_rng(seed)
  if leaf.numbers is None:  # Adam's squares have half the range.
    exponent = 0
  drawn = []
  for kind, e in steps:
    x = _gradient(kind, rng, leaf.shape)
    if leaf.dtype == 'float16':  # Ten powers of ten are all that it has.
      x, exponent, e = x / (np.abs(x).max() or 1), 0, e / 3
    drawn.append(x * 10.0 ** (exponent + e))
  return np.stack(drawn).astype(jnp.dtype(leaf.dtype))


def _matrices(x, numbers):
  """The (in, out) matrices of an array, whose leading axis is of steps."""
  if isinstance(numbers, optax_namo.SplitMatrices):
    cuts = np.cumsum(numbers.sizes)[:-1]
    parts = np.split(x, cuts, axis=numbers.axis + 1)
    return [m for p in parts for m in _matrices(p, numbers.dimension_numbers)]
  inputs, outputs = (
    tuple(1 + i for i in np.ravel(group).tolist()) for group in numbers
  )
  batch = [i for i in range(1, x.ndim) if i not in inputs + outputs]
  sides = [np.prod([x.shape[i] for i in axes]) for axes in (inputs, outputs)]
  x = x.transpose(0, *batch, *inputs, *outputs).reshape(len(x), -1, *sides)
  return list(x.swapaxes(0, 1))


@contextlib.contextmanager
def _strict(x64):
  with (
    jax.enable_x64(x64),
    jax.debug_nans(True),
    jax.checking_leaks(),
    jax.numpy_rank_promotion('raise'),
  ):
    yield


# Zero or large enough for float32 to know it from zero in every product.
_rate = lambda largest: st.one_of(st.just(0.0), st.floats(1e-3, largest))
_HYPERPARAMETERS = st.fixed_dictionaries({
  'learning_rate': st.floats(1e-4, 1.0),
  'b1': _rate(0.999),
  'b2': st.floats(0.1, 0.9999),  # Less forgets a silent step's v at once.
  'eps': st.sampled_from([0.0, 1e-8, 1e-3]),
  'weight_decay': _rate(1.0),
  'clamp': st.floats(0.01, 1.0),
  'rms': st.floats(0.01, 2.0),
  'adam_b1': _rate(0.95),
  'adam_b2': _rate(0.99),
  'adam_eps': st.sampled_from([1e-8, 1e-3]),
  'adam_weight_decay': _rate(1.0),
})  # fmt: skip
_RUNS = {
  'case': st.integers(0, len(_CASES) - 1),
  'seed': st.integers(0, 2**32 - 1),
  'exponent': st.integers(-18, 18),
  'steps': st.lists(
    st.tuples(st.sampled_from(_KINDS), st.integers(-6, 6)),
    min_size=_STEPS,
    max_size=_STEPS,
  ),
  'hyper': _HYPERPARAMETERS,
}


def errors(case, seed, exponent, steps, hyper):
  """Yields leaf, step, ||error||, its bound and ||update|| of every matrix."""
  tree, options = _CASES[case]
  leaves = _TREES[tree]
  wide = tree == 'float64'
  if options.exact:  # The polar factor of what has not full rank is a choice.
    steps = [('normal', e) for _, e in steps]
  rng = np.random.default_rng(seed)
  params = {
    name: np.asarray(rng.normal(size=x.shape), jnp.dtype(x.dtype))
    for name, x in leaves.items()
  }
  gradients = {
    name: _gradients(x, seed + 1 + i, steps, exponent)
    for i, (name, x) in enumerate(leaves.items())
  }
  arithmetic = np.dtype('float64' if wide else 'float32')
  hyper = {name: arithmetic.type(x) for name, x in hyper.items()}
  with _strict(wide):
    updates = _runner(case)(params, gradients, hyper)
  hyper = {name: float(x) for name, x in hyper.items()}
  # Sums of up to 8 terms in some 30 operations, in any order.
  unit = 8 * float(np.finfo(arithmetic).eps)
  for name, leaf in leaves.items():
    info = jnp.finfo(leaf.dtype)
    p, g, u = (
      np.asarray(x, np.float64)
      for x in (params[name][None], gradients[name], updates[name])
    )
    if leaf.numbers is None:
      runs = [(u, bounded.adamw(p[0], g, hyper, unit))]
    else:
      runs = [
        (u, bounded.matrix(p[0], g, hyper, options, unit))
        for p, g, u in zip(*(_matrices(x, leaf.numbers) for x in (p, g, u)))
      ]
    for found, expected in runs:
      for t, (update, bound) in enumerate(expected):
        size = np.linalg.norm(update)
        error = np.linalg.norm(found[t] - update)
        bound += float(info.eps) * size
        bound += float(info.smallest_subnormal) * found[t].size ** 0.5
        yield (name, t), error, bound, size


def _check(**run):
  worst = 0.0
  for where, error, bound, _ in errors(**run):
    assert error <= bound, (where, error, bound)
    worst = max(worst, error / bound if bound else 0.0)
  hypothesis.target(worst)  # Looks for more where it came close.


# Found by the long run: nearly of rank one, where the Gram form loses most.
_NEARLY_RANK_ONE = {
  'case': 0, 'seed': 1038, 'exponent': 17,
  'steps': [('same_rows', 6), ('rank_one', 6), ('no_column', 5),
            ('rank_one', 0), ('rank_one', 6)],
  'hyper': {
    'learning_rate': 0.7105, 'b1': 0.611, 'b2': 0.6132, 'eps': 0.0,
    'weight_decay': 0.0, 'clamp': 1.0, 'rms': 1.0, 'adam_b1': 0.001,
    'adam_b2': 0.0, 'adam_eps': 1e-3, 'adam_weight_decay': 0.0,
  },
}  # fmt: skip
# Likewise: gradients of 1e-18 under an eps of 1e-3, where squares vanish.
_DWARFED_BY_EPS = {
  'case': 0, 'seed': 5114651, 'exponent': -18,
  'steps': [('zero', -2), ('no_column', -2), ('one_entry', 1),
            ('no_column', -3), ('no_column', 5)],
  'hyper': {
    'learning_rate': 0.9466, 'b1': 0.0, 'b2': 0.1971, 'eps': 1e-3,
    'weight_decay': 0.8019, 'clamp': 0.2682, 'rms': 0.12, 'adam_b1': 0.3333,
    'adam_b2': 0.0664, 'adam_eps': 1e-8, 'adam_weight_decay': 0.0,
  },
}  # fmt: skip
# Drawn values are seeds and rates, as simple as they come: shrinking a failure
# would take minutes and tell nothing.
_PHASES = [p for p in hypothesis.Phase if p is not hypothesis.Phase.shrink]


@hypothesis.settings(max_examples=100, phases=_PHASES)
@hypothesis.given(**_RUNS)
@hypothesis.example(**_NEARLY_RANK_ONE)
@hypothesis.example(**_DWARFED_BY_EPS)
def test_agrees_with_float64(**run):
  _check(**run)


@pytest.mark.fuzz
@hypothesis.settings(max_examples=2000, phases=_PHASES)
@hypothesis.given(**_RUNS)
def test_agrees_with_float64_at_length(**run):
  _check(**run)
