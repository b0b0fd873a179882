# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The hypotheses of PROTOCOL.md, each with its test and what came of it."""

from collections.abc import Callable, Iterator, Sequence
import itertools

import numpy as np

from benchmarks.evidence import answers
from benchmarks.evidence import plan
from benchmarks.evidence.answers import MUON
from benchmarks.evidence.answers import NAMO
from benchmarks.evidence.answers import NAMO_D
from benchmarks.evidence.plan import Rows
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.significance import holm
from optax_namo.nanogpt.compare.significance import LEVEL
from optax_namo.nanogpt.compare.significance import Paired
from optax_namo.nanogpt.compare.significance import paired

A, D, H, L = (
  next(title for title in plan.QUESTIONS if title.startswith(f'({letter})'))
  for letter in 'adhl'
)
NOISE = {
  **{n: f'(b) Noise: batch {n}' for n in (1, 2, 4)},
  16: A,
  64: '(b) Noise: batch 64',
}
# By the weight decay: for each width the question, and what varies there.
WIDTHS = {
  'at the decays tuned at 128': {
    64: ('(k) Width 64', ''),
    128: (A, ''),
    256: ('(k) Width 256', ''),
  },
  'without decay': {
    64: ('(o) Width 64, no decay', ''),
    128: (D, ', none'),
    256: ('(o) Width 256, no decay', ''),
  },
}
MARGIN = 0.01  # Nats a character, of H3 and H4.


class Undecided(Exception):
  """A question on which it hangs is open, or a run that it needs diverged."""


def _arms(rows: Rows, title: str) -> answers.Arms:
  found = answers.arms(rows, title)
  if found is None:
    raise Undecided(f'{title} is open')
  return found


def _gains(one: Arm, other: Arm, seeds: Sequence[int]) -> np.ndarray:
  """Loss of the one minus that of the other, by seed."""
  gains = np.array([one.losses[seed] - other.losses[seed] for seed in seeds])
  if not np.isfinite(gains).all():
    raise Undecided('a run that it needs diverged')
  return gains


def _paired(one: Arm, other: Arm) -> Paired:
  return paired(_gains(one, other, judge.common(one, other)))


def _verdict(holds: bool, contradicted: bool) -> str:
  if holds:
    return 'It holds.'
  return 'Contradicted.' if contradicted else 'Neither shown nor contradicted.'


def _told(tests: dict[str, Paired], p_values: Sequence[float] = ()) -> str:
  """Each test by name, with its own p-value or another."""
  return '; '.join(
    f'{name} {test.mean:+.4f} {judge.interval(test)}, {judge.p_value(p)}'
    for (name, test), p in zip(
      tests.items(), p_values or [test.p for test in tests.values()]
    )
  )


def _corrected(tests: dict[str, Paired]) -> tuple[str, list[float]]:
  """What is told of tests that are corrected, and the means that are seen."""
  p_values = holm([test.p for test in tests.values()])
  seen = [t.mean for t, p in zip(tests.values(), p_values) if p < LEVEL]
  return _told(tests, p_values), seen


def order(rows: Rows) -> str:
  """NAMO-D < NAMO < Muon at batch 16."""
  arms = _arms(rows, A)
  said, seen = _corrected(
    {
      f'{one} − {other}': _paired(arms[one], arms[other])
      for one, other in itertools.combinations((NAMO_D, NAMO, MUON), 2)
    }
  )
  verdict = _verdict(
    len(seen) == 3 and max(seen) < 0, max(seen, default=-1) > 0
  )
  return f'{said}. {verdict}'


def _slopes(pairs: answers.Pairs, seeds: Sequence[int]) -> list[float]:
  """Of two arms' difference over log2 of what both are put to, one a seed."""
  gains = [_gains(one, other, seeds) for one, other in pairs.values()]
  return np.polyfit(np.log2(list(pairs)), gains, 1)[0].tolist()


def over_batches(rows: Rows, rule: str) -> list[float]:
  """Slopes of an optimizer's difference to Muon, one a seed."""
  arms = {batch: _arms(rows, title) for batch, title in NOISE.items()}
  pairs = {batch: (of[rule], of[MUON]) for batch, of in arms.items()}
  return _slopes(pairs, plan.FINAL)


def by_width(rows: Rows, decay: str) -> answers.Pairs:
  """NAMO-D and Muon at each width, of one of ``WIDTHS``."""
  return {
    width: (arms[NAMO_D + varied], arms[MUON + varied])
    for width, (title, varied) in WIDTHS[decay].items()
    if (arms := _arms(rows, title))
  }


def over_widths(rows: Rows, decay: str) -> list[float]:
  """Slopes of NAMO-D's difference to Muon, one an unseen seed."""
  return _slopes(by_width(rows, decay), plan.UNSEEN)


def noise(rows: Rows) -> str:
  """The gain over Muon grows as the batch shrinks (H2), or as it grows (H5)."""
  said, seen = _corrected(
    {
      f'slope of {rule} − Muon a doubling': paired(over_batches(rows, rule))
      for rule in (NAMO_D, NAMO)
    }
  )
  verdict = 'Neither is shown.'
  if seen and min(seen) > 0:
    verdict = 'The gain grows as the batch shrinks: H2 holds, H5 does not.'
  elif seen and max(seen) < 0:
    verdict = 'The gain grows with the batch: H5 holds here, H2 does not.'
  return f'{said}. {verdict}'


def decay(rows: Rows) -> str:
  """At their best decays NAMO and Muon differ by less than 0.01."""
  arms = _arms(rows, D)
  namo = min(
    (arms[NAMO], arms[f'{NAMO}, decoupled']),
    key=lambda arm: rows.mean(arm.knobs | arm.setting),
  )
  test = _paired(namo, arms[MUON])
  verdict = _verdict(
    -MARGIN < test.low and test.high < MARGIN,
    test.high < -MARGIN or test.low > MARGIN,
  )
  return f'{_told({"NAMO − Muon": test})}. {verdict}'


def shared_rate(rows: Rows) -> str:
  """Sharing the matrices' rate costs NAMO-D more than 0.01, a tenth less."""
  arms = _arms(rows, H)
  names = NAMO_D, f'{NAMO_D}, shared', f'{NAMO_D}, a tenth'
  tuned, shared, tenth = (arms[name] for name in names)
  tests = {
    'shared − tuned': _paired(shared, tuned),
    'a tenth − tuned': _paired(tenth, tuned),
    'a tenth − shared': _paired(tenth, shared),
  }
  cost, _, less = tests.values()
  verdict = _verdict(
    cost.low > MARGIN and less.high < 0, cost.high < MARGIN or less.low > 0
  )
  return f'{_told(tests)}. {verdict}'


def schedule(rows: Rows) -> str:
  """NAMO's gain over Muon is larger at a constant rate than under decay."""
  decaying, constant = (
    _gains(arms[NAMO], arms[MUON], plan.UNSEEN)
    for arms in (_arms(rows, A), _arms(rows, L))
  )
  test = paired(constant, decaying)
  name = (
    'NAMO − Muon, at a constant rate minus under decay, on'
    f' {len(plan.UNSEEN)} seeds'
  )
  return f'{_told({name: test})}. {_verdict(test.high < 0, test.low > 0)}'


def width(rows: Rows) -> str:
  """NAMO-D's difference to Muon grows with the width."""
  said, seen = _corrected(
    {
      f'slope of NAMO-D − Muon a doubling, {d},': paired(over_widths(rows, d))
      for d in WIDTHS
    }
  )
  verdict = _verdict(
    len(seen) == len(WIDTHS) and min(seen) > 0, max(seen, default=1) < 0
  )
  return f'{said}. {verdict}'


TESTS: dict[str, Callable[[Rows], str]] = {
  'H1': order,
  'H2 and H5, noise': noise,
  'H3': decay,
  'H4': shared_rate,
  'H5, schedule': schedule,
  'H6': width,
}


def verdicts(rows: Rows) -> Iterator[tuple[str, str, str]]:
  """Name, hypothesis, and what came out, of each."""
  for name, test in TESTS.items():
    try:
      came_out = test(rows)
    except Undecided as why:
      came_out = f'Not decided: {why}.'
    yield name, (test.__doc__ or '').strip(), came_out
