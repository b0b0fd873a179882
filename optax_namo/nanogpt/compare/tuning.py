# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each arm at its best setting, chosen at equal evidence."""

from collections import Counter
from collections.abc import Collection, Iterable
import math
import statistics
from typing import Any, NamedTuple

from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import diverged
from optax_namo.nanogpt.compare.arms import final_loss
from optax_namo.nanogpt.compare.arms import number
from optax_namo.nanogpt.compare.arms import Setting
from optax_namo.nanogpt.compare.arms import told
from optax_namo.nanogpt.compare.arms import words


class Best(NamedTuple):
  """An arm at its best setting.

  Attributes:
    arm: The arm.
    setting: The setting with the least mean loss over the tuning seeds.
    seeds: The tuning seeds: those that all compared settings have.
    compared: The settings that were compared.
    runs: The runs by which the setting is judged, by seed in order.
  """

  arm: Arm
  setting: Setting
  seeds: tuple[int, ...]
  compared: list[Setting]
  runs: dict[int, dict[str, Any]]

  @property
  def losses(self) -> dict[int, float]:
    """Final validation loss by seed, in nats a token."""
    return {seed: final_loss(row) for seed, row in self.runs.items()}

  @property
  def fixed(self) -> dict[str, Any]:
    """The tuned knobs that were not: only one value was compared."""
    return {
      knob: value
      for knob, value in self.setting.values.items()
      if len(self.grid(knob)) == 1
    }

  @property
  def edges(self) -> dict[str, str]:
    """The tuned knobs whose best value ends its grid, and at which end."""
    return {
      knob: 'lowest' if value == grid[0] else 'highest'
      for knob, value in self.setting.values.items()
      if len(grid := self.grid(knob)) > 1
      and value in (grid[0], grid[-1])
      # There is nothing below 0 to try.
      and not (value == 0 == grid[0] and len(grid) > 2)
    }

  def grid(self, knob: str) -> list[float]:
    """The values of a tuned knob that were compared, ascending."""
    return sorted({setting.values[knob] for setting in self.compared})

  def by_value(self, knob: str) -> dict[float, float]:
    """From each value of a tuned knob to the least loss with it.

    Losses are means over the tuning seeds, as those that chose the setting.
    """
    losses: dict[float, float] = {}
    for setting in self.compared:
      value = setting.values[knob]
      loss = statistics.fmean(setting.losses(self.seeds))
      losses[value] = min(loss, losses.get(value, math.inf))
    return dict(sorted(losses.items()))


def best(arm: Arm, tuning_seeds: Collection[int] | None = None) -> Best | None:
  """An arm at the setting with the least mean final loss.

  Settings are compared on seeds that all of them have, so that further seeds at
  a setting do not change which it is. A diverged run's loss is infinite.

  Args:
    arm: The arm.
    tuning_seeds: The seeds that choose; the setting is then judged by its other
      seeds. None means the seeds that all settings have (where there is none,
      the settings that have the commonest seed, and what those share), and that
      all seeds of the setting judge it.

  Returns:
    The setting and what chose it. None where no setting has all of
    ``tuning_seeds`` and the arm has more than one: nothing chooses.
  """
  settings = arm.settings
  if tuning_seeds is None:
    count = Counter(seed for setting in settings for seed in setting.runs)
    seed = min(count, key=lambda seed: (-count[seed], seed))
    compared = [setting for setting in settings if seed in setting.runs]
    seeds = set.intersection(*(set(setting.runs) for setting in compared))
  else:
    seeds = set(tuning_seeds)
    compared = [setting for setting in settings if seeds <= setting.runs.keys()]
    if len(settings) == 1:  # Nothing is to be chosen.
      compared, seeds = settings, set(settings[0].runs)
    if not compared:
      return None
  chosen = min(compared, key=lambda setting: math.fsum(setting.losses(seeds)))
  return Best(
    arm,
    chosen,
    tuple(sorted(seeds)),
    compared,
    {
      seed: chosen.runs[seed]
      for seed in sorted(chosen.runs)
      if seed not in (tuning_seeds or ())
    },
  )


def notes(best: Best) -> list[str]:
  """What a reader must know of how an arm was tuned, a clause each."""
  notes = [
    f'not tuned: best {words(knob)} {number(best.setting.values[knob])} is the'
    f' {end} of its grid'
    for knob, end in best.edges.items()
  ]
  if best.fixed:
    notes.append(f'fixed, not tuned: {told(best.fixed)}')
  if len(best.compared) > 1 and len(best.seeds) == 1:
    notes.append(f'its settings were compared on seed {best.seeds[0]} alone')
  others = {
    seed for setting in best.arm.settings for seed in setting.runs
  } - set(best.setting.runs)
  if others:
    notes.append(
      f'its best setting, {best.arm.told(best.setting)}, lacks'
      f' {seed_list(others)}, which other settings have'
    )
  if not best.runs:
    notes.append('its best setting has tuning seeds alone')
  for setting in best.arm.settings:
    name = best.arm.told(setting) or 'its only setting'
    if setting not in best.compared:
      lacking = set(best.seeds) - set(setting.runs)
      notes.append(f'{name} is not compared: it lacks {seed_list(lacking)}')
    gone = [seed for seed, row in setting.runs.items() if diverged(row)]
    if gone:
      notes.append(f'diverged: {name} ({seed_list(gone)})')
  return notes


def seed_list(seeds: Iterable[int]) -> str:
  """'seed 3', 'seeds 0, 1'."""
  seeds = sorted(seeds)
  return f'seed{"s"[: len(seeds) > 1]} {", ".join(map(str, seeds))}'
