# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is written of the steps of a run, for programs and for TensorBoard."""

from collections.abc import Iterable, Sequence
import contextlib
import json
import pathlib
from typing import Any

import jax
import optax

import optax_namo
from optax_namo.nanogpt import files


def row(
  step: int, scalars: dict[str, jax.Array], rate: optax.Schedule
) -> dict[str, Any]:
  """A row of metrics: floats at full precision, the rate of that step."""
  values = {name: float(value) for name, value in scalars.items()}
  return {'step': step, **values, 'learning_rate': float(rate(step - 1))}


_read_state = jax.jit(optax_namo.diagnostics)


def diagnostics(opt_state: optax.OptState) -> dict[str, dict[str, float]]:
  """By path and name, in five digits: there may be hundreds of matrices.

  Args:
    opt_state: The state of any optimizer.

  Returns:
    What ``optax_namo.diagnostics`` tells but the step; {} of an optimizer that
    records nothing.
  """
  try:
    told = _read_state(opt_state)
  except ValueError:
    return {}
  return {
    path: {
      name: float(f'{float(value):.5g}')
      for name, value in one._asdict().items()
      if name != 'step' and value is not None
    }
    for path, one in told.items()
  }


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a run, without lines that are none: a kill may cut one."""
  path, rows = folder / 'metrics.jsonl', []
  for line in path.read_bytes().split(b'\n') if path.exists() else []:
    with contextlib.suppress(ValueError):
      rows.append(json.loads(line))
  return [
    row
    for row in rows
    if isinstance(row, dict) and isinstance(row.get('step'), int)
  ]


class Log:
  """Writes the rows of a run to metrics.jsonl, and where asked to TensorBoard.

  Both go on after a step: what an earlier run wrote of later ones is void.

  Attributes:
    evaluated: The rows that have a ``val_loss``, without diagnostics.
  """

  def __init__(self, folder: pathlib.Path, step: int, tensorboard: bool):
    """Keeps the whole rows up to ``step``."""
    self._path = folder / 'metrics.jsonl'
    kept = [row for row in read(folder) if row['step'] <= step]
    files.write_whole(self._path, files.as_rows(kept))
    self.evaluated = _evaluated(kept)
    self._board = None
    if tensorboard:
      import tensorboardX  # Only for those who ask for it.

      self._board = tensorboardX.SummaryWriter(
        str(folder / 'tensorboard'),
        purge_step=step + 1 if step else None,
        filename_suffix=f'.{step}',  # A file's name has its second alone.
      )

  def write(self, rows: Sequence[dict[str, Any]]) -> None:
    """Appends the rows of some steps."""
    files.append_rows(self._path, rows)
    self.evaluated += _evaluated(rows)
    if self._board:
      for row in rows:
        for tag, value in _scalars(row):
          self._board.add_scalar(tag, value, row['step'])
      self._board.flush()

  def close(self) -> None:
    if self._board:
      self._board.close()


def _evaluated(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  return [
    {name: value for name, value in row.items() if name != 'diagnostics'}
    for row in rows
    if 'val_loss' in row
  ]


def _scalars(row: dict[str, Any]) -> Iterable[tuple[str, float]]:
  """Tags and values; TensorBoard groups tags by what is before the slash."""
  for name, value in row.items():
    if name == 'diagnostics':
      for path, fields in value.items():
        yield from ((f'{field}/{path}', x) for field, x in fields.items())
    elif name != 'step':
      yield f'train/{name}', value
