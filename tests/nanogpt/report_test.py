# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a reader sees of a comparison: tables and pictures."""

import math
import pathlib

from matplotlib import figure
import numpy as np
import pytest

from optax_namo.nanogpt.compare import figures
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare import tuning
from optax_namo.nanogpt.config import OPTIMIZERS
from tests.nanogpt.rows import row
from tests.nanogpt.rows import rows

_ROOT = pathlib.Path(__file__).parents[2]
_PNG = b'\x89PNG'

_ROWS = [
  row('adamw', 0, [3.0, 2.5, 2.0], learning_rate=0.01, ms=10.0),
  row('adamw', 1, [3.0, 2.5, 2.2], learning_rate=0.01, ms=12.0),
  row('adamw', 0, [3.0, 2.6, 2.3], learning_rate=0.02, ms=99.0),
  row('namo', 0, [2.2, 2.0, 1.9], learning_rate=0.1, ms=22.0),
  row('namo', 1, [2.4, 2.1, 1.7], learning_rate=0.1, ms=22.0),
  row('namo', 0, [2.4, 2.1, 1.95], learning_rate=0.2),
  row('namo', 0, [2.4, 2.1, 2.0], learning_rate=0.05),
  row('muon', 0, [3.0, math.nan, math.nan], learning_rate=0.3),
  row('muon', 0, [9.0, 3.0, 2.9], learning_rate=0.4),
]
_TABLE = """\
| | learning rate | validation loss | seeds | rates within 1% | steps to\
 AdamW's | ms/step |
|---|---|---|---|---|---|---|
| NAMO | 0.1 | 1.800 ± 0.141 | 2 | 0.6 | 20 | 22.0 |
| Muon | 0.4 ↑ | 2.900 | 1 | - | - | - |
| AdamW | 0.01 ↓ | 2.100 ± 0.141 | 2 | ≥ 0.1 | 30 | 11.0 |
"""
_DIFFERENCES = """\
| | against | difference | 95% interval | pairs | p | more seeds to see 0.005 |
|---|---|---|---|---|---|---|
| NAMO | AdamW | -0.300 | [-2.841, 2.241] | 2 | p = 0.75 | 30417 |
| Muon | AdamW | - | - | 1 | - | - |
"""


def test_tables():
  text = report.table(_ROWS, baseline='adamw')
  assert text.startswith(_TABLE) and f'\n\n{_DIFFERENCES}\n' in text
  lines = text.splitlines()
  caption = lines[_TABLE.count('\n') + 1]
  assert caption.startswith(
    '30 steps of the preset char on sotu, seeds 0, 1, 9'
  )
  assert 'on abacus' in caption
  assert (
    '- all: fixed, not tuned: '
    "AdamW group's learning rate 0.003, weight decay 0.01."
  ) in lines
  assert '- Muon: diverged: learning rate 0.3 (seed 0).' in lines
  assert (
    '- AdamW: not tuned: best learning rate 0.01 is the lowest of its grid.'
  ) in lines
  assert lines[-1] == '- Muon and AdamW: no conclusion, only seed 0 in common.'
  assert lines[-2].startswith('- NAMO and AdamW: no difference seen, -0.300 ')


def test_columns_that_would_say_nothing_are_left_out():
  lines = report.table(rows('namo', [1.0, 2.0])).splitlines()
  assert lines[0] == '| | validation loss | seeds |'
  assert lines[2] == '| NAMO | 1.500 ± 0.707 | 2 |'
  varied = [
    *rows('namo', [1.0]), *rows('namo', [2.0], weight_decay=0.1),
    *rows('muon', [1.0]),
  ]  # fmt: skip
  lines = report.table(varied).splitlines()
  assert lines[0] == '| | weight decay | validation loss | seeds |'
  assert lines[2] == '| NAMO | 0.01 ↓ | 1.000 | 1 |'
  assert lines[3] == '| Muon | 0.01 | 1.000 | 1 |'


def test_what_diverged_or_did_not_finish():
  found = [*rows('namo', [1.0, math.inf]), *rows('muon', [1.0, 1.1])]
  found[-1]['val_losses'].pop()
  text = report.table(found)
  assert '| NAMO | 1 of 2 diverged | 2 |' in text
  assert '| Muon | 1.000 | 1 |' in text
  assert ' Runs that did not finish, and do not count: 1.' in text


def test_no_steps_to_the_loss_of_an_adamw_that_diverged():
  adamw = rows('adamw', [2.0, math.nan])
  header, *lines = report.table([*rows('namo', [1.0, 1.0]), *adamw]).split('\n')
  assert header == '| | validation loss | seeds |'
  # Nor for an arm of which one run did.
  late = [*rows('namo', [1.0, math.nan]), *rows('adamw', [3.0, 3.0])]
  header, _, namo, adamw, *_ = report.table(late).split('\n')
  assert header == "| | validation loss | seeds | steps to AdamW's |"
  assert namo == '| NAMO | 1 of 2 diverged | 2 | - |'
  assert adamw == '| AdamW | 3.000 ± 0.000 | 2 | 30 |'


def test_an_arm_that_nothing_chose_is_named():
  found = [
    *rows('namo', [1.0]), *rows('namo', [1.0], learning_rate=0.1),
    row('muon', 0, 1.0), row('muon', 90, 1.0),
  ]  # fmt: skip
  text = report.table(found, tuning_seeds=[90])
  assert (
    'The settings were chosen on seed 90, and are judged on others.' in text
  )
  assert (
    '\n- NAMO: not judged: none of its settings has all tuning seeds.\n'
  ) in text


_STUDY = [
  x
  for batch in (4, 16)
  for name, shift in (('namo', -0.01), ('muon', 0.0), ('adamw', 0.3))
  for rate in (0.1, 0.2)
  for x in rows(
    name,
    [1.5 + shift + rate, 1.52 + shift + rate, 1.51 + rate + 1.02 * shift],
    learning_rate=rate,
    batch_size=batch,
  )
]


@pytest.mark.parametrize(
  'found',
  [
    _ROWS,
    _ROWS[7:8],
    _ROWS[:1],
    _STUDY,
    [row('namo', 0, [])],
    [row('namo', 0, []), row('namo', 1, 1.0), *rows('muon', [1.0, 1.0])],
  ],  # fmt: skip
)
def test_figure(found, tmp_path):
  report.draw(found, tmp_path / 'figure.png')
  assert (tmp_path / 'figure.png').read_bytes().startswith(_PNG)


def _axes():
  return figure.Figure().subplots()


def _lines(axes):
  return {line.get_label(): line for line in axes.lines}


def test_differences_over_steps():
  bests = tuning.bests(_ROWS)
  axes = _axes()
  figures.over_steps(axes, judge.compare(bests, 'adamw'), bests)
  lines = _lines(axes)
  namo = lines['NAMO: -0.300 ± 2.541']
  np.testing.assert_allclose(
    namo.get_xydata(), [[10, -0.7], [20, -0.45], [30, -0.3]]
  )
  # Half the difference of two is their standard error; 12.7062 is t's 97.5%
  # point of one degree.
  (band,) = axes.collections
  ends = [y for x, y in band.get_paths()[0].vertices if x == 30]
  assert max(ends) == pytest.approx(-0.3 + 12.7062 * 0.2, abs=1e-4)
  assert min(ends) == pytest.approx(-0.3 - 12.7062 * 0.2, abs=1e-4)
  assert namo.get_markerfacecolor() != 'white'
  muon = lines['Muon: +0.900']  # One seed in common: no band.
  assert muon.get_markerfacecolor() == 'white'


def test_intervals_are_spoken_of_where_there_are_some():
  """Not of one seed; of one evaluation they are bars."""
  axes = {}
  for seeds in (1, 2):
    found = [
      row(name, seed, [loss + 0.1 * seed * loss])
      for name, loss in (('namo', 1.0), ('muon', 1.1))
      for seed in range(seeds)
    ]
    for one in found:
      one['val_losses'][-1][0] = one['config']['steps']
    bests, axes[seeds] = tuning.bests(found), _axes()
    figures.over_steps(axes[seeds], judge.compare(bests), bests)
    assert ('Intervals' in report.table(found)) == (seeds == 2)
  assert axes[1].get_title() == 'against Muon'
  assert not axes[1].collections
  assert axes[2].get_title() == 'against Muon, with 95% intervals'
  (bar,) = axes[2].collections[0].get_segments()
  (test,) = (d.paired for d in judge.compare(bests))
  np.testing.assert_allclose(bar[:, 1], [test.low, test.high])


def test_what_is_far_beyond_does_not_hide_the_rest():
  found = [x for x in _STUDY if x['config']['batch_size'] == 4]
  bests = tuning.bests(found)
  axes = _axes()
  figures.over_steps(axes, judge.compare(bests), bests)
  assert -0.05 < axes.get_ylim()[0] < axes.get_ylim()[1] < 0.05
  labels = [text.get_text() for text in axes.get_legend().get_texts()]
  assert labels[0].startswith('NAMO: -0.010') and 'outside' not in labels[0]
  assert labels[1].startswith('AdamW: +0.302') and 'outside' in labels[1]


def test_loss_against_rate():
  axes = _axes()
  figures.against_rate(axes, tuning.bests(_ROWS))
  lines = _lines(axes)
  np.testing.assert_allclose(
    lines['NAMO'].get_xydata(), [[0.05, 2.0], [0.1, 1.9], [0.2, 1.95]]
  )
  assert {lines[x].get_markerfacecolor() for x in ('NAMO', 'AdamW')} == {
    'white'  # Compared on one seed.
  }
  crosses = [line for line in axes.lines if line.get_marker() == 'x']
  assert [x for line in crosses for x in line.get_xdata()] == [0.3]
  two = [
    *rows('namo', [1.0, 1.1]),
    *rows('namo', [1.2, 1.3], learning_rate=1.0),
  ]
  axes = _axes()
  figures.against_rate(axes, tuning.bests(two))
  assert _lines(axes)['NAMO'].get_markerfacecolor() != 'white'


def test_differences_along_an_axis():
  gone = row('namo', 2, math.nan, learning_rate=0.1, batch_size=4)
  axes = _axes()
  study = [x for x in _STUDY if x['config']['batch_size'] == 4]
  for found, seeds, x in ((study, None, [0]), ([*study, gone], [0], [1])):
    bests = tuning.bests(found, tuning_seeds=seeds)
    namo = judge.compare(bests)[:1]
    figures.along(axes, x, namo, color='C1', marker='o', label=f'at {x}')
  lines = _lines(axes)
  np.testing.assert_allclose(
    lines['at [0]'].get_ydata(), [(-0.01 - 0.01 - 0.0102) / 3], rtol=1e-6
  )
  bars = [line for line in axes.lines if len(line.get_xdata()) == 2]
  assert [list(bar.get_xdata()) for bar in bars] == [[0, 0]]
  low, high = bars[0].get_ydata()
  assert low < -0.0101 < high
  crosses = [line for line in axes.lines if line.get_marker() == 'x']
  assert [list(line.get_xdata()) for line in crosses] == [[1]]
  # One pair: no bar, and hollow.
  one = judge.compare(
    tuning.bests([*rows('namo', [1.0]), *rows('muon', [1.0])])
  )
  axes = _axes()
  figures.along(axes, [0], one, color='C1', marker='o')
  assert axes.lines[-1].get_markerfacecolor() == 'white'


def test_forest():
  found = judge.compare(tuning.bests(_ROWS), 'adamw')
  axes = _axes()
  figures.forest(axes, found, ['NAMO', 'Muon'])
  assert [text.get_text() for text in axes.get_yticklabels()] == [
    'NAMO', 'Muon'
  ]  # fmt: skip
  each, interval, mean, *_ = axes.lines
  np.testing.assert_allclose(each.get_xdata(), [-0.1, -0.5])
  test = found[0].paired
  np.testing.assert_allclose(interval.get_xdata(), [test.low, test.high])
  np.testing.assert_allclose(mean.get_xdata(), [test.mean])
  (muon,) = (line for line in axes.lines if list(line.get_ydata()) == [1])
  np.testing.assert_allclose(muon.get_xdata(), [0.9])


def test_colours_are_of_optimizers_and_markers_of_arms():
  found = [
    x
    for name in ('namo', 'muon')
    for nesterov in (True, False)
    for x in rows(name, [1.0], nesterov=nesterov)
  ]
  axes = _axes()
  figures.against_rate(axes, tuning.bests(found))
  lines = [line for line in axes.lines if not line.get_label().startswith('_')]
  assert [line.get_color() for line in lines] == ['C1', 'C1', 'C2', 'C2']
  assert len({line.get_marker() for line in lines}) == 4


def test_the_published_comparison():
  """The benchmark's rows, its file, its tables and the pages agree."""
  folder = _ROOT / 'benchmarks' / 'results' / 'char_losses'
  found = sweep.read_results(folder)
  text = (folder / 'table.md').read_text()
  assert text == report.table(found)
  assert {
    arm.optimizer: arm.setting['learning_rate'] for arm in tuning.bests(found)
  } == {
    name: OPTIMIZERS[name].learning_rate
    for name in ('namo_d', 'namo', 'adamw', 'optax_muon')
  }
  # Muon has the rate of optax's, which is the same rule.
  assert len({OPTIMIZERS[x].learning_rate for x in ('muon', 'optax_muon')}) == 1
  tables = [line for line in text.splitlines() if line.startswith('|')]
  assert len(tables) == 6 + 5
  page = (_ROOT / 'docs' / 'comparing.md').read_text()
  assert '{include} ../benchmarks/results/char_losses/table.md' in page
  assert 'NAMO-D and Muon (optax): no difference seen' in text
  assert 'NAMO and Muon (optax): no difference seen' in text
