# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run is made of: presets, default learning rates, one frozen config."""

import dataclasses
import math
from typing import Any

from optax_namo.nanogpt import mesh as meshes

# Peak learning rates of the `char` preset; benchmarks/char_losses.yaml measures
# them. NAMO's scale is well below one for noisy gradients, hence its larger
# rates.
LEARNING_RATES = {
  'namo_d': 0.035,
  'namo': 0.035,
  'muon': 0.006,
  'adamw': 0.0042,
}
# Embeddings and vectors, which AdamW trains whatever the optimizer is.
ADAM_LEARNING_RATE = 0.003
# The fields of a config in which the runs of a comparison differ.
SWEPT = ('optimizer', 'learning_rate', 'adam_learning_rate', 'seed')


@dataclasses.dataclass(frozen=True)
class Preset:
  """Sizes of the model and of a run.

  Attributes:
    num_layers: Transformer blocks.
    num_heads: Attention heads a block.
    embed_dim: Width of the residual stream.
    block_size: Tokens in a sequence.
    batch_size: Sequences in a micro-batch.
    accumulate: Micro-batches in a step.
    steps: Optimizer steps.
    learning_rate_scale: Factor on all default learning rates.
    eval_every: Steps between two estimates of the validation loss.
    checkpoint_every: Steps between two checkpoints.
  """

  num_layers: int
  num_heads: int
  embed_dim: int
  block_size: int
  batch_size: int
  accumulate: int
  steps: int
  learning_rate_scale: float
  eval_every: int
  checkpoint_every: int


PRESETS = {
  # About three minutes on two CPU cores.
  'char': Preset(4, 4, 128, 128, 16, 1, 800, 1.0, 100, 100),
  # nanoGPT's config/train_gpt2.py: 12 sequences of 1024 tokens, 40 times a
  # step. Its AdamW rate, 6e-4, is a seventh of ours for `char`; the other
  # optimizers' rates are scaled alike and not tuned.
  'gpt2': Preset(12, 12, 768, 1024, 12, 40, 600_000, 1 / 7, 1000, 1000),
  # GPT-3's table 2.1 halves the rate from 125M to 350M parameters.
  'gpt2-medium': Preset(
    24, 16, 1024, 1024, 12, 40, 600_000, 1 / 14, 1000, 1000
  ),
}


@dataclasses.dataclass(frozen=True)
class Config:
  """One run of training; it determines every parameter of the result.

  Attributes:
    preset: Key of ``PRESETS``.
    data: See ``data.load``.
    tokenizer: 'char' or 'gpt2'.
    optimizer: 'namo_d', 'namo', 'muon' or 'adamw'.
    learning_rate: Peak learning rate of the matrices.
    adam_learning_rate: Peak learning rate of embeddings and vectors.
    weight_decay: Decay of the matrices.
    clamp: NAMO-D's c, or None for no clamp.
    columns: NAMO-D's columns, 'input' or 'output'.
    clip: Largest global gradient norm, or 0 for no clipping.
    steps: Optimizer steps.
    warmup_steps: Steps of linear warm-up from zero.
    decay_steps: Last steps, of linear decay to zero.
    batch_size: Sequences in a micro-batch.
    accumulate: Micro-batches in a step.
    dtype: Dtype of the model's computation, 'float32' or 'bfloat16'.
    seed: Seed of the initialization, the batches and the sample.
    eval_every: Steps between two estimates of the validation loss.
    checkpoint_every: Steps between two checkpoints.
    mesh: Axes of the mesh of devices, see ``mesh.parse``; '' is one device. It
      changes the result by rounding alone.
  """

  preset: str
  data: str
  tokenizer: str
  optimizer: str
  learning_rate: float
  adam_learning_rate: float
  weight_decay: float
  clamp: float | None
  columns: str
  clip: float
  steps: int
  warmup_steps: int
  decay_steps: int
  batch_size: int
  accumulate: int
  dtype: str
  seed: int
  eval_every: int
  checkpoint_every: int
  mesh: str = ''

  @property
  def sizes(self) -> Preset:
    return PRESETS[self.preset]


def make(**flags: Any) -> Config:
  """Fills what was not asked for with the defaults of preset and optimizer.

  Args:
    **flags: Fields of ``Config``; None means the default.

  Returns:
    The checked config.

  Raises:
    ValueError: A field is out of range.
  """
  preset, optimizer = flags['preset'], flags['optimizer']
  for name, value, known in (
    ('preset', preset, PRESETS),
    ('optimizer', optimizer, LEARNING_RATES),
  ):
    if value not in known:
      raise ValueError(f'{name} must be one of {list(known)}, got {value!r}.')
  sizes = PRESETS[preset]
  given = {name: value for name, value in flags.items() if value is not None}
  steps = given.get('steps', sizes.steps)
  defaults = {
    'clamp': None,
    'learning_rate': LEARNING_RATES[optimizer] * sizes.learning_rate_scale,
    'adam_learning_rate': ADAM_LEARNING_RATE * sizes.learning_rate_scale,
    'steps': steps,
    # A twentieth, and at most the paper's 2000 steps.
    'warmup_steps': min(steps // 20, 2000),
    'decay_steps': steps // 3,
    'batch_size': sizes.batch_size,
    'accumulate': sizes.accumulate,
    'eval_every': sizes.eval_every,
    'checkpoint_every': sizes.checkpoint_every,
  }
  config = Config(**(defaults | given))
  for name in (
    'steps',
    'batch_size',
    'accumulate',
    'eval_every',
    'checkpoint_every',
  ):
    if getattr(config, name) < 1:
      raise ValueError(
        f'{name} must be at least 1, got {getattr(config, name)}.'
      )
  for name in ('warmup_steps', 'decay_steps', 'clip', 'seed'):
    if getattr(config, name) < 0:
      raise ValueError(
        f'{name} must be at least 0, got {getattr(config, name)}.'
      )
  if config.warmup_steps + config.decay_steps > config.steps:
    raise ValueError(
      f'warmup_steps={config.warmup_steps} and decay_steps='
      f'{config.decay_steps} do not fit into steps={config.steps}.'
    )
  devices = math.prod(meshes.parse(config.mesh).values())
  if config.batch_size % devices:
    raise ValueError(
      f'batch_size={config.batch_size} is not a multiple of the {devices}'
      f' devices of mesh={config.mesh!r}, which share it: make it one.'
    )
  return config


def changes(before: dict[str, Any], config: Config) -> dict[str, str]:
  """What differs between a config read from a file and another.

  Args:
    before: The fields read.
    config: The config now.

  Returns:
    A line for the user by the name of each field that differs.
  """
  before = {'mesh': Config.mesh} | before  # Old files do not have it.
  now = dataclasses.asdict(config)
  return {
    name: f'--{name} was {before.get(name)!r} and is now {now.get(name)!r}'
    for name in sorted(now.keys() | before.keys())
    if now.get(name) != before.get(name)
  }
