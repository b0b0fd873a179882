# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The hypotheses of PROTOCOL.md, each with its test and what came of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools

import numpy as np

from benchmarks.evidence import answers
from benchmarks.evidence import ladders
from benchmarks.evidence.answers import MUON
from benchmarks.evidence.answers import NAMO
from benchmarks.evidence.answers import NAMO_D
from benchmarks.evidence.answers import Undecided
from benchmarks.evidence.ladders import Rows
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.significance import holm
from optax_namo.nanogpt.compare.significance import LEVEL
from optax_namo.nanogpt.compare.significance import Paired
from optax_namo.nanogpt.compare.significance import paired

MARGIN = 0.01  # Nats a character, of H3 and H4.


def _gains(one: Arm, other: Arm, seeds: Sequence[int] = ()) -> np.ndarray:
  """Loss of the one minus that of the other, at these seeds or all."""
  by_seed = judge.gains(one, other)
  gains = np.array([by_seed[seed] for seed in seeds or by_seed])
  if not np.isfinite(gains).all():
    raise Undecided('a run that it needs diverged')
  return gains


def _told(
  tests: dict[str, Paired], *, corrected: bool = True
) -> tuple[str, list[float]]:
  """Each test by name, and the means that are seen."""
  p_values = [test.p for test in tests.values()]
  if corrected:
    p_values = holm(p_values)
  told = '; '.join(
    f'{name} {test.mean:+.4f} {judge.interval(test)}, {judge.p_value(p)}'
    for (name, test), p in zip(tests.items(), p_values)
  )
  seen = [t.mean for t, p in zip(tests.values(), p_values) if p < LEVEL]
  return f'{told}. ', seen


def _verdict(holds: bool, contradicted: bool) -> str:
  if holds:
    return 'It holds.'
  return 'Contradicted.' if contradicted else 'Neither shown nor contradicted.'


def _slopes(
  found: dict[str, answers.Pairs], seeds: Sequence[int]
) -> dict[str, list[float]]:
  """Of two arms' difference over log2 of what both are put to, one a seed."""
  gains = lambda pairs: [_gains(*pair, seeds) for pair in pairs.values()]
  slopes = lambda pairs: np.polyfit(np.log2(list(pairs)), gains(pairs), 1)[0]
  return {name: slopes(pairs).tolist() for name, pairs in found.items()}


def over_batches(
  rows: Rows, questions: Mapping[int, str] = answers.NOISE
) -> dict[str, list[float]]:
  """By NAMO-D and NAMO, slopes of the difference to Muon."""
  return _slopes(answers.by_batch(rows, questions), ladders.FINAL)


def over_widths(rows: Rows) -> dict[str, list[float]]:
  """By the decay, slopes of NAMO-D's difference to Muon, on unseen seeds."""
  return _slopes(answers.by_width(rows), ladders.UNSEEN)


def order(rows: Rows) -> str:
  """NAMO-D < NAMO < Muon at batch 16."""
  arms = answers.arms(rows, 'Ordering')
  told, seen = _told(
    {
      f'{one} − {other}': paired(_gains(arms[one], arms[other]))
      for one, other in itertools.combinations((NAMO_D, NAMO, MUON), 2)
    }
  )
  holds = len(seen) == 3 and max(seen) < 0
  return told + _verdict(holds, max(seen, default=-1) > 0)


def signal(rows: Rows) -> str:
  """NAMO's difference to Muon falls as the signal to noise grows."""
  slopes = over_batches(rows, answers.SIGNAL['under decay'])
  told, seen = _told(
    {
      f'slope of {rule} − Muon a doubling of the batch': paired(of)
      for rule, of in slopes.items()
    }
  )
  return told + _verdict(
    bool(seen) and max(seen) < 0, bool(seen) and min(seen) > 0
  )


def constant(rows: Rows) -> str:
  """At a constant rate and 64 sequences NAMO ends below Muon."""
  arms = answers.arms(rows, answers.SIGNAL['at a constant rate'][64])
  test = paired(_gains(arms[NAMO], arms[MUON]))
  return _told({'NAMO − Muon': test})[0] + _verdict(test.high < 0, test.low > 0)


def following(rows: Rows) -> str:
  """Muon at a rate that follows NAMO's scale is NAMO within 0.01."""
  tests = {}
  for batch in (16, 64):
    arms = answers.arms(rows, f'Following NAMO, each step: batch {batch}')
    model = arms[f'{MUON}, follows the model']
    matrix = arms[f'{MUON}, follows each matrix']
    tests |= {
      f'following − NAMO at {batch}': paired(_gains(model, arms[NAMO])),
      f'each matrix − the model at {batch}': paired(_gains(matrix, model)),
    }
  within = [t for name, t in tests.items() if 'NAMO' in name]
  return _told(tests, corrected=False)[0] + _verdict(
    all(-MARGIN < t.low and t.high < MARGIN for t in within),
    any(t.high < -MARGIN or t.low > MARGIN for t in within),
  )


def changing(rows: Rows) -> str:
  """Where noise changes NAMO ends below Muon at a constant rate."""
  tests = {}
  for name in ('Noisy labels', 'Growing batches'):
    for at in (', a constant rate', ''):
      arms = answers.arms(rows, name + at)
      tests[f'{name.lower()}{at}'] = paired(_gains(arms[NAMO], arms[MUON]))
  told, _ = _told(tests)
  judged = [t for name, t in tests.items() if 'constant' in name]
  return told + _verdict(
    all(t.high < 0 for t in judged), any(t.low > 0 for t in judged)
  )


def transfer(rows: Rows) -> str:
  """With `spectral` best rates drift by less than half an octave."""
  drifts = {
    scale: {name: answers.drift(of, name) for name in of[64]}
    for scale, of in answers.by_shape_scale(rows).items()
  }
  told = '; '.join(
    f'{scale}: ' + ', '.join(f'{name} {x:+.1f}' for name, x in of.items())
    for scale, of in drifts.items()
  )
  small = [abs(x) < 0.5 for x in drifts['spectral'].values()]
  falls = all(x < -0.5 for x in drifts['rms'].values())
  return f'Octaves from 64 to 256: {told}. ' + _verdict(
    all(small) and falls, not any(small)
  )


def noise(rows: Rows) -> str:
  """The gain over Muon grows as the batch shrinks (H2), or as it grows (H5)."""
  told, seen = _told(
    {
      f'slope of {rule} − Muon a doubling': paired(slopes)
      for rule, slopes in over_batches(rows).items()
    }
  )
  if seen and min(seen) > 0:
    told += 'The gain grows as the batch shrinks: H2 holds, H5 does not.'
  elif seen and max(seen) < 0:
    told += 'The gain grows with the batch: H5 holds here, H2 does not.'
  else:
    told += 'Neither is shown.'
  return told


def decay(rows: Rows) -> str:
  """At their best decays NAMO and Muon differ by less than 0.01."""
  arms = answers.arms(rows, 'Decay')
  namo = min(
    (arms[NAMO], arms[f'{NAMO}, decoupled']),
    key=lambda arm: rows.mean(arm.knobs | arm.setting),
  )
  test = paired(_gains(namo, arms[MUON]))
  return _told({'NAMO − Muon': test})[0] + _verdict(
    -MARGIN < test.low and test.high < MARGIN,
    test.high < -MARGIN or test.low > MARGIN,
  )


def shared_rate(rows: Rows) -> str:
  """Sharing the matrices' rate costs NAMO-D more than 0.01, a tenth less."""
  arms = answers.arms(rows, 'Rate of the AdamW group')
  names = NAMO_D, f'{NAMO_D}, shared', f'{NAMO_D}, a tenth'
  tuned, shared, tenth = (arms[name] for name in names)
  tests = {
    'shared − tuned': paired(_gains(shared, tuned)),
    'a tenth − tuned': paired(_gains(tenth, tuned)),
    'a tenth − shared': paired(_gains(tenth, shared)),
  }
  cost, _, less = tests.values()
  return _told(tests, corrected=False)[0] + _verdict(
    cost.low > MARGIN and less.high < 0, cost.high < MARGIN or less.low > 0
  )


def schedule(rows: Rows) -> str:
  """NAMO's gain over Muon is larger at a constant rate than under decay."""
  decaying, constant = (
    _gains(arms[NAMO], arms[MUON], ladders.UNSEEN)
    for name in ('Ordering', 'A constant rate')
    if (arms := answers.arms(rows, name))
  )
  test = paired(constant, decaying)
  name = (
    'NAMO − Muon, at a constant rate minus under decay, on'
    f' {len(ladders.UNSEEN)} seeds'
  )
  return _told({name: test})[0] + _verdict(test.high < 0, test.low > 0)


def width(rows: Rows) -> str:
  """NAMO-D's difference to Muon grows with the width."""
  told, seen = _told(
    {
      f'slope of NAMO-D − Muon a doubling, {decay},': paired(slopes)
      for decay, slopes in over_widths(rows).items()
    }
  )
  holds = len(seen) == len(answers.WIDTHS) and min(seen) > 0
  return told + _verdict(holds, max(seen, default=1) < 0)


TESTS: dict[str, Callable[[Rows], str]] = {
  'H1': order,
  'H2 and H5, noise': noise,
  'H3': decay,
  'H4': shared_rate,
  'H5, schedule': schedule,
  'H6': width,
  'H7': signal,
  'H8': constant,
  'H9': following,
  'H10': changing,
  'H11': transfer,
}


def verdicts(rows: Rows) -> Iterator[tuple[str, str, str]]:
  """Name, hypothesis, and what came out, of each."""
  for name, test in TESTS.items():
    try:
      came_out = test(rows)
    except Undecided as why:
      came_out = f'Not decided: {why}.'
    yield name, (test.__doc__ or '').strip(), came_out
