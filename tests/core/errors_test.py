# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bad input: what the error names, and that good input near it passes."""

import functools
import re

import chex
import flax
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo

_PARAMS = {'dense': {'kernel': jnp.ones((3, 4))}, 'bias': jnp.ones(4)}
_OPTIMIZERS = (optax_namo.namo, optax_namo.namo_d)


@pytest.mark.parametrize('optimizer', _OPTIMIZERS)
@pytest.mark.parametrize(
  'bad',
  [
    ('b1', 1.0),
    ('b1', -0.1),
    ('b2', 1.5),
    ('b2', float('nan')),
    ('eps', -1e-8),
    ('eps', float('inf')),
    ('weight_decay', -0.1),
    ('rms', 0.0),
    ('adam_b1', 1.0),
    ('adam_b2', -0.5),
    ('adam_eps', -1.0),
    ('adam_weight_decay', -1.0),
    ('decay', 'none'),
    ('shape_scale', 'frobenius'),
  ],
)
def test_value_is_named(optimizer, bad):
  name, value = bad
  with pytest.raises(ValueError, match=rf'{name} must be .*{value}'):
    optimizer(0.1, **{name: value})


@pytest.mark.parametrize(
  'name, value', [('clamp', 0.0), ('clamp', 1.01), ('columns', 'rows')]
)
def test_namo_d_value_is_named(name, value):
  for factory in (
    optax_namo.scale_by_namo_d,
    lambda **kwargs: optax_namo.namo_d(0.1, **kwargs),
  ):
    with pytest.raises(ValueError, match=f'{name} must be .*{value}'):
      factory(**{name: value})


@pytest.mark.parametrize('optimizer', _OPTIMIZERS)
@pytest.mark.parametrize(
  'bad',
  [
    ('b1', '0.9'),
    ('eps', None),
    ('b2', 0.9j),
    ('b2', np.ones(2)),
    ('learning_rate', 'fast'),
    ('learning_rate', None),
    ('adam_learning_rate', [0.1]),
  ],
)
def test_type_is_named(optimizer, bad):
  name, value = bad
  with pytest.raises(TypeError, match=f'^{name} must be a real scalar'):
    optimizer(**({'learning_rate': 0.1} | {name: value}))


@pytest.mark.parametrize(
  'function', [optax_namo.newton_schulz, optax_namo.polar_svd]
)
def test_an_orthogonalizer_that_optax_takes_for_a_schedule(function):
  make = optax.inject_hyperparams(optax_namo.namo)
  with pytest.raises(ValueError, match=r'of shape \(\).* static_args'):
    make(0.1, orthogonalizer=function).init(_PARAMS)


def test_rules_that_optax_takes_for_a_schedule():
  numbers = functools.partial(
    optax_namo.matrix_dimension_numbers, rules=[('w', None)]
  )
  make = optax.inject_hyperparams(optax_namo.namo)
  with pytest.raises(ValueError, match='static_args'):
    make(0.1, weight_dimension_numbers=numbers).init(_PARAMS)


def test_orthogonalizer():
  with pytest.raises(TypeError, match="orthogonalizer .* 'svd'"):
    optax_namo.namo(0.1, orthogonalizer='svd')
  tx = optax_namo.namo(0.1, orthogonalizer=lambda x: x[..., 1:])
  with pytest.raises(ValueError, match=r'orthogonalizer .*\(1, 3, 4\)'):
    tx.update(_PARAMS, tx.init(_PARAMS), _PARAMS)


def test_edges_are_allowed():
  for optimizer in _OPTIMIZERS:
    tx = optimizer(0.1, b1=0.99, b2=0.9, eps=0, weight_decay=0)
    tx = optimizer(0.1, b1=0, b2=0)
    updates, _ = tx.update(_PARAMS, tx.init(_PARAMS), _PARAMS)
    chex.assert_tree_all_finite(updates)
  optax_namo.namo_d(0.1, clamp=1)


def test_tracers_are_not_judged():
  # Only concrete numbers can be wrong; a traced b1 of 1 is the user's.
  def first_update(b1):
    tx = optax_namo.scale_by_namo(b1=b1)
    return tx.update(jnp.ones((2, 3)), tx.init(jnp.ones((2, 3))))[0]

  jax.jit(first_update)(1.0)
  with pytest.raises(ValueError, match='b1'):
    first_update(1.0)


def test_a_rate_that_rounds_to_one_is_caught_at_init():
  params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _PARAMS)
  tx = optax.inject_hyperparams(optax_namo.namo)(0.1, adam_b2=0.999)
  with pytest.raises(ValueError, match='hyperparam_dtype=jnp.float32'):
    tx.init(params)


@pytest.mark.parametrize('dtype', [jnp.int32, jnp.complex64, jnp.bool_])
def test_dtype_of_a_parameter(dtype):
  params = {'a': {'w': jnp.ones((2, 3), dtype)}}
  for tx in (optax_namo.namo(0.1), optax_namo.scale_by_namo_d()):
    with pytest.raises(TypeError, match="'a/w' has dtype"):
      tx.init(params)


@pytest.mark.parametrize('dtype', [jnp.int32, jnp.complex64])
def test_dtype_of_a_gradient(dtype):
  for tx, params in (
    (optax_namo.namo(0.1), _PARAMS),
    (optax_namo.scale_by_namo_d(), _PARAMS['dense']),
  ):
    state = tx.init(params)
    gradient = jax.tree.map(lambda x: x.astype(dtype), params)
    for arguments in ((), (params,)):
      with pytest.raises(TypeError, match="gradient '.*' has dtype"):
        tx.update(gradient, state, *arguments)


@pytest.mark.parametrize('leaf', ['relu', jnp.tanh])
def test_a_leaf_that_is_no_array(leaf):
  params = {'a': {'act': leaf, 'w': jnp.ones((2, 3))}}
  with pytest.raises(TypeError, match="'a/act' is a .* and no array"):
    optax_namo.namo(0.1).init(params)


def test_a_leaf_without_a_path():
  with pytest.raises(TypeError, match='the parameter has dtype int32'):
    optax_namo.namo(0.1).init(jnp.ones((2, 3), jnp.int32))
  with pytest.raises(ValueError, match='the leaf of shape'):
    optax_namo.scale_by_namo().init(jnp.ones(3))


@pytest.mark.parametrize('dtype', ['int8', 'complex64', bool, 'bf16'])
def test_mu_dtype(dtype):
  for make in (optax_namo.namo, optax_namo.namo_d):
    with pytest.raises(TypeError, match='mu_dtype must be .*floating'):
      make(0.1, mu_dtype=dtype)


@pytest.mark.parametrize(
  'numbers, message',
  [
    (MuonDimensionNumbers(0, 0), 'twice'),
    (MuonDimensionNumbers(0, -2), 'twice'),
    (MuonDimensionNumbers((0, 1), 1), 'twice'),
    (MuonDimensionNumbers(0, 2), 'outside'),
    (MuonDimensionNumbers((), 1), 'no axis'),
  ],
)
def test_axes(numbers, message):
  tx = optax_namo.namo(
    0.1,
    weight_dimension_numbers={'dense': {'kernel': numbers}, 'bias': None},
  )
  with pytest.raises(
    ValueError, match=rf"'dense/kernel' of shape \(3, 4\).*{message}"
  ):
    tx.init(_PARAMS)


def test_rank():
  tx = optax_namo.namo(0.1, weight_dimension_numbers=MuonDimensionNumbers())
  with pytest.raises(ValueError, match=r"'bias' of shape \(4,\).*AdamW"):
    tx.init(_PARAMS)


def test_bare_rule_takes_matrices_only():
  for leaf in (jnp.ones(4), jnp.ones((2, 3, 4))):
    with pytest.raises(ValueError, match="'b' .*weight_dimension_numbers"):
      optax_namo.scale_by_namo().init({'b': leaf})


def test_specification_type_and_structure():
  tx = optax_namo.namo(0.1, weight_dimension_numbers='all')
  with pytest.raises(TypeError, match="MuonDimensionNumbers.*'all'"):
    tx.init(_PARAMS)
  tx = optax_namo.namo(
    0.1, weight_dimension_numbers={'other': MuonDimensionNumbers()}
  )
  with pytest.raises(ValueError, match='structure of the parameters'):
    tx.init(_PARAMS)


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda g: g | {'bias': None}, "none for 'bias': give zeros"),
    (lambda g: g | {'other': jnp.ones(2)}, "one for 'other', and no such"),
    (flax.core.freeze, 'other containers'),
  ],
)
def test_structure_of_the_gradients(change, message):
  tx = optax_namo.namo(0.1)
  with pytest.raises(ValueError, match=message):
    tx.update(change(_PARAMS), tx.init(_PARAMS), _PARAMS)


def test_structure_of_the_mask():
  tx = optax_namo.namo(0.1, weight_decay_mask={'other': True})
  with pytest.raises(ValueError, match='mask must be .*structure of the'):
    tx.update(_PARAMS, tx.init(_PARAMS), _PARAMS)


@pytest.mark.parametrize('optimizer', _OPTIMIZERS)
@pytest.mark.parametrize('decay', ['adaptive', 'decoupled'])
def test_decay_without_parameters(optimizer, decay):
  tx = optimizer(0.1, decay=decay)
  with pytest.raises(ValueError, match='params=None, but weight_decay'):
    tx.update(_PARAMS, tx.init(_PARAMS))
  tx = optimizer(0.1, weight_decay=0.0, adam_weight_decay=0.1)
  with pytest.raises(ValueError, match='but adam_weight_decay=0.1'):
    tx.update(_PARAMS, tx.init(_PARAMS))
  tx = optimizer(0.1, decay=decay, weight_decay=0.0)
  tx.update(_PARAMS, tx.init(_PARAMS))


def test_stage_out_of_place():
  for stage in (
    optax_namo.orthogonalize(),
    optax_namo.scale_by_shape(),
    optax_namo.add_adaptive_decay(),
    optax_namo.clamp_scale(),
    optax_namo.apply_scale(),
  ):
    with pytest.raises(TypeError, match='between adaptive_momentum and'):
      stage.update(jnp.ones((2, 3)), stage.init(None), jnp.ones((2, 3)))


# What would broadcast and train something else is an error.


@pytest.mark.parametrize('kept', ['input', 'output', None])
@pytest.mark.parametrize('columns', ['input', 'output', None])
def test_a_state_of_other_columns(kept, columns):
  params = {'a': {'w': jnp.ones((2, 3))}, 'b': jnp.ones(3)}
  state = optax_namo.namo_d(0.1, columns=kept).init(params)
  tx = optax_namo.namo_d(0.1, columns=columns)
  if kept == columns:
    tx.update(params, tx.init(params), params)
    return
  if None in (kept, columns):  # NAMO's chain has no clamp.
    state = optax.tree.get(state, 'NamoState')
    tx = optax_namo.adaptive_momentum(columns=columns)
    params = {'a': params['a'], 'b': optax.MaskedNode()}
  for update in (tx.update, jax.jit(tx.update)):
    with pytest.raises(
      ValueError, match=rf"root_v of shape .* at 'a/w'.*columns={columns!r}"
    ):
      update(params, state, params)


def test_a_state_of_other_leaves():
  params = {'v': jnp.ones((2, 3)), 'w': jnp.ones((2, 3))}
  tx = optax_namo.scale_by_namo()
  with pytest.raises(ValueError, match='2 arrays and the gradients are 1'):
    tx.update({'w': params['w']}, tx.init(params))
  with pytest.raises(ValueError, match=r"mu of shape \(2, 3\) at 'w'"):
    tx.update(params | {'w': jnp.ones((3, 2))}, tx.init(params))


@pytest.mark.parametrize('optimizer', _OPTIMIZERS)
@pytest.mark.parametrize('name', ['kernel', 'bias'])
@pytest.mark.parametrize('jitted', [True, False])
def test_a_gradient_that_would_broadcast(optimizer, name, jitted):
  params = {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}
  tx = optimizer(0.1)
  gradient = params | {name: params[name][:1]}
  update = jax.jit(tx.update) if jitted else tx.update
  with pytest.raises(ValueError, match=f"gradient '{name}' has shape"):
    update(gradient, tx.init(params), params)


@pytest.mark.parametrize(
  'arguments, error, message',
  [
    ({'coefficients': 'quintic'}, ValueError, "'quintic' is unknown"),
    ({'coefficients': (1.0,)}, ValueError, 'triplet'),
    ({'coefficients': (1.0,) * 6}, ValueError, 'two to five'),
    ({'preconditioning': 'none'}, ValueError, "'schatten'"),
    ({'coefficients': ()}, ValueError, 'triplet'),
    ({'coefficients': [(1, 2, 3), (1,)]}, ValueError, 'triplet'),
    ({'coefficients': (1.0, 2.0, float('nan'))}, ValueError, 'finite'),
    ({'steps': 0}, ValueError, 'steps'),
    ({'steps': 2.5}, ValueError, 'steps'),
    ({'x': jnp.ones(3)}, ValueError, r'\(3,\)'),
    ({'x': jnp.ones((3, 3), jnp.int32)}, TypeError, 'int32'),
  ],
)
def test_argument_of_newton_schulz_is_named(arguments, error, message):
  with pytest.raises(error, match=message):
    optax_namo.newton_schulz(**({'x': jnp.ones((2, 3))} | arguments))


@pytest.mark.parametrize('optimizer', _OPTIMIZERS)
@pytest.mark.parametrize(
  'name, value', [('b1', 0.999999999), ('b2', 1 - 1e-12), ('rms', 1e-40)]
)
def test_a_number_that_is_another_in_float32(optimizer, name, value):
  with pytest.raises(ValueError, match=f'{name} must be .* in float32'):
    optimizer(0.1, **{name: value})


def test_a_clamp_that_is_zero_in_float32():
  with pytest.raises(ValueError, match='1e-40, which is 0.0 in float32'):
    optax_namo.clamp_scale(1e-40)


@pytest.mark.parametrize('optimizer', _OPTIMIZERS)
def test_flags_take_booleans(optimizer):
  with pytest.raises(TypeError, match="nesterov must be True .*'False'"):
    optimizer(0.1, nesterov='False')
  with pytest.raises(TypeError, match='orthogonality must be'):
    optax_namo.record(orthogonality=1)


@pytest.mark.parametrize('shard_over', [5, (), ('data', 1)])
def test_names_of_mesh_axes(shard_over):
  with pytest.raises(TypeError, match='shard_over must be the name of a mesh'):
    optax_namo.namo(0.1, shard_over=shard_over)


def test_a_mesh_axis_that_is_named_twice():
  with pytest.raises(ValueError, match="'fsdp'.* names a mesh axis twice"):
    optax_namo.namo(0.1, shard_over=('fsdp', 'tensor', 'fsdp'))


@pytest.mark.parametrize(
  'numbers',
  [
    MuonDimensionNumbers(0.0, 1),
    optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (2.0, 2.0)),
    optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1.0, (2, 2)),
  ],
)
def test_axes_and_sizes_are_integers(numbers):
  tx = optax_namo.namo(
    0.1, weight_dimension_numbers={'dense': numbers, 'bias': None}
  )
  with pytest.raises(TypeError, match="'dense/kernel' .*are integers"):
    tx.init(_PARAMS)


@pytest.mark.parametrize(
  'numbers',
  [
    MuonDimensionNumbers(np.int64(0), np.array([1])),
    optax_namo.SplitMatrices(
      MuonDimensionNumbers(0, 1), np.int32(1), np.array([2, 2])
    ),
  ],
)
def test_integers_of_numpy_are_integers(numbers):
  tx = optax_namo.namo(
    0.1, weight_dimension_numbers={'dense': numbers, 'bias': None}
  )
  updates, _ = tx.update(_PARAMS, tx.init(_PARAMS), _PARAMS)
  chex.assert_trees_all_equal_shapes(updates, _PARAMS)


@pytest.mark.parametrize('missing', [None, optax.MaskedNode()])
def test_a_gradient_that_is_missing(missing):
  tx = optax_namo.namo(0.1)
  gradient = _PARAMS | {'bias': missing}
  with pytest.raises(ValueError, match='zeros where a parameter has no grad'):
    tx.update(gradient, tx.init(_PARAMS), _PARAMS)


@pytest.mark.parametrize('shape', [(1,), (4, 1)])
def test_a_state_of_another_vector(shape):
  """It would broadcast, and grow the state."""
  tx = optax_namo.namo(0.1)
  state = tx.init({'bias': jnp.ones(4)})
  other = {'bias': jnp.ones(shape)}
  with pytest.raises(ValueError, match=r"mu of shape \(4,\) at 'bias'"):
    tx.update(other, state, other)


@pytest.mark.parametrize('weight_decay', [0.0, 0.1])
def test_nothing_to_train_needs_no_parameters(weight_decay):
  tx = optax_namo.namo(
    0.1, weight_decay=weight_decay, adam_weight_decay=weight_decay
  )
  assert tx.update({}, tx.init({}))[0] == {}


def test_an_orthogonalizer_that_was_called():
  with pytest.raises(TypeError, match=r'functools.partial\(newton_schulz'):
    optax_namo.namo(0.1, orthogonalizer=optax_namo.newton_schulz(steps=3))


def test_a_state_of_the_other_rule():
  state = optax_namo.namo_d(0.1).init(_PARAMS)
  with pytest.raises(ValueError, match='chain of other stages.* with init'):
    optax_namo.namo(0.1).update(_PARAMS, state, _PARAMS)


def test_a_mask_that_the_state_is_made_without():
  made = lambda **mask: optax_namo.namo_d(0.1, decay='decoupled', **mask)
  state = made().init(_PARAMS)
  with pytest.raises(ValueError, match='chain of other stages.* with init'):
    made(weight_decay_mask=lambda p: p).update(_PARAMS, state, _PARAMS)


def test_a_record_that_the_state_is_made_without():
  schedule = optax.linear_schedule(0.1, 0.0, 10)
  before = optax_namo.namo(schedule)
  _, state = before.update(_PARAMS, before.init(_PARAMS), _PARAMS)
  tx = optax_namo.namo(schedule, record=True)
  with pytest.raises(ValueError, match='made without it') as error:
    tx.update(_PARAMS, state, _PARAMS)
  # What it says to do keeps moments and counts, those of schedules too.
  (mend,) = re.findall(r'(optax\.tree\.set.*)\.$', str(error.value))
  known = {'optax': optax, 'tx': tx, 'params': _PARAMS, 'state': state}
  found, _ = tx.update(_PARAMS, eval(mend, known), _PARAMS)
  expected, _ = before.update(_PARAMS, state, _PARAMS)
  chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize('rules', [{'kernel': None}, ['kernel'], [('a', 1, 2)]])
def test_rules_are_pairs(rules):
  with pytest.raises(TypeError, match='rules must be a list of pairs'):
    optax_namo.matrix_dimension_numbers(_PARAMS, rules=rules)


def test_a_rule_that_matches_nothing():
  rules = [('kernl', None)]
  with pytest.warns(UserWarning, match="nearest .* 'dense/kernel'"):
    optax_namo.matrix_dimension_numbers(_PARAMS, rules=rules)
  with pytest.raises(ValueError, match="nearest .* 'dense/kernel'"):
    optax_namo.matrix_dimension_numbers(_PARAMS, rules=rules, strict=True)


@pytest.mark.parametrize('dtype', ['float8_e4m3fn', 'float8_e5m2'])
def test_eight_bits(dtype):
  params = jax.tree.map(lambda x: x.astype(dtype), _PARAMS)
  tx = optax_namo.namo_d(0.1)
  updates, _ = tx.update(params, tx.init(params), params)
  chex.assert_trees_all_equal_dtypes(updates, params)
  with pytest.raises(TypeError, match='mu_dtype must be .* 16 bits or more'):
    optax_namo.namo_d(0.1, mu_dtype=dtype)


def test_a_container_that_takes_arrays_alone():
  params = hk.data_structures.to_immutable_dict(_PARAMS | {'bias': {}})
  dense = hk.data_structures.to_immutable_dict(_PARAMS['dense'])
  every = lambda tree: jax.tree.map(lambda _: MuonDimensionNumbers(), tree)
  for tx, tree in (
    (optax_namo.namo(0.1), params),
    (optax_namo.namo(0.1, weight_dimension_numbers=every), dense),
    (optax_namo.scale_by_namo(), dense),
  ):
    with pytest.raises(TypeError, match='to_mutable_dict'):
      tx.init(tree)


def test_no_infinity_arises():
  with jax.debug_infs(True):
    tx = optax_namo.namo_d(0.1, b1=0.0, b2=0.0, eps=0.0)
    still = jax.tree.map(jnp.zeros_like, _PARAMS)
    updates, _ = tx.update(still, tx.init(_PARAMS), _PARAMS)
  chex.assert_tree_all_finite(updates)


@pytest.mark.parametrize('weight_decay', [0.0, 0.1])
def test_a_decoupled_mask_is_checked_at_once(weight_decay):
  with pytest.raises(TypeError, match='weight_decay_mask must be'):
    optax_namo.namo(
      0.1, weight_decay=weight_decay, decay='decoupled', weight_decay_mask=5
    )


def test_what_is_no_number_at_all():
  with pytest.raises(ValueError, match=r'got nan\. '):
    optax_namo.namo(0.1, weight_decay=float('nan'), decay='decoupled')


@pytest.mark.parametrize('before, after', [(True, 'orthogonality')])
def test_another_record_than_the_states(before, after):
  state = optax_namo.namo(0.1, record=before).init(_PARAMS)
  tx = optax_namo.namo(0.1, record=after)
  with pytest.raises(ValueError, match='made without it'):
    tx.update(_PARAMS, state, _PARAMS)


def test_a_stage_of_no_function():
  with pytest.raises(TypeError, match='got 5'):
    optax_namo.stage(5)
