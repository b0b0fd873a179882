# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: config.json, metrics.jsonl and the checkpoints.

Everything that replaces a file is written beside it and moved into place, so
that a run killed at any moment leaves whole files.
"""

from collections.abc import Iterable
import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import orbax.checkpoint as ocp

from optax_namo.nanogpt import config as configs
from optax_namo.nanogpt.config import Config

_KEPT_CHECKPOINTS = 3
# A longer run of the same beginning goes on from a shorter one's checkpoint.
_MAY_CHANGE = {
  'steps',
  'warmup_steps',
  'decay_steps',
  'eval_every',
  'checkpoint_every',
  'mesh',
}


def write_whole(path: pathlib.Path, text: str) -> None:
  """Replaces a file's text, such that it is never seen half written."""
  scratch = path.with_name(path.name + '.tmp')
  scratch.write_text(text, encoding='utf-8')
  os.replace(scratch, path)


def claim(out: pathlib.Path, config: Config, resume: bool) -> list[str]:
  """Makes the folder this run's own, and writes config.json.

  Of several processes each calls it, and the first one writes.

  Args:
    out: The folder.
    config: The run's config.
    resume: Whether the folder may hold a run with the same config.

  Returns:
    What the user should know, a line each.

  Raises:
    ValueError: It is no folder, is not empty and ``resume`` is off, holds
      another run, or cannot be written.
  """
  if out.exists() and not out.is_dir():
    raise ValueError(f'--out={out} is a file. Name a folder, new or empty.')
  try:
    if out.is_dir() and any(out.iterdir()) and not resume:
      raise ValueError(
        f'--out={out} is not empty. --resume goes on with the run there;'
        ' another --out starts a fresh one.'
      )
    notes = _compare(out / 'config.json', config) if resume else []
    multihost_utils.sync_global_devices('claim')  # All look, then one writes.
    if jax.process_index() == 0:
      out.mkdir(parents=True, exist_ok=True)
      write_whole(
        out / 'config.json', json.dumps(dataclasses.asdict(config), indent=2)
      )
  except OSError as error:
    raise ValueError(
      f'--out={out} cannot be written: {error}. Name a folder that can.'
    ) from error
  return notes


def _compare(path: pathlib.Path, config: Config) -> list[str]:
  """Notes on harmless differences to the config of the folder's run."""
  if not path.exists():
    found = path.parent.glob('*') if path.parent.is_dir() else ()
    if any(other.suffix != '.tmp' for other in found):
      raise ValueError(
        f'--resume: {path.parent} holds files but no config.json, so no run of'
        ' this program. Name the folder of a run, or an empty one.'
      )
    return []
  try:
    before = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}.') from error
  if not isinstance(before, dict):
    raise ValueError(f'{path} is no JSON object, so no config of a run.')
  changed = configs.changes(before, config)
  if not _MAY_CHANGE.issuperset(changed):
    raise ValueError(
      f'--resume: {path} belongs to another run: {"; ".join(changed.values())}.'
      ' Give the flags of the run there, or another --out.'
    )
  return list(changed.values())


class Metrics:
  """metrics.jsonl: one JSON object a line, in the order of ``step``."""

  def __init__(self, path: pathlib.Path, step: int):
    """Keeps the whole rows up to ``step`` and appends from there."""
    rows = [row for row in read_metrics(path) if row['step'] <= step]
    write_whole(path, ''.join(json.dumps(row) + '\n' for row in rows))
    self._file = path.open('a', encoding='utf-8')

  def write(self, rows: Iterable[dict[str, Any]]) -> None:
    """Appends rows and hands them to the operating system."""
    self._file.writelines(json.dumps(row) + '\n' for row in rows)
    self._file.flush()

  def close(self) -> None:
    self._file.close()


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
  """The whole rows of a metrics.jsonl; a line that is no row ends them."""
  rows: list[dict[str, Any]] = []
  if not path.exists():
    return rows
  for line in path.read_text(encoding='utf-8').splitlines(keepends=True):
    try:
      row = json.loads(line) if line.endswith('\n') else None
    except ValueError:
      break
    if not (isinstance(row, dict) and isinstance(row.get('step'), int)):
      break
    rows.append(row)
  return rows


def checkpoints(out: pathlib.Path) -> ocp.CheckpointManager:
  """The newest few checkpoints of a run, each written whole or not at all.

  Saving blocks: the next step donates the buffers that are being written.
  """
  return ocp.CheckpointManager(
    (out / 'checkpoints').resolve(),
    options=ocp.CheckpointManagerOptions(
      max_to_keep=_KEPT_CHECKPOINTS, enable_async_checkpointing=False
    ),
  )


def save(manager: ocp.CheckpointManager, step: int, state: Any) -> None:
  """Writes a checkpoint whole; OSError if it cannot be written."""
  try:
    manager.save(step, args=ocp.args.StandardSave(state))
  except ValueError as error:  # What TensorStore makes of a full disk.
    raise OSError(
      f'no checkpoint of step {step} was written: {error}'
    ) from error


def restore(manager: ocp.CheckpointManager, fresh: Any) -> Any:
  """The newest whole checkpoint, on the devices of ``fresh``; None if none."""
  newest = manager.latest_step()
  if newest is None:
    return None
  return manager.restore(newest, args=ocp.args.StandardRestore(fresh))


def what_is_left(out: pathlib.Path) -> str:
  """Tells of the newest whole checkpoint, for who reads an error."""
  names = [path.name for path in out.glob('checkpoints/*')]
  steps = [int(name) for name in names if name.isdecimal()]
  if not steps:
    return f'There is no whole checkpoint in {out}.'
  return (
    f'The checkpoint of step {max(steps)} in {out} is whole: make room, and'
    ' --resume goes on from there.'
  )
