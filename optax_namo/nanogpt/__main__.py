# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m optax_namo.nanogpt``: flags, turned into a frozen config."""

import pathlib
import sys

from absl import app
from absl import flags
from absl import logging
import jax

from optax_namo.nanogpt import config as configs
from optax_namo.nanogpt import data
from optax_namo.nanogpt import mesh as meshes
from optax_namo.nanogpt import optimizers
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt import train_flags

flags.adopt_module_key_flags(train_flags)
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
  f'Peak rate of embeddings and vectors; {train_flags.DEFAULT}.',
)
flags.DEFINE_integer('seed', 0, 'Of initialization, batches and sample.')
_OUT = flags.DEFINE_string(
  'out', None, 'Folder of the run; default: out/PRESET-OPTIMIZER.'
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'Go on from the newest whole checkpoint in --out.'
)
_TENSORBOARD = flags.DEFINE_bool(
  'tensorboard', False, 'Write the metrics to OUT/tensorboard as well.'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'This is one of several processes, started by SLURM or on a TPU pod, which'
  ' share --mesh and the folder --out.',
)
_SHOW_ROUTING = flags.DEFINE_bool(
  'show_routing', False, "Print where the model's parameters go, and stop."
)


def main(argv: list[str]) -> None:
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax narrates at INFO.
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    if _DISTRIBUTED.value:
      _join()
    config = configs.make(
      **train_flags.values(),
      **train_flags.values(configs.SWEPT),
    )
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
    meshes.make(config.mesh)  # Too few devices fail here.
    for note in run_folder.claim(out, config, _RESUME.value):
      if jax.process_index() == 0:
        print(note)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  try:
    train.run(config, corpus, out, _RESUME.value, _TENSORBOARD.value)
  except OSError as error:  # A full disk, say.
    sys.exit(f'error: {error}\n{run_folder.what_is_left(out)}')


def _join() -> None:
  try:
    jax.distributed.initialize()
  except (ValueError, RuntimeError) as error:
    raise ValueError(
      f'--distributed: {error} Start every process by srun, or on a TPU pod; a'
      ' single process goes without this flag.'
    ) from error


if __name__ == '__main__':
  app.run(main)
