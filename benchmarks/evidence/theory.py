# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``colabs/noise.ipynb`` in a few lines: what theory expects of NAMO on Muon.

A quadratic with a noisy gradient, columns alike, and so many more inputs than
columns that orthogonalization divides each by its norm.
"""

import numpy as np

B1, B2 = 0.95, 0.99  # And Nesterov's look-ahead, as in the study.


def losses(rates, signal, namo):
  """Final mean square error, in the noise's variance, for each peak rate.

  Args:
    rates: Step lengths over noise, (rates, steps).
    signal: |E G|² / E |G - E G|² at the start.
    namo: Whether the rate is multiplied by NAMO's scale.
  """
  error = np.full(len(rates), float(signal))
  cross, m, v = np.zeros((3, len(rates)))  # Means of E M, M² and G².
  for t, rate in enumerate(rates.T, start=1):
    g = error + 1
    m_g = B1 * cross + (1 - B1) * g  # Mean of M G, M with this G in it.
    m = B1**2 * m + 2 * B1 * (1 - B1) * cross + (1 - B1) ** 2 * g
    cross = B1 * cross + (1 - B1) * error
    v = B2 * v + (1 - B2) * g
    # A = b1 M + (1 - b1) G is looked ahead: means of A², A E and A M.
    a_a = B1**2 * m + 2 * B1 * (1 - B1) * m_g + (1 - B1) ** 2 * g
    a_e = B1 * cross + (1 - B1) * error
    a_m = B1 * m + (1 - B1) * m_g
    scale = np.sqrt(a_a / v * (1 - B2**t)) / (1 - B1**t) if namo else 1
    alpha = rate * scale / np.sqrt(a_a)
    error = error - 2 * alpha * a_e + alpha**2 * a_a
    cross = cross - alpha * a_m
  return error


def gain(signal, schedule):
  """NAMO's final error over Muon's, each at its best rate."""
  rates = np.geomspace(1e-4, 10, 20_000)[:, None] * schedule[None] * signal**0.5
  namo, muon = (losses(rates, signal, rule) for rule in (True, False))
  return np.nanmin(namo) / np.nanmin(muon)


def expected(batch, decays, steps=100):
  """Of the preset `small`: 0.22 a sequence, a pilot's after five steps."""
  t = np.arange(steps)
  schedule = np.minimum((t + 1) / 5, 1)
  if decays:
    schedule = np.minimum(schedule, (steps - t) / (steps // 3))
  return gain(0.22 * batch, schedule)
