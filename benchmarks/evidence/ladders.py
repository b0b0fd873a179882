# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""From the rows there are to what is tuned, from rung to rung.

Each knob has a ladder of values. Nobody chooses between two runs: a walk asks
the rows for mean losses, and where one is missing it is what is left to do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
import statistics
from typing import Any

from benchmarks.evidence.batched import Run
from benchmarks.evidence.batched import run_of
from examples import siblings
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.arms import TUNED
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS

Knobs = dict[str, Any]  # By name, the rest at their defaults; and the task.

TUNING = (100, 101)  # Seeds that the final comparisons do not use.
AROUND = (*TUNING, 102)  # Of (j): the rates around the best.
FINAL = tuple(range(8))
FEW = FINAL[:3]  # Of what is called exploratory.
# Of (l), when H5 was left to them, and of (k), when H6 was: PROTOCOL.md,
# changes 6 and 11.
UNSEEN = FINAL[3:]

# A factor of sqrt 2 between rates, around those of the example.
RATES = {'namo_d': 0.035, 'namo': 0.035, 'muon': 0.006, 'adamw': 0.0042}
_OTHERS = {name: one.learning_rate for name, one in siblings.OPTIMIZERS.items()}
DECAYS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
ADAM_RATES = tuple(float(f'{0.003 * 2**k:.2g}') for k in range(-8, 10))


def rates(optimizer: str) -> tuple[float, ...]:
  middle = (RATES | _OTHERS)[optimizer]
  return tuple(float(f'{middle * 2 ** (k / 2):.2g}') for k in range(-10, 15))


def ladder(knob: str, optimizer: str) -> tuple[float, ...]:
  """The values of a tuned knob, in order."""
  ladders = {'weight_decay': DECAYS, 'adam_learning_rate': ADAM_RATES}
  return ladders.get(knob) or rates(optimizer.removeprefix('optax_'))


def know_siblings() -> None:
  """Before any row or run of theirs is read."""
  OPTIMIZERS.update(siblings.OPTIMIZERS)


class Wanted(Exception):
  """There are no rows yet for the runs that it has as its argument."""


@functools.cache  # A walk asks for the same runs again and again.
def _run(knobs: tuple[tuple[str, Any], ...], seed: int) -> tuple[str, Run]:
  of = dict(knobs)
  task = of.pop('task', '')
  run = Run(make_config(**of, seed=seed), task)
  return run.key, run


class Rows:
  """The rows there are, by knobs and seed."""

  def __init__(self, rows: Iterable[Row]):
    self._rows = {run_of(row).key: row for row in rows}

  def need(self, wanted: Iterable[Knobs], seeds: Sequence[int]) -> None:
    """Raises Wanted unless all of these runs have a row."""
    runs = [_run(tuple(of.items()), seed) for of in wanted for seed in seeds]
    if left := [run for key, run in runs if key not in self._rows]:
      raise Wanted(left)

  def arms(
    self,
    of: Mapping[str, Knobs],
    seeds: Sequence[int],
    among: Sequence[int] = FINAL,
  ) -> list[Arm]:
    """Arms by label, once there is a row for each of these seeds.

    They have the runs that there are among others.
    """
    self.need(of.values(), seeds)
    found = []
    for label, knobs in of.items():
      runs = {seed: _run(tuple(knobs.items()), seed)[0] for seed in among}
      found.append(
        Arm(
          {knob: x for knob, x in knobs.items() if knob not in TUNED},
          {'varied': label} if label else {},
          {knob: x for knob, x in knobs.items() if knob in TUNED},
          {s: self._rows[key] for s, key in runs.items() if key in self._rows},
        )
      )
    return found

  def mean(self, knobs: Knobs) -> float:
    """Mean final loss of the tuning seeds; infinite where one diverged."""
    (arm,) = self.arms({'': knobs}, TUNING, TUNING)
    return statistics.fmean(arm.losses.values())


def walk(
  rows: Rows,
  knobs: Knobs,
  knob: str,
  *more: str,
  tied: Callable[[float], Knobs] = lambda value: {},
) -> Knobs:
  """From the knobs to the best rung of one after the other's ladder.

  One walks from rung to rung until both neighbours are worse. ``tied`` are
  knobs that follow from the value.
  """
  rungs = ladder(knob, knobs['optimizer'])
  at = lambda i: knobs | {knob: rungs[i]} | tied(rungs[i])
  i = -1
  best = min(range(len(rungs)), key=lambda i: abs(rungs[i] - knobs[knob]))
  while best != i:
    i = best
    around = [j for j in (i - 1, i, i + 1) if 0 <= j < len(rungs)]
    rows.need(map(at, around), TUNING)
    best = min(around, key=lambda j: (rows.mean(at(j)), abs(j - i)))
  return walk(rows, at(i), *more, tied=tied) if more else at(i)


def tuned(rows: Rows, optimizer: str) -> Knobs:
  """Decay first, then the rate, the AdamW group's, and the rate once more."""
  knobs = {
    'preset': 'char',
    'eval_every': 200,
    'checkpoint_every': 200,
    'optimizer': optimizer,
    'learning_rate': RATES[optimizer],
    'adam_learning_rate': 0.003,
    'weight_decay': 0.03,
  }
  return walk(
    rows, knobs, 'weight_decay', 'learning_rate', 'adam_learning_rate',
    'learning_rate',
  )  # fmt: skip
