# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the example share: a preset, a run, compiled programs."""

import os

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from optax_namo.nanogpt import config
from optax_namo.nanogpt import data
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from tests.nanogpt import helpers


@pytest.fixture(autouse=True, scope='package')
def compiled_once(tmp_path_factory):
  """Every run compiles its own step: what is alike is compiled once.

  Also over processes; a third of the time of these tests.
  """
  settings = {
    'jax_compilation_cache_dir': str(tmp_path_factory.mktemp('compiled')),
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  before = {name: getattr(jax.config, name) for name in settings}
  with pytest.MonkeyPatch.context() as patch:
    for name, value in settings.items():
      jax.config.update(name, value)
      patch.setitem(os.environ, name.upper(), str(value))
    compilation_cache.reset_cache()
    yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture(autouse=True, scope='session')
def tiny_preset():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(config.PRESETS, 'tiny', helpers.TINY)
    yield


@pytest.fixture(scope='session')
def text(tmp_path_factory):
  """The path of a text; not to be changed."""
  path = tmp_path_factory.mktemp('text') / 'rhyme.txt'
  path.write_text(helpers.TEXT)
  return path


@pytest.fixture(scope='session')
def corpus(text):
  return data.load(str(text), block_size=helpers.TINY.block_size)


@pytest.fixture(scope='session')
def whole(text, corpus, tmp_path_factory):
  """A run that nothing interrupted, and its folder; not to be changed."""
  # As for what a test compiles: the losses are to be the same.
  jax.config.update('jax_disable_most_optimizations', True)
  config = helpers.config(data=str(text), steps=25, eval_every=7)
  out = tmp_path_factory.mktemp('whole') / 'out'
  run_folder.claim(out, config, resume=False)
  train.fit(config, corpus, out, resume=False)
  return config, out
