# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rows answer: the arms of each question, and their differences."""

from collections.abc import Sequence
import itertools
import statistics

from benchmarks.evidence import plan
from benchmarks.evidence.plan import Rows
from benchmarks.evidence.plan import Wanted
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.config import OPTIMIZERS

_NAMED = 4  # Pairs in a sentence, where more would not be read.

NAMO_D, NAMO, MUON = (OPTIMIZERS[rule].label for rule in plan.RULES)

Arms = dict[str, Arm]  # Of a question, by name: 'NAMO-D', 'NAMO-D, no decay'.
# Two that are compared, by the batch size or the width that both are put to.
Pairs = dict[int, tuple[Arm, Arm]]


def arms(rows: Rows, title: str) -> Arms | None:
  """Those of a question; None while it is open."""
  question, optimizers = plan.QUESTIONS[title]
  try:
    found = [arm for one in optimizers for arm in question(rows, one)]
  except Wanted:
    return None
  return {str(arm): arm for arm in found}


def variations(of: Arms) -> list[tuple[Arm, Arm]]:
  """Each variation with what it varies, where that changes a knob at all.

  No decay is not another arm where tuning chose none.
  """
  bases = {arm.optimizer: arm for arm in of.values() if not arm.labels}
  alike = lambda arm: arm._replace(labels={}, runs={})
  return [
    (arm, base)
    for arm in of.values()
    if arm.labels
    and (base := bases.get(arm.optimizer))
    and alike(arm) != alike(base)
  ]


def differences(of: Arms) -> list[judge.Difference]:
  """Of each variation to what it varies, and of optimizers with all else equal.

  Optimizers are not compared where the question varies them by their own rates
  (``unvaried`` is empty), nor once more where it is (a) that is varied.
  """
  unvaried = [arm for arm in of.values() if not arm.labels]
  pairs = variations(of)
  if unvaried:
    pairs += [
      (one, other)
      for one, other in itertools.combinations(of.values(), 2)
      if one.labels == other.labels and (one.labels or len(unvaried) == len(of))
    ]
  return [d for d in judge.differences(pairs) if d.paired]


def by_rate(of: Arms) -> dict[str, dict[float, float]]:
  """Of each optimizer, mean loss by rate, rates ascending."""
  found: dict[str, dict[float, float]] = {}
  for arm in sorted(of.values(), key=lambda arm: arm.setting['learning_rate']):
    losses = found.setdefault(arm.optimizer, {})
    losses[arm.setting['learning_rate']] = statistics.fmean(arm.losses.values())
  return found


def sentences(found: Sequence[judge.Difference]) -> str:
  """What differences show, and what they do not."""
  said = [
    f'{d.one} is {judge.size(d.paired, 4)} {d.other} ({judge.p_value(d.p)}).'
    for d in found
    if d.seen
  ]
  if rest := [d for d in found if not d.seen]:
    names = f'any of {len(rest)} {"other " if said else ""}pairs'
    if len(rest) <= _NAMED:
      names = '; or '.join(f'{d.one} and {d.other}' for d in rest)
    widest = max(d.paired.half for d in rest)
    said.append(
      f'No difference is seen between {names}; 95% intervals are'
      f' ± {widest:.4f} or less.'
    )
  return ' '.join(said)
