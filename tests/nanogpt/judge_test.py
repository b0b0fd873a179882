# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a comparison may conclude, on rows whose answer is known."""

import math

import pytest
from scipy import stats

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare import tuning
from tests.nanogpt.rows import row
from tests.nanogpt.rows import rows


def _names(found):
  return list(map(str, arms.find(found)))


def _best(found, **kwargs):
  (arm,) = arms.find(found)
  return tuning.best(arm, **kwargs)


def _conclusions(found, baseline=None, **kwargs):
  bests = tuning.bests(found, **kwargs)
  return [
    judge.conclusion(comparison)
    for comparison in judge.compare(bests, baseline)
  ]


# Of batch 2×128 and 1,500 steps, seeds 0 to 3.
_TASK = {'batch_size': 2, 'steps': 1500}
_PILOT = [
  *rows('muon', [1.919, 1.897, 1.878, 1.879], learning_rate=0.003, **_TASK),
  row('muon', 0, 1.914, learning_rate=0.0042, **_TASK),
  *rows('namo', [1.890, 1.890, 1.918, 1.921], learning_rate=0.018, **_TASK),
  *rows('namo_d', [1.874, 1.907, 1.897, 1.904], learning_rate=0.018, **_TASK),
]


def test_the_pilot_ranks_nothing():
  """Its seed 0 has the paper's order by a wide margin; over seeds, a tie."""
  assert _conclusions(_PILOT) == [
    'NAMO-D and Muon: no conclusion, only seed 0 in common.',
    'NAMO and Muon: no conclusion, only seed 0 in common.',
  ]
  muon = tuning.bests(_PILOT)[-1]
  assert muon.setting['learning_rate'] == 0.0042
  notes = tuning.notes(muon)
  assert (
    'its best setting, learning rate 0.0042, lacks seeds 1, 2, 3, which other'
    ' settings have'
  ) in notes
  assert 'its settings were compared on seed 0 alone' in notes
  assert 'not tuned: best learning rate 0.0042 is the highest of its grid' in (
    notes
  )
  # At the rate that has the seeds it is a tie.
  tie = [x for x in _PILOT if x['config']['learning_rate'] != 0.0042]
  for sentence in _conclusions(tie):
    assert 'no difference seen' in sentence and '4 seeds' in sentence
    assert '0.005 would need' in sentence


def test_arms_are_named_by_what_differs():
  assert _names([*rows('muon', [1.0]), *rows('namo', [1.0])]) == [
    'NAMO', 'Muon'
  ]  # fmt: skip
  clamps = [
    x for clamp in (0.75, 0.4) for x in rows('namo_d', [1.0], clamp=clamp)
  ]
  # Muon has the default clamp, of which it knows nothing.
  assert _names([*rows('muon', [1.0]), *clamps]) == [
    'NAMO-D, clamp 0.4', 'NAMO-D, clamp 0.75', 'Muon'
  ]  # fmt: skip
  # Warm-up and decay follow from the steps. Numbers are ordered as numbers.
  long = [x for n in (3200, 800) for x in rows('muon', [1.0], steps=n)]
  assert _names(long) == ['Muon, steps 800', 'Muon, steps 3200']
  # One batch size an optimizer: no comparison may hide that they differ.
  assert _names(
    [*rows('namo', [1.0], batch_size=2), *rows('muon', [1.0], batch_size=4)]
  ) == ['NAMO, batch size 2', 'Muon, batch size 4']
  two = [*rows('namo', [1.0], nesterov=False, b1=0.9), *rows('namo', [1.0])]
  assert _names(two) == [
    'NAMO, nesterov False, b1 0.9', 'NAMO, nesterov True, b1 0.95'
  ]  # fmt: skip


def test_what_was_tuned_is_an_argument():
  found = [
    x for decay in (0.0, 0.1) for x in rows('namo', [1.0], weight_decay=decay)
  ]
  assert _names(found) == ['NAMO']
  tuned = ('learning_rate', 'adam_learning_rate')
  assert list(map(str, arms.find(found, tuned))) == [
    'NAMO, weight decay 0', 'NAMO, weight decay 0.1'
  ]  # fmt: skip


def test_older_rows_had_the_defaults_of_knobs_they_do_not_know():
  old, new = rows('namo', [1.0, 1.1])
  del old['config']['nesterov']
  (arm,) = arms.find([old, new])
  assert arm.search.tried[0].runs.keys() == {0, 1}


def test_an_unfinished_run_does_not_count():
  whole, cut = rows('namo', [1.0, 0.5])
  cut['val_losses'] = cut['val_losses'][:2]
  assert not arms.finished(cut)
  assert list(_best([whole, cut]).losses) == [0]


def _at(rate, losses, **knobs):
  """Losses by seed at a rate of NAMO."""
  return [
    row('namo', seed, loss, learning_rate=rate, **knobs)
    for seed, loss in losses.items()
  ]


def _rate(best):
  return best.setting['learning_rate']


def test_equal_evidence():
  # Over all its seeds 0.1 has the lower mean, on the common one 0.2.
  found = [*_at(0.1, {0: 2.0, 1: 1.0, 2: 1.0}), *_at(0.2, {0: 1.9})]
  best = _best(found)
  assert _rate(best) == 0.2 and best.search.seeds == (0,)
  # Further seeds at one setting do not change which is chosen, good or bad.
  for loss in (1.0, 3.0):
    assert _rate(_best([*found, *_at(0.1, {3: loss})])) == 0.2
  # Seeds that all have do.
  best = _best([*found, *_at(0.2, {1: 1.5})])
  assert _rate(best) == 0.1 and best.search.seeds == (0, 1)
  assert best.losses == {0: 2.0, 1: 1.0, 2: 1.0}


def test_a_setting_without_the_common_seeds_is_not_compared():
  found = [
    *_at(0.1, {0: 2.0, 1: 2.0}), *_at(0.2, {0: 1.9, 1: 2.0}),
    *_at(0.4, {7: 1.0}),
  ]  # fmt: skip
  best = _best(found)
  assert _rate(best) == 0.2
  assert 'learning rate 0.4 is not compared: it lacks seeds 0, 1' in (
    tuning.notes(best)
  )
  # Nor is it the end of the grid.
  assert best.edges == {'learning_rate': 'highest'}


def test_tuning_seeds_choose_and_the_others_judge():
  found = [
    *_at(0.1, {90: 1.0, 91: 1.0, 0: 2.0, 1: 2.2}),
    *_at(0.2, {90: 1.1, 91: 1.1, 0: 1.0}), *_at(0.3, {90: 0.5, 0: 1.0}),
  ]  # fmt: skip
  best = _best(found, tuning_seeds=[90, 91])
  assert _rate(best) == 0.1 and best.losses == {0: 2.0, 1: 2.2}
  assert 'learning rate 0.3 is not compared: it lacks seed 91' in (
    tuning.notes(best)
  )
  # A single setting is judged without having been chosen.
  assert _best(_at(0.1, {0: 2.0}), tuning_seeds=[90]).losses == {0: 2.0}
  # Several are not.
  several = [*_at(0.1, {0: 2.0}), *_at(0.2, {0: 1.0})]
  assert _best(several, tuning_seeds=[90]) is None
  assert tuning.bests(several, tuning_seeds=[90]) == []
  only_tuned = _best(_at(0.1, {90: 1.0}), tuning_seeds=[90])
  assert not only_tuned.losses
  assert 'its best setting has tuning seeds alone' in tuning.notes(only_tuned)


@pytest.mark.parametrize(
  ('losses', 'edge'),
  [
    ({0.1: 1.0, 0.2: 1.1, 0.4: 1.2}, 'lowest'),
    ({0.1: 1.2, 0.2: 1.1, 0.4: 1.2}, None),
    ({0.1: 1.2, 0.2: 1.1, 0.4: 1.0}, 'highest'),
    ({0.1: 1.2, 0.2: 1.1, 0.4: math.inf}, None),
    ({0.1: 1.2, 0.2: 1.1}, 'highest'),
    ({0.1: 1.0, 0.2: 1.1}, 'lowest'),
    ({0.1: 1.0}, None),
  ],
)
def test_edges(losses, edge):
  best = _best([x for r, loss in losses.items() for x in _at(r, {0: loss})])
  assert best.edges.get('learning_rate') == edge
  notes = [x for x in tuning.notes(best) if x.startswith('not tuned')]
  name = f'best learning rate {_rate(best):g} is the {edge} of its grid'
  assert notes == ([f'not tuned: {name}'] if edge else [])


def test_fixed_knobs_are_named():
  (note,) = tuning.notes(_best(_at(0.1, {0: 1.0})))
  assert note == (
    "fixed, not tuned: learning rate 0.1, AdamW group's learning rate 0.003,"
    ' weight decay 0.01'
  )


def test_an_edge_in_any_tuned_knob_counts_but_for_no_decay_at_all():
  def best(decays):
    return _best(
      [
        row(
          'namo',
          0,
          loss + abs(rate - 0.2),
          learning_rate=rate,
          weight_decay=decay,
        )
        for decay, loss in decays.items()
        for rate in (0.1, 0.2, 0.4)
      ]
    )

  assert best({0.01: 1.0, 0.1: 1.1, 0.3: 1.2}).edges == {
    'weight_decay': 'lowest'
  }
  assert best({0.0: 1.0, 0.1: 1.1, 0.3: 1.2}).edges == {}
  assert best({0.0: 1.0, 0.1: 1.1}).edges == {'weight_decay': 'lowest'}


def test_diverged():
  flagged = row('namo', 0, [2.0], learning_rate=0.4, diverged=True)
  null = row('namo', 0, [2.0, None, None], learning_rate=0.2)
  nothing = row('namo', 0, [], learning_rate=0.8, diverged=True)
  found = [flagged, null, nothing, *_at(0.1, {0: 5.0})]
  assert [arms.final_loss(x) for x in found] == [math.inf] * 3 + [5.0]
  best = _best(found)
  assert _rate(best) == 0.1
  assert {f'diverged: learning rate {r} (seed 0)' for r in (0.2, 0.4, 0.8)} <= (
    set(tuning.notes(best))
  )
  # One that diverged at any of the common seeds is not chosen.
  at = [*_at(0.1, {0: 5.0, 1: 5.0}), *_at(0.2, {0: 1.0, 1: math.nan})]
  assert _rate(_best(at)) == 0.1


def test_no_conclusion_from_a_run_that_diverged():
  found = [*rows('namo', [1.0, math.nan, 1.0]), *rows('muon', [1.1, 1.2, 1.3])]
  assert _conclusions(found) == [
    'NAMO and Muon: no conclusion, NAMO diverged (seed 1).'
  ]


def test_known_difference():
  """NAMO is 0.02 lower whatever the seed, but for 0.001, 0 and -0.001."""
  muon = [1.5, 1.7, 1.6, 1.8]
  noise = [0.001, 0.0, -0.001, 0.0]
  namo = [x - 0.02 + e for x, e in zip(muon, noise)]
  found = [*rows('namo', namo), *rows('muon', muon)]
  ((comparison,), (sentence,)) = (
    judge.compare(tuning.bests(found)), _conclusions(found)
  )  # fmt: skip
  test = comparison.paired
  assert test.mean == pytest.approx(-0.02)
  # The sd is √(2/3) thousandths; 3.18245 is t's 97.5% point of 3 degrees.
  assert test.half == pytest.approx(3.18245 * math.sqrt(2 / 3) / 2e3, rel=1e-4)
  assert sentence == 'NAMO is 0.020 ± 0.001 below Muon (4 seeds, p < 0.001).'
  assert _conclusions(found, 'namo') == [
    'Muon is 0.020 ± 0.001 above NAMO (4 seeds, p < 0.001).'
  ]


def test_only_common_seeds_are_paired():
  found = [
    *rows('namo', [1.0, 1.2, 1.1]), row('namo', 7, 9.0),
    *rows('muon', [1.1, 1.21, 1.3]), row('muon', 8, 0.1),
  ]  # fmt: skip
  (comparison,) = judge.compare(tuning.bests(found))
  assert comparison.seeds == (0, 1, 2)
  expected = stats.ttest_rel([1.0, 1.2, 1.1], [1.1, 1.21, 1.3])
  assert comparison.p == comparison.paired.p == pytest.approx(expected.pvalue)
  apart = [row('namo', 0, 1.0), row('muon', 1, 1.0)]
  assert _conclusions(apart) == [
    'NAMO and Muon: no conclusion, no seed in common.'
  ]


def test_p_values_are_corrected_for_all_comparisons():
  losses = {
    'namo_d': [1.0, 1.12, 1.2], 'namo': [0.9, 1.15, 1.14],
    'muon': [1.05, 1.2, 1.23],
  }  # fmt: skip
  found = [x for name, losses in losses.items() for x in rows(name, losses)]
  single = [
    stats.ttest_rel(losses[name], losses['muon']).pvalue
    for name in ('namo_d', 'namo')
  ]
  low, high = sorted(single)
  expected = {low: 2 * low, high: max(2 * low, high)}
  comparisons = judge.compare(tuning.bests(found))
  assert [c.p for c in comparisons] == pytest.approx(
    [expected[p] for p in single]
  )
  # AdamW has no seed in common, and counts.
  found.append(row('adamw', 9, 2.0))
  comparisons = judge.compare(tuning.bests(found))
  assert comparisons[0].p == pytest.approx(3 * single[0])
  assert comparisons[2].p is None


def test_a_difference_that_is_not_seen_says_what_it_would_take():
  found = [*rows('namo', [1.0, 1.013, 0.99]), *rows('muon', [1.003, 1.0, 1.0])]
  (comparison,) = judge.compare(tuning.bests(found))
  more = comparison.more
  assert more > 10
  assert _conclusions(found) == [
    'NAMO and Muon: no difference seen, 0.000'
    f' [{comparison.paired.low:.3f}, {comparison.paired.high:.3f}], 3 seeds,'
    f' p = 1; 0.005 would need {more} more seeds.'
  ]
  tight = [
    *rows('namo', [1.0, 1.0001, 0.9998]), *rows('muon', [1.0001, 1.0, 1.0]),
  ]  # fmt: skip
  assert _conclusions(tight)[0].endswith('; 0.005 would be seen.')


def test_an_arm_that_is_not_tuned_is_named():
  found = [*rows('namo', [1.0, 1.01, 1.02]), *rows('muon', [1.1, 1.11, 1.121])]
  for rate in (0.003, 0.012):
    found += rows('muon', [1.2, 1.2, 1.2], learning_rate=rate)
  worse = rows('namo', [1.2, 1.2, 1.2], learning_rate=0.07)
  assert _conclusions([*found, *worse])[0].endswith('; but NAMO is not tuned.')
  worse += rows('muon', [1.0, 1.0, 1.0], learning_rate=0.02)
  assert _conclusions([*found, *worse])[0].endswith(
    '; but NAMO and Muon are not tuned.'
  )


def test_an_arm_that_was_not_tuned_as_the_other_was_is_named():
  found = [
    *rows('namo', [1.0, 1.01, 1.02], learning_rate=0.05),
    *rows('muon', [1.1, 1.11, 1.121], learning_rate=0.01),
  ]
  assert 'not tuned' not in _conclusions(found)[0]  # Both are not.
  for rate in (0.02, 0.1):
    found += rows('namo', [1.2, 1.2, 1.2], learning_rate=rate)
  assert _conclusions(found)[0].endswith('; but Muon is not tuned.')


def _against(found, baseline=None):
  return {
    str(one.one): str(one.other)
    for one in judge.compare(tuning.bests(found), baseline)
  }


def test_the_baseline_is_muon_else_adamw_else_the_first():
  found = [*rows('adamw', [2.0]), *rows('namo_d', [1.0]), *rows('namo', [1.0])]
  assert _against(found) == {'NAMO-D': 'AdamW', 'NAMO': 'AdamW'}
  assert _against(found[1:]) == {'NAMO': 'NAMO-D'}
  assert _against([*found, *rows('muon', [1.0])]) == {
    'NAMO-D': 'Muon', 'NAMO': 'Muon', 'AdamW': 'Muon'
  }  # fmt: skip
  assert _against(found, 'namo') == {'NAMO-D': 'NAMO', 'AdamW': 'NAMO'}
  assert _against(rows('namo', [1.0])) == _against([]) == {}


def test_arms_are_compared_where_all_else_is_equal():
  clamps = [x for c in (0.4, 0.75) for x in rows('namo_d', [1.0], clamp=c)]
  muon = rows('muon', [1.0])
  # Muon has no clamp to be equal.
  assert _against([*clamps, *muon]) == {
    'NAMO-D, clamp 0.4': 'Muon', 'NAMO-D, clamp 0.75': 'Muon'
  }  # fmt: skip
  assert _against(clamps) == {'NAMO-D, clamp 0.75': 'NAMO-D, clamp 0.4'}
  assert _against(clamps + muon, {'optimizer': 'namo_d', 'clamp': 0.75}) == {
    'NAMO-D, clamp 0.4': 'NAMO-D, clamp 0.75', 'Muon': 'NAMO-D, clamp 0.75'
  }  # fmt: skip
  # A task is compared with the same task alone.
  batches = [
    *rows('namo', [1.0], batch_size=2), *rows('namo', [1.0], batch_size=64),
    *rows('muon', [1.0], batch_size=2), *rows('muon', [1.0], batch_size=16),
  ]  # fmt: skip
  assert _against(batches) == {'NAMO, batch size 2': 'Muon, batch size 2'}
  # Of several the nearest.
  steps = [
    x
    for name in ('namo', 'muon')
    for n in (3, 5)
    for x in rows(name, [1.0], ns_steps=n)
  ]
  assert _against(steps) == {
    'NAMO, ns steps 3': 'Muon, ns steps 3',
    'NAMO, ns steps 5': 'Muon, ns steps 5',
  }


def test_optimizers_may_differ_in_their_own_knobs_alone():
  """What a knob's group says; clipping is of any optimizer, and the task's."""
  for knobs, own in (
    ({'b1': 0.9}, True),
    ({'preconditioning': 'schatten'}, True),
    ({'clip': 0.5}, False),
    ({'embed_dim': 64}, False),
    ({'dtype': 'bfloat16'}, False),
  ):
    found = [*rows('namo', [1.0], **knobs), *rows('muon', [1.0])]
    assert bool(_against(found)) == own, knobs


def test_p_values_are_written_so():
  assert judge.p_value(0.03) == 'p = 0.03'
  assert judge.p_value(0.6234) == 'p = 0.62'
  assert judge.p_value(1.0) == 'p = 1'
  assert judge.p_value(0.00099) == 'p < 0.001'


def test_width():
  # Linear in the logarithm: 1% is half way to 2%.
  width = robustness.width({0.1: 1.02, 0.2: 1.0, 0.4: 1.02})
  assert (width.low, width.high) == pytest.approx(
    (0.2 / math.sqrt(2), 0.2 * math.sqrt(2))
  )
  assert width.octaves == pytest.approx(1.0) and str(width) == '1.0'
  # Within 1% to the end of the grid, and to what diverged.
  for end in ({}, {0.8: math.inf}):
    width = robustness.width({0.1: 1.02, 0.2: 1.0, 0.4: 1.005} | end)
    assert width.high == 0.4 and not width.high_ends and width.low_ends
    assert str(width) == '≥ 1.5'
  # What lies within 1% beyond a hill does not count.
  width = robustness.width({0.1: 1.0, 0.2: 1.02, 0.4: 1.0})
  assert width.high < 0.2 and not width.low_ends


def test_width_takes_the_best_of_the_other_knobs():
  best = _best(
    [
      row('namo', 0, loss, learning_rate=rate, weight_decay=decay)
      for rate, decay, loss in (
        (0.1, 0.0, 1.5),
        (0.1, 0.1, 1.2),
        (0.2, 0.0, 1.0),
        (0.2, 0.1, 1.1),
      )  # fmt: skip
    ]
  )
  assert best.search.by_value('learning_rate') == {0.1: 1.2, 0.2: 1.0}
  assert best.search.by_value('weight_decay') == {0.0: 1.0, 0.1: 1.1}
