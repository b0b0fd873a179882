# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m optax_namo.nanogpt``: flags, turned into a frozen config."""

import pathlib
import sys

from absl import app
from absl import flags
from absl import logging
import jax

from optax_namo.nanogpt import data
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import define_flags
from optax_namo.nanogpt.config import flag_values
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer

define_flags()
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
    config = make_config(**flag_values())
    out = pathlib.Path(_OUT.value or f'out/{config.preset}-{config.optimizer}')
    corpus = data.load(
      config.data,
      tokenizer=config.tokenizer,
      block_size=config.sizes.block_size,
    )
    make_optimizer(config)  # Bad hyperparameters fail here.
    if _SHOW_ROUTING.value:
      model = train.model_config(config, corpus.vocab_size)
      print(train.routing(config, model))
      return
    make_mesh(config.mesh)  # Too few devices fail here.
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
