# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is written of a step: the rows of metrics.jsonl, and TensorBoard's."""

from collections.abc import Iterable
import pathlib
from typing import Any

import jax
import optax

import optax_namo


def row(
  step: int, found: dict[str, jax.Array], rate: optax.Schedule
) -> dict[str, Any]:
  """A row of metrics: floats at full precision, the rate of that step."""
  values = {name: float(value) for name, value in found.items()}
  return {'step': step, **values, 'learning_rate': float(rate(step - 1))}


_read = jax.jit(optax_namo.diagnostics)


def diagnostics(opt_state: optax.OptState) -> dict[str, dict[str, float]]:
  """By path and name, in five digits: there may be hundreds of matrices."""
  return {
    path: {
      name: float(f'{float(value):.5g}')
      for name, value in one._asdict().items()
      if name != 'step' and value is not None
    }
    for path, one in _read(opt_state).items()
  }


class Board:
  """An event file for ``tensorboard --logdir``."""

  def __init__(self, folder: pathlib.Path, step: int):
    """Goes on after ``step``: what an earlier run wrote later is void."""
    import tensorboardX  # Only for those who ask for it.

    self._writer = tensorboardX.SummaryWriter(
      str(folder),
      purge_step=step + 1 if step else None,
      filename_suffix=f'.{step}',  # A file's name has its second alone.
    )

  def write(self, rows: Iterable[dict[str, Any]]) -> None:
    """Adds the scalars of some steps."""
    for row in rows:
      for tag, value in _scalars(row):
        self._writer.add_scalar(tag, value, row['step'])
    self._writer.flush()

  def close(self) -> None:
    self._writer.close()


def _scalars(row: dict[str, Any]) -> Iterable[tuple[str, float]]:
  """Tags and values; TensorBoard groups tags by what is before the slash."""
  for name, value in row.items():
    if name == 'diagnostics':
      for path, fields in value.items():
        yield from ((f'{field}/{path}', x) for field, x in fields.items())
    elif name != 'step':
      yield f'train/{name}', value
