# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tests of pairs against SciPy, against pen and paper, and simulated."""

import math

import numpy as np
import pytest
from scipy import stats

from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.compare import tuning
from tests.nanogpt.rows import rows


def test_paired_by_hand():
  """Differences 1, 1, 3: mean 5/3, squares about it 4/9, 4/9, 16/9."""
  test = significance.paired([1.0, 2.0, 4.0], [0.0, 1.0, 1.0])
  assert (test.n, test.mean) == (3, pytest.approx(5 / 3))
  assert test.sd == pytest.approx(math.sqrt(4 / 3))
  # The standard error is 2/3; 4.30265 is t's 97.5% point of 2 degrees.
  assert test.half == pytest.approx(4.30265 * 2 / 3, rel=1e-5)
  assert test.low == pytest.approx(5 / 3 - 4.30265 * 2 / 3, rel=1e-5)
  # With 2 degrees of freedom P(|T| > t) = 1 - t / √(2 + t²).
  assert test.p == pytest.approx(1 - 2.5 / math.sqrt(2 + 2.5**2))


def test_paired_is_a_test_of_one_sample():
  a, b = np.random.default_rng(0).normal(size=(2, 7))
  test = significance.paired(a, b)
  one_sample = stats.ttest_1samp(a - b, 0.0)
  assert test.p == pytest.approx(one_sample.pvalue)
  assert (test.low, test.high) == pytest.approx(
    one_sample.confidence_interval(0.95)
  )
  unpaired = stats.ttest_ind(a, b)
  assert abs(test.p - unpaired.pvalue) > 0.01


def test_differences_that_are_all_the_same():
  same = significance.paired([1.0, 2.0], [1.0, 2.0])
  assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
  shifted = significance.paired([2.0, 3.0], [1.0, 2.0])
  assert (shifted.mean, shifted.low, shifted.p) == (1.0, 1.0, 0.0)
  for sd in (0.0, 1e-17):
    assert significance.pairs_needed(sd, 0.005) == 2


def test_holm_by_hand():
  """.005·4, .01·3, .03·2, .04·1; the last is no smaller than the one before."""
  assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
    [0.03, 0.06, 0.06, 0.02]
  )
  assert significance.holm([0.7, 0.6]) == [1.0, 1.0]
  assert significance.holm([0.03]) == [0.03]
  assert significance.holm([]) == []


def test_pairs_needed():
  # Cohen's d of a half, a textbook case.
  assert significance.pairs_needed(1.0, 0.5) == 34
  for sd, level in ((0.002, 0.05), (0.01, 0.05 / 3), (0.03, 0.01)):
    n = significance.pairs_needed(sd, 0.005, level=level)
    assert significance.power(n, sd, 0.005, level) >= significance.POWER
    assert n == 2 or (
      significance.power(n - 1, sd, 0.005, level) < significance.POWER
    )


def test_power_of_differences_far_above_their_spread():
  """SciPy's noncentral t is NaN where there is nothing below."""
  for n in range(2, 9):
    for sd in np.geomspace(1e-4, 0.1, 30):
      assert 0 < significance.power(n, sd, 0.005, 0.01) <= 1 + 1e-9
  assert significance.pairs_needed(0.0005, 0.005, level=0.05 / 3) == 3


def test_as_many_pairs_as_needed_find_it():
  rng = np.random.default_rng(0)
  sd, level = 0.006, 0.05 / 3
  n = significance.pairs_needed(sd, 0.005, level=level)
  differences = rng.normal(0.005, sd, (4000, n))
  found = stats.ttest_1samp(differences, 0.0, axis=1).pvalue < level
  assert abs(found.mean() - significance.power(n, sd, 0.005, level)) < 0.02


def test_simulated_tables():
  """Three arms that are the same; what depends on the seed cancels."""
  rng = np.random.default_rng(0)
  covered, found, tables = [], 0, 500
  for _ in range(tables):
    of_seed = rng.normal(2.0, 0.1, 4)
    results = []
    for optimizer in ('namo_d', 'namo', 'muon'):
      results += rows(optimizer, (of_seed + rng.normal(0, 0.01, 4)).tolist())
    comparisons = judge.compare(tuning.bests(results))
    tests = [comparison.paired for comparison in comparisons]
    covered += [test.low <= 0 <= test.high for test in tests]
    assert max(test.half for test in tests) < 0.1  # Of the noise left.
    found += any(comparison.p < 0.05 for comparison in comparisons)
  assert len(covered) == 2 * tables
  assert 0.93 <= np.mean(covered) <= 0.97
  assert found / tables <= 0.07  # Holm: any at all in a twentieth.
