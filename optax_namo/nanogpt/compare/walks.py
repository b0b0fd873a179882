# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tuning that says which runs it needs next: walks on ladders of values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
import statistics
from typing import Any

from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import final_loss
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.arms import TUNED
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import make_config

Knobs = dict[str, Any]  # By name, the rest at their defaults.


class Wanted(Exception):
  """There are no rows yet for these runs."""

  def __init__(self, runs: Iterable[Config]):
    super().__init__()
    self.runs = list(runs)


class Rows:
  """The rows there are, by knobs and seed."""

  def __init__(self, rows: Iterable[Row]):
    self._rows = {identity(from_file(row['config'])): row for row in rows}

  def need(self, wanted: Iterable[Knobs], seeds: Sequence[int]) -> None:
    """Raises Wanted unless all of these runs have a row."""
    runs = [_run(knobs, seed) for knobs in wanted for seed in seeds]
    left = [run for run in runs if identity(run) not in self._rows]
    if left:
      raise Wanted(left)

  def arm(self, knobs: Knobs, label: str, seeds: Iterable[int]) -> Arm:
    """An arm with the rows that there are of these seeds."""
    runs = {seed: identity(_run(knobs, seed)) for seed in seeds}
    return Arm(
      {knob: value for knob, value in knobs.items() if knob not in TUNED},
      {'varied': label} if label else {},
      {knob: value for knob, value in knobs.items() if knob in TUNED},
      {s: self._rows[run] for s, run in runs.items() if run in self._rows},
    )

  def mean(self, knobs: Knobs, seeds: Sequence[int]) -> float:
    """Mean final loss, in nats a token; infinite where a run diverged."""
    self.need([knobs], seeds)
    return statistics.fmean(
      final_loss(self._rows[identity(_run(knobs, seed))]) for seed in seeds
    )


def _run(knobs: Mapping[str, Any], seed: int) -> Config:
  return _made(tuple(knobs.items()), seed)


@functools.cache  # A walk asks for the same runs again and again.
def _made(knobs: tuple[tuple[str, Any], ...], seed: int) -> Config:
  return make_config(**dict(knobs), seed=seed)


def walk(
  rows: Rows,
  knobs: Knobs,
  knob: str,
  ladder: Sequence[float],
  seeds: Sequence[int],
  *,
  tied: Callable[[float], Knobs] = lambda value: {},
) -> Knobs:
  """The knobs at a rung that is better than both of its neighbours.

  Args:
    rows: What there is.
    knobs: The other knobs; its own value of ``knob`` is where the walk begins.
    knob: What is tuned.
    ladder: Its values, in order.
    seeds: On whose mean loss.
    tied: Knobs that follow from the value.

  Returns:
    The knobs with the best value.

  Raises:
    Wanted: A run on the way has no row yet.
  """
  at = lambda i: knobs | {knob: ladder[i]} | tied(ladder[i])
  i = min(range(len(ladder)), key=lambda i: abs(ladder[i] - knobs[knob]))
  while True:
    around = [j for j in (i - 1, i, i + 1) if 0 <= j < len(ladder)]
    rows.need(map(at, around), seeds)
    best = min(around, key=lambda j: (rows.mean(at(j), seeds), abs(j - i)))
    if best == i:
      return at(i)
    i = best
