# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whose a folder is, and what it refuses."""

import errno

import chex
from flax import nnx
import jax
import jax.numpy as jnp
import optax
import pytest

from optax_namo.nanogpt import files
from optax_namo.nanogpt import run_folder
from tests.nanogpt import helpers


def test_fresh_run_refuses_a_folder_in_use(tmp_path):
  out = tmp_path / 'out'
  run_folder.claim(out, helpers.config(), resume=False)
  with pytest.raises(ValueError, match='is not empty. --resume goes on'):
    run_folder.claim(out, helpers.config(), resume=False)
  assert run_folder.claim(out, helpers.config(), resume=True) == []


def test_one_run_at_a_time(tmp_path, monkeypatch):
  out = tmp_path / 'new' / 'out'
  with run_folder.held(out):
    with pytest.raises(ValueError, match=f'another .* in {out}: wait'):
      with run_folder.held(out):
        pass
  with run_folder.held(out):  # It is free again,
    assert list(out.iterdir()) == []  # and as it was.

  def refuse(*args):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(files.fcntl, 'flock', refuse)
  with run_folder.held(out), run_folder.held(out):
    pass


def test_resume_refuses_another_run(tmp_path):
  out = tmp_path / 'out'
  run_folder.claim(out, helpers.config(), resume=False)
  before = (out / 'config.json').read_text()
  with pytest.raises(ValueError, match='--clamp was 0.75 and is now 0.5'):
    run_folder.claim(out, helpers.config(clamp=0.5), resume=True)
  assert (out / 'config.json').read_text() == before
  notes = run_folder.claim(
    out, helpers.config(steps=90, decay_steps=20), resume=True
  )
  assert any('--steps was 25 and is now 90' in note for note in notes)


def test_resume_refuses_fewer_steps_than_it_took(tmp_path):
  run_folder.claim(tmp_path, helpers.config(), resume=True)
  (tmp_path / 'checkpoints' / '25' / 'some').mkdir(parents=True)
  run_folder.claim(tmp_path, helpers.config(), resume=True)
  with pytest.raises(ValueError, match='at step 25: --steps=24 is less'):
    run_folder.claim(tmp_path, helpers.config(steps=24), resume=True)


def test_resume_refuses_a_folder_of_something_else(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"step": 9}\n')
  with pytest.raises(ValueError, match='no config.json'):
    run_folder.claim(tmp_path, helpers.config(), resume=True)
  assert (tmp_path / 'metrics.jsonl').read_text() == '{"step": 9}\n'
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_unwritable_folder(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(ValueError, match='cannot be written'):
    run_folder.claim(tmp_path / 'file' / 'out', helpers.config(), resume=False)


def test_a_checkpoint_of_version_0_1(tmp_path):
  """It has boxes around what is masked; arrays are found by their names."""
  x, y = jnp.arange(3.0), jnp.ones((2, 2))
  old = {'mu': {'a': nnx.Param(x), 'b': nnx.Param(optax.MaskedNode())}, 'y': y}
  new = {'mu': {'a': nnx.Param(x), 'b': optax.MaskedNode()}, 'y': y}
  with run_folder.checkpoints(tmp_path) as manager:
    run_folder.save(manager, 3, old)
    fresh = jax.tree.map(jnp.zeros_like, new)
    restored = run_folder.restore(manager, fresh)
    chex.assert_trees_all_equal(restored, new)
    with pytest.raises(run_folder.RestoreError, match='cannot be restored'):
      run_folder.restore(manager, fresh | {'y': jnp.zeros((2, 3))})
