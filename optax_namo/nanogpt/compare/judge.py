# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What may be concluded: differences of arms, paired over seeds."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.compare import tuning
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.config import Config

# An optimizer's name, or the values of any knobs.
Baseline = str | Mapping[str, Any]

# What seeds are asked to show, in nats per token: a fourth of the paper's gain
# of NAMO-D on Muon (arXiv 2602.17080, GPT-2 124M: 3.0246 and 3.0435).
DIFFERENCE = 0.005

# In these an arm and its baseline may differ, as optimizers have them of their
# own or not at all. All else is the task, and is to be equal.
_OWN = {f.name for f in dataclasses.fields(Config) if f.metadata['own']}


class Difference(NamedTuple):
  """An arm against another.

  Attributes:
    one: The arm.
    other: What it is compared with.
    gains: Loss of the one minus that of the other by the seeds that both have:
      same data, same initialization. In nats per token.
    paired: Their test; None where there are fewer than two, or a run diverged.
    p: The p-value, corrected for the number of differences; None likewise.
    more: How many more pairs would show a difference of 0.005; None likewise.
  """

  one: Arm
  other: Arm
  gains: dict[int, float]
  paired: significance.Paired | None
  p: float | None
  more: int | None

  @property
  def seeds(self) -> tuple[int, ...]:
    return tuple(self.gains)

  @property
  def mean(self) -> float:
    """Mean difference over one seed or more; not finite where one diverged."""
    if self.paired:
      return self.paired.mean
    return sum(self.gains.values()) / len(self.gains)

  @property
  def seen(self) -> bool:
    return self.p is not None and self.p < significance.LEVEL


def gains(one: Arm, other: Arm) -> dict[int, float]:
  """Loss of the one minus that of the other, by the seeds that judge both."""
  losses, base = one.losses, other.losses
  return {seed: x - base[seed] for seed, x in losses.items() if seed in base}


def difference(one: Arm, other: Arm, among: int = 1) -> Difference:
  """Of two arms, and how many pairs show more among so many differences."""
  by_seed = gains(one, other)
  values = list(by_seed.values())
  if len(values) < 2 or not all(map(math.isfinite, values)):
    return Difference(one, other, by_seed, None, None, None)
  test = significance.paired(values)
  level = significance.LEVEL / among
  needed = significance.pairs_needed(test.sd, DIFFERENCE, level=level)
  return Difference(one, other, by_seed, test, test.p, max(needed - test.n, 0))


def differences(pairs: Sequence[tuple[Arm, Arm]]) -> list[Difference]:
  """The difference of each pair of arms.

  p-values are Holm-corrected for their number, of which pairs that cannot be
  judged count as well.
  """
  found = [difference(one, other, len(pairs)) for one, other in pairs]
  corrected = significance.holm([1.0 if d.p is None else d.p for d in found])
  return [d._replace(p=p) if d.paired else d for d, p in zip(found, corrected)]


def default_baseline(arms: Sequence[Arm]) -> Baseline:
  """Muon, optax's, AdamW or the first, whichever is there; of one, an arm."""
  first = arms[0]
  names = {arm.optimizer for arm in arms}
  if len(names) == 1:
    return {k: first.knobs[k] for k in first.labels if k in _OWN}
  order = 'muon', 'optax_muon', 'adamw', first.optimizer
  return next(name for name in order if name in names)


def against(arm: Arm, baseline: Baseline, arms: Iterable[Arm]) -> Arm | None:
  """What an arm is compared with: itself with the knobs of the baseline.

  Of the arms that have these and run the same task, the one that otherwise
  differs least; None where there is none, or it is this one.
  """
  named = {'optimizer': baseline} if isinstance(baseline, str) else baseline
  wanted = {**arm.knobs, **named}
  free = _OWN - set(named)
  differ = lambda other: {k for k in wanted if other.knobs[k] != wanted[k]}
  candidates = [other for other in arms if differ(other) <= free]
  if not candidates or arm in candidates:
    return None
  return min(candidates, key=lambda other: len(differ(other)))


def compare(
  arms: Sequence[Arm], baseline: Baseline | None = None
) -> list[Difference]:
  """The difference of every arm to its baseline, where it has one."""
  if arms and baseline is None:
    baseline = default_baseline(arms)
  pairs = [(arm, against(arm, baseline or {}, arms)) for arm in arms]
  return differences([(arm, other) for arm, other in pairs if other])


def conclusion(difference: Difference) -> str:
  """What a difference shows, in a sentence."""
  one, other, seeds, test, p, more = difference
  if test is None or p is None:
    return f'{one} and {other}: no conclusion, {_why(difference)}.'
  said = f'{len(seeds)} seeds, {p_value(p)}'
  if difference.seen:
    sentence = f'{one} is {size(test)} {other} ({said})'
  else:
    would = f'need {more} more seed{"s"[: more != 1]}' if more else 'be seen'
    sentence = (
      f'{one} and {other}: no difference seen,'
      f' {test.mean:.{decimals(test)}f} {interval(test)}, {said};'
      f' {DIFFERENCE} would {would}'
    )
  # At an edge, or fixed in what the other one was tuned in.
  loose = [
    str(arm)
    for arm, beside in ((one, other), (other, one))
    if arm.edges or arm.fixed.keys() - beside.fixed.keys()
  ]
  if loose:
    verb = 'are' if len(loose) > 1 else 'is'
    sentence += f'; but {" and ".join(loose)} {verb} not tuned'
  return sentence + '.'


def _why(difference: Difference) -> str:
  seeds = difference.seeds
  if len(seeds) == 1:
    return f'only {tuning.seed_list(seeds)} in common'
  for arm in difference[:2]:
    if gone := [seed for seed in seeds if math.isinf(arm.losses[seed])]:
      return f'{arm} diverged ({tuning.seed_list(gone)})'
  return 'no seed in common'


def decimals(test: significance.Paired) -> int:
  """Three, or as many as the interval's half-width takes, but float32's."""
  return max(3, -math.floor(math.log10(max(test.half, 1e-6))))


def size(test: significance.Paired, digits: int | None = None) -> str:
  """'0.0042 ± 0.0017 below', of the difference and its 95% interval."""
  digits = digits or decimals(test)
  side = 'below' if test.mean < 0 else 'above'
  return f'{abs(test.mean):.{digits}f} ± {test.half:.{digits}f} {side}'


def interval(test: significance.Paired, digits: int | None = None) -> str:
  digits = digits or decimals(test)
  return f'[{test.low:.{digits}f}, {test.high:.{digits}f}]'


def p_value(p: float) -> str:
  return 'p < 0.001' if p < 0.001 else f'p = {p:.2g}'
