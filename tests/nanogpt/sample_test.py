# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sampling from the folder of a run."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import pytest

from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.generate import generate
from optax_namo.nanogpt.sample import sample
from tests.nanogpt import helpers


@pytest.fixture
def copy(whole, tmp_path):
  """The folder of a finished run, to be changed."""
  return shutil.copytree(whole[1], tmp_path / 'copy')


def _files(folder):
  return {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}


def test_sample_is_of_the_newest_checkpoint(corpus, whole, copy):
  config, out = whole
  _, model = train.fit(config, corpus, copy, resume=True)
  prompt = jnp.asarray(corpus.encode('lazy '), jnp.int32)[None]
  (ids,) = generate(
    model, prompt, 20, key=jax.random.key(3), temperature=0.7, top_k=5
  )
  text = sample(out, 'lazy ', num_tokens=20, temperature=0.7, top_k=5, seed=3)
  assert text == corpus.decode(ids.tolist())
  assert text.startswith('lazy ') and len(text) == 25
  shutil.rmtree(copy / 'checkpoints' / '25')
  # The last steps change little: it takes a long text to see that they did.
  assert sample(copy, num_tokens=300) != sample(out, num_tokens=300)


def test_sample_of_a_running_run_only_reads(corpus, copy):
  (copy / 'checkpoints' / '30.orbax-checkpoint-tmp').mkdir()
  (copy / 'checkpoints' / '31').mkdir()  # Emptied.
  before = _files(copy)
  text = sample(copy, num_tokens=20, top_k=5)
  assert text[0] == corpus.decode(corpus.val[:1].tolist())
  assert len(text) == 21
  assert _files(copy) == before
  assert (copy / 'checkpoints' / '30.orbax-checkpoint-tmp').is_dir()


def test_sample_of_a_run_on_other_devices(copy):
  config = run_folder.read_config(copy)
  moved = helpers.config(
    data=config.data, steps=25, eval_every=7, mesh='data:2,fsdp:2'
  )
  text = sample(copy, num_tokens=20, top_k=5)
  run_folder.write_config(copy, moved)
  assert run_folder.read_config(copy).mesh == 'data:2,fsdp:2'
  assert sample(copy, num_tokens=20, top_k=5) == text


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'prompt': ''}, 'prompt is empty'),
    ({'prompt': 'thé'}, "no character 'é'.* leave it out of the prompt"),
    ({'temperature': 0.0}, 'temperature .* 0.0. top_k=1 '),
    ({'top_k': 0}, 'top_k .* 0'),
    ({'num_tokens': -1}, 'num_tokens .* -1'),
    ({'num_tokens': 3_000_000_000}, 'num_tokens .* 3000000000'),
    ({'seed': 2**64}, f'seed={2**64} has more than 64 bits'),
  ],
)
def test_sample_errors(whole, change, message):
  with pytest.raises(ValueError, match=message):
    sample(whole[1], **change)


def test_the_data_are_those_of_the_run(copy):
  config, digest = run_folder.read_config(copy), 'of another alphabet'
  run_folder.write_config(copy, config, digest)
  with pytest.raises(ValueError, match='rhyme.txt. are not those that the run'):
    sample(copy)
  moved = dataclasses.replace(config, data='relative.txt')
  run_folder.write_config(copy, moved)
  with pytest.raises(FileNotFoundError, match=f'in {copy} are gone, or rel'):
    sample(copy)


def test_no_run_and_no_checkpoint(whole, tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no run'):
    sample(tmp_path / 'missing')
  shutil.copy(whole[1] / 'config.json', tmp_path)
  with pytest.raises(ValueError, match='no whole checkpoint yet'):
    sample(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_command(whole, ended):
  _, ends = ended
  text = sample(whole[1], 'fox', num_tokens=20, seed=2, top_k=5)
  assert ends['sample'] == [0, text + '\n']
  code, told = ends['missing']
  assert code == 1
  assert told.startswith('error: ')
  assert len(told.splitlines()) == 1
