# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each arm at its best setting, chosen from a grid at equal evidence."""

from collections import Counter
from collections.abc import Collection, Iterable
import math

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.arms import Search


def best(arm: Arm, tuning_seeds: Collection[int] | None = None) -> Arm | None:
  """An arm at the setting with the least mean final loss.

  Settings are compared on seeds that all of them have, so that further seeds at
  a setting do not change which it is. A diverged run's loss is infinite.

  Args:
    arm: The arm, with the settings that were tried.
    tuning_seeds: The seeds that choose, which the setting's others judge. None
      means the seeds that all settings have (where there is none, the settings
      that have the commonest seed, and what those share), and that all judge.

  Returns:
    The arm with its setting; None where it has several, and none of them all
    of ``tuning_seeds``.
  """
  tried = arm.search.tried
  if tuning_seeds is None:
    count = Counter(seed for setting in tried for seed in setting.runs)
    seed = min(count, key=lambda seed: (-count[seed], seed))
    compared = [setting for setting in tried if seed in setting.runs]
    seeds = set.intersection(*(set(setting.runs) for setting in compared))
  else:
    seeds = set(tuning_seeds)
    compared = [setting for setting in tried if seeds <= setting.runs.keys()]
    if len(tried) == 1:  # Nothing is to be chosen.
      compared, seeds = list(tried), set(tried[0].runs)
    if not compared:
      return None
  chosen = min(compared, key=lambda setting: math.fsum(setting.losses(seeds)))
  judging = sorted(chosen.runs.keys() - set(tuning_seeds or ()))
  return arm._replace(
    setting=chosen.values,
    runs={seed: chosen.runs[seed] for seed in judging},
    search=Search(tried, compared, tuple(sorted(seeds))),
  )


def bests(
  rows: Iterable[Row],
  *,
  tuned: Collection[str] = arms.TUNED,
  tuning_seeds: Collection[int] | None = None,
) -> list[Arm]:
  """Each arm of some rows at its best setting, without those that have none."""
  found = (best(arm, tuning_seeds) for arm in arms.find(rows, tuned))
  return [arm for arm in found if arm]


def notes(arm: Arm) -> list[str]:
  """What a reader must know of how an arm was tuned, a clause each."""
  search = arm.search
  told = [setting.values for setting in search.tried]
  varied = [k for k in arm.setting if len({values[k] for values in told}) > 1]
  apart = lambda values: arms.told(
    {k: values[k] for k in values if k in varied}
  )
  notes = [
    f'not tuned: best {arms.words(knob)} {arms.number(arm.setting[knob])} is'
    f' the {end} of its grid'
    for knob, end in arm.edges.items()
  ]
  if arm.fixed:
    notes.append(f'fixed, not tuned: {arms.told(arm.fixed)}')
  if len(search.compared) > 1 and len(search.seeds) == 1:
    notes.append(f'its settings were compared on seed {search.seeds[0]} alone')
  others = {seed for setting in search.tried for seed in setting.runs}
  others.difference_update(search.seeds, arm.runs)
  if others:
    notes.append(
      f'its best setting, {apart(arm.setting)}, lacks {seed_list(others)},'
      ' which other settings have'
    )
  if not arm.runs:
    notes.append('its best setting has tuning seeds alone')
  for setting in search.tried:
    name = apart(setting.values) or 'its only setting'
    if setting not in search.compared:
      lacking = set(search.seeds) - set(setting.runs)
      notes.append(f'{name} is not compared: it lacks {seed_list(lacking)}')
    gone = [seed for seed, row in setting.runs.items() if arms.diverged(row)]
    if gone:
      notes.append(f'diverged: {name} ({seed_list(gone)})')
  return notes


def seed_list(seeds: Iterable[int]) -> str:
  """'seed 3', 'seeds 0, 1'."""
  seeds = sorted(seeds)
  return f'seed{"s"[: len(seeds) > 1]} {", ".join(map(str, seeds))}'
