# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Command-line flags of a run, but for those that a comparison sweeps."""

from collections.abc import Iterable
import dataclasses
from typing import Any

from absl import flags

from optax_namo.nanogpt import config as configs

DEFAULT = 'default: of the preset'

flags.DEFINE_enum('preset', 'char', configs.PRESETS, 'Sizes of model and run.')
flags.DEFINE_string(
  'data',
  'sotu',
  "'sotu' (State of the Union addresses), 'shakespeare' (a download), a .txt"
  " file, or a folder with nanoGPT's train.bin and val.bin.",
)
flags.DEFINE_enum('tokenizer', 'char', ['char', 'gpt2'], 'Tokens of the text.')
flags.DEFINE_float('weight_decay', 0.01, 'Decay of the matrices.')
flags.DEFINE_float('clamp', 0.75, "NAMO-D's c, in (0, 1]; 0 means no clamp.")
flags.DEFINE_enum(
  'columns', 'input', ['input', 'output'], 'What a NAMO-D scale belongs to.'
)
flags.DEFINE_float('clip', 1.0, 'Largest gradient norm; 0 means no clipping.')
flags.DEFINE_integer('steps', None, f'Optimizer steps; {DEFAULT}.')
flags.DEFINE_integer(
  'warmup_steps', None, 'Steps of warm-up; default: a twentieth, at most 2000.'
)
flags.DEFINE_integer(
  'decay_steps', None, 'Last steps, of decay to 0; default: a third.'
)
flags.DEFINE_integer('batch_size', None, f'Sequences at a time; {DEFAULT}.')
flags.DEFINE_integer(
  'accumulate', None, f'Batches whose gradients make a step; {DEFAULT}.'
)
flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], "The model's computation."
)
flags.DEFINE_integer(
  'eval_every', None, f'Steps between validation losses; {DEFAULT}.'
)
flags.DEFINE_integer(
  'checkpoint_every', None, f'Steps between checkpoints; {DEFAULT}.'
)
flags.DEFINE_string(
  'mesh',
  '',
  "Devices to share the work, as in 'fsdp:8' or 'data:2,fsdp:4': both split the"
  ' batch, fsdp the parameters and the optimizer as well; default: one device.',
)

NAMES = tuple(
  field.name
  for field in dataclasses.fields(configs.Config)
  if field.name not in configs.SWEPT
)


def values(names: Iterable[str] = NAMES) -> dict[str, Any]:
  """The flags' values, None where one was not given and has no default."""
  found = {name: flags.FLAGS[name].value for name in names}
  if 'clamp' in found:
    found['clamp'] = found['clamp'] or None
  return found
