# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the example share: a preset and a run."""

import json
import os
import shutil

import jax
import pytest

from optax_namo.nanogpt import config
from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from tests.nanogpt import helpers


@pytest.fixture(scope='session')
def once(tmp_path_factory):
  """Makes a folder, and what it holds, once for all workers of a session."""
  root = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    root = root.parent  # Of all workers.

  def once(name, make=lambda folder: None):
    folder, made = root / name, root / f'{name}.made'
    with files.lock(root / f'{name}.lock', wait=True):
      if not made.exists():
        folder.mkdir()
        make(folder)
        made.touch()
    return folder

  return once


@pytest.fixture(autouse=True, scope='session')
def tiny_preset():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(config.PRESETS, 'tiny', helpers.TINY)
    yield


@pytest.fixture(scope='session')
def text(once):
  """The path of a text; not to be changed."""
  made = once('text', lambda at: (at / 'rhyme.txt').write_text(helpers.TEXT))
  return made / 'rhyme.txt'


@pytest.fixture(scope='session')
def corpus(text):
  return data.load(str(text), block_size=helpers.TINY.block_size)


@pytest.fixture(scope='package')
def whole(text, corpus, once):
  """A run that nothing interrupted, and its folder; not to be changed."""
  config = helpers.config(data=str(text), steps=25, eval_every=7)

  def make(folder):
    # As for what a test compiles: the losses are to be the same.
    jax.config.update('jax_disable_most_optimizations', True)
    run_folder.claim(folder / 'out', config, resume=False)
    train.fit(config, corpus, folder / 'out', resume=False)

  return config, once('whole', make) / 'out'


@pytest.fixture(scope='package')
def ended(whole, text, once):
  """A folder of runs that ended early, and how each of their processes did.

  By name, to be copied before it is changed.
  """
  config, out = whole
  adamw = {
    'optimizers': 'adamw', 'learning_rates': 'adamw=0.01', 'seeds': '0',
    'preset': 'tiny', 'data': text, 'steps': 25, 'eval_every': 5,
  }  # fmt: skip
  sample = ['--prompt=fox', '--num_tokens=20', '--seed=2', '--top_k=5']
  commands = {
    'killed': helpers.command(config, 'killed', '--resume'),
    'full': helpers.command(config, 'full'),
    'compare': [
      'optax_namo.nanogpt.compare', *helpers.flags(adamw), '--out=compare'
    ],
    'sample': ['optax_namo.nanogpt.sample', str(out), *sample],
    'missing': ['optax_namo.nanogpt.sample', 'missing', *sample],
  }  # fmt: skip
  wrong = [  # With the first three.
    helpers.KILL_BEFORE_ARRAYS, helpers.FULL_DISK, helpers.KILL_AFTER_ARRAYS
  ]  # fmt: skip

  def make(folder):
    killed = shutil.copytree(out, folder / 'killed')
    for step in (20, 25):  # As of a run that ended between 10 and 20.
      shutil.rmtree(killed / 'checkpoints' / f'{step}')
    told = helpers.children(
      folder, list(commands.values()), dict(enumerate(wrong))
    )
    (folder / 'ends.json').write_text(json.dumps(dict(zip(commands, told))))

  folder = once('ended', make)
  return folder, json.loads((folder / 'ends.json').read_text())
