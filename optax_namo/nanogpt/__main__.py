# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m optax_namo.nanogpt``: flags, turned into a frozen config."""

import dataclasses
import pathlib
import sys

from absl import app
from absl import flags
from absl import logging

from optax_namo.nanogpt import config as configs
from optax_namo.nanogpt import data
from optax_namo.nanogpt import optimizers
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train

_DEFAULT = 'default: of the preset'

flags.DEFINE_enum('preset', 'char', configs.PRESETS, 'Sizes of model and run.')
flags.DEFINE_string(
  'data',
  'sotu',
  "'sotu' (State of the Union addresses), 'shakespeare' (a download), a .txt"
  " file, or a folder with nanoGPT's train.bin and val.bin.",
)
flags.DEFINE_enum('tokenizer', 'char', ['char', 'gpt2'], 'Tokens of the text.')
flags.DEFINE_enum(
  'optimizer',
  'namo_d',
  configs.LEARNING_RATES,
  'Optimizer of the matrices; AdamW trains the rest.',
)
flags.DEFINE_float(
  'learning_rate', None, "Peak rate of the matrices; default: the optimizer's."
)
flags.DEFINE_float(
  'adam_learning_rate',
  None,
  f'Peak rate of embeddings and vectors; {_DEFAULT}.',
)
flags.DEFINE_float('weight_decay', 0.01, 'Decay of the matrices.')
flags.DEFINE_float('clamp', 0.75, "NAMO-D's c, in (0, 1]; 0 means no clamp.")
flags.DEFINE_enum(
  'columns', 'input', ['input', 'output'], 'What a NAMO-D scale belongs to.'
)
flags.DEFINE_float('clip', 1.0, 'Largest gradient norm; 0 means no clipping.')
flags.DEFINE_integer('steps', None, f'Optimizer steps; {_DEFAULT}.')
flags.DEFINE_integer(
  'warmup_steps', None, 'Steps of warm-up; default: a twentieth, at most 2000.'
)
flags.DEFINE_integer(
  'decay_steps', None, 'Last steps, of decay to 0; default: a third.'
)
flags.DEFINE_integer('batch_size', None, f'Sequences at a time; {_DEFAULT}.')
flags.DEFINE_integer(
  'accumulate', None, f'Batches whose gradients make a step; {_DEFAULT}.'
)
flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], "The model's computation."
)
flags.DEFINE_integer('seed', 0, 'Of initialization, batches and sample.')
flags.DEFINE_integer(
  'eval_every', None, f'Steps between validation losses; {_DEFAULT}.'
)
flags.DEFINE_integer(
  'checkpoint_every', None, f'Steps between checkpoints; {_DEFAULT}.'
)
_OUT = flags.DEFINE_string(
  'out', None, 'Folder of the run; default: out/PRESET-OPTIMIZER.'
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'Go on from the newest whole checkpoint in --out.'
)

_SHOW_ROUTING = flags.DEFINE_bool(
  'show_routing', False, "Print where the model's parameters go, and stop."
)


def main(argv: list[str]) -> None:
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax narrates at INFO.
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  names = [field.name for field in dataclasses.fields(configs.Config)]
  values = {name: flags.FLAGS[name].value for name in names}
  values['clamp'] = values['clamp'] or None
  try:
    config = configs.make(**values)
    out = pathlib.Path(_OUT.value or f'out/{config.preset}-{config.optimizer}')
    corpus = data.load(
      config.data,
      tokenizer=config.tokenizer,
      block_size=config.sizes.block_size,
    )
    optimizers.make(config)  # Bad hyperparameters fail here.
    if _SHOW_ROUTING.value:
      model = train.model_config(config, corpus.vocab_size)
      print(train.routing(config, model))
      return
    for note in run_folder.claim(out, config, _RESUME.value):
      print(note)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  try:
    train.run(config, corpus, out, _RESUME.value)
  except OSError as error:  # A full disk, say.
    sys.exit(f'error: {error}\n{run_folder.what_is_left(out)}')


if __name__ == '__main__':
  app.run(main)
