# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tiny preset, for every test of the example, and a text to train on."""

import jax
import pytest

from optax_namo.nanogpt import config
from optax_namo.nanogpt import data
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from tests.nanogpt import helpers


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
