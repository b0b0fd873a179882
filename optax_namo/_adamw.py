# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""AdamW for what is no matrix, and the two of its stages that matrices share.

``optax.adamw``'s own stages, with hyperparameters checked and widened.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _stages
from optax_namo._layout import sharding
from optax_namo._layout import trees


def adamw(
  learning_rate: Any,
  b1: Any,
  b2: Any,
  eps: Any,
  weight_decay: Any,
  weight_decay_mask: Any,
  mu_dtype: Any,
) -> optax.GradientTransformation:
  """``optax.adamw``; errors name the arguments of ``namo`` and ``namo_d``."""
  return optax.chain(
    _scale_by_adam(b1, b2, eps, mu_dtype),
    decoupled_decay('adam_weight_decay', weight_decay, weight_decay_mask),
    by_learning_rate('adam_learning_rate', learning_rate),
  )


def _scale_by_adam(
  b1: Any, b2: Any, eps: Any, mu_dtype: Any
) -> optax.GradientTransformation:
  number = hyperparameters.number
  adam = optax.scale_by_adam(
    b1=number('adam_b1', b1, '[0, 1)'),
    b2=number('adam_b2', b2, '[0, 1)', hyperparameters.ROUNDED_TO_ONE),
    eps=number('adam_eps', eps, '[0, inf)'),
    mu_dtype=hyperparameters.floating_dtype('mu_dtype', mu_dtype),
  )

  def init(params):  # Moments are sharded as the parameters, under jit too.
    zeros = lambda dtype: jax.tree.map(
      functools.partial(sharding.zeros_like, dtype=dtype), params
    )
    return optax.ScaleByAdamState(
      count=jnp.zeros([], jnp.int32), mu=zeros(mu_dtype), nu=zeros(None)
    )

  def update(updates, state, params=None):
    shapes = [x.shape for x in jax.tree.leaves(updates)]
    mend = ' Make a new state with init, or give the parameters it was made of.'
    trees.check_kept('mu', state.mu, shapes, mend)
    trees.check_kept('nu', state.nu, shapes, mend)
    return adam.update(updates, state, params)

  return optax.GradientTransformation(init, update)


def decoupled_decay(
  name: str, weight_decay: Any, mask: Any = None
) -> optax.GradientTransformation:
  """AdamW's decay, which needs no parameters where it is concretely zero.

  ``name`` is the argument's, for errors; ``routed`` resolves the mask. The
  state is that of ``optax.add_decayed_weights``.
  """
  weight_decay = hyperparameters.number_or_schedule(
    name, weight_decay, '[0, inf)'
  )
  trees.check_mask(mask)
  if hyperparameters.is_zero(weight_decay):
    return optax.identity()
  decay = optax.add_decayed_weights(weight_decay)

  def update(updates, state, params=None, *, resolve_mask, **extra):
    del extra
    _stages.require_params(params, updates, name, weight_decay)
    if params is None:  # Nor are there updates.
      return updates, state
    new, state = decay.update(updates, state, params)
    if mask is not None:
      new = trees.where(resolve_mask(mask), new, updates)
    return new, state

  return optax.GradientTransformationExtraArgs(decay.init, update)


def by_learning_rate(name: str, value: Any) -> optax.GradientTransformation:
  """``optax.scale_by_learning_rate`` of a checked, widened rate."""
  return optax.scale_by_learning_rate(
    hyperparameters.number_or_schedule(name, value, '(-inf, inf)')
  )
