# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizers to compare, alike in all but the rule of the matrices.

In each, the same leaves are matrices, and AdamW trains the rest with the same
learning rate, decay rates and epsilon. Muon is NAMO but for the scale, which is
fixed at one; optax's own Muon stands beside it.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import muon as optax_muon

from optax_namo import adaptive_momentum
from optax_namo import add_adaptive_decay
from optax_namo import apply_scale
from optax_namo import Factored
from optax_namo import matrix_dimension_numbers
from optax_namo import namo
from optax_namo import namo_d
from optax_namo import newton_schulz
from optax_namo import orthogonalize
from optax_namo import record
from optax_namo import scale_by_shape
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.mesh import mesh_axes

# The AdamW group of the NAMO reference code, and namo's default.
_ADAM_DECAY_RATES = (0.9, 0.95)


def schedule(config: Config, peak: float) -> optax.Schedule:
  """Warm-up, stable, decay: linear from 0, constant, linear to 0."""
  stable = config.steps - config.warmup_steps - config.decay_steps
  return optax.join_schedules(
    [
      # Step 0 already moves: the first of w steps has the rate peak / w.
      optax.linear_schedule(
        peak / max(config.warmup_steps, 1), peak, config.warmup_steps - 1
      ),
      optax.constant_schedule(peak),
      optax.linear_schedule(peak, 0.0, config.decay_steps),
    ],
    [config.warmup_steps, config.warmup_steps + stable],
  )


def make_optimizer(config: Config) -> optax.GradientTransformationExtraArgs:
  """Gradient clipping and the optimizer that the config names."""
  rate = schedule(config, config.learning_rate)
  adam_rate = schedule(config, config.adam_learning_rate)
  adam_b1, adam_b2 = _ADAM_DECAY_RATES
  orthogonalizer = functools.partial(
    newton_schulz,
    steps=config.ns_steps,
    coefficients=config.ns_coefficients,
    preconditioning=config.preconditioning,
  )
  shard_over = 'fsdp' if 'fsdp' in mesh_axes(config.mesh) else None
  shared: dict[str, Any] = {
    'b1': config.b1,
    'b2': config.b2,
    'weight_decay': config.weight_decay,
    'nesterov': config.nesterov,
    'decay': config.decay,
    'shape_scale': config.shape_scale,
    'orthogonalizer': orthogonalizer,
    'adam_learning_rate': adam_rate,
    'adam_b1': adam_b1,
    'adam_b2': adam_b2,
    'record': True,  # For the log.
    'shard_over': shard_over,
  }
  # The rest under the others, which have no such group or, in optax's Muon, one
  # with Nesterov momentum.
  adamw = optax.adamw(adam_rate, b1=adam_b1, b2=adam_b2, weight_decay=0.0)
  match config.optimizer:
    case 'namo_d':
      clamp = config.clamp or None
      tx = namo_d(rate, clamp=clamp, columns=config.columns, **shared)
    case 'namo':
      tx = namo(rate, **shared)
    case 'muon':
      matrices = optax.chain(
        adaptive_momentum(config.b1, config.b2, nesterov=config.nesterov),
        _scale_of_one(),
        orthogonalize(orthogonalizer, shard_over=shard_over),
        scale_by_shape(config.shape_scale),
        # Both decays are this one, where the scale is one.
        add_adaptive_decay(config.weight_decay),
        record(),
        apply_scale(),
        optax.scale_by_learning_rate(rate),
      )
      tx = optax.partition({'matrix': matrices, 'rest': adamw}, _labels)
    case 'optax_muon':
      # The shape scale of the others: Moonlight's 0.2 sqrt(max(m, n)).
      matrices = optax_muon(
        rate,
        beta=config.b1,
        nesterov=config.nesterov,
        ns_steps=config.ns_steps,
        weight_decay=config.weight_decay,
        consistent_rms=0.2,
      )
      tx = optax.partition({'matrix': matrices, 'rest': adamw}, _labels)
    case 'adamw':
      matrices = optax.adamw(
        rate, b1=adam_b1, b2=adam_b2, weight_decay=config.weight_decay
      )
      tx = optax.partition({'matrix': matrices, 'rest': adamw}, _labels)
  if config.clip:
    return optax.chain(optax.clip_by_global_norm(config.clip), tx)
  return tx


def _scale_of_one() -> optax.GradientTransformation:
  """Muon: every matrix moves as far as any other, whatever its noise."""

  def fixed(u):
    one = jnp.ones_like(u.scale)
    return dataclasses.replace(
      u, scale=one, seen=u.seen._replace(unclamped_scale=one)
    )

  return optax.stateless(
    lambda updates, params: jax.tree.map(
      fixed, updates, is_leaf=lambda x: isinstance(x, Factored)
    )
  )


def _labels(params: Any) -> Any:
  numbers = matrix_dimension_numbers(params)
  return jax.tree.map(
    lambda _, spec: 'rest' if spec is None else 'matrix', params, numbers
  )
