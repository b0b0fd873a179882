# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was run, read off the rows: arms, their settings, and their names."""

from collections.abc import Collection, Iterable
import dataclasses
import json
import math
from typing import Any, NamedTuple

import numpy as np

from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import OPTIMIZERS

# What an optimizer's runs may be tuned in.
TUNED = ('learning_rate', 'adam_learning_rate', 'weight_decay')


class Setting(NamedTuple):
  """An arm at one value of each tuned knob.

  Attributes:
    values: The values, by knob.
    runs: Its rows, by seed.
  """

  values: dict[str, Any]
  runs: dict[int, dict[str, Any]]

  def losses(self, seeds: Iterable[int]) -> list[float]:
    return [final_loss(self.runs[seed]) for seed in seeds]


class Arm(NamedTuple):
  """Runs alike in every knob that bears on the result but tuned ones and seed.

  Attributes:
    knobs: The values of all other knobs.
    names: Those of them that tell it from other arms, beside the optimizer.
    settings: Its runs, by ascending values of the tuned knobs.
  """

  knobs: dict[str, Any]
  names: tuple[str, ...]
  settings: list[Setting]

  def grid(self, knob: str) -> list[float]:
    """The values of a tuned knob, ascending."""
    return sorted({setting.values[knob] for setting in self.settings})

  def told(self, setting: Setting) -> str:
    """What tells a setting from others of the arm."""
    values = setting.values
    return told({k: v for k, v in values.items() if len(self.grid(k)) > 1})

  @property
  def optimizer(self) -> str:
    return self.knobs['optimizer']

  def __str__(self) -> str:
    return self.name()

  def name(self, without: str = '') -> str:
    """As in tables and figures: 'NAMO-D, clamp 0.4'."""
    label = OPTIMIZERS[self.optimizer].label
    values = {k: self.knobs[k] for k in self.names if k != without}
    return f'{label}, {told(values)}' if values else label


def told(values: dict[str, Any]) -> str:
  """Knobs and their values for the reader: 'learning rate 0.1, clamp 0.4'."""
  return ', '.join(
    f'{words(knob)} {number(value)}' for knob, value in values.items()
  )


def words(knob: str) -> str:
  return knob.replace('adam_', "AdamW group's ").replace('_', ' ')


def number(value: Any) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


def diverged(row: dict[str, Any]) -> bool:
  """Whether a run ended without a finite loss."""
  loss = row['val_losses'][-1][1] if row['val_losses'] else None
  return bool(row.get('diverged') or loss is None or not math.isfinite(loss))


def final_loss(row: dict[str, Any]) -> float:
  """The last validation loss of a run; infinite where it diverged."""
  return math.inf if diverged(row) else row['val_losses'][-1][1]


def finished(row: dict[str, Any]) -> bool:
  """Whether a run came to its last step, or diverged before."""
  return diverged(row) or row['val_losses'][-1][0] == row['config']['steps']


def curves(
  rows: Iterable[dict[str, Any]],
) -> tuple[np.ndarray, np.ndarray]:
  """Validation losses of runs at the steps that all of them have.

  Args:
    rows: One row or more.

  Returns:
    The steps, shape (evaluations,), and the losses, (runs, evaluations), NaN
    where a diverged run wrote none.
  """
  losses = [dict(row['val_losses']) for row in rows]
  steps = sorted(set.intersection(*map(set, losses)))
  return np.array(steps), np.array(
    [[run[step] for step in steps] for run in losses], float
  )


def find(
  rows: Iterable[dict[str, Any]], tuned: Collection[str] = TUNED
) -> list[Arm]:
  """The arms of a comparison.

  Args:
    rows: Rows of results.jsonl. Runs that did not finish are left out; of two
      rows of one config the later one counts.
    tuned: The knobs that were tuned for each arm.

  Returns:
    The arms by optimizer and then by the values of what tells them apart.
  """
  groups: dict[tuple, dict[tuple, Setting]] = {}
  for row in filter(finished, rows):
    config = json.loads(identity(from_file(row['config'])))
    seed = config.pop('seed')
    values = {knob: config.pop(knob) for knob in tuned}
    settings = groups.setdefault(tuple(config.items()), {})
    setting = settings.setdefault(tuple(values.values()), Setting(values, {}))
    setting.runs[seed] = row
  arms = [dict(group) for group in groups]
  names = {
    optimizer: _names(optimizer, arms)
    for optimizer in {knobs['optimizer'] for knobs in arms}
  }
  order = list(OPTIMIZERS)
  return sorted(
    (
      Arm(
        knobs,
        names[knobs['optimizer']],
        [settings[values] for values in sorted(settings)],
      )
      for knobs, settings in zip(arms, groups.values())
    ),
    key=lambda arm: (
      order.index(arm.optimizer),
      *(arm.knobs[name] for name in arm.names),
    ),
  )


def _names(optimizer: str, arms: list[dict[str, Any]]) -> tuple[str, ...]:
  """The knobs that name the arms of an optimizer.

  Of those in which any arms differ, the ones that are not at their default in
  all arms of this optimizer: neither NAMO-D's clamp in the name of Muon, nor
  the warm-up that follows from the steps.
  """
  own = [knobs for knobs in arms if knobs['optimizer'] == optimizer]
  return tuple(
    knob
    for knob in own[0]
    if knob != 'optimizer'
    and len({knobs[knob] for knobs in arms}) > 1
    and any(knobs[knob] != _default(knob, knobs) for knobs in own)
  )


def _default(knob: str, knobs: dict[str, Any]) -> Any:
  default = _FIELDS[knob].metadata['default']
  return default(knobs) if callable(default) else default


_FIELDS = {field.name: field for field in dataclasses.fields(Config)}
