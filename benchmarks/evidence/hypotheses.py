# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The hypotheses of PROTOCOL.md, each with its test and what came of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools

import numpy as np

from benchmarks.evidence import answers
from benchmarks.evidence import plan
from benchmarks.evidence import tuning
from benchmarks.evidence.answers import MUON
from benchmarks.evidence.answers import NAMO
from benchmarks.evidence.answers import NAMO_D
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import significance

A, D, H, L = (
  next(title for title in plan.QUESTIONS if title.startswith(f'({letter})'))
  for letter in 'adhl'
)
NOISE = {
  int(title.split()[-1]): title
  for title in plan.QUESTIONS
  if title.startswith('(b)')
} | {16: A}
# By the weight decay: for each width the question, and what varies there.
WIDTHS = {
  'at the decays tuned at 128': {
    64: ('(k) Width 64', ''),
    128: (A, ''),
    256: ('(k) Width 256', ''),
  },
  'without decay': {
    64: ('(o) Width 64, no decay', ''),
    128: (D, 'none'),
    256: ('(o) Width 256, no decay', ''),
  },
}
MARGIN = 0.01  # Nats a character, of H3 and H4.


class Open(Exception):
  """A question on which it hangs does not have all of its runs yet."""


class Diverged(Exception):
  """A run that it needs diverged."""


def _arms(rows: tuning.Rows, title: str) -> answers.Arms:
  found = answers.arms(rows, title)
  if found is None:
    raise Open(title)
  return found


def _paired(
  rows: tuning.Rows, one: tuning.Arm, other: tuning.Arm
) -> significance.Paired:
  test = answers.paired(rows, one, other)
  if test is None:
    raise Diverged
  return test


def _verdict(holds: bool, contradicted: bool) -> str:
  if holds:
    return 'It holds.'
  return 'Contradicted.' if contradicted else 'Neither shown nor contradicted.'


def _told(name: str, test: significance.Paired, p: float) -> str:
  return f'{name} {test.mean:+.4f} {judge.interval(test)}, {judge.p_value(p)}'


def order(rows: tuning.Rows) -> str:
  """NAMO-D < NAMO < Muon at batch 16."""
  arms = _arms(rows, A)
  pairs = list(itertools.combinations((NAMO_D, NAMO, MUON), 2))
  tests = [_paired(rows, arms[one], arms[other]) for one, other in pairs]
  corrected = significance.holm([test.p for test in tests])
  seen = [p < significance.LEVEL for p in corrected]
  said = '; '.join(
    _told(f'{one} − {other}', test, p)
    for (one, other), test, p in zip(pairs, tests, corrected)
  )
  signs = [t.mean for s, t in zip(seen, tests) if s]
  verdict = _verdict(
    len(signs) == len(pairs) and max(signs) < 0, max(signs, default=-1) > 0
  )
  return f'{said}. {verdict}'


def _slopes(
  rows: tuning.Rows, pairs: answers.Pairs, seeds: Sequence[int]
) -> list[float]:
  """Of two arms' difference over log2 of what both are put to, one a seed."""
  gains = [
    np.subtract(*(rows.losses(arm, seeds) for arm in pair))
    for pair in pairs.values()
  ]
  if not np.isfinite(gains).all():
    raise Diverged
  return np.polyfit(np.log2(list(pairs)), gains, 1)[0].tolist()


def over_batches(rows: tuning.Rows, rule: answers.Key) -> list[float]:
  """Slopes of an optimizer's difference to Muon, one a seed."""
  arms = {batch: _arms(rows, title) for batch, title in NOISE.items()}
  pairs = {batch: (of[rule], of[MUON]) for batch, of in arms.items()}
  return _slopes(rows, pairs, tuning.FINAL)


def by_width(rows: tuning.Rows, decay: str) -> answers.Pairs:
  """NAMO-D and Muon at each width, of one of ``WIDTHS``."""
  pairs = {}
  for width, (title, varied) in WIDTHS[decay].items():
    arms = _arms(rows, title)
    namo_d, muon = (answers.Key(rule, varied) for rule in ('namo_d', 'muon'))
    pairs[width] = arms[namo_d], arms[muon]
  return pairs


def over_widths(rows: tuning.Rows, decay: str) -> list[float]:
  """Slopes of NAMO-D's difference to Muon, one an unseen seed."""
  return _slopes(rows, by_width(rows, decay), tuning.UNSEEN)


def _judged(slopes: Mapping[str, list[float]]) -> tuple[str, list[float]]:
  """What is told of slopes, by name, and the means of those that are seen."""
  tests = [significance.paired(x, [0.0] * len(x)) for x in slopes.values()]
  corrected = significance.holm([test.p for test in tests])
  told = '; '.join(
    _told(f'slope of {name}', test, p)
    for name, test, p in zip(slopes, tests, corrected)
  )
  return told, [
    t.mean for t, p in zip(tests, corrected) if p < significance.LEVEL
  ]


def noise(rows: tuning.Rows) -> str:
  """The gain over Muon grows as the batch shrinks (H2), or as it grows (H5)."""
  said, seen = _judged(
    {f'{r} − Muon a doubling': over_batches(rows, r) for r in (NAMO_D, NAMO)}
  )
  verdict = 'Neither is shown.'
  if seen and min(seen) > 0:
    verdict = 'The gain grows as the batch shrinks: H2 holds, H5 does not.'
  elif seen and max(seen) < 0:
    verdict = 'The gain grows with the batch: H5 holds here, H2 does not.'
  return f'{said}. {verdict}'


def decay(rows: tuning.Rows) -> str:
  """At their best decays NAMO and Muon differ by less than 0.01."""
  arms = _arms(rows, D)
  namo = min(
    (arms[NAMO], arms[answers.Key('namo', 'decoupled')]),
    key=lambda arm: rows.mean(arm, tuning.TUNING),
  )
  test = _paired(rows, namo, arms[MUON])
  verdict = _verdict(
    -MARGIN < test.low and test.high < MARGIN,
    test.high < -MARGIN or test.low > MARGIN,
  )
  return f'{_told("NAMO − Muon", test, test.p)}. {verdict}'


def shared_rate(rows: tuning.Rows) -> str:
  """Sharing the matrices' rate costs NAMO-D more than 0.01, a tenth less."""
  arms = _arms(rows, H)
  shared, tenth = (
    arms[answers.Key('namo_d', varied)] for varied in ('shared', 'a tenth')
  )
  costs = [_paired(rows, arm, arms[NAMO_D]) for arm in (shared, tenth)]
  less = _paired(rows, tenth, shared)
  said = '; '.join(
    _told(name, test, test.p)
    for name, test in zip(
      ('shared − tuned', 'a tenth − tuned', 'a tenth − shared'),
      (*costs, less),
    )
  )
  verdict = _verdict(
    costs[0].low > MARGIN and less.high < 0,
    costs[0].high < MARGIN or less.low > 0,
  )
  return f'{said}. {verdict}'


def schedule(rows: tuning.Rows) -> str:
  """NAMO's gain over Muon is larger at a constant rate than under decay."""
  here, there = _arms(rows, A), _arms(rows, L)
  decaying, constant = (
    np.subtract(
      *(rows.losses(arms[key], tuning.UNSEEN) for key in (NAMO, MUON))
    )
    for arms in (here, there)
  )
  if not np.isfinite([decaying, constant]).all():
    raise Diverged
  test = significance.paired(constant.tolist(), decaying.tolist())
  verdict = _verdict(test.high < 0, test.low > 0)
  name = (
    'NAMO − Muon, at a constant rate minus under decay, on'
    f' {len(tuning.UNSEEN)} seeds'
  )
  return f'{_told(name, test, test.p)}. {verdict}'


def width(rows: tuning.Rows) -> str:
  """NAMO-D's difference to Muon grows with the width."""
  said, seen = _judged(
    {f'NAMO-D − Muon a doubling, {d},': over_widths(rows, d) for d in WIDTHS}
  )
  verdict = _verdict(
    len(seen) == len(WIDTHS) and min(seen) > 0, max(seen, default=1) < 0
  )
  return f'{said}. {verdict}'


TESTS: dict[str, Callable[[tuning.Rows], str]] = {
  'H1': order,
  'H2 and H5, noise': noise,
  'H3': decay,
  'H4': shared_rate,
  'H5, schedule': schedule,
  'H6': width,
}


def verdicts(rows: tuning.Rows) -> Iterator[tuple[str, str, str]]:
  """Name, hypothesis, and what came out, of each."""
  for name, test in TESTS.items():
    said = (test.__doc__ or '').strip()
    try:
      yield name, said, test(rows)
    except Open as question:
      yield name, said, f'Not decided: {question} is open.'
    except Diverged:
      yield name, said, 'Not decided: a run that it needs diverged.'
