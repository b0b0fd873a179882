# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Corpora and random crops for the nanoGPT example.

:func:`load` turns a name, a text file or a folder that nanoGPT prepared into
two arrays of token ids; :func:`batch` and :func:`eval_batches` cut training
and validation sequences out of them. Everything here is NumPy.
"""

from collections.abc import Callable, Iterator, Sequence
import hashlib
import os
import pathlib
from typing import NamedTuple

import numpy as np

from optax_namo.nanogpt import files
from optax_namo.nanogpt import tokenizers
from optax_namo.nanogpt.text import keep
from optax_namo.nanogpt.text import read_text
from optax_namo.nanogpt.text import SOURCES
from optax_namo.nanogpt.text import WHAT_DATA_IS

_TRAIN_FRACTION = 0.9  # nanoGPT's split of its character corpora.
_BINS = {'train': 'train.bin', 'val': 'val.bin'}  # As nanoGPT names them.
_HASHED = 1 << 23  # Tokens at each end: a corpus may be larger than memory.
_ALL = slice(None)  # Of the rows of a batch.
_MAX_CHARS = 1 << 16  # Token ids are uint16.


class Corpus(NamedTuple):
  """Token ids of a text, and the tokenizer that made them.

  Attributes:
    train: Training tokens, uint16, (train tokens,); may be a memory map.
    val: Validation tokens, uint16, (validation tokens,); may be a memory map.
    vocab_size: Number of ids a model of the corpus needs.
    encode: Returns the ids of a text.
    decode: Returns the text of ids.
    name: Short name of the corpus.
  """

  train: np.ndarray
  val: np.ndarray
  vocab_size: int
  encode: Callable[[str], list[int]]
  decode: Callable[[Sequence[int]], str]
  name: str


def load(
  data: str,
  *,
  tokenizer: str = 'char',
  block_size: int,
) -> Corpus:
  """Loads a corpus and checks that it can be trained on.

  A text is split into its first 90% for training and its last 10% for
  validation. GPT-2 tokens of a text are kept in a cache and memory-mapped, in
  $XDG_CACHE_HOME/optax-namo or ~/.cache/optax-namo, as downloads are.

  A folder holds nanoGPT's train.bin and val.bin. A meta.json beside them,
  ``{"tokenizer": "char", "chars": "..."}`` or ``{"tokenizer": "gpt2"}``, names
  their tokenizer, else ``tokenizer`` does. nanoGPT's meta.pkl is never read,
  for unpickling runs what the file says; with 'char' and no meta.json the
  vocabulary is as large as the largest token asks, and ``decode`` and
  ``encode`` speak in token ids separated by spaces.

  Args:
    data: A name in ``text.SOURCES``, the path of a .txt file in UTF-8, or the
      path of a folder.
    tokenizer: 'char' or 'gpt2'.
    block_size: Length of the sequences that will be cut out, in tokens.

  Returns:
    The corpus; each split is longer than ``block_size``.

  Raises:
    FileNotFoundError: If a file, folder, package or download is missing.
    ValueError: If an argument or what a file holds cannot be used.
  """
  if tokenizer not in tokenizers.NAMES:
    names = ' or '.join(map(repr, tokenizers.NAMES))
    raise ValueError(f'tokenizer must be {names}, got {tokenizer!r}.')
  if not data:
    raise ValueError(f'--data is empty; data is {WHAT_DATA_IS}.')
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  cache = files.typed(home) / 'optax-namo'
  path = files.typed(data)
  source = SOURCES.get(data)
  if source is None and path.is_dir():
    corpus = _load_folder(path, tokenizer)
  else:
    text = source.read(cache) if source else read_text(path)
    if tokenizer == 'char':
      corpus = _load_chars(text, path.stem)
    else:
      corpus = _load_gpt2(text, path.stem, cache, block_size)
  for split in ('train', 'val'):
    _check_length(f'{data}: {split}', getattr(corpus, split), block_size)
  return corpus


def digest(corpus: Corpus) -> str:
  """Hashes vocabulary, lengths and tokens, of very many those at the ends."""
  vocabulary = corpus.decode(range(corpus.vocab_size))
  hashed = hashlib.sha256(ascii(vocabulary).encode())
  for tokens in (corpus.train, corpus.val):
    hashed.update(str(len(tokens)).encode())
    hashed.update(tokens[:_HASHED].tobytes())
    hashed.update(tokens[_HASHED:][-_HASHED:].tobytes())
  return hashed.hexdigest()


def batch(
  tokens: np.ndarray,
  *,
  seed: int,
  step: int,
  batch_size: int,
  block_size: int,
  vocab_size: int | None = None,
  rows: slice | np.ndarray = _ALL,
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts random crops, every possible one with the same probability.

  Args:
    tokens: Token ids, (tokens,).
    seed: Seed of the run, 0 or more.
    step: Training step; the crops are a function of ``seed`` and ``step``.
    batch_size: Number of crops.
    block_size: Length of a crop, in tokens.
    vocab_size: If given, every token is checked to be below it.
    rows: Which crops of the batch to cut; all by default.

  Returns:
    Inputs and targets, the tokens that follow, int32, (rows, time) each.

  Raises:
    ValueError: If ``tokens`` is too short or holds too large an id.
  """
  _check_length('tokens', tokens, block_size)
  rng = np.random.default_rng((seed, step))
  starts = rng.integers(len(tokens) - block_size, size=batch_size)
  inputs, targets = _crop(tokens, starts[rows], block_size)
  if vocab_size is not None:
    _check_ids(f'The batch of step {step}', inputs, vocab_size)
    _check_ids(f'The batch of step {step}', targets, vocab_size)
  return inputs, targets


def eval_batches(
  tokens: np.ndarray,
  *,
  num_sequences: int,
  batch_size: int,
  block_size: int,
  rows: slice | np.ndarray = _ALL,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields crops spread evenly over the tokens, the same ones on every call.

  Args:
    tokens: Token ids, (tokens,).
    num_sequences: Number of crops.
    batch_size: Number of crops in a batch. The last batch is filled up with the
      last crop.
    block_size: Length of a crop, in tokens.
    rows: Which crops of each batch to cut; all by default.

  Yields:
    Inputs and targets, the tokens that follow, int32, (rows, time) each.

  Raises:
    ValueError: If ``tokens`` is too short.
  """
  _check_length('tokens', tokens, block_size)
  last = len(tokens) - block_size - 1
  starts = np.linspace(0, last, num_sequences).astype(np.int64)
  starts = np.pad(starts, (0, -num_sequences % batch_size), mode='edge')
  for part in starts.reshape(-1, batch_size):
    yield _crop(tokens, part[rows], block_size)


def _crop(
  tokens: np.ndarray, starts: np.ndarray, block_size: int
) -> tuple[np.ndarray, np.ndarray]:
  index = starts[:, None] + np.arange(block_size + 1)  # (batch, time + 1)
  crops = np.asarray(tokens[index], np.int32)
  return crops[:, :-1], crops[:, 1:]


def _check_length(name: str, tokens: np.ndarray, block_size: int) -> None:
  if len(tokens) <= block_size:
    raise ValueError(
      f'{name} has {len(tokens)} tokens, but block_size={block_size} needs'
      f' {block_size + 1} or more: use more text, or a preset of shorter'
      ' sequences.'
    )


def _check_ids(where: str, tokens: np.ndarray, vocab_size: int) -> None:
  if (largest := int(tokens.max())) >= vocab_size:
    raise ValueError(
      f'{where} holds token {largest}, but the vocabulary has {vocab_size}:'
      ' the file is not uint16, or another tokenizer made it.'
    )


def _split(text: str) -> tuple[str, str]:
  cut = int(_TRAIN_FRACTION * len(text))
  return text[:cut], text[cut:]


def _load_chars(text: str, name: str) -> Corpus:
  codes = np.frombuffer(text.encode('utf-32-le'), '<u4')
  # A flag and an id for every code point: the text itself is never sorted.
  present = np.zeros(0x110000, np.bool_)
  present[codes] = True
  points = np.flatnonzero(present)
  if len(points) > _MAX_CHARS:
    raise ValueError(
      f'{name} has {len(points)} distinct characters, but a token is a'
      f" uint16, one of {_MAX_CHARS}: use tokenizer='gpt2'."
    )
  ids = np.zeros(len(present), np.uint16)
  ids[points] = np.arange(len(points))
  train, val = np.split(ids[codes], [len(_split(text)[0])])
  return Corpus(
    train, val, *tokenizers.char_tokenizer(''.join(map(chr, points))), name
  )


def _load_gpt2(
  text: str, name: str, cache: pathlib.Path, block_size: int
) -> Corpus:
  tokenizer = tokenizers.gpt2_tokenizer()
  # Named after the text, so that a changed file is encoded anew.
  digest = hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]
  folder = cache / f'{name}-gpt2-{digest}'
  if not all((folder / name).exists() for name in _BINS.values()):
    encoded = {}
    for split, part in zip(_BINS, _split(text), strict=True):
      tokens = encoded[split] = np.array(tokenizer.encode(part), '<u2')
      # Keep nothing useless.
      _check_length(f'{name}: {split}', tokens, block_size)
    for split, tokens in encoded.items():
      keep(folder / _BINS[split], tokens.tobytes())
  train, val = _read_bins(folder)
  return Corpus(train, val, *tokenizer, name)


def _load_folder(folder: pathlib.Path, tokenizer: str) -> Corpus:
  train, val = _read_bins(folder)
  codec = tokenizers.folder_tokenizer(folder, tokenizer)
  if codec is None:
    codec = tokenizers.id_tokenizer(int(max(train.max(), val.max())) + 1)
  for split, tokens in (('train', train), ('val', val)):
    # The ends only: a corpus may be far larger than memory.
    for end in (tokens[:1_000_000], tokens[-1_000_000:]):
      _check_ids(str(folder / f'{split}.bin'), end, codec.vocab_size)
  return Corpus(train, val, *codec, folder.resolve().name)


def _read_bins(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Returns train.bin and val.bin of a folder, memory-mapped."""
  splits = []
  for path in (folder / name for name in _BINS.values()):
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} does not exist: a folder of data holds train.bin and'
        " val.bin, as nanoGPT's prepare.py writes them."
      )
    size = path.stat().st_size
    if size == 0 or size % 2:
      raise ValueError(
        f'{path} has {size} bytes, not a positive even number: it is not'
        ' an array of uint16 tokens, or was cut short. Write it again.'
      )
    splits.append(np.memmap(path, '<u2', mode='r'))
  return splits[0], splits[1]
