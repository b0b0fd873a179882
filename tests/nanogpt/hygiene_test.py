# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are hostile, paths that lead nowhere, and a disk that is full."""

import os
import pathlib
import pickle
import shutil
import sys

import pytest

from optax_namo.nanogpt import data
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from tests.nanogpt import helpers

_UNPICKLED: list[str] = []


def _listen(event: str, args: tuple) -> None:
  if event == 'pickle.find_class':  # Raised before any name is looked up.
    _UNPICKLED.append('.'.join(map(str, args[1:])))


sys.addaudithook(_listen)


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
    (folder / name).write_bytes(bytes([27, 0, 3, 0] * 100))
  (folder / 'meta.pkl').write_bytes(pickle.dumps(_Bomb()))
  corpus = data.load(str(folder), block_size=helpers.TINY.block_size)
  out, config = tmp_path / 'out', helpers.config(data=str(folder))
  run_folder.claim(out, config, resume=False)
  train.run(config, corpus, out, resume=False)
  (out / 'checkpoints' / '25' / 'meta.pkl').write_bytes(pickle.dumps(_Bomb()))
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
      run_folder.claim(text, helpers.config(data=str(text)), resume)
  assert text.read_text() == helpers.TEXT


def test_out_cannot_be_written(text, tmp_path, monkeypatch):
  def refuse(*args, **kwargs):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(pathlib.Path, 'mkdir', refuse)
  with pytest.raises(ValueError, match='cannot be written: .*denied. Name a'):
    run_folder.claim(
      tmp_path / 'out', helpers.config(data=str(text)), resume=False
    )


@pytest.mark.parametrize('content', ['[]', '3', '{"steps": '])
def test_resume_with_a_config_that_is_none(text, tmp_path, content):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'config.json').write_text(content)
  with pytest.raises(ValueError, match='config.json is no'):
    run_folder.claim(
      tmp_path / 'out', helpers.config(data=str(text)), resume=True
    )


def test_full_disk(corpus, whole, ended, tmp_path, capsys):
  """A clear error, a whole checkpoint, and a run that goes on from it."""
  (config, expected), (folder, ends) = whole, ended
  code, told = ends['full']
  assert code == 1
  assert 'error: no checkpoint of step 20 was written: ' in told
  assert 'step 10 in full is whole. Make room: --resume goes on.' in told
  # Threads of TensorStore may complain as well, but nothing ran into main.
  assert '__main__.py' not in told
  out = shutil.copytree(folder / 'full', tmp_path / 'out')
  run_folder.claim(out, config, resume=True)
  final, _ = train.fit(config, corpus, out, resume=True)
  assert final['step'] == 25
  assert 'Going on from step 10' in capsys.readouterr().out
  assert helpers.losses(out) == helpers.losses(expected)


def test_full_disk_before_the_first_checkpoint(tmp_path):
  (tmp_path / 'checkpoints' / '10.orbax-checkpoint-tmp').mkdir(parents=True)
  assert 'no whole checkpoint' in run_folder.what_is_left(tmp_path)
