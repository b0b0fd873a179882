# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole files, and rows of JSON, one a line."""

import os

import pytest

from optax_namo.nanogpt import files

_ROWS = [{'a': 1}, {'b': [2.5, None], 'c': 'é\u2028'}]


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert files.typed('~/a run') == tmp_path / 'a run'
  for path in ('a/~', '~nobody-has-this-name/run'):
    assert str(files.typed(path)) == path


def test_rows_come_back(tmp_path):
  path = tmp_path / 'rows.jsonl'
  assert list(files.read_rows(path)) == []
  files.append_rows(path, _ROWS[:1])
  files.append_rows(path, _ROWS[1:])
  assert list(files.read_rows(path)) == _ROWS
  assert path.read_text() == files.as_rows(_ROWS)


def test_a_last_row_cut_short_is_void(tmp_path):
  path = tmp_path / 'rows.jsonl'
  text = files.as_rows(_ROWS)
  for end in range(len(files.as_rows(_ROWS[:1])), len(text)):
    path.write_text(text[:end])
    assert list(files.read_rows(path)) == _ROWS[:1]


@pytest.mark.parametrize('line', ['[]', '3', 'null', '{"a": ', ''])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
  path = tmp_path / 'rows.jsonl'
  path.write_text(files.as_rows(_ROWS) + line + '\n')
  rows = files.read_rows(path)
  assert [next(rows), next(rows)] == _ROWS
  with pytest.raises(ValueError, match='rows.jsonl, line 3 is no'):
    next(rows)


@pytest.mark.parametrize('content', ['text', b'bytes'])
def test_a_file_is_replaced_at_once(tmp_path, content, monkeypatch):
  path = tmp_path / 'file'
  files.write_whole(path, 'before')
  seen = []
  replace = os.replace

  def look(*args):
    seen.append(path.read_text())
    replace(*args)

  monkeypatch.setattr(os, 'replace', look)
  files.write_whole(path, content)
  assert seen == ['before']
  assert path.read_text() in ('text', 'bytes')
  assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
  path = tmp_path / 'file'
  files.write_whole(path, 'before')

  def refuse(*args):
    raise OSError('no space left')

  monkeypatch.setattr(os, 'replace', refuse)
  with pytest.raises(OSError, match='no space'):
    files.write_whole(path, 'after')
  assert path.read_text() == 'before'
  assert [p.name for p in tmp_path.iterdir()] == ['file']


def test_a_lock_makes_its_folder(tmp_path):
  with files.lock(tmp_path / 'runs' / 'one.lock') as held:
    assert held
