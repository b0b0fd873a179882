# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What README and docs say of the study: each figure is that of its rows."""

import functools
import pathlib

from benchmarks.evidence import answers
from benchmarks.evidence import figures
from benchmarks.evidence import hypotheses
from benchmarks.evidence import plan
from benchmarks.evidence import report
from benchmarks.evidence import tuning
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS

_FOLDER = pathlib.Path(plan.__file__).parent
_ROOT = _FOLDER.parents[1]


def _page(name):
  """Its words, whatever the lines."""
  return ' '.join((_ROOT / name).read_text().split())


@functools.cache
def _published():
  return tuning.Rows(sweep.read_results(_FOLDER))


def _arms(title):
  """Those of the one question whose title begins so."""
  (whole,) = (one for one in plan.QUESTIONS if one.startswith(title))
  return answers.arms(_published(), whole)


def test_the_ordering():
  rows = _published()
  arms = _arms('(a) Ordering')
  alike, above = [], []
  for found in answers.differences(rows, arms):
    adamw = found.other.optimizer == 'adamw'
    (above if adamw else alike).append(found)
  assert len(alike) == 3 and all(d.p > significance.LEVEL for d in alike)
  within = max(abs(d.test.mean) for d in alike)
  for name in ('README.md', 'docs/evidence.md', 'docs/choosing.md'):
    said = _page(name)
    assert f'within {within:.4f} nats of each other' in said, name
    assert 'over eight' in said and len(tuning.FINAL) == 8
  by = {f'{-d.test.mean:.2f}' for d in above}
  readme = _page('README.md')
  assert f'AdamW ends {min(by)} above' in readme
  # What tuning found is the example's default.
  for key, arm in arms.items():
    assert arm['learning_rate'] == OPTIMIZERS[key.optimizer].learning_rate
    assert arm['adam_learning_rate'] == make_config().adam_learning_rate


def test_decay():
  rows = _published()
  arms = _arms('(d)')
  found = answers.differences(rows, arms)
  assert found and all(d.p > significance.LEVEL for d in found)
  assert 'It holds' in hypotheses.decay(rows)
  page = _page('docs/evidence.md')
  assert 'no difference is seen between any two' in page
  assert f'differ by less than {hypotheses.MARGIN:g}' in page


def test_the_adamw_group():
  rows = _published()
  arms = _arms('(h)')
  found = answers.differences(rows, arms)
  assert all(d.p > significance.LEVEL for d in found)
  assert 'Contradicted' in hypotheses.shared_rate(rows)
  key = answers.Key('namo_d', 'shared')
  (shared,) = (d for d in found if d[:2] == (key, answers.NAMO_D))
  page = _page('docs/rates.md')
  tuned, smallest = arms[answers.NAMO_D], report.by_batch(rows)[1]
  assert (
    f'with one rate for all, {arms[key]["learning_rate"]:g}, ends'
    f' {answers.size(shared.test)} NAMO-D with {tuned["adam_learning_rate"]:g}'
  ) in page
  matrices, rest = (
    smallest[answers.NAMO_D][knob]
    for knob in ('learning_rate', 'adam_learning_rate')
  )
  assert 70 < matrices / rest < 140  # Within a rung of a hundred.
  assert f"was {rest:g}, a hundredth of the matrices' {matrices:g}" in page


def test_the_adamw_group_from_above():
  rows = _published()
  arms = _arms('(m)')
  found = answers.differences(rows, arms)
  assert all(d.p > significance.LEVEL for d in found)
  apart = max(abs(d.test.mean) for d in found if d.other.varied)
  times = sorted(
    arms[key]['adam_learning_rate'] / arms[base]['adam_learning_rate']
    for key, base in answers.variations(arms)
  )
  assert len(times) == 3
  page = _page('docs/evidence.md')
  assert f'takes {times[0]:.0f} to {times[-1]:.0f} times the rate' in page
  assert f'{apart:.4f} nats apart at most' in page


def test_a_constant_rate():
  rows = _published()
  page = _page('docs/evidence.md')
  arms = _arms('(l)')
  found = {(d.one, d.other): d for d in answers.differences(rows, arms)}
  for other in (answers.MUON, answers.NAMO):
    difference = found.pop((answers.NAMO_D, other))
    p = judge.p_value(difference.p)
    assert f'{answers.size(difference.test)} {other}, {p}' in page
  assert all(d.p > significance.LEVEL for d in found.values())
  strengths = {key.optimizer: arm['weight_decay'] for key, arm in arms.items()}
  assert strengths == {'namo_d': 0.0, 'namo': 0.1, 'muon': 0.1}
  # Without weight decay.
  equal = _arms('(n)')
  found = answers.differences(rows, equal)
  assert len(found) == 3 and all(d.p > significance.LEVEL for d in found)
  muon = answers.paired(rows, equal[answers.MUON], arms[answers.MUON])
  assert f'Muon, {-muon.mean:.4f} lower than with it' in page
  for name in ('README.md', 'docs/choosing.md'):
    assert 'where weight decay is equal' in _page(name)
  factors = [
    of[key]['learning_rate'] / of[answers.MUON]['learning_rate']
    for of, key in (
      (arms, answers.NAMO_D),
      (arms, answers.NAMO),
      (equal, answers.NAMO),
    )
  ]
  said = "was {:.1f} times Muon's, and NAMO's {:.1f} times, or {:.1f} without"
  assert said.format(*factors) in _page('docs/rates.md')
  decaying = _arms('(a) Ordering')
  lower = min(
    rows.mean(arm, tuning.FINAL) - rows.mean(decaying[key], tuning.FINAL)
    for of in (arms, equal)
    for key, arm in of.items()
  )
  assert f'ends at least {lower:.2f} lower than a constant one' in page


def test_the_choices_within():
  rows = _published()
  arms = _arms('(e,')
  cost = {
    key: answers.paired(rows, arms[key], arms[base])
    for key, base in answers.variations(arms)
  }
  assert len(tuning.FEW) == 3 and all(test.n == 3 for test in cost.values())
  without = [cost.pop(key) for key in list(cost) if key.varied == 'no Nesterov']
  assert len(without) == 3 and all(test.low > 0 for test in without)
  fewer = {n: cost.pop(answers.Key('namo_d', f'{n} steps')) for n in (3, 4)}
  assert all(test.low > 0 for test in fewer.values())
  within = max(abs(test.mean) for test in cost.values())
  minimax = cost.pop(answers.Key('namo_d', 'minimax'))
  assert minimax.low < 0
  for name in ('docs/evidence.md', 'docs/choosing.md'):
    page, means = _page(name), [test.mean for test in without]
    assert f'end {min(means):.3f} to {max(means):.3f} higher' in page
    assert (
      f'NAMO-D ends {fewer[4].mean:.4f} higher, with 3 {fewer[3].mean:.4f}'
    ) in page
    assert f'within {within:.4f} of the defaults' in page
  page = _page('docs/cost.md')
  assert f'ends {answers.size(minimax)} NAMO-D by default' in page
  assert f"4 steps of `'muon'` end {fewer[4].mean:.4f} higher" in page


def test_robustness():
  rows = _published()
  arms = _arms('(j)')
  valleys = answers.by_rate(rows, arms)
  widths = sorted(str(robustness.width(losses)) for losses in valleys.values())
  assert len(widths) == 3 and len(tuning.AROUND) == 3
  for name in ('docs/evidence.md', 'docs/rates.md'):
    page = _page(name)
    assert f'over {widths[0]} to {widths[-1]} octaves of the rate' in page
    assert 'on three seeds' in page


def test_longer_runs():
  rows = _published()
  arms = _arms('(c)')
  found = answers.differences(rows, arms)
  assert all(d.p > significance.LEVEL and d.test.n == 3 for d in found)
  apart = max(abs(d.test.mean) for d in found)
  best = {key.optimizer: arm['learning_rate'] for key, arm in arms.items()}
  before = {
    key.optimizer: arm['learning_rate']
    for key, arm in report.by_batch(rows)[4].items()
  }
  assert best['muon'] == before['muon']
  assert best['namo'] == best['namo_d'] and before['namo'] == before['namo_d']
  assert 2.5 < before['namo'] / best['namo'] < 3.5  # 'A third.'
  page = _page('docs/evidence.md')
  assert f'no difference is seen, {apart:.4f} apart at most' in page
  said = "fall to a third there, {:g}, and Muon's stays at {:g}."
  assert said.format(best['namo'], best['muon']) in page
  times = best['namo'] / best['muon']
  said = f'with four times the steps, at 4 sequences, both were {times:.1f}'
  assert said in _page('docs/rates.md')


def test_rates_by_width():
  here = _arms('(a) Ordering')
  said = {}
  for width in (64, 256):
    arms = _arms(f'(k) Width {width}')
    best, before = (
      [of[key]['learning_rate'] for key in (answers.NAMO_D, answers.MUON)]
      for of in (arms, here)
    )
    times = (new / old for new, old in zip(best, before))
    said[width] = (
      "NAMO-D's best rate was {:g} and Muon's {:g}, {:.1f} and {:.1f} times"
      ' those at 128'.format(*best, *times)
    )
  page = _page('docs/rates.md')
  assert f"At a width of 64, half the example's, {said[64]}" in page
  assert f'at 256 {said[256]}' in page
  narrow, wide = (_arms(f'(k) Width {width}') for width in (64, 256))
  fall = [
    narrow[key]['learning_rate'] / wide[key]['learning_rate']
    for key in (answers.NAMO_D, answers.MUON)
  ]
  # 'To a quarter with NAMO-D and to a half with Muon.'
  assert [round(times) for times in fall] == [4, 2]


def test_width():
  rows = _published()
  page = _page('docs/evidence.md')
  tuned, equal = (
    [_arms(f'({letter}) Width {width}') for width in (64, 256)]
    for letter in 'ko'
  )
  strengths = [arms[key]['weight_decay'] for arms in tuned for key in arms]
  assert strengths == [0, 0.1, 0, 0.1]
  assert not any(arm['weight_decay'] for of in equal for arm in of.values())
  (narrow,), (wide,) = (answers.differences(rows, arms) for arms in tuned)
  for found, width in ((narrow, 64), (wide, 256)):
    assert found.p < significance.LEVEL and found.test.n == len(tuning.FINAL)
    told = f'{answers.size(found.test)} Muon at a width of {width}'
    assert f'{told} ({judge.p_value(found.p)})' in page
  # Between them a tie: test_the_ordering.
  alike = [answers.differences(rows, arms)[0] for arms in equal]
  assert all(found.p < significance.LEVEL for found in alike)
  sizes = ' and '.join(answers.size(found.test) for found in alike)
  assert f'without weight decay for either {sizes}' in page
  sides = f'{-narrow.test.mean:.4f} below Muon', f'{wide.test.mean:.4f} above'
  told = '{} at half the width and {} at twice'.format(*sides)
  for name in ('README.md', 'docs/choosing.md'):
    assert told in _page(name), name


def test_the_scale_gains_at_half_the_width():
  rows = _published()
  between = {
    (d.one, d.other): d for d in answers.differences(rows, _arms('(p)'))
  }
  scale = between[answers.NAMO, answers.MUON]
  told = f'{answers.size(scale.test)} Muon ({judge.p_value(scale.p)})'
  assert f'At 64 NAMO gains as much, {told}' in _page('docs/evidence.md')
  assert between[answers.NAMO_D, answers.NAMO].p > significance.LEVEL


def test_the_slope_over_widths():
  rows = _published()
  slopes = [
    significance.paired(found, [0.0] * len(found))
    for found in (hypotheses.over_widths(rows, d) for d in hypotheses.WIDTHS)
  ]
  grows = ' and '.join(f'{test.mean:.4f} ± {test.half:.4f}' for test in slopes)
  assert f'by {grows} (H6), over the {slopes[0].n} seeds' in _page(
    'docs/evidence.md'
  )
  assert 'It holds.' in hypotheses.width(rows)


def test_noise():
  rows = _published()
  batches = [b for b in report.by_batch(rows) if b != 16]
  assert min(batches) < 16 < max(batches)  # 'In smaller and larger batches.'
  for batch in batches:
    arms = answers.arms(rows, hypotheses.NOISE[batch])
    for found in answers.differences(rows, arms):
      assert found.p > significance.LEVEL
  page = _page('docs/evidence.md')
  assert 'nor at {}, {}, {} and {} sequences'.format(*sorted(batches)) in page


def test_the_slope_over_batches():
  rows = _published()
  by_batch = report.by_batch(rows)
  assert 'Neither is shown.' in hypotheses.noise(rows)
  page = _page('docs/evidence.md')
  assert f'from {min(by_batch)} to {max(by_batch)} sequences' in page
  namo_d, namo = (
    significance.paired(slopes, [0.0] * len(slopes))
    for slopes in (
      hypotheses.over_batches(rows, rule)
      for rule in (answers.NAMO_D, answers.NAMO)
    )
  )
  assert (
    f"NAMO-D's difference to Muon changes by {namo_d.mean:+.4f} ±"
    f" {namo_d.half:.4f} and NAMO's by {namo.mean:+.4f} ± {namo.half:.4f}:"
  ) in page
  tests = {
    batch: [
      answers.paired(rows, arms[rule], arms[answers.MUON])
      for rule in (answers.NAMO_D, answers.NAMO)
    ]
    for batch, arms in by_batch.items()
  }
  widest = {batch: max(t.half for t in of) for batch, of in tests.items()}
  largest = max(by_batch)
  assert largest == min(widest, key=widest.get)  # 'Where seeds agree best.'
  room = -min(test.low for test in tests[largest])
  assert f'a gain over Muon of at most {room:.4f}.' in page


def test_gradients_are_mostly_noise():
  rows = _published()
  ratios = [
    figures.signal_to_noise(rows, arms[answers.MUON])
    for arms in report.by_batch(rows).values()
  ]
  b1 = make_config().b1
  kappa = (1 - b1) / (1 + b1)
  # Of b1² M + (1 - b1²) G, M the momentum before: G is not yet in it.
  alone = (b1**4 * kappa + (1 - b1**2) ** 2) ** 0.5
  said = (
    f"{min(ratios):.2f} to {max(ratios):.2f} of the gradient's norm at every"
    f' size, and noise alone would make it {alone:.2f}'
  )
  assert said in _page('docs/evidence.md')


def test_rates():
  rows = _published()
  by_batch = report.by_batch(rows)
  factors = [
    arms[answers.NAMO_D]['learning_rate'] / arms[answers.MUON]['learning_rate']
    for arms in by_batch.values()
  ]
  page = _page('docs/rates.md')
  said = f"{min(factors):.1f} to {max(factors):.1f} times Muon's"
  sizes = f'From {min(by_batch)} to {max(by_batch)} sequences a batch'
  assert f"{sizes} NAMO-D's best rate was {said}" in page


def test_rates_by_batch():
  by_batch = report.by_batch(_published())
  page = (_ROOT / 'docs' / 'rates.md').read_text()
  assert f'| | {" | ".join(map(str, sorted(by_batch)))} |' in page
  for rule in (answers.NAMO_D, answers.NAMO, answers.MUON):
    pairs = (
      f'{arm["learning_rate"]:g}, {arm["adam_learning_rate"]:g}'
      for arm in (by_batch[batch][rule] for batch in sorted(by_batch))
    )
    assert f'| {rule} | {" | ".join(pairs)} |' in page
  sizes = make_config(preset='char').sizes
  assert f'for {sizes.steps} steps' in page
  assert f'of {sizes.block_size} characters' in page
