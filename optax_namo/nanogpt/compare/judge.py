# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What may be concluded: arms against a baseline, paired over seeds."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import math
from typing import Any, NamedTuple

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.compare import tuning
from optax_namo.nanogpt.compare.tuning import Best

# An optimizer's name, or the values of any knobs.
Baseline = str | Mapping[str, Any]

# What seeds are asked to show, in nats a token: a fourth of the paper's gain of
# NAMO-D on Muon (arXiv 2602.17080, GPT-2 124M: 3.0246 and 3.0435).
DIFFERENCE = 0.005

# In these an arm and its baseline may differ, as optimizers have them of their
# own or not at all. All else is the task, and is to be equal.
_OWN = (
  'learning_rate', 'adam_learning_rate', 'weight_decay', 'decay', 'nesterov',
  'shape_scale', 'b1', 'b2', 'ns_coefficients', 'preconditioning', 'ns_steps',
  'clamp', 'columns',
)  # fmt: skip


class Comparison(NamedTuple):
  """An arm against its baseline.

  Attributes:
    arm: The arm at its best setting.
    baseline: The baseline at its own.
    seeds: The seeds that both have: same data, same initialization.
    paired: Loss of the arm minus that of the baseline, in nats a token; None
      where there are fewer than two such seeds, or one diverged.
    p: The p-value, corrected for the number of comparisons; None likewise.
    needed: The number of pairs that would show a difference of 0.005.
  """

  arm: Best
  baseline: Best
  seeds: tuple[int, ...]
  paired: significance.Paired | None
  p: float | None
  needed: int | None

  @property
  def mean(self) -> float:
    """Mean difference over one seed or more; not finite where one diverged."""
    if self.paired:
      return self.paired.mean
    arm, baseline = (
      [one.losses[seed] for seed in self.seeds]
      for one in (self.arm, self.baseline)
    )
    return math.fsum(arm) / len(arm) - math.fsum(baseline) / len(baseline)


def bests(
  rows: Iterable[dict[str, Any]],
  *,
  tuned: Collection[str] = arms.TUNED,
  tuning_seeds: Collection[int] | None = None,
) -> list[Best]:
  """Each arm of some rows at its best setting, without those that have none."""
  found = (tuning.best(arm, tuning_seeds) for arm in arms.find(rows, tuned))
  return [best for best in found if best]


def default_baseline(bests: Sequence[Best]) -> Baseline:
  """Muon, optax's, AdamW or the first, whichever is there; of one, an arm."""
  first = bests[0].arm
  names = {best.arm.optimizer for best in bests}
  if len(names) == 1:
    return {knob: first.knobs[knob] for knob in first.names if knob in _OWN}
  order = 'muon', 'optax_muon', 'adamw', first.optimizer
  return next(name for name in order if name in names)


def against(
  best: Best, baseline: Baseline, bests: Iterable[Best]
) -> Best | None:
  """What an arm is compared with: itself with the knobs of the baseline.

  Args:
    best: The arm.
    baseline: The baseline.
    bests: The arms there are.

  Returns:
    The arm with the baseline's knobs that runs the same task, and otherwise
    differs least from this one; None where there is none, or it is this one.
  """
  named = {'optimizer': baseline} if isinstance(baseline, str) else baseline
  wanted = {**best.arm.knobs, **named}
  free = set(_OWN) - set(named)
  candidates = [
    other
    for other in bests
    if all(other.arm.knobs[k] == wanted[k] for k in wanted if k not in free)
  ]
  if not candidates or best in candidates:
    return None
  return max(
    candidates,
    key=lambda other: sum(other.arm.knobs[k] == wanted[k] for k in wanted),
  )


def compare(
  bests: Sequence[Best], baseline: Baseline | None = None
) -> list[Comparison]:
  """Every arm against its baseline.

  p-values are Holm-corrected for the number of comparisons, of which those that
  cannot be judged count as well.

  Args:
    bests: The arms at their best settings.
    baseline: What they are compared with; None means ``default_baseline``.

  Returns:
    A comparison for each arm that has a baseline.
  """
  if not bests:
    return []
  if baseline is None:
    baseline = default_baseline(bests)
  pairs = [
    (best, other) for best in bests if (other := against(best, baseline, bests))
  ]
  tests = [_paired(best, other) for best, other in pairs]
  corrected = significance.holm([test.p if test else 1.0 for test in tests])
  level = significance.LEVEL / max(len(pairs), 1)
  return [
    Comparison(
      best,
      other,
      common(best, other),
      test,
      p if test else None,
      significance.pairs_needed(test.sd, DIFFERENCE, level=level)
      if test
      else None,
    )
    for (best, other), test, p in zip(pairs, tests, corrected)
  ]


def common(best: Best, other: Best) -> tuple[int, ...]:
  """The seeds that judge both."""
  return tuple(seed for seed in best.runs if seed in other.runs)


def _paired(best: Best, other: Best) -> significance.Paired | None:
  seeds = common(best, other)
  losses = [[one.losses[seed] for seed in seeds] for one in (best, other)]
  if len(seeds) < 2 or not all(map(math.isfinite, [*losses[0], *losses[1]])):
    return None
  return significance.paired(*losses)


def conclusion(comparison: Comparison) -> str:
  """What a comparison shows, in a sentence."""
  arm, other = comparison.arm.arm, comparison.baseline.arm
  test, p = comparison.paired, comparison.p
  if test is None or p is None:
    return f'{arm} and {other}: no conclusion, {_why(comparison)}.'
  said = f'{test.n} seeds, {p_value(p)}'
  digits = decimals(test)
  if p < significance.LEVEL:
    side = 'below' if test.mean < 0 else 'above'
    size = f'{abs(test.mean):.{digits}f} ± {test.half:.{digits}f}'
    sentence = f'{arm} is {size} {side} {other} ({said})'
  else:
    more = more_pairs(comparison)
    sentence = (
      f'{arm} and {other}: no difference seen, {test.mean:.{digits}f}'
      f' {interval(test)}, {said}; {DIFFERENCE} would'
      + (f' need {more} more seed{"s"[: more > 1]}' if more else ' be seen')
    )
  loose = _not_tuned(comparison)
  if loose:
    sentence += (
      f'; but {" and ".join(map(str, loose))}'
      f' {"are" if len(loose) > 1 else "is"} not tuned'
    )
  return sentence + '.'


def _not_tuned(comparison: Comparison) -> list[arms.Arm]:
  """The arms at an edge, or fixed in what the other one was tuned in."""
  arm, baseline = comparison.arm, comparison.baseline
  return [
    one.arm
    for one, other in ((arm, baseline), (baseline, arm))
    if one.edges or one.fixed.keys() - other.fixed.keys()
  ]


def _why(comparison: Comparison) -> str:
  seeds = comparison.seeds
  if len(seeds) == 1:
    return f'only {tuning.seed_list(seeds)} in common'
  for one in (comparison.arm, comparison.baseline):
    gone = [seed for seed in seeds if math.isinf(one.losses[seed])]
    if gone:
      return f'{one.arm} diverged ({tuning.seed_list(gone)})'
  return 'no seed in common'


def more_pairs(comparison: Comparison) -> int:
  """How many more pairs show a difference of 0.005."""
  assert comparison.paired and comparison.needed
  return max(comparison.needed - comparison.paired.n, 0)


def decimals(test: significance.Paired) -> int:
  """Three, or as many as the interval's half-width takes, but float32's."""
  return max(3, -math.floor(math.log10(max(test.half, 1e-6))))


def interval(test: significance.Paired) -> str:
  digits = decimals(test)
  return f'[{test.low:.{digits}f}, {test.high:.{digits}f}]'


def p_value(p: float) -> str:
  return 'p < 0.001' if p < 0.001 else f'p = {p:.2g}'
