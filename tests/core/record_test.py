# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What diagnostics tells, of which states, and what recording costs."""

import dataclasses
import re

import chex
from flax import nnx
from flax.training import train_state
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from tests.oracles import paper

_SHAPES = {'dense': {'kernel': (4, 6), 'bias': (6,)}, 'qkv': (4, 6),
           'layers': (3, 4, 6), 'one_layer': (1, 4, 6)}  # fmt: skip
_NUMBERS = {
  'dense': {'kernel': MuonDimensionNumbers(0, 1), 'bias': None},
  'qkv': optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (4, 2)),
  'layers': MuonDimensionNumbers(1, 2),
  'one_layer': MuonDimensionNumbers(1, 2),
}
# Where the matrices of a leaf are, by what diagnostics calls them.
_MATRICES = {
  'dense/kernel': lambda p: p['dense']['kernel'],
  'qkv[0]': lambda p: p['qkv'][:, :4],
  'qkv[1]': lambda p: p['qkv'][:, 4:],
  'layers': lambda p: p['layers'],
  'one_layer': lambda p: p['one_layer'],
}


def _draw(seed, frequency=0.0):
  """Normal numbers; the columns wax and wane, each at its own rate."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(
      rng.normal(size=shape) * np.cos(frequency * np.arange(shape[-1])),
      jnp.float32,
    ),
    _SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
  )


_PARAMS = _draw(0)
# The first columns change little and the others turn, so that some scales are
# far above the mean and others far below.
_GRADIENTS = [_draw(1, frequency=step) for step in (0, 1, 2)]


def _optimizer(name='namo_d', record=True, **options):
  if name == 'namo_d':
    options = {'clamp': 0.8, 'columns': 'output'} | options
  return getattr(optax_namo, name)(
    0.1, record=record, weight_dimension_numbers=_NUMBERS, **options
  )


def _run(tx, gradients=_GRADIENTS, params=_PARAMS):
  state = tx.init(params)
  step = jax.jit(tx.update)
  for gradient in gradients:
    updates, state = step(gradient, state, params)
  return updates, state


def _quick(learning_rate=0.1):
  """Little to compile: what is recorded does not depend on the factors."""
  return optax_namo.namo_d(
    learning_rate,
    clamp=0.8,
    record=True,
    orthogonalizer=jnp.sign,
    weight_dimension_numbers=_NUMBERS,
  )


def _states_with_a_record():
  tx = _quick()
  labels = jax.tree.map(lambda _: 'namo', _PARAMS)
  wrapped = {
    'alone': tx,
    'chain': optax.chain(optax.identity(), optax.chain(tx)),
    'partition': optax.partition({'namo': tx, 'rest': optax.sgd(1)}, labels),
    'masked': optax.masked(tx, jax.tree.map(lambda _: True, _PARAMS)),
    'injected': optax.inject_hyperparams(_quick)(learning_rate=0.1),
    'finite': optax.apply_if_finite(tx, 2),
  }
  states = {name: _run(tx)[1] for name, tx in wrapped.items()}
  twice = [g for g in _GRADIENTS for _ in range(2)]
  states['multi_steps'] = _run(optax.MultiSteps(tx, 2), twice)[1]
  train = train_state.TrainState.create(apply_fn=None, params=_PARAMS, tx=tx)
  states['train_state'] = train.replace(opt_state=states['alone'])
  return states


@pytest.mark.parametrize('name', ['namo', 'namo_d'])
@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
def test_against_numpy(name, decay):
  """Norms, scales and clamp hits of each matrix, in float64 NumPy."""
  options = {'orthogonalizer': optax_namo.polar_svd, 'nesterov': False}
  tx = _optimizer(name, decay=decay, weight_decay=0.3, **options)
  found = optax_namo.diagnostics(_run(tx)[1])
  assert list(found) == sorted(_MATRICES)
  for path, of in _MATRICES.items():
    gradients = [np.asarray(of(g), np.float64) for g in _GRADIENTS]
    stacks = [g if g.ndim == 3 else g[None] for g in gradients]
    matrices = np.asarray(of(_PARAMS)).reshape(stacks[0].shape)
    batch = gradients[0].shape[:-2]
    expected = [
      _expected(
        [stack[i] for stack in stacks], matrices[i], name == 'namo_d', decay
      )
      for i in range(len(matrices))
    ]
    for field in expected[0]:
      value = np.asarray(getattr(found[path], field))
      assert value.shape == batch, (path, field)
      np.testing.assert_allclose(
        value.ravel(), [e[field] for e in expected], rtol=1e-4, err_msg=field
      )
    assert int(found[path].step) == len(_GRADIENTS)
    assert found[path].orthogonality_error is None
  if name == 'namo_d':  # Else the comparison above would be of zeros.
    assert found['dense/kernel'].clamped_low > 0
    assert found['dense/kernel'].clamped_high > 0


def test_orthogonality_error():
  for orthogonalizer, least, most in (
    (optax_namo.polar_svd, 0, 1e-5),
    (None, 0.01, 0.5),  # Singular values within [0.7, 1.2].
    (lambda stack: 2 * optax_namo.polar_svd(stack), 3 - 1e-4, 3 + 1e-4),
  ):
    tx = _optimizer(record='orthogonality', orthogonalizer=orthogonalizer)
    found = optax_namo.diagnostics(_run(tx)[1])
    for path, of in _MATRICES.items():
      error = found[path].orthogonality_error
      chex.assert_shape(error, of(_PARAMS).shape[:-2])
      assert jnp.all((least <= error) & (error <= most)), path


def test_the_derivative_of_the_orthogonality_error():
  tx = optax_namo.namo_d(
    0.1,
    record='orthogonality',
    weight_dimension_numbers=optax.contrib.MuonDimensionNumbers(),
  )
  w, way = jax.random.normal(jax.random.key(0), (2, 4, 6))

  @jax.jit
  def error(gradient):
    _, state = tx.update(gradient, tx.init(w), w)
    return optax_namo.diagnostics(state)[''].orthogonality_error

  _, slope = jax.jvp(error, (w,), (way,))
  h = 1e-2
  difference = (error(w + h * way) - error(w - h * way)) / (2 * h)
  np.testing.assert_allclose(slope, difference, rtol=1e-2)
  assert jnp.isnan(error(w.at[0, 0].set(jnp.nan)))


@pytest.mark.full_compile
def test_an_idle_clamp_hits_exactly_nothing():
  """Also where XLA fuses what makes the scales."""
  found = optax_namo.diagnostics(_run(_optimizer(clamp=0.01))[1])
  for one in found.values():
    chex.assert_trees_all_equal((one.clamped_low, one.clamped_high), (0, 0))


def test_a_clamp_of_one_hits_every_column():
  found = optax_namo.diagnostics(
    _run(_optimizer(clamp=1.0, orthogonalizer=jnp.sign))[1]
  )
  for one in found.values():
    np.testing.assert_allclose(one.clamped_low + one.clamped_high, 1)
    np.testing.assert_allclose(one.scale_min, one.scale_max)


def test_gradients_of_any_magnitude():
  options = {'eps': 0.0, 'orthogonalizer': jnp.sign}
  whole = optax_namo.diagnostics(_run(_optimizer(**options))[1])
  for size in (1e-25, 1e25):
    gradients = [optax.tree.scale(size, g) for g in _GRADIENTS]
    found = optax_namo.diagnostics(_run(_optimizer(**options), gradients)[1])
    for path, one in found.items():
      expected = whole[path]._replace(
        gradient_norm=size * whole[path].gradient_norm,
        momentum_norm=size * whole[path].momentum_norm,
      )
      chex.assert_trees_all_close(one, expected, rtol=1e-4)


def test_before_the_first_update_all_is_zero():
  found = optax_namo.diagnostics(_optimizer().init(_PARAMS))
  assert list(found) == sorted(_MATRICES)
  chex.assert_trees_all_equal(found, jax.tree.map(jnp.zeros_like, found))


def test_leaves_without_entries_are_left_out():
  params = {'w': jnp.ones((3, 4)), 'none': jnp.ones((0, 4))}
  tx = optax_namo.namo_d(0.1, record=True)
  _, state = _run(tx, [params], params)
  assert list(optax_namo.diagnostics(state)) == ['w']


def _expected(gradients, matrix, is_namo_d, decay, b1=0.95, b2=0.99):
  """The last step's diagnostics of one matrix, its columns along axis 1."""
  norm = lambda x: np.linalg.norm(x, axis=0 if is_namo_d else None)
  m, v = 0.0, 0.0
  for g in gradients:
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * norm(g) ** 2
  t = len(gradients)
  scale = np.sqrt(1 - b2**t) / (1 - b1**t) * norm(m) / (np.sqrt(v) + 1e-8)
  applied = scale
  if is_namo_d:
    applied = np.clip(scale, 0.8 * scale.mean(), scale.mean() / 0.8)
  direction = 0.2 * np.sqrt(max(m.shape)) * paper.polar(m)
  if decay == 'adaptive':
    direction = direction + 0.3 * matrix
  return {
    'scale_mean': np.mean(applied),
    'scale_min': np.min(applied),
    'scale_max': np.max(applied),
    'clamped_low': np.mean(applied > scale),
    'clamped_high': np.mean(applied < scale),
    'gradient_norm': np.linalg.norm(gradients[-1]),
    'momentum_norm': np.linalg.norm(m),
    'update_rms': np.sqrt(np.mean((direction * applied) ** 2)),
  }


def test_wherever_wrappers_have_put_it():
  states = _states_with_a_record()
  expected = optax_namo.diagnostics(states['alone'])
  for name, state in states.items():
    found = optax_namo.diagnostics(state)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)
    abstract = jax.eval_shape(optax_namo.diagnostics, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(abstract, found)
    assert isinstance(found['layers'], optax_namo.MatrixDiagnostics), name
  jitted = jax.jit(optax_namo.diagnostics)(states['multi_steps'])
  chex.assert_trees_all_close(jitted, found, rtol=1e-6)


def test_groups_of_a_partition_are_told_apart():
  labels = jax.tree.map(lambda _: 'a', _PARAMS) | {'layers': 'b'}
  tx = lambda record: optax_namo.namo(
    0.1,
    record=record,
    weight_dimension_numbers=lambda tree: jax.tree.map(
      lambda x: MuonDimensionNumbers(-2, -1) if x.ndim > 1 else None, tree
    ),
  )
  both = optax.partition({'a': tx(True), 'b': tx(True)}, labels)
  one = optax.partition({'a': tx(False), 'b': tx(True)}, labels)
  found = optax_namo.diagnostics(_run(both)[1])
  assert list(found) == ['dense/kernel', 'one_layer', 'qkv', 'layers']
  assert list(optax_namo.diagnostics(_run(one)[1])) == ['layers']


def test_replicas():
  _, state = _run(_quick())
  found = optax_namo.diagnostics(state)
  replicas = jax.tree.map(lambda x: jnp.stack([x, x]), state)
  chex.assert_trees_all_close(
    jax.vmap(optax_namo.diagnostics)(replicas),
    jax.tree.map(lambda x: jnp.stack([x, x]), found),
    rtol=1e-6,
  )


def test_nnx_optimizer():
  model = nnx.Sequential(
    nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 2, rngs=nnx.Rngs(1))
  )
  tx = optax_namo.namo_d(0.1, record='orthogonality')
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer):
    loss = lambda m: jnp.mean(jnp.square(m(jnp.ones((5, 3)))))
    optimizer.update(model, nnx.grad(loss)(model))
    return optax_namo.diagnostics(optimizer.opt_state)

  for _ in range(2):
    inside = step(model, optimizer)
  found = optax_namo.diagnostics(optimizer.opt_state)
  chex.assert_trees_all_close(found, inside)
  table = optax_namo.routing_table(nnx.state(model, nnx.Param))
  matrices = [row.path for row in table if row.group == 'matrix']
  assert list(found) == matrices
  assert {int(one.step) for one in found.values()} == {2}


def test_hand_made_chain():
  numbers = MuonDimensionNumbers(1, 2)
  stages = (
    optax_namo.adaptive_momentum(
      columns='output', weight_dimension_numbers=numbers
    ),
    optax_namo.orthogonalize(),
    optax_namo.clamp_scale(0.8),
    optax_namo.record('output', weight_dimension_numbers=numbers),
    optax_namo.apply_scale(),
  )
  params = {'layers': _PARAMS['layers']}
  gradients = [{'layers': g['layers']} for g in _GRADIENTS]
  updates, state = _run(optax.chain(*stages), gradients, params)
  (found,) = optax_namo.diagnostics(state).values()
  expected = optax_namo.diagnostics(_run(_optimizer())[1])['layers']
  rms = jnp.sqrt(jnp.mean(jnp.square(updates['layers']), (1, 2)))
  chex.assert_trees_all_close(
    found, expected._replace(update_rms=rms), rtol=1e-5
  )
  plain, _ = _run(optax.chain(*stages[:3], stages[4]), gradients, params)
  chex.assert_trees_all_equal(updates, plain)


def test_nothing_recorded():
  for tx in (_optimizer(record=False), optax.adam(0.1)):
    state = tx.init(_PARAMS)
    for read in (optax_namo.diagnostics, jax.jit(optax_namo.diagnostics)):
      with pytest.raises(ValueError, match=r'record=True.*record\(\)'):
        read(state)


def test_bad_argument():
  for optimizer in (optax_namo.namo, optax_namo.namo_d):
    with pytest.raises(ValueError, match="record must .*, got 'all'"):
      optimizer(0.1, record='all')
  injected = optax.inject_hyperparams(optax_namo.namo_d)(
    learning_rate=0.1, record='orthogonality'
  )
  (found,) = optax_namo.diagnostics(
    injected.init({'w': jnp.ones((3, 4))})
  ).values()
  assert found.orthogonality_error is not None
  with pytest.raises(ValueError, match="columns must .* 'rows'"):
    optax_namo.record('rows')


def test_other_columns_than_the_chain():
  params = {'w': jnp.ones((3, 4))}
  for ours, theirs in ((None, 'input'), ('input', 'output')):
    tx = optax.chain(
      optax_namo.adaptive_momentum(columns=theirs), optax_namo.record(ours)
    )
    with pytest.raises(ValueError, match=rf'record\(columns={ours!r}'):
      tx.update(params, tx.init(params), params)


def test_no_polar_factor_to_measure():
  params = {'w': jnp.ones((3, 4))}
  tx = optax.chain(
    optax_namo.adaptive_momentum(), optax_namo.record(orthogonality=True)
  )
  with pytest.raises(ValueError, match=r'polar_factor.*orthogonalize\(\)'):
    tx.update(params, tx.init(params), params)


def test_not_in_factored_form():
  tx = optax_namo.record()
  params = {'w': jnp.ones((3, 4))}
  with pytest.raises(TypeError, match='between adaptive_momentum and'):
    tx.update(params, tx.init(params), params)


@pytest.mark.full_compile
def test_unused_it_costs_nothing():
  """Without record the program is that of stages that observe nothing."""
  forget = optax.stateless(
    lambda updates, params: jax.tree.map(
      lambda u: dataclasses.replace(u, seen=optax_namo._factored.Seen()),
      updates,
      is_leaf=lambda x: isinstance(x, optax_namo.Factored),
    )
  )
  stages = (
    optax_namo.adaptive_momentum(
      columns='input', weight_dimension_numbers=MuonDimensionNumbers(-2, -1)
    ),
    optax_namo.orthogonalize(),
    optax_namo.clamp_scale(),
    optax_namo.apply_scale(),
  )
  params = {'w': jnp.ones((3, 4, 5)), 'u': jnp.ones((4, 5))}
  programs = []
  for tx in (
    optax.chain(*stages),
    optax.chain(
      stages[0], forget, stages[1], forget, stages[2], forget, stages[3]
    ),
  ):
    programs.append(_instructions(tx, params))
  assert programs[0] == programs[1]
  assert len(programs[0]) > 100
  recorded = optax.chain(
    *stages[:3],
    optax_namo.record(
      'input', weight_dimension_numbers=MuonDimensionNumbers(-2, -1)
    ),
    stages[3],
  )
  assert _instructions(recorded, params) != programs[0]


def _instructions(tx, params):
  """The compiled update, without where in the source a line came from."""
  program = jax.jit(tx.update).lower(params, tx.init(params)).compile()
  return [
    re.sub(r', metadata=\{[^}]*\}', '', line)
    for line in program.as_text().splitlines()
    if re.match(r'\s*(ROOT )?%?[\w.-]+ = ', line)
  ]


@pytest.mark.full_compile
def test_state_without_it():
  """One count, and moments and v for each matrix; Adam's for the bias."""
  leaves = jax.tree.leaves(_optimizer(record=False).init(_PARAMS))
  matrices, vectors = len(_MATRICES), 1
  assert len(leaves) == 1 + 2 * matrices + 1 + 2 * vectors


@pytest.mark.full_compile
def test_what_it_adds():
  """Two scales and three norms a matrix, and a pass over what they are of."""
  plain, kept = (_optimizer(record=record) for record in (False, True))
  count = lambda tx: len(jax.tree.leaves(tx.init(_PARAMS)))
  assert count(kept) - count(plain) == 5 * len(_MATRICES)
  params = {'w': jnp.ones((256, 512))}
  flops = []
  for record in (False, True):
    tx = optax_namo.namo_d(0.1, record=record)
    step = jax.jit(tx.update).lower(params, tx.init(params), params)
    flops.append(step.compile().cost_analysis()['flops'])
  # Three sums of squares, the product with the scale, and what XLA computes
  # again of their terms rather than keep it.
  assert 7 <= (flops[1] - flops[0]) / params['w'].size <= 20


def test_paths_that_read_alike():
  params = {'a/kernel': jnp.ones((7, 2)), 'a': {'kernel': jnp.ones((3, 4))}}
  tx = optax_namo.namo(0.1, record=True)
  _, state = tx.update(params, tx.init(params), params)
  found = optax_namo.diagnostics(state)
  assert list(found) == ['a/kernel', '#a/kernel']
  norms = [round(float(one.gradient_norm) ** 2) for one in found.values()]
  assert norms == [12, 14]
