# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What every optimizer must survive, whatever its options.

The options are covered pairwise: every two values of two options meet in some
case, without the full product.
"""

import inspect
import itertools
import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_namo
from tests.helpers import tolerance as _tolerance

pytestmark = pytest.mark.accelerator

_FACTORS = {
  'optimizer': ('namo_d', 'namo', 'scale_by_namo_d', 'scale_by_namo'),
  'params_dtype': ('float32', 'bfloat16', 'float16'),
  'same_gradient_dtype': (True, False),
  'mu_dtype': (None, 'bfloat16'),
  'nesterov': (True, False),
  'columns': ('input', 'output'),
  'clamp': (0.75, None, 1.0),
  'decay': ('adaptive', 'decoupled'),
  'shape_scale': ('rms', 'spectral', 'none'),
  'orthogonalizer': (None, optax_namo.polar_svd),
  'record': (False, True),
}


def _pairwise(factors, seed=0):
  """Rows such that every pair of values of two factors is in some row."""
  rng = random.Random(seed)
  pairs = lambda items: set(itertools.combinations(sorted(items), 2))
  levels = {a: range(len(factors[name])) for a, name in enumerate(factors)}
  cells = [(a, x) for a in levels for x in levels[a]]
  missing = {(p, q) for p, q in pairs(cells) if p[0] != q[0]}
  rows = []
  while missing:
    row = list(rng.choice(sorted(missing)))
    for a in rng.sample(list(levels), len(levels)):
      if a not in dict(row):  # The value that covers most of what is missing.
        row.append(
          max(
            ((a, x) for x in levels[a]),
            key=lambda cell, row=row: len(pairs([*row, cell]) & missing),
          )
        )
    missing -= pairs(row)
    rows.append(
      {name: factors[name][dict(row)[a]] for a, name in enumerate(factors)}
    )
  return rows


# Of the first hundred seeds the one with the fewest rows; 12 is the least.
_ROWS = _pairwise(_FACTORS, seed=41)


class _Case:
  """One row: the optimizer, parameters and a sequence of gradients.

  Not to be changed: all tests share it, and the step it has compiled.
  """

  def __init__(self, row):
    row = dict(row)
    self.name = row.pop('optimizer')
    self.dtype = jnp.dtype(row.pop('params_dtype'))
    self.gradient_dtype = (
      self.dtype if row.pop('same_gradient_dtype') else jnp.dtype('float32')
    )
    self.factory = getattr(optax_namo, self.name)
    accepted = inspect.signature(self.factory).parameters
    self.options = {k: v for k, v in row.items() if k in accepted}
    self.is_alias = 'learning_rate' in accepted
    if self.is_alias:
      self.options['learning_rate'] = 0.02
    self.tx = self.factory(**self.options)
    self.step = jax.jit(self.tx.update)
    rng = np.random.default_rng(0)
    shapes = {'dense': {'kernel': (3, 5)}, 'out': {'kernel': (5, 3)}}
    if self.is_alias:  # The bare rules take matrices alone.
      shapes |= {'wte': (7, 3), 'scale': (5,), 'temperature': ()}
    draw = lambda dtype: jax.tree.map(
      lambda shape: jnp.asarray(rng.normal(size=shape), dtype),
      shapes,
      is_leaf=lambda x: isinstance(x, tuple),
    )
    self.params = draw(self.dtype)
    self.gradients = [draw(self.gradient_dtype) for _ in range(4)]
    # Two computations that XLA may order differently, as the updates leave.
    coarse = _tolerance(max(2e-6, jnp.finfo(self.gradient_dtype).eps))
    self.close = {'rtol': 4 * float(coarse), 'atol': 4 * float(coarse)}

  def run(self, tx=None, gradients=None, **extra):
    """Updates and state after the gradients, by one jitted step."""
    step = jax.jit(tx.update) if tx else self.step
    state = (tx or self.tx).init(self.params)
    for gradient in gradients or self.gradients:
      updates, state = step(gradient, state, self.params, **extra)
    return updates, state

  def check_injected(self, options, expected):
    """Injected float32 hyperparameters give the expected updates."""
    factory = optax.inject_hyperparams(
      self.factory,
      static_args=('orthogonalizer',),
      hyperparam_dtype=jnp.float32,
    )
    found, _ = self.run(factory(**options))
    matrices = lambda tree: {k: tree[k] for k in ('dense', 'out')}
    chex.assert_trees_all_close(
      matrices(found), matrices(expected), **self.close
    )
    # optax's Adam multiplies a bfloat16 moment by a Python float in bfloat16,
    # by an array in float32.
    coarse = (
      {'rtol': 0.1, 'atol': 2e-3}
      if 'bfloat16' in (self.options['mu_dtype'],)
      else self.close
    )
    chex.assert_trees_all_close(found, expected, **coarse)


@pytest.fixture(
  scope='module',
  params=_ROWS,
  ids=lambda row: f'{row["optimizer"]}-{row["params_dtype"]}',
)
def case(request):
  return _Case(request.param)


def _dtypes(tree):
  return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _states(state, kind):
  """All states of a kind, wherever wrappers have put them."""
  leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kind))
  return [leaf for leaf in leaves if isinstance(leaf, kind)]


def test_every_pair_is_covered():
  for (a, xs), (b, ys) in itertools.combinations(_FACTORS.items(), 2):
    for x, y in itertools.product(xs, ys):
      assert any(r[a] is x and r[b] is y for r in _ROWS), (a, x, b, y)
  assert len(_ROWS) <= 14


def test_dtypes_and_shapes(case):
  updates, state = case.run()
  chex.assert_trees_all_equal_shapes_and_dtypes(updates, case.gradients[0])
  chex.assert_trees_all_equal_shapes_and_dtypes(
    state, case.tx.init(case.params)
  )
  chex.assert_tree_all_finite(updates)
  (namo_state,) = _states(state, optax_namo.NamoState)
  expected = jnp.dtype(case.options['mu_dtype'] or 'float32')
  assert set(_dtypes(namo_state.mu)) == {expected}
  for adam_state in _states(state, optax.ScaleByAdamState):
    assert set(_dtypes(adam_state.mu)) == {expected}
    assert set(_dtypes(adam_state.nu)) == {jnp.dtype('float32')}
  applied = optax.apply_updates(case.params, updates)
  chex.assert_trees_all_equal_shapes_and_dtypes(applied, case.params)


def test_no_recompilation(case):
  chex.clear_trace_counter()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def step(gradient, state, params):
    updates, state = case.tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  params, state = case.params, case.tx.init(case.params)
  for i in range(10):
    params, state = step(case.gradients[i % 4], state, params)
  chex.assert_tree_all_finite(params)


def test_jit_changes_nothing(case):
  state = case.tx.init(case.params)
  args = case.gradients[0], state, case.params
  chex.assert_trees_all_close(
    case.tx.update(*args), case.step(*args), **case.close
  )


def test_extra_args_and_chain(case):
  tx = optax.with_extra_args_support(
    optax.chain(optax.clip_by_global_norm(1e3), case.tx)
  )
  found, _ = case.run(tx, loss=jnp.ones(()))
  chex.assert_trees_all_close(found, case.run()[0], **case.close)


def test_partition_and_masked(case):
  expected = case.run()[0]
  labels = {k: 'a' if k == 'dense' else 'b' for k in case.params}
  partition = optax.partition({'a': case.tx, 'b': optax.sgd(0.0)}, labels)
  masked = optax.masked(case.tx, {k: k == 'dense' for k in case.params})
  for tx in (partition, masked):
    found = case.run(tx)[0]
    chex.assert_trees_all_close(found['dense'], expected['dense'], **case.close)
  chex.assert_trees_all_equal(found['out'], case.gradients[-1]['out'])


def test_multi_steps(case):
  gradients = [g for g in case.gradients for _ in range(2)]
  tx = optax.MultiSteps(case.tx, every_k_schedule=2)
  found, _ = case.run(tx, gradients)
  chex.assert_trees_all_close(found, case.run()[0], **case.close)


def test_apply_if_finite(case):
  tx = optax.apply_if_finite(case.tx, max_consecutive_errors=3)
  found, _ = case.run(tx)
  chex.assert_trees_all_close(found, case.run()[0], **case.close)


def test_inject_hyperparams(case):
  factory = optax.inject_hyperparams(
    case.factory, static_args=('orthogonalizer',)
  )
  found, state = case.run(factory(**case.options))
  chex.assert_tree_all_finite((found, state))
  case.check_injected(case.options, case.run()[0])


def test_schedules(case):
  if not case.is_alias:
    assert 'learning_rate' not in case.options
    return
  rates = jnp.asarray([0.01, 0.02, 0.03, 0.04])
  options = case.options | {
    'learning_rate': lambda t: rates[t],
    'adam_learning_rate': lambda t: 10 * rates[t],
  }
  found, _ = case.run(case.factory(**options))
  fixed = case.options | {'learning_rate': 0.04, 'adam_learning_rate': 0.4}
  chex.assert_trees_all_close(
    found, case.run(case.factory(**fixed))[0], **case.close
  )
  case.check_injected(options, found)


def test_none_leaves_and_empty_trees(case):
  params = case.params | {'frozen': None, 'empty': {}}
  gradient = case.gradients[0] | {'frozen': None, 'empty': {}}
  updates, _ = jax.jit(case.tx.update)(gradient, case.tx.init(params), params)
  expected = case.run(gradients=case.gradients[:1])[0]
  assert updates.pop('frozen') is None
  assert updates.pop('empty') == {}
  chex.assert_trees_all_close(updates, expected, **case.close)
  for empty in ({}, [], ()):
    updates, _ = case.tx.update(empty, case.tx.init(empty), empty)
    assert updates == empty


def test_state_maps_over_parameters(case):
  _, state = case.run()
  doubled = optax.tree.map_params(case.tx, lambda x: 2 * x, state)
  (before,) = _states(state, optax_namo.NamoState)
  (after,) = _states(doubled, optax_namo.NamoState)
  chex.assert_trees_all_equal(
    after.mu, jax.tree.map(lambda x: 2 * x, before.mu)
  )
  assert after.count == before.count


def test_abstract_initialization(case):
  abstract = jax.eval_shape(case.tx.init, case.params)
  chex.assert_trees_all_equal_shapes_and_dtypes(
    abstract, case.tx.init(case.params)
  )


def _distance(optimizer, dtype, noise):
  """Distance to the optimum after 400 steps, in units of the first one."""
  factory = getattr(optax_namo, optimizer)
  steps = 400
  schedule = optax.linear_schedule(0.1, 0.0, steps)
  if optimizer.startswith('scale_by'):
    # Without the shape scale a step of 0.1 moves the entries half as far.
    tx = optax.chain(factory(), optax.scale_by_learning_rate(schedule))
  else:
    tx = factory(schedule, weight_decay=0.0)
  rng = np.random.default_rng(0)
  target = {'w': jnp.asarray(rng.normal(size=(6, 4)), dtype)}
  params = jax.tree.map(jnp.zeros_like, target)

  @jax.jit
  def step(carry, key):
    params, state = carry
    gradient = jax.tree.map(
      lambda p, t: p - t + noise * jax.random.normal(key, p.shape, p.dtype),
      params,
      target,
    )
    updates, state = tx.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  keys = jax.random.split(jax.random.key(0), steps)
  (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
  error = optax.tree.norm(optax.tree.sub(params, target))
  return float(error / optax.tree.norm(target))


@pytest.mark.parametrize('optimizer', _FACTORS['optimizer'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_quadratic(optimizer, dtype):
  # bfloat16 parameters stop where a step is below half their spacing, 2^-9.
  bound = 1e-3 if dtype == 'float32' else 5e-2
  assert _distance(optimizer, dtype, noise=0.0) < bound


@pytest.mark.parametrize('optimizer', _FACTORS['optimizer'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_noisy_quadratic(optimizer, dtype):
  assert _distance(optimizer, dtype, noise=1.0) < 0.25
