# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests of the nanoGPT example share: a model and prompts."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import types
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo.nanogpt import data
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import Preset
from optax_namo.nanogpt.mesh import make_mesh

# A model and a text small enough to train in a test.
TINY = Preset(
  num_layers=1,
  num_heads=2,
  embed_dim=16,
  block_size=16,
  batch_size=8,
  accumulate=1,
  steps=25,
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


def task(corpus: data.Corpus) -> tuple[nnx.State, Callable[..., Any]]:
  """First parameters of the tiny model; the loss and gradient at a step.

  For tests that compare optimizers: these compile once, for all of them.
  """
  model, mesh = train.model_config(config(), corpus.vocab_size), make_mesh('')
  tx = train.optimizer(config(), model)
  graphdef, state = train.init(config(), model, tx, mesh)

  @jax.jit
  @jax.value_and_grad
  def loss_and_gradient(params, inputs, targets):
    return gpt.loss(nnx.merge(graphdef, params), inputs, targets)

  def at(params, step):
    inputs, targets = train.batches(config(), corpus, step, mesh)
    return loss_and_gradient(params, inputs[0], targets[0])

  return state.params, at


# What can go wrong in a process. It ends itself by SIGKILL within the saving of
# a second checkpoint, that of step 20: at os.mkdir before its arrays are
# written, or at os.rename after it, before it counts.
_KILL = """
import os, signal

def kill(event, args):
  if event == {event!r}:
    inside = str(args[0]).partition('/checkpoints/20.')[2]
    if '/' in inside:
      os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
"""
KILL_BEFORE_ARRAYS = _KILL.format(event='os.mkdir')
KILL_AFTER_ARRAYS = _KILL.format(event='os.rename')
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


def flags(values: Mapping[str, object]) -> list[str]:
  return [f'--{name}={value}' for name, value in values.items()]


def command(config: Config, out: str, *more: str) -> list[str]:
  """The module that trains ``config`` into ``out``, and its flags."""
  known = dataclasses.asdict(config) | {'out': out}
  return ['optax_namo.nanogpt', *flags(known), *more]


# One process imports everything, and a child of its own runs each command.
_CHILDREN = """
import json, os, pathlib, runpy, subprocess, sys, traceback, warnings
from optax_namo.nanogpt import config, train
from optax_namo.nanogpt.compare import report, sweep, variants
from tests.nanogpt import helpers

warnings.simplefilter('ignore')  # runpy's, of modules that are imported.
config.PRESETS['tiny'] = helpers.TINY
os.mkdir('told')
commands, together = json.loads(sys.argv[1])
begun = []
for number, (sabotage, *command) in enumerate(commands):
  begun.append(os.fork())
  if not begun[-1]:
    told = os.open(f'told/{number}', os.O_CREAT | os.O_WRONLY)
    # What is said passes by a limit on the size of files.
    words = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=told).stdin
    os.dup2(words.fileno(), 1)
    os.dup2(words.fileno(), 2)
    sys.argv = list(command)
    sys.orig_argv = ['python', '-m', *command]
    exec(sabotage)
    code = 0
    try:
      runpy.run_module(command[0], run_name='__main__')
    except SystemExit as end:
      code = end.code
      if isinstance(code, str):
        code = print(code, file=sys.stderr) or 1
    except BaseException:
      code = traceback.print_exc() or 1
    sys.stdout.flush()
    os._exit(code or 0)  # An end with all its cleaning takes half a second.
  if not together:
    os.waitid(os.P_PID, begun[-1], os.WEXITED | os.WNOWAIT)
for child in begun:
  _, status = os.waitpid(child, 0)
  print(os.waitstatus_to_exitcode(status))
"""


def children(
  folder: pathlib.Path,
  commands: Sequence[Sequence[str]],
  sabotage: Mapping[int, str] = types.MappingProxyType({}),
  *,
  together: bool = False,
) -> list[tuple[int, str]]:
  """The exit code and all output of some commands, run in a folder.

  Args:
    folder: The folder; it will hold a folder ``told`` besides.
    commands: A module and its arguments each.
    sabotage: What is to go wrong in some of them, by their numbers.
    together: Whether they run at the same time, or one after the other.
  """
  wanted = [[sabotage.get(i, ''), *one] for i, one in enumerate(commands)]
  # They compile as the tests do, to the same numbers.
  clean = {k: v for k, v in os.environ.items() if not k.startswith('SLURM')}
  ended = subprocess.run(
    [sys.executable, '-c', _CHILDREN, json.dumps([wanted, together])],
    capture_output=True,
    text=True,
    cwd=folder,
    env=clean
    | {
      'PYTHONPATH': os.pathsep.join(sys.path),
      'COLUMNS': '80',
      'PYTHONUNBUFFERED': '1',  # What was said before a SIGKILL counts.
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    },
  )
  assert ended.returncode == 0, ended.stderr
  codes = [int(line) for line in ended.stdout.split()]
  told = [(folder / f'told/{i}').read_text() for i in range(len(commands))]
  return list(zip(codes, told, strict=True))


def losses(out: pathlib.Path) -> list[dict]:
  """What the rows of a run say of the training, without its speed."""
  kept = ('loss', 'val_loss', 'diagnostics')
  return [{k: row[k] for k in kept if k in row} for row in metrics.read(out)]
