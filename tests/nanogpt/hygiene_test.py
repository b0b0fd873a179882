# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are hostile, paths that lead nowhere, and a disk that is full."""

import json
import os
import pathlib
import pickle
import subprocess
import sys

import pytest

from optax_namo.nanogpt import config as configs
from optax_namo.nanogpt import data
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from tests.nanogpt import helpers

_UNPICKLED: list[str] = []


def _listen(event: str, args: tuple) -> None:
  if event == 'pickle.find_class':  # Raised before any name is looked up.
    _UNPICKLED.append('.'.join(map(str, args[1:])))


sys.addaudithook(_listen)


@pytest.fixture(autouse=True)
def _tiny_preset(monkeypatch):
  monkeypatch.setitem(configs.PRESETS, 'tiny', helpers.TINY)


def _config(path: pathlib.Path, **changes) -> configs.Config:
  flags = {
    'preset': 'tiny', 'data': str(path), 'tokenizer': 'char',
    'optimizer': 'namo_d', 'weight_decay': 0.01, 'clamp': 0.75,
    'columns': 'input', 'clip': 1.0, 'dtype': 'float32', 'seed': 0,
  }  # fmt: skip
  return configs.make(**(flags | changes))


@pytest.fixture
def text(tmp_path) -> pathlib.Path:
  path = tmp_path / 'rhyme.txt'
  path.write_text(helpers.TEXT)
  return path


class _Bomb:
  def __reduce__(self):
    return os.abort, ()


def test_nothing_is_unpickled(tmp_path):
  """Neither data nor checkpoints, with pickles wherever one could lie."""
  pickle.loads(pickle.dumps(pathlib.PurePath('here')))
  assert _UNPICKLED, 'the audit hook hears nothing'
  _UNPICKLED.clear()
  folder = tmp_path / 'corpus'
  folder.mkdir()
  for name in ('train.bin', 'val.bin'):
    (folder / name).write_bytes(bytes([7, 0, 3, 0] * 100))
  (folder / 'meta.pkl').write_bytes(pickle.dumps(_Bomb()))
  corpus = data.load(str(folder), block_size=helpers.TINY.block_size)
  out, config = tmp_path / 'out', _config(folder, steps=2)
  run_folder.claim(out, config, resume=False)
  train.run(config, corpus, out, resume=False)
  (out / 'checkpoints' / '2' / 'meta.pkl').write_bytes(pickle.dumps(_Bomb()))
  train.run(config, corpus, out, resume=True)
  assert not _UNPICKLED


def test_a_pickle_is_no_data(tmp_path):
  path = tmp_path / 'corpus.pkl'
  path.write_bytes(pickle.dumps(_Bomb()))
  with pytest.raises(ValueError, match='corpus.pkl is neither a .txt file nor'):
    data.load(str(path), block_size=8)


def test_a_pipe_is_no_data(tmp_path):
  path = tmp_path / 'endless.txt'
  os.mkfifo(path)
  with pytest.raises(ValueError, match='endless.txt is neither a .txt file'):
    data.load(str(path), block_size=8)


def test_out_is_a_file(text):
  for resume in (False, True):
    with pytest.raises(ValueError, match=f'--out={text} is a file. Name a'):
      run_folder.claim(text, _config(text), resume)
  assert text.read_text() == helpers.TEXT


def test_out_cannot_be_written(text, tmp_path, monkeypatch):
  def refuse(*args, **kwargs):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(pathlib.Path, 'mkdir', refuse)
  with pytest.raises(ValueError, match='cannot be written: .*denied. Name a'):
    run_folder.claim(tmp_path / 'out', _config(text), resume=False)


@pytest.mark.parametrize('content', ['[]', '3', '{"steps": '])
def test_resume_with_a_config_that_is_none(text, tmp_path, content):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'config.json').write_text(content)
  with pytest.raises(ValueError, match='config.json is no'):
    run_folder.claim(tmp_path / 'out', _config(text), resume=True)


@pytest.mark.parametrize('row', ['[]', '3', 'null', '{"loss": 1}'])
def test_metrics_end_at_what_is_no_row(tmp_path, row):
  path = tmp_path / 'metrics.jsonl'
  good = json.dumps({'step': 1, 'loss': 2.0})
  path.write_text('\n'.join([good, row, good, '']))
  assert run_folder.read_metrics(path) == [json.loads(good)]


def test_full_disk(text, tmp_path, capsys):
  """A clear error, a whole checkpoint, and a run that goes on from it."""
  config, out = _config(text, steps=22), tmp_path / 'out'
  found = subprocess.run(
    helpers.command(out, config, sabotage=helpers.FULL_DISK),
    capture_output=True,
    text=True,
  )
  assert found.returncode == 1
  assert 'error: no checkpoint of step 20 was written: ' in found.stderr
  assert f'The checkpoint of step 10 in {out} is whole' in found.stderr
  # Threads of TensorStore may complain as well, but nothing ran into main.
  assert '__main__.py' not in found.stderr
  corpus = data.load(str(text), block_size=helpers.TINY.block_size)
  run_folder.claim(out, config, resume=True)
  assert train.run(config, corpus, out, resume=True)['step'] == 22
  assert 'Going on from step 10' in capsys.readouterr().out


def test_full_disk_before_the_first_checkpoint(tmp_path):
  (tmp_path / 'checkpoints' / '10.orbax-checkpoint-tmp').mkdir(parents=True)
  assert 'no whole checkpoint' in run_folder.what_is_left(tmp_path)
