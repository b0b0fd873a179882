# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains a nanoGPT in Flax NNX with NAMO-D, NAMO, Muon or AdamW.

  python -m optax_namo.nanogpt --optimizer=namo --steps=400 --out=out/short

leaves in OUT

  run.md           what was run and what came of it, with loss.png, sample.txt
  metrics.jsonl    losses, rates and the optimizer's diagnostics, a row a step
  config.json      every knob
  checkpoints/     the newest few

Ctrl-C leaves a checkpoint: the same command with --resume goes on from there.
"""

import contextlib
import errno
import os
import shlex
import signal
import sys
from typing import Any

from absl import app
from absl import flags
import jax
from jax.experimental import multihost_utils

from optax_namo.nanogpt import command
from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import interrupts
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import summary
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import define_flags
from optax_namo.nanogpt.config import flag_values
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.mesh import device
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer

define_flags()
# --help has a heading for each group of flags.
_RUN: Any = {'module_name': 'run'}
_OUT = flags.DEFINE_string(
  'out', None, 'Folder of the run; default: out/PRESET-OPTIMIZER.', **_RUN
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'Go on from the newest whole checkpoint in --out.', **_RUN
)
_TENSORBOARD = flags.DEFINE_bool(
  'tensorboard', False, 'Write the metrics to OUT/tensorboard as well.', **_RUN
)
_SHOW_ROUTING = flags.DEFINE_bool(
  'show_routing',
  False,
  "Print where the model's parameters go, and stop.",
  **_RUN,
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'This is one of several processes, started by SLURM or on a TPU pod, which'
  ' share --mesh and the folder --out.',
  module_name='devices',
)
# A full disk, a quota, a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  held = contextlib.ExitStack()  # To the end of the process.
  with command.told():
    if _DISTRIBUTED.value:
      _join()
    config = make_config(**flag_values())
    out = files.typed(_OUT.value or f'out/{config.preset}-{config.optimizer}')
    corpus = data.load(
      config.data,
      tokenizer=config.tokenizer,
      block_size=config.sizes.block_size,
    )
    # Bad hyperparameters and sizes fail here, before there is a folder.
    make_optimizer(config)
    model = train.model_config(config, corpus.vocab_size)
    if _SHOW_ROUTING.value:
      print(train.routing(config, model))
      return
    make_mesh(config.mesh)  # Too few devices fail here.
    held.enter_context(run_folder.held(out))
    notes = run_folder.claim(out, config, _RESUME.value)
    where = f'into {out}'
    if _RESUME.value and run_folder.newest_step(out) is None:
      where += ', from step 0: --resume found no checkpoint there'
    notes.append(
      f'{OPTIMIZERS[config.optimizer].label} on {corpus.name}, preset'
      f' {config.preset}: {config.steps} steps on {device()}, {where}.'
    )
    if jax.process_index() == 0:
      print(*notes, sep='\n', flush=True)
  if _DISTRIBUTED.value:
    # jax listens for SIGTERM, and finds a step that no process is beyond.
    listening: Any = contextlib.nullcontext([signal.SIGTERM])
  else:
    listening = interrupts.noted()
  with listening as seen:
    stop = lambda step: bool(seen)
    if _DISTRIBUTED.value:
      stop = multihost_utils.reached_preemption_sync_point
    try:
      train.run(config, corpus, out, _RESUME.value, _TENSORBOARD.value, stop)
    except train.Stopped as stopped:
      if jax.process_index() == 0:
        print(_how_to_go_on(stopped.step, config.steps))
      sys.exit(128 + seen[0])  # As a shell counts an end by a signal.
    except train.Diverged as error:
      left = run_folder.what_is_left(out)
      sys.exit(f'error: {error}. {left} {summary.MEND}')
    except BrokenPipeError:  # For ``command.run``.
      raise
    except OSError as error:
      # It may be wrapped, or TensorStore's: its words tell.
      full = any(os.strerror(code) in str(error) for code in _FULL)
      go_on = f'{"Make room: " if full else ""}--resume goes on.'
      sys.exit(f'error: {error}\n{run_folder.what_is_left(out)} {go_on}')
    except run_folder.RestoreError as error:
      sys.exit(f'error: {error}')


def _how_to_go_on(step: int, steps: int) -> str:
  """With the command as it was typed."""
  again = [*sys.orig_argv, *([] if _RESUME.value else ['--resume'])]
  return (
    f'Stopped after step {step} of {steps}; its checkpoint is whole. To go on:'
    f'\n\n  {shlex.join(again)}'
  )


def _join() -> None:
  try:
    jax.distributed.initialize()
  except (ValueError, RuntimeError) as error:
    raise ValueError(
      f'--distributed: {error} Start every process by srun, or on a TPU pod; a'
      ' single process goes without this flag.'
    ) from error


if __name__ == '__main__':
  command.run(main, __doc__)
