# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: whose it is, and the checkpoints."""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import orbax.checkpoint as ocp

from optax_namo.nanogpt import files
from optax_namo.nanogpt.config import changes
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import may_change

_KEPT_CHECKPOINTS = 3
_DIGEST = 'data_sha256'  # In config.json, beside the knobs.


@contextlib.contextmanager
def held(out: pathlib.Path) -> Iterator[None]:
  """Holds the folder, made if there is none, against other runs.

  Of several processes each calls it, and the first one holds it for all.

  Raises:
    ValueError: Another run holds it, or it cannot be made.
  """
  with contextlib.ExitStack() as stack:
    mine = True
    if jax.process_index() == 0:
      with _written(out):
        out.mkdir(parents=True, exist_ok=True)
        mine = stack.enter_context(files.lock(out))
    if not multihost_utils.broadcast_one_to_all(mine):
      raise ValueError(
        f'another process is training in {out}: wait for its end, or name'
        ' another --out.'
      )
    yield


@contextlib.contextmanager
def _written(out: pathlib.Path) -> Iterator[None]:
  """Says of what fails inside that the folder cannot be written."""
  if out.exists() and not out.is_dir():
    raise ValueError(f'--out={out} is a file. Name a folder, new or empty.')
  try:
    yield
  except OSError as error:
    raise ValueError(
      f'--out={out} cannot be written: {error}. Name a folder that can.'
    ) from error


def claim(out: pathlib.Path, config: Config, resume: bool) -> list[str]:
  """Makes the folder this run's own, and writes a first config.json.

  Of several processes each calls it, and the first one writes.

  Args:
    out: The folder.
    config: The run's config.
    resume: Whether the folder may hold a run with the same config.

  Returns:
    What the user should know, a line each.

  Raises:
    ValueError: It is no folder, is not empty and ``resume`` is off, holds
      another run or more steps, or cannot be written.
  """
  with _written(out):
    if out.is_dir() and any(out.iterdir()) and not resume:
      raise ValueError(
        f'--out={out} is not empty. --resume goes on with the run there;'
        ' another --out starts a fresh one.'
      )
    notes = _compare(out / 'config.json', config) if resume else []
    done = newest_step(out)
    if done is not None and done > config.steps:
      raise ValueError(
        f'the run in {out} is at step {done}: --steps={config.steps} is less.'
      )
    multihost_utils.sync_global_devices('claim')  # All look, then one writes.
    if jax.process_index() == 0:
      out.mkdir(parents=True, exist_ok=True)
      # To Orbax an emptied one is a checkpoint; no other folder is removed.
      for path in out.glob('checkpoints/*'):
        with contextlib.suppress(OSError):
          path.rmdir()
      if not (out / 'config.json').exists():
        write_config(out, config)
  return notes


def write_config(
  out: pathlib.Path, config: Config, digest: str | None = None
) -> None:
  """Writes config.json, with the digest of the data where that is known."""
  fields = {**dataclasses.asdict(config), _DIGEST: digest}
  files.write_whole(out / 'config.json', json.dumps(fields, indent=2))


def check_data(out: pathlib.Path, digest: str) -> None:
  """Raises RestoreError if the data are known not to be those of the run."""
  path = out / 'config.json'
  fields, before = _fields(path) if path.exists() else ({}, None)
  if before not in (None, digest):
    raise RestoreError(
      f'the data {fields["data"]!r} are not those that the run in {out} began'
      ' with. Put those back; a relative path counts from where it began.'
    )


def _compare(path: pathlib.Path, config: Config) -> list[str]:
  """Notes on harmless differences to the config of the folder's run."""
  if not path.exists():
    others = path.parent.glob('*') if path.parent.is_dir() else ()
    if any(other.suffix != '.tmp' for other in others):
      raise ValueError(
        f'--resume: {path.parent} holds files but no config.json, so no run of'
        ' this program. Name the folder of a run, or an empty one.'
      )
    return []
  changed = changes(_fields(path)[0], config)
  fixed = [line for name, line in changed.items() if not may_change(name)]
  if fixed:
    raise ValueError(
      f'--resume: {path} belongs to another run: {"; ".join(fixed)}.'
      ' Give the flags of the run there, or another --out.'
    )
  return list(changed.values())


def _fields(path: pathlib.Path) -> tuple[dict[str, Any], str | None]:
  """The knobs in a config.json, and the digest of the data."""
  try:
    fields = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}.') from error
  if not isinstance(fields, dict):
    raise ValueError(f'{path} is no JSON object, so no config of a run.')
  digest = fields.pop(_DIGEST, None)
  return fields, digest


def read_config(out: pathlib.Path) -> Config:
  """The config of a folder's run.

  Args:
    out: The folder.

  Returns:
    The config; of a run of an earlier version as it would be written today.

  Raises:
    FileNotFoundError: There is no config.json.
    ValueError: It is not that of a run.
  """
  path = out / 'config.json'
  fields, _ = _fields(path)
  try:
    return from_file(fields)
  except ValueError as error:
    raise ValueError(f'{path} is of no run of this version: {error}') from error


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
  except (OSError, ValueError) as error:  # TensorStore's is a ValueError.
    raise OSError(
      f'no checkpoint of step {step} was written: {error}'
    ) from error


class RestoreError(ValueError):
  """A checkpoint is of another model, or is damaged."""


def restore(manager: ocp.CheckpointManager, fresh: Any) -> Any:
  """The newest whole checkpoint, on the devices of ``fresh``; None if none."""
  newest = newest_step(manager.directory.parent)
  if newest is None:
    return None
  try:
    return _restored(manager, newest, fresh)
  except (ValueError, LookupError, OSError) as error:  # Orbax has no own.
    path = manager.directory / str(newest)
    reason = str(error).partition('[')[0].partition('. ')[0].strip()
    raise RestoreError(
      f'{path} cannot be restored: {reason}. Either the text is not the one'
      ' that the run began with, or the checkpoint is damaged: then move it'
      ' away, and the one before it is taken.'
    ) from error


def _restored(manager: ocp.CheckpointManager, step: int, fresh: Any) -> Any:
  """A checkpoint of this version, or one of 0.1 by the names of its arrays.

  0.1 kept an entry without an array for each leaf that a group of the optimizer
  does not have, and called the groups otherwise where the optimizer is Muon.
  """
  try:
    return manager.restore(step, args=ocp.args.StandardRestore(fresh))
  except ValueError:
    kept = manager.restore(step, args=ocp.args.StandardRestore())
    arrays = ocp.tree.to_flat_dict(kept)

    def array(path, x):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      names = name.split('/')
      if tuple(names) not in arrays:
        names = [{'namo': 'matrix', 'adamw': 'rest'}.get(x, x) for x in names]
      kept = arrays[tuple(names)]
      if kept.shape != x.shape:
        raise  # It is of another model.
      return jax.device_put(kept.astype(x.dtype), x.sharding)

    return jax.tree_util.tree_map_with_path(array, fresh)


def newest_step(out: pathlib.Path) -> int | None:
  """The step of the newest whole checkpoint, None where there is none."""
  names = {path.parent.name for path in out.glob('checkpoints/*/*')}
  return max((int(name) for name in names if name.isdecimal()), default=None)


def what_is_left(out: pathlib.Path) -> str:
  """Tells of the newest whole checkpoint, for who reads an error."""
  step = newest_step(out)
  if step is None:
    return f'There is no whole checkpoint in {out}.'
  return f'The checkpoint of step {step} in {out} is whole.'
