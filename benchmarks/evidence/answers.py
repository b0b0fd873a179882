# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rows answer: the arms of each question, and their differences."""

from collections.abc import Sequence
import itertools
import math
from typing import NamedTuple

from benchmarks.evidence import plan
from benchmarks.evidence import tuning
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.config import OPTIMIZERS

_NAMED = 4  # Pairs in a sentence, where more would not be read.


class Key(NamedTuple):
  """An arm of a question: an optimizer and what is varied, '' for nothing."""

  optimizer: str
  varied: str

  def __str__(self) -> str:
    label = OPTIMIZERS[self.optimizer].label
    return f'{label}, {self.varied}' if self.varied else label


NAMO_D, NAMO, MUON = (Key(rule, '') for rule in plan.RULES)

Arms = dict[Key, tuning.Arm]
# Two that are compared, by the batch size or the width that both are put to.
Pairs = dict[int, tuple[tuning.Arm, tuning.Arm]]


class Difference(NamedTuple):
  """Loss of one arm minus that of another, paired over seeds.

  Attributes:
    one: The arm.
    other: What it is compared with.
    test: In nats a character.
    p: Holm's, for all differences of the question.
    more: How many more pairs would show a difference of 0.005.
  """

  one: Key
  other: Key
  test: significance.Paired
  p: float
  more: int


def arms(rows: tuning.Rows, title: str) -> Arms | None:
  """Those of a question; None while it is open."""
  question, optimizers = plan.QUESTIONS[title]
  try:
    return {
      Key(optimizer, varied): arm
      for optimizer in optimizers
      for varied, arm in question(rows, optimizer).items()
    }
  except tuning.Wanted:
    return None


def seeds(rows: tuning.Rows, *of: tuning.Arm) -> tuple[int, ...]:
  """The final seeds for which all arms have a row."""
  common = (rows.seeds(arm, tuning.FINAL) for arm in of)
  return tuple(sorted(set(tuning.FINAL).intersection(*common)))


def paired(
  rows: tuning.Rows, one: tuning.Arm, other: tuning.Arm
) -> significance.Paired | None:
  """The difference of two arms; None where a run diverged, or of one seed."""
  common = seeds(rows, one, other)
  losses = [rows.losses(arm, common) for arm in (one, other)]
  if len(common) < 2 or not all(map(math.isfinite, itertools.chain(*losses))):
    return None
  return significance.paired(*losses)


def variations(of: Arms) -> list[tuple[Key, Key]]:
  """Each variation with what it varies, where that changes a knob at all.

  No decay is not another arm where tuning chose none.
  """
  bases = {key.optimizer: key for key in of if not key.varied}
  return [
    (key, base)
    for key in of
    if key.varied and (base := bases.get(key.optimizer)) and of[key] != of[base]
  ]


def differences(rows: tuning.Rows, of: Arms) -> list[Difference]:
  """Of each variation to what it varies, and of optimizers with all else equal.

  Optimizers are not compared where the question varies them by their own rates
  (``unvaried`` is empty), nor once more where it is (a) that is varied.
  """
  unvaried = [key for key in of if not key.varied]
  pairs = variations(of)
  if unvaried:
    pairs += [
      (one, other)
      for one, other in itertools.combinations(of, 2)
      if one.varied == other.varied and (one.varied or len(unvaried) == len(of))
    ]
  tests = [
    (one, other, test)
    for one, other in pairs
    if (test := paired(rows, of[one], of[other]))
  ]
  corrected = significance.holm([test.p for *_, test in tests])
  level = significance.LEVEL / max(len(tests), 1)
  return [
    Difference(one, other, test, p, _more(test, level))
    for (one, other, test), p in zip(tests, corrected, strict=True)
  ]


def _more(test: significance.Paired, level: float) -> int:
  needed = significance.pairs_needed(test.sd, judge.DIFFERENCE, level=level)
  return max(needed - test.n, 0)


def by_rate(rows: tuning.Rows, of: Arms) -> dict[Key, dict[float, float]]:
  """Of each optimizer, loss by rate, rates ascending."""
  found: dict[Key, dict[float, float]] = {}
  for key, arm in sorted(of.items(), key=lambda one: one[1]['learning_rate']):
    losses = found.setdefault(Key(key.optimizer, ''), {})
    losses[arm['learning_rate']] = rows.mean(arm, tuning.AROUND)
  return found


def size(test: significance.Paired) -> str:
  """'0.0042 ± 0.0017 below', of the difference and its 95% interval."""
  side = 'below' if test.mean < 0 else 'above'
  return f'{abs(test.mean):.4f} ± {test.half:.4f} {side}'


def sentences(found: Sequence[Difference]) -> str:
  """What differences show, and what they do not."""
  seen = [d for d in found if d.p < significance.LEVEL]
  rest = [d for d in found if d.p >= significance.LEVEL]
  said = [
    f'{d.one} is {size(d.test)} {d.other} ({judge.p_value(d.p)}).' for d in seen
  ]
  if rest:
    names = f'any of {len(rest)} {"other " if seen else ""}pairs'
    if len(rest) <= _NAMED:
      names = '; or '.join(f'{d.one} and {d.other}' for d in rest)
    widest = max(d.test.half for d in rest)
    said.append(
      f'No difference is seen between {names}; 95% intervals are'
      f' ± {widest:.4f} or less.'
    )
  return ' '.join(said)
