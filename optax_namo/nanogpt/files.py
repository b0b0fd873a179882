# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are whole at any moment, and rows of JSON, one a line."""

from collections.abc import Iterable, Iterator
import contextlib
import fcntl
import json
import os
import pathlib
from typing import Any


def typed(path: str) -> pathlib.Path:
  """A path that somebody typed; no shell expands the ~ of --out=~/run."""
  return pathlib.Path(os.path.expanduser(path))


def write_whole(path: pathlib.Path, content: str | bytes) -> None:
  """Replaces a file, such that it is never seen half written."""
  if isinstance(content, str):
    content = content.encode('utf-8')
  # Two processes may write the same file at once.
  scratch = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    scratch.write_bytes(content)
    os.replace(scratch, path)
  except OSError:
    scratch.unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def lock(path: pathlib.Path, *, wait: bool = False) -> Iterator[bool]:
  """Holds a folder, or a file that is made if there is none.

  No other process holds it, too; over NFS a folder is held against those of the
  same host. The system lets go of it when the process ends, however it ends.

  Args:
    path: The folder or the file; a file's folder is made, too.
    wait: Whether to wait for another that holds it.

  Yields:
    Whether it is held; always with ``wait``, and where there are no locks.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  mode = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
  file = os.open(path, mode, 0o666)
  try:
    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    held = True
  except BlockingIOError:
    held = False
  except OSError:  # Some file systems have no locks.
    held = True
  try:
    yield held
  finally:
    os.close(file)


def as_rows(rows: Iterable[dict[str, Any]]) -> str:
  """The text of rows."""
  return ''.join(json.dumps(row) + '\n' for row in rows)


def append_rows(path: pathlib.Path, rows: Iterable[dict[str, Any]]) -> None:
  """Appends rows, and returns when they are on the disk."""
  with path.open('a', encoding='utf-8') as file:
    file.write(as_rows(rows))
    file.flush()
    os.fsync(file.fileno())


def read_rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Yields the rows of a file, none where there is no file.

  Args:
    path: The file.

  Yields:
    The rows, but for a last one that a kill cut short.

  Raises:
    ValueError: A line before the last is no JSON object.
  """
  if not path.exists():
    return
  with path.open(encoding='utf-8') as file:
    for number, line in enumerate(file, start=1):
      if not line.endswith('\n'):
        return
      try:
        row = json.loads(line)
      except ValueError as error:
        raise ValueError(
          f'{path}, line {number} is not JSON: {error}.'
        ) from None
      if not isinstance(row, dict):
        raise ValueError(f'{path}, line {number} is no JSON object.')
      yield row
