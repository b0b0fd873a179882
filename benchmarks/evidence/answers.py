# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rows answer: the arms of each question, and their differences.

A question goes by its title or that without its letter, 'Width 64, no decay'.
"""

from collections.abc import Mapping
import contextlib
import itertools
import math
import statistics

from benchmarks.evidence import ladders
from benchmarks.evidence import plan
from benchmarks.evidence.ladders import Rows
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.config import OPTIMIZERS

RULES = NAMO_D, NAMO, MUON = [OPTIMIZERS[rule].label for rule in plan.RULES]
# Questions by the batch size.
NOISE = {n: f'Noise: batch {n}' for n in (1, 2, 4)}
NOISE |= {16: 'Ordering', 64: 'Noise: batch 64'}
# By the weight decay, for each width the question, and what varies there.
WIDTHS = {
  'at the decays tuned at 128': {
    64: ('Width 64', ''),
    128: ('Ordering', ''),
    256: ('Width 256', ''),
  },
  'without decay': {
    64: ('Width 64, no decay', ''),
    128: ('Decay', ', none'),
    256: ('Width 256, no decay', ''),
  },
}

# Questions of the preset `small`, by the batch size.
SIGNAL = {
  'under decay': {n: f'Signal: batch {n}' for n in (4, 16, 64, 256, 1024)},
  'at a constant rate': {
    n: f'Signal: batch {n}, a constant rate' for n in (16, 64, 256)
  },
}

SIBLINGS = {n: f'Siblings, from above too: batch {n}' for n in (16, 64)}
# By the shape scale, for each width the question.
TRANSFER = {
  scale: {n: f'Width {n}, {scale}' for n in (64, 128, 256)}
  for scale in ('rms', 'width', 'spectral')
}

Arms = dict[str, Arm]  # Of a question, by name: 'NAMO-D', 'NAMO-D, no decay'.
# Two that are compared, by the batch size or the width that both are put to.
Pairs = dict[int, tuple[Arm, Arm]]


class Undecided(ValueError):
  """A question is open, or a run that its answer needs diverged."""


def arms(rows: Rows, name: str) -> Arms:
  """Those of a question, if all of its runs are there."""
  for title, (question, optimizers) in plan.ALL.items():
    if name in (title, title.partition(') ')[2]):
      try:
        found = [arm for one in optimizers for arm in question(rows, one)]
      except ladders.Wanted:
        raise Undecided(f'{title} is still open') from None
      return {str(arm): arm for arm in found}
  raise ValueError(f'{name!r} is no question of {list(plan.ALL)}.')


def by_batch(
  rows: Rows, questions: Mapping[int, str] = NOISE
) -> dict[str, Pairs]:
  """Each of ours and Muon at each batch size, by its name."""
  found = {batch: arms(rows, name) for batch, name in questions.items()}
  return {
    rule: {batch: (of[rule], of[MUON]) for batch, of in found.items()}
    for rule in (NAMO_D, NAMO)
  }


def by_signal(rows: Rows) -> dict[str, Pairs]:
  """NAMO and Muon of the preset `small` by schedule and batch size.

  At those that are answered: each is decided for itself.
  """
  found: dict[str, Pairs] = {}
  for at, questions in SIGNAL.items():
    for batch, question in questions.items():
      with contextlib.suppress(Undecided):
        of = by_batch(rows, {batch: question})[NAMO]
        found.setdefault(at, {}).update(of)
  if not found:
    raise Undecided('no signal question is answered')
  return found


def by_width(rows: Rows) -> dict[str, Pairs]:
  """NAMO-D and Muon at each width, by the decay."""
  pair = lambda of, varied: (of[NAMO_D + varied], of[MUON + varied])
  return {
    decay: {
      n: pair(arms(rows, name), varied) for n, (name, varied) in of.items()
    }
    for decay, of in WIDTHS.items()
  }


def by_shape_scale(rows: Rows) -> dict[str, dict[int, Arms]]:
  """What was tuned at each width, by the shape scale."""
  return {
    scale: {n: arms(rows, name) for n, name in of.items()}
    for scale, of in TRANSFER.items()
  }


def drift(by_width: Mapping[int, Arms], name: str) -> float:
  """Octaves of the best rate from the least width to the largest.

  Rungs are half an octave apart, but for their two digits.
  """
  first, *_, last = (
    of[name].setting['learning_rate'] for of in by_width.values()
  )
  return round(2 * math.log2(last / first)) / 2


def cost_of_keeping(
  by_width: Mapping[int, Arms], name: str, width: int
) -> float:
  """Loss at a width with the rates of 64, less that at its own."""
  at = by_width[width]
  return judge.difference(at[f'{name}, rates of 64'], at[name]).mean


def by_siblings(rows: Rows) -> dict[int, Arms]:
  """Ours, those that others take instead, Muon and AdamW, by batch size."""
  return {n: arms(rows, name) for n, name in SIBLINGS.items()}


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
  if len(unvaried) > 5:  # Each to Muon.
    pairs += [(arm, of[MUON]) for name, arm in of.items() if name != MUON]
  elif unvaried:
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


def signal_to_noise(arm: Arm) -> float:
  """Geometric mean of ‖M‖/‖G‖ over matrices and seeds, at the last step."""
  return statistics.geometric_mean(
    told['momentum_norm'] / told['gradient_norm']
    for row in arm.runs.values()
    for told in row['diagnostics'].values()
  )


def signal(arm: Arm) -> float | None:
  """Signal to noise of a batch's gradient, mean over runs; None: not measured.

  Without bias, and so below 0 at times, at every evaluation.
  """
  found = [x for row in arm.runs.values() for _, x in row.get('signal', [])]
  return statistics.fmean(found) if found else None


def scale(arm: Arm) -> float:
  """Mean scale over matrices and runs: of all steps, or of the last one."""

  def scales(row):
    if by_matrix := row.get('scales'):
      return itertools.chain(*by_matrix.values())
    return [told['scale_mean'] for told in row['diagnostics'].values()]

  return statistics.fmean(x for row in arm.runs.values() for x in scales(row))
