# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How an arm is tuned: seeds, ladders, and walks on the rows there are.

PROTOCOL.md says why. Where a mean loss is missing, the runs that it takes are
raised as what is wanted.
"""

from collections.abc import Callable, Iterable, Sequence
import functools
import statistics
from typing import Any

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import make_config

Arm = dict[str, Any]

TUNING = (100, 101)  # Seeds that the final comparisons do not use.
AROUND = (*TUNING, 102)  # Of (j): the rates around the best.
FINAL = tuple(range(8))
FEW = FINAL[:3]  # Of what is called exploratory.
# Of (l), when H5 was left to them, and of (k), when H6 was: PROTOCOL.md,
# changes 6 and 11.
UNSEEN = FINAL[3:]
COMMON = {'preset': 'char', 'eval_every': 200, 'checkpoint_every': 200}

# A factor of sqrt 2 between rates, around those of the example.
RATES = {
  'namo_d': 0.035,
  'namo': 0.035,
  'muon': 0.006,
  'adamw': 0.0042,
}
_STEPS = range(-10, 9)
DECAYS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
ADAM_RATES = tuple(float(f'{0.003 * 2**k:.2g}') for k in range(-8, 7))


class Wanted(Exception):
  """There are no rows yet for these runs."""

  def __init__(self, runs: Iterable[Config]):
    super().__init__()
    self.runs = list(runs)


class Rows:
  """The rows there are, by arm and seed."""

  def __init__(self, rows: Iterable[dict[str, Any]]):
    self._rows = {identity(from_file(row['config'])): row for row in rows}

  def row(self, arm: Arm, seed: int) -> dict[str, Any]:
    return self._rows[identity(run(arm, seed))]

  def seeds(self, arm: Arm, among: Sequence[int]) -> tuple[int, ...]:
    """Those for which there is a row."""
    return tuple(s for s in among if identity(run(arm, s)) in self._rows)

  def need(self, wanted: Iterable[Arm], seeds: Sequence[int]) -> None:
    """Raises Wanted unless all of these runs have a row."""
    runs = (run(arm, seed) for arm in wanted for seed in seeds)
    left = [one for one in runs if identity(one) not in self._rows]
    if left:
      raise Wanted(left)

  def losses(self, arm: Arm, seeds: Sequence[int]) -> list[float]:
    """Final losses by seed, in nats a token; infinite where one diverged."""
    self.need([arm], seeds)
    return [arms.final_loss(self.row(arm, seed)) for seed in seeds]

  def mean(self, arm: Arm, seeds: Sequence[int]) -> float:
    return statistics.fmean(self.losses(arm, seeds))


def run(arm: Arm, seed: int) -> Config:
  return _run(tuple(arm.items()), seed)


@functools.cache  # A study asks for the same runs again and again.
def _run(knobs: tuple[tuple[str, Any], ...], seed: int) -> Config:
  return make_config(**COMMON | dict(knobs), seed=seed)


def rule(arm: Arm) -> str:
  """The optimizer whose ladder of rates an arm is on."""
  return arm['optimizer'].removeprefix('optax_')


def rates(optimizer: str) -> tuple[float, ...]:
  return tuple(float(f'{RATES[optimizer] * 2 ** (k / 2):.2g}') for k in _STEPS)


def walk(
  rows: Rows,
  arm: Arm,
  knob: str,
  ladder: Sequence[float],
  *,
  tied: Callable[[float], Arm] = lambda value: {},
) -> Arm:
  """The arm at a rung that is better than both of its neighbours.

  Args:
    rows: What there is.
    arm: The other knobs; its own value of ``knob`` is where the walk begins.
    knob: What is tuned.
    ladder: Its values, in order.
    tied: Knobs that follow from the value.

  Returns:
    The arm with the best value, on the seeds of tuning.
  """
  at = lambda i: arm | {knob: ladder[i]} | tied(ladder[i])
  i = min(range(len(ladder)), key=lambda i: abs(ladder[i] - arm[knob]))
  while True:
    around = [j for j in (i - 1, i, i + 1) if 0 <= j < len(ladder)]
    rows.need(map(at, around), TUNING)
    best = min(around, key=lambda j: (rows.mean(at(j), TUNING), abs(j - i)))
    if best == i:
      return at(i)
    i = best


def tuned(rows: Rows, optimizer: str, **knobs: Any) -> Arm:
  """Decay first, then the rate, the AdamW group's, and the rate once more."""
  arm = {
    'optimizer': optimizer,
    'learning_rate': RATES[optimizer],
    'adam_learning_rate': 0.003,
    'weight_decay': 0.03,
    **knobs,
  }
  arm = walk(rows, arm, 'weight_decay', DECAYS)
  arm = walk(rows, arm, 'learning_rate', rates(optimizer))
  arm = walk(rows, arm, 'adam_learning_rate', ADAM_RATES)
  return walk(rows, arm, 'learning_rate', rates(optimizer))


def at_batch(rows: Rows, optimizer: str, batch: int) -> Arm:
  """Both rates anew at another batch size, from those of 16 sequences on."""
  arm = tuned(rows, optimizer) | {'batch_size': batch}
  arm = walk(rows, arm, 'learning_rate', rates(optimizer))
  return walk(rows, arm, 'adam_learning_rate', ADAM_RATES)
