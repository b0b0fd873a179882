# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests of the nanoGPT example share: a model and prompts."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import types

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


# One process imports everything, and a child of its own runs each command.
_CHILDREN = """
import json, os, pathlib, runpy, sys, traceback, warnings
from optax_namo.nanogpt import config, train
from optax_namo.nanogpt.compare import report, sweep, variants
from tests.nanogpt import helpers

warnings.simplefilter('ignore')  # runpy's, of modules that are imported.
config.PRESETS['tiny'] = helpers.TINY
os.mkdir('told')
for number, (sabotage, *command) in enumerate(json.loads(sys.argv[1])):
  child = os.fork()
  if not child:
    told = os.open(f'told/{number}', os.O_CREAT | os.O_WRONLY)
    os.dup2(told, 1)
    os.dup2(told, 2)
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
  _, status = os.waitpid(child, 0)
  print(os.waitstatus_to_exitcode(status))
"""


def children(
  folder: pathlib.Path,
  commands: Sequence[Sequence[str]],
  sabotage: Mapping[int, str] = types.MappingProxyType({}),
) -> list[tuple[int, str]]:
  """The exit code and all output of some commands, run in a folder.

  Args:
    folder: The folder; it will hold a folder ``told`` besides.
    commands: A module and its arguments each.
    sabotage: What is to go wrong in some of them, by their numbers.
  """
  wanted = [[sabotage.get(i, ''), *one] for i, one in enumerate(commands)]
  clean = {k: v for k, v in _env().items() if not k.startswith('SLURM')}
  ended = subprocess.run(
    [sys.executable, '-c', _CHILDREN, json.dumps(wanted)],
    capture_output=True,
    text=True,
    cwd=folder,
    env=clean | {'PYTHONPATH': os.pathsep.join(sys.path), 'COLUMNS': '80'},
  )
  assert ended.returncode == 0, ended.stderr
  codes = [int(line) for line in ended.stdout.split()]
  told = [(folder / f'told/{i}').read_text() for i in range(len(commands))]
  return list(zip(codes, told, strict=True))


def losses(out: pathlib.Path) -> list[dict]:
  """What the rows of a run say of the training, without its speed."""
  kept = ('loss', 'val_loss', 'diagnostics')
  return [{k: row[k] for k in kept if k in row} for row in metrics.read(out)]
