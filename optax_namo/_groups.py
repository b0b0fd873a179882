# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Two groups of leaves: the chain for the matrices, AdamW for the rest."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import optax

from optax_namo import _dimension_numbers as dims
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _momentum
from optax_namo import _precision
from optax_namo import _routing
from optax_namo import _sharding
from optax_namo import _stages


def routed(
  matrix_chain: Callable[[Any], optax.GradientTransformation],
  adamw: optax.GradientTransformation,
  weight_dimension_numbers: dims.WeightDimensionNumbers,
) -> optax.GradientTransformationExtraArgs:
  """The chain for the leaves with dimension numbers, AdamW for the others.

  Args:
    matrix_chain: From resolved dimension numbers to the chain. They are
      resolved on the full tree, once a call: inside ``optax.partition`` a
      router would not see a leaf's siblings.
    adamw: The transformation of the other leaves.
    weight_dimension_numbers: As in ``namo``.

  Returns:
    The transformation, computing in float32 or wider.
  """
  matrix_chain(None)  # Bad arguments fail here and not at the first init.
  if weight_dimension_numbers is None:
    weight_dimension_numbers = _routing.matrix_dimension_numbers

  def partition(tree):
    numbers = dims.resolve(weight_dimension_numbers, tree)
    labels = jax.tree.map(
      lambda _, spec: 'adamw' if spec is None else 'namo', tree, numbers
    )
    numbers = jax.tree.map(
      lambda _, spec: optax.MaskedNode() if spec is None else spec,
      tree,
      numbers,
    )
    return optax.partition(
      {'namo': matrix_chain(numbers), 'adamw': adamw}, labels
    )

  def init(params):
    return partition(params).init(params)

  def update(updates, state, params=None, **extra_args):
    return partition(updates).update(updates, state, params, **extra_args)

  return _precision.in_wide_precision(
    optax.GradientTransformationExtraArgs(init, update)
  )


def decays(
  decay: str, weight_decay: Any, mask: Any
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
  """The stage before ``apply_scale`` and the one after; one of them idles."""
  hyperparameters.choice('decay', decay, ('adaptive', 'decoupled'))
  if decay == 'adaptive':
    return _stages.add_adaptive_decay(weight_decay, mask), optax.identity()
  return optax.identity(), _decoupled_decay('weight_decay', weight_decay, mask)


def _decoupled_decay(
  name: str, weight_decay: Any, mask: Any = None
) -> optax.GradientTransformation:
  """AdamW's decay, which needs no parameters where it is concretely zero."""
  weight_decay = hyperparameters.number(name, weight_decay, '[0, inf)')
  if hyperparameters.is_zero(weight_decay):
    return optax.identity()
  decayed = optax.with_extra_args_support(
    optax.add_decayed_weights(weight_decay, mask)
  )

  def update(updates, state, params=None, **extra_args):
    _stages.require_params(params, name, weight_decay)
    return decayed.update(updates, state, params, **extra_args)

  return optax.GradientTransformationExtraArgs(decayed.init, update)


def adamw(
  learning_rate: Any,
  b1: Any,
  b2: Any,
  eps: Any,
  weight_decay: Any,
  mu_dtype: Any,
) -> optax.GradientTransformation:
  """``optax.adamw`` with checked, widened hyperparameters."""
  number = hyperparameters.number
  adam = optax.scale_by_adam(
    b1=number('adam_b1', b1, '[0, 1)'),
    b2=number('adam_b2', b2, '[0, 1)', _momentum.B2_ROUNDED_TO_ONE),
    eps=number('adam_eps', eps, '[0, inf)'),
    mu_dtype=mu_dtype,
  )

  def init(params):  # Moments are sharded as the parameters, under jit too.
    state = adam.init(params)
    sharded = functools.partial(jax.tree.map, _sharding.alike)
    return state._replace(
      mu=sharded(state.mu, params), nu=sharded(state.nu, params)
    )

  return optax.chain(
    optax.GradientTransformation(init, adam.update),
    _decoupled_decay('adam_weight_decay', weight_decay),
    optax.scale_by_learning_rate(learning_rate),
  )


def learning_rates(learning_rate: Any, adam_learning_rate: Any):
  """Both learning rates, checked; None for the second means the first."""
  if adam_learning_rate is None:
    adam_learning_rate = learning_rate
  check = hyperparameters.number_or_schedule
  return (
    check('learning_rate', learning_rate),
    check('adam_learning_rate', adam_learning_rate),
  )
