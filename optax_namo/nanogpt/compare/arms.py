# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What was run, read off the rows: arms, their settings, and their names."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import json
import math
import statistics
from typing import Any, NamedTuple

import pandas as pd

from optax_namo.nanogpt.config import asked_for
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import OPTIMIZERS

# What an optimizer's runs may be tuned in.
TUNED = ('learning_rate', 'adam_learning_rate', 'weight_decay')

Row = dict[str, Any]  # Of results.jsonl.


class Setting(NamedTuple):
  """A value for each tuned knob, and the rows of its runs, by seed."""

  values: dict[str, Any]
  runs: dict[int, Row]

  def losses(self, seeds: Iterable[int]) -> list[float]:
    return [final_loss(self.runs[seed]) for seed in seeds]


class Search(NamedTuple):
  """The settings that were tried for an arm, and what chose among them.

  Attributes:
    tried: All of them, by ascending values of the tuned knobs.
    compared: Those that were compared.
    seeds: The tuning seeds, which all of these have.
  """

  tried: Sequence[Setting] = ()
  compared: Sequence[Setting] = ()
  seeds: tuple[int, ...] = ()

  def by_value(self, knob: str) -> dict[float, float]:
    """From each value of a tuned knob to the least loss with it.

    Values ascend; losses are means over the tuning seeds.
    """
    losses: dict[float, float] = {}
    for setting in self.compared:
      value = setting.values[knob]
      loss = statistics.fmean(setting.losses(self.seeds))
      losses[value] = min(loss, losses.get(value, math.inf))
    return dict(sorted(losses.items()))


class Arm(NamedTuple):
  """Runs alike in all that bears on their result but the seed.

  Attributes:
    knobs: The values of all knobs but the tuned ones.
    labels: What tells it from other arms of its optimizer, by knob.
    setting: The values of the tuned knobs.
    runs: The rows by which it is judged, by ascending seed.
    search: Where its setting comes from, if a grid was tried.
  """

  knobs: dict[str, Any]
  labels: dict[str, str]
  setting: dict[str, Any]
  runs: dict[int, Row]
  search: Search = Search()

  @property
  def optimizer(self) -> str:
    return self.knobs['optimizer']

  @property
  def losses(self) -> dict[int, float]:
    """Final validation loss by seed, in nats per token."""
    return {seed: final_loss(row) for seed, row in self.runs.items()}

  def _grids(self) -> dict[str, list[float]]:
    """The values of each tuned knob that were compared, ascending."""
    return {
      knob: sorted({setting.values[knob] for setting in self.search.compared})
      for knob in self.setting
    }

  @property
  def fixed(self) -> dict[str, Any]:
    """The tuned knobs that were not: only one value was compared."""
    return {k: self.setting[k] for k, v in self._grids().items() if len(v) == 1}

  @property
  def edges(self) -> dict[str, str]:
    """The tuned knobs whose best value ends its grid, and at which end."""
    return {
      knob: 'lowest' if self.setting[knob] == grid[0] else 'highest'
      for knob, grid in self._grids().items()
      if len(grid) > 1
      and self.setting[knob] in (grid[0], grid[-1])
      # There is nothing below 0 to try.
      and not (self.setting[knob] == 0 == grid[0] and len(grid) > 2)
    }

  def __str__(self) -> str:
    """As in tables and figures: 'NAMO-D, clamp 0.4'."""
    return ', '.join([OPTIMIZERS[self.optimizer].label, *self.labels.values()])


def told(values: Mapping[str, Any]) -> str:
  """Knobs and their values for the reader: 'learning rate 0.1, clamp 0.4'."""
  return ', '.join(f'{words(k)} {number(v)}' for k, v in values.items())


def words(knob: str) -> str:
  return knob.replace('adam_', "AdamW group's ").replace('_', ' ')


def number(value: Any) -> str:
  return f'{value:g}' if isinstance(value, float) else str(value)


def diverged(row: Row) -> bool:
  """Whether a run ended without a finite loss."""
  loss = row['val_losses'][-1][1] if row['val_losses'] else None
  return bool(row.get('diverged') or loss is None or not math.isfinite(loss))


def final_loss(row: Row) -> float:
  """The last validation loss of a run; infinite where it diverged."""
  return math.inf if diverged(row) else row['val_losses'][-1][1]


def finished(row: Row) -> bool:
  """Whether a run came to its last step, or diverged before."""
  return diverged(row) or row['val_losses'][-1][0] == row['config']['steps']


def curves(rows: Iterable[Row]) -> pd.DataFrame:
  """Validation losses by step, a column a run, at the steps that all have.

  NaN where a diverged run wrote none.
  """
  losses = [pd.Series(dict(row['val_losses']), dtype=float) for row in rows]
  return pd.concat(losses, axis=1, join='inner').sort_index()


def find(rows: Iterable[Row], tuned: Collection[str] = TUNED) -> list[Arm]:
  """The arms of a comparison, before one of their settings is chosen.

  Runs that did not finish are left out; of two rows of one run the later one
  counts. Arms are ordered by optimizer and by the values of what tells them
  apart.
  """
  groups: dict[tuple, dict[tuple, Setting]] = {}
  changed: dict[str, set[str]] = {}  # By optimizer, what is not at its default.
  for row in filter(finished, rows):
    config = from_file(row['config'])
    changed.setdefault(config.optimizer, set()).update(asked_for(config))
    knobs = json.loads(identity(config))
    seed = knobs.pop('seed')
    values = {knob: knobs.pop(knob) for knob in tuned}
    settings = groups.setdefault(tuple(knobs.items()), {})
    setting = settings.setdefault(tuple(values.values()), Setting(values, {}))
    setting.runs[seed] = row
  found = []
  for group, of in groups.items():
    knobs = dict(group)
    # Neither NAMO-D's clamp in the name of Muon, nor the warm-up that follows
    # from the steps.
    labels = {
      knob: told({knob: value})
      for knob, value in group
      if knob != 'optimizer'
      and knob in changed[knobs['optimizer']]
      and any((knob, value) not in other for other in groups)
    }
    tried = [of[key] for key in sorted(of)]
    found.append(Arm(knobs, labels, {}, {}, Search(tried)))
  order = list(OPTIMIZERS)
  return sorted(
    found,
    key=lambda arm: (
      order.index(arm.optimizer),
      *(arm.knobs[knob] for knob in arm.labels),
    ),
  )
