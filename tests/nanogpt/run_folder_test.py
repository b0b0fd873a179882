# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whose a folder is, and what it refuses."""

import pytest

from optax_namo.nanogpt import run_folder
from tests.nanogpt import helpers


def test_fresh_run_refuses_a_folder_in_use(tmp_path):
  out = tmp_path / 'out'
  run_folder.claim(out, helpers.config(), resume=False)
  with pytest.raises(ValueError, match='is not empty. --resume goes on'):
    run_folder.claim(out, helpers.config(), resume=False)
  assert run_folder.claim(out, helpers.config(), resume=True) == []


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
  assert any('--steps was 30 and is now 90' in note for note in notes)


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
