# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What README and docs say of the study is what its rows say today."""

import copy
import re
from unittest import mock

import pytest

from benchmarks.evidence import ladders
from benchmarks.evidence import pages
from benchmarks.evidence import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS


@pytest.fixture(autouse=True, scope='module')
def _siblings_are_known():
  with mock.patch.dict(OPTIMIZERS):
    ladders.know_siblings()
    yield


@pytest.fixture(scope='module')
def rows():
  return sweep.read_results(report.HERE)


@pytest.fixture(scope='module')
def facts(rows):
  return pages.Facts(rows)


@pytest.mark.parametrize('page', pages.PAGES, ids=lambda page: page.stem)
def test_pages_are_up_to_date(page, facts):
  text = page.read_text()
  assert '<!--=' in text
  # Else: python -m benchmarks.evidence.pages
  assert pages.filled(text, facts) == text


@pytest.mark.parametrize('page', ['../README', 'quickstart', 'gallery'])
def test_code_takes_the_tuned_rates(page, facts):
  rate = facts.rate('Ordering', 'NAMO-D')
  files = [(report.HERE.parents[1] / 'docs' / f'{page}.md')]
  if page == 'gallery':
    files = set((report.HERE.parents[1] / 'examples').glob('*.py'))
    files -= {report.HERE.parents[1] / 'examples' / 'siblings.py'}
  for path in files:
    peak = r'(?:(?<!decay_)schedule\(|decay_schedule\(0\.0, )([\d.]+)[,)]'
    rates = re.findall(peak, path.read_text())
    assert float(rates[0]) == rate, path


def test_other_rows_change_a_page(rows, facts):
  text = "ends <!--=pair('Width 64').off()-->0.0127\nbelow<!--/--> Muon"
  assert pages.filled(text, facts) == text  # Lines stay.
  worse = copy.deepcopy(rows)
  for row in worse:
    config = row['config']
    if (config['optimizer'], config['embed_dim']) == ('namo_d', 64):
      row['val_losses'][-1][1] += 1
  changed = pages.filled(text, pages.Facts(worse))
  assert changed == text.replace('0.0127\nbelow', '0.9873 above')
  tie = "<!--=tie('Width 64, NAMO too')-->differences are seen<!--/-->"
  assert pages.filled(f'- {tie}', facts) == f'- {tie}'
  untrue = "- <!--=says('H1', 'It holds.', 'it is so')-->it is so<!--/-->"
  assert 'Neither shown' in pages.filled(untrue, facts)


def test_a_page_that_cannot_be_filled_is_refused(rows, facts):
  with pytest.raises(ValueError, match='begins a line'):
    pages.filled('a\n<!--=1-->1<!--/-->', facts)
  with pytest.raises(ValueError, match="'Width 65' is no question"):
    pages.filled("a <!--=apart('Width 65')-->0<!--/-->", facts)
  few = pages.Facts(row for row in rows if row['config']['seed'] > 7)
  with pytest.raises(ValueError, match='still open'):
    pages.filled("a <!--=apart('Decay')-->0<!--/-->", few)


def test_what_tuning_found_is_the_default_of_the_example(facts):
  for arm in facts.arms('Ordering').values():
    assert arm.setting['learning_rate'] == (
      OPTIMIZERS[arm.optimizer].learning_rate
    )
    adam_learning_rate = make_config().adam_learning_rate
    assert arm.setting['adam_learning_rate'] == adam_learning_rate
