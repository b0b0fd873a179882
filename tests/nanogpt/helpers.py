# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests of the nanoGPT example share: a model and prompts."""

import dataclasses
import pathlib
import sys

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import Preset

# A model and a text small enough to train in a test.
TINY = Preset(
  num_layers=1,
  num_heads=2,
  embed_dim=16,
  block_size=16,
  batch_size=8,
  accumulate=1,
  steps=30,
  learning_rate_scale=1.0,
  eval_every=10,
  checkpoint_every=10,
)
TEXT = 'the quick brown fox jumps over the lazy dog. ' * 40


def config(**changes) -> Config:
  """A run of the tiny preset; the flags' defaults but for ``changes``."""
  return make_config(**({'preset': 'tiny', 'data': 'rhyme.txt'} | changes))


CONFIG = gpt.GPTConfig(
  vocab_size=23, block_size=8, num_layers=1, num_heads=2, embed_dim=16
)
# One compilation per shape, rather than one per operation and shape.
logits = nnx.jit(lambda model, tokens: model(tokens))


def build(**changes) -> gpt.GPT:
  fields = {**vars(CONFIG), **changes}
  return gpt.GPT(gpt.GPTConfig(**fields), rngs=nnx.Rngs(0))


def shake(model: gpt.GPT) -> gpt.GPT:
  """Moves the blocks away from initialization, where they do very little."""
  rng = np.random.default_rng(0)
  for path, leaf in nnx.to_flat_state(nnx.state(model.blocks, nnx.Param)):
    stddev = 0.2 if path[-1] == 'kernel' else 0.5
    leaf[...] += jnp.asarray(rng.normal(0, stddev, leaf.shape), jnp.float32)
  return model


def tokens(batch: int = 3, time: int = 8, seed: int = 1) -> jax.Array:
  rng = np.random.default_rng(seed)
  ids = rng.integers(CONFIG.vocab_size, size=(batch, time))
  return jnp.asarray(ids, jnp.int32)


# A module of the example with the tiny preset, and what is to go wrong.
_COMMAND = """
import pathlib, runpy
from optax_namo.nanogpt import config

config.PRESETS['tiny'] = config.Preset(**{fields})
folder = pathlib.Path({run!r}, 'checkpoints')
{sabotage}
runpy.run_module({module!r}, run_name='__main__')
"""
# It ends itself by SIGKILL as soon as it sees that a second checkpoint is being
# written.
KILL_WHILE_SAVING = """
import os, signal, threading

def kill():
  while True:
    names = os.listdir(folder) if folder.is_dir() else []
    if any(map(str.isdecimal, names)) and any('tmp' in n for n in names):
      os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
"""
# After the first checkpoint, of step 10, no file can grow beyond 10 kB: the
# metrics fit, a second checkpoint does not.
FULL_DISK = """
import resource
from optax_namo.nanogpt import data
make_batch = data.batch

def batch(*args, step, **kwargs):
  if step == 12:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, -1))
  return make_batch(*args, step=step, **kwargs)

data.batch = batch
"""


def process(
  module: str,
  flags: dict[str, object],
  *,
  sabotage: str = '',
  run: pathlib.Path | str = '',
) -> list[str]:
  """The process that runs a module; the sabotage is of the run in a folder."""
  script = _COMMAND.format(
    fields=dataclasses.asdict(TINY),
    run=str(run),
    sabotage=sabotage,
    module=module,
  )
  arguments = [f'--{name}={value}' for name, value in flags.items()]
  return [sys.executable, '-c', script, *arguments]


def command(
  out: pathlib.Path, config: Config, *, sabotage: str = ''
) -> list[str]:
  """The process that trains ``config`` with the tiny preset into ``out``."""
  flags = dataclasses.asdict(config) | {'out': out}
  return process('optax_namo.nanogpt', flags, sabotage=sabotage, run=out)
