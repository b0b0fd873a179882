# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the pictures of a run show."""

import json
import math

from matplotlib import figure
import numpy as np
import pytest

from optax_namo.nanogpt import plot
from optax_namo.nanogpt import run_folder
from tests.nanogpt import helpers

_FIELDS = (
  'clamped_low', 'clamped_high', 'gradient_norm', 'momentum_norm', 'update_rms',
)  # fmt: skip


def _row(step, low=0.1, mean=0.2, high=0.4):
  """Metrics of a step of two matrices, one with scales twice as large."""
  return {
    'step': step,
    'loss': 3.0 / step,
    'val_loss': 4.0 / step,
    'diagnostics': {
      f'blocks/{i}/kernel': {
        'scale_min': low * factor,
        'scale_mean': mean * factor,
        'scale_max': high * factor,
        **dict.fromkeys(_FIELDS, 0.5),
      }
      for i, factor in enumerate((1, 2))
    },
  }


@pytest.fixture
def drawn(monkeypatch):
  """The figures that are saved."""
  figures, save = [], figure.Figure.savefig
  monkeypatch.setattr(
    figure.Figure,
    'savefig',
    lambda self, path: (figures.append(self), save(self, path)),
  )
  return figures


def test_scales_are_below_the_losses(drawn, tmp_path):
  rows = [_row(10), {'step': 15, 'loss': 0.2}, _row(20, 0.2, 0.3, 0.6)]
  plot.losses(rows, tmp_path / 'loss.png', title='a run')
  losses, scales = drawn[0].axes
  assert losses.get_title() == 'a run'
  assert [len(line.get_xdata()) for line in losses.lines] == [3, 2]
  (mean,) = scales.lines
  np.testing.assert_array_equal(mean.get_xdata(), [10, 20])
  np.testing.assert_allclose(mean.get_ydata(), [0.3, 0.45])
  # The band is from the smallest of all columns to the largest.
  (band,) = scales.collections
  for step, low, high in ((10, 0.1, 0.8), (20, 0.2, 1.2)):
    corners = band.get_paths()[0].vertices
    at = corners[corners[:, 0] == step, 1]
    assert (at.min(), at.max()) == pytest.approx((low, high))
  assert scales.get_ylim()[0] == 0 and scales.get_ylim()[1] > 1.2


def test_what_records_nothing_has_no_panel_of_scales(drawn, tmp_path):
  rows = [{'step': i, 'loss': 1.0, 'val_loss': 1.0} for i in range(3)]
  plot.losses(rows, tmp_path / 'loss.png', title='adamw')
  assert len(drawn[0].axes) == 1


def test_a_single_evaluation_is_seen(drawn, tmp_path):
  plot.losses([_row(1)], tmp_path / 'loss.png', title='')
  plot.diagnostics([_row(1)], tmp_path / 'diagnostics.png', title='')
  panels = [axes for one in drawn for axes in one.axes]
  assert len(panels) == 2 + 4
  for axes in panels:
    assert axes.lines
    for line in axes.lines:
      assert line.get_marker() not in ('None', None, '')
  scales = drawn[0].axes[1]
  assert 0 < scales.lines[0].get_ydata()[0] < scales.get_ylim()[1]


def test_a_run_that_diverged_is_drawn(drawn, tmp_path):
  rows = [_row(1), _row(2, *[math.nan] * 3)]
  plot.losses(rows, tmp_path / 'loss.png', title='')
  assert drawn[0].axes[1].get_ylim() == pytest.approx((0, 0.88))


def test_the_title_names_run_and_optimizer(drawn, text, tmp_path):
  config = helpers.config(data=str(text), optimizer='muon', learning_rate=0.02)
  run_folder.claim(tmp_path / 'out', config, resume=False)
  row = json.dumps({'step': 1, 'loss': 1.0, 'val_loss': 1.0}) + '\n'
  (tmp_path / 'out' / 'metrics.jsonl').write_text(row)
  assert plot.run(tmp_path / 'out') == [tmp_path / 'out' / 'loss.png']
  assert drawn[0].axes[0].get_title() == 'Muon at 0.02: tiny, rhyme'
