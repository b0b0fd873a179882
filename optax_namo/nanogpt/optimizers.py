# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizers to compare, alike in all but the rule of the matrices.

In each, the same leaves are matrices, and AdamW trains the rest with the same
learning rate, decay rates and epsilon. Muon is NAMO but for the scale, which is
fixed at one; optax's own Muon stands beside it.
"""

from __future__ import annotations  # Config's module needs this one.

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple, TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax
from optax.contrib import muon as optax_muon

from optax_namo import adaptive_momentum
from optax_namo import add_adaptive_decay
from optax_namo import apply_scale
from optax_namo import matrix_dimension_numbers
from optax_namo import namo
from optax_namo import namo_d
from optax_namo import newton_schulz
from optax_namo import orthogonalize
from optax_namo import record
from optax_namo import routed
from optax_namo import scale_by_shape
from optax_namo import stage
from optax_namo.nanogpt.mesh import mesh_axes

if TYPE_CHECKING:
  from optax_namo.nanogpt.config import Config

# The AdamW group of the NAMO reference code, and namo's default.
_ADAM = {'b1': 0.9, 'b2': 0.95}


class Shared(NamedTuple):
  """What the optimizers have in common, made of a config."""

  rate: optax.Schedule  # Of the matrices.
  adam_rate: optax.Schedule
  orthogonalizer: Callable[[jax.Array], jax.Array]
  shard_over: str | None
  numbers: Any  # Dimension numbers of the parameters; None: by names.

  @property
  def adamw(self) -> optax.GradientTransformation:
    """The rest, as namo and namo_d train it."""
    return optax.adamw(self.adam_rate, **_ADAM, weight_decay=0.0)


class Optimizer(NamedTuple):
  """An optimizer to choose."""

  label: str  # In tables and figures.
  learning_rate: float  # Peak rate of the matrices in the `char` preset.
  build: Callable[[Config, Shared], optax.GradientTransformation]


def _namo_options(config: Config, shared: Shared) -> dict[str, Any]:
  return {
    'learning_rate': shared.rate,
    'b1': config.b1,
    'b2': config.b2,
    'weight_decay': config.weight_decay,
    'nesterov': config.nesterov,
    'decay': config.decay,
    'shape_scale': config.shape_scale,
    'orthogonalizer': shared.orthogonalizer,
    'adam_learning_rate': shared.adam_rate,
    'adam_b1': _ADAM['b1'],
    'adam_b2': _ADAM['b2'],
    'record': True,  # For the log.
    'shard_over': shared.shard_over,
    'weight_dimension_numbers': shared.numbers,
  }


def _namo_d(config, shared):
  return namo_d(
    **_namo_options(config, shared),
    clamp=config.clamp or None,
    columns=config.columns,
  )


def _namo(config, shared):
  return namo(**_namo_options(config, shared))


def _muon(config, shared):
  matrices = optax.chain(
    adaptive_momentum(config.b1, config.b2, nesterov=config.nesterov),
    stage(_scale_of_one),
    orthogonalize(shared.orthogonalizer, shard_over=shared.shard_over),
    scale_by_shape(config.shape_scale),
    # Both decays are this one, where the scale is one.
    add_adaptive_decay(config.weight_decay),
    record(),
    apply_scale(),
    optax.scale_by_learning_rate(shared.rate),
  )
  return routed(matrices, shared.adamw, shared.numbers)


def _scale_of_one(u, _):
  """Muon: every matrix moves as far as any other, whatever its noise."""
  one = jnp.ones_like(u.scale)
  seen = u.seen._replace(unclamped_scale=one)
  return dataclasses.replace(u, scale=one, seen=seen)


def _optax_muon(config, shared):
  # The shape scale of the others: Moonlight's 0.2 sqrt(max(m, n)).
  matrices = optax_muon(
    shared.rate,
    beta=config.b1,
    nesterov=config.nesterov,
    ns_steps=config.ns_steps,
    weight_decay=config.weight_decay,
    consistent_rms=0.2,
  )
  return _partition(matrices, shared)


def _adamw(config, shared):
  matrices = optax.adamw(shared.rate, **_ADAM, weight_decay=config.weight_decay)
  return _partition(matrices, shared)


def _partition(matrices, shared):
  """Of whole optimizers: the chain in ``routed`` is of stages."""

  def labels(params):
    numbers = shared.numbers
    if numbers is None:
      numbers = matrix_dimension_numbers(params)
    return jax.tree.map(
      lambda _, spec: 'rest' if spec is None else 'matrix', params, numbers
    )

  return optax.partition({'matrix': matrices, 'rest': shared.adamw}, labels)


# benchmarks/char_losses.yaml measures the rates, Muon's that of optax, which is
# the same rule. NAMO's scale is well below one for noisy gradients, hence its
# larger rates.
OPTIMIZERS = {
  'namo_d': Optimizer('NAMO-D', 0.035, _namo_d),
  'namo': Optimizer('NAMO', 0.035, _namo),
  'muon': Optimizer('Muon', 0.006, _muon),
  'adamw': Optimizer('AdamW', 0.0042, _adamw),
  'optax_muon': Optimizer('Muon (optax)', 0.006, _optax_muon),
}


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


def make_optimizer(
  config: Config, numbers: Any = None
) -> optax.GradientTransformationExtraArgs:
  """Gradient clipping and the optimizer that the config names.

  Args:
    config: The run.
    numbers: Dimension numbers of the parameters; None means by names.
  """
  shared = Shared(
    rate=schedule(config, config.learning_rate),
    adam_rate=schedule(config, config.adam_learning_rate),
    orthogonalizer=functools.partial(
      newton_schulz,
      steps=config.ns_steps,
      coefficients=config.ns_coefficients,
      preconditioning=config.preconditioning,
    ),
    shard_over='fsdp' if 'fsdp' in mesh_axes(config.mesh) else None,
    numbers=numbers,
  )
  tx = OPTIMIZERS[config.optimizer].build(config, shared)
  if config.clip:
    return optax.chain(optax.clip_by_global_norm(config.clip), tx)
  return optax.with_extra_args_support(tx)
