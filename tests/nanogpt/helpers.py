# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests of the nanoGPT example share: a model and prompts."""

import dataclasses
import os
import pathlib
import subprocess
import sys

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo.nanogpt import metrics
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
  eval_sequences=160,
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
# It ends itself by SIGKILL within the saving of a second checkpoint, that of
# step 20: before its arrays are written, or after it, before it counts.
KILL_BEFORE_ARRAYS, KILL_AFTER_ARRAYS = (
  f"""
import os, signal, sys

def kill(event, args):
  if event == {event!r}:
    inside = os.path.relpath(args[0], folder).split(os.sep)[1:]
    if inside and str(args[0]).startswith(str(folder / '20.')):
      os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
"""
  for event in ('os.mkdir', 'os.rename')
)
# After the first checkpoint, of step 10, no file can grow beyond 20 kB: the
# metrics fit, a second checkpoint does not.
FULL_DISK = """
import resource
from optax_namo.nanogpt import data
make_batch = data.batch

def batch(*args, step, **kwargs):
  if step == 12:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1))
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


def started(process: list[str]) -> subprocess.Popen:
  """A process that goes on, as ``finish`` starts it."""
  return subprocess.Popen(
    process,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=_env(),
  )


def finish(process: list[str]) -> subprocess.CompletedProcess:
  """Waits for a process; it compiles as the tests do, to the same numbers."""
  return subprocess.run(process, capture_output=True, text=True, env=_env())


def _env() -> dict[str, str]:
  return os.environ | {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}


def losses(out: pathlib.Path) -> list[dict]:
  """What the rows of a run say of the training, without its speed."""
  kept = ('loss', 'val_loss', 'diagnostics')
  return [{k: row[k] for k in kept if k in row} for row in metrics.read(out)]
