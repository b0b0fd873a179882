# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's two algorithms for one matrix, in float64 NumPy.

Written from arXiv 2602.17080 alone and sharing no code with the package:
no Nesterov, no shape scale, an exact polar factor. Columns are axis 1; the
learning rate is one number, or one for every step.
"""

import numpy as np


def polar(m):
  u, _, vt = np.linalg.svd(m, full_matrices=False)
  return u @ vt


def newton_schulz(m, steps=5, coefficients=(3.4445, -4.7750, 2.0315)):
  """U p(S / |S|) V^T, p the scalar iteration composed; zero for zero."""
  u, s, vt = np.linalg.svd(m, full_matrices=False)
  s = s / (np.linalg.norm(s) or 1)
  a, b, c = coefficients
  for _ in range(steps):
    s = a * s + b * s**3 + c * s**5
  return (u * s) @ vt


def namo(theta, gradients, lr, b1=0.95, b2=0.99, eps=1e-8, weight_decay=0.01):
  """Algorithm 1: yields theta after every gradient."""
  theta = np.array(theta, np.float64)
  lrs = np.broadcast_to(lr, len(gradients))
  m = np.zeros_like(theta)
  v = 0.0
  for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * np.sum(g * g)
    correction = np.sqrt(1 - b2**t) / (1 - b1**t)
    a = correction * np.sqrt(np.sum(m * m)) / (np.sqrt(v) + eps)
    theta = theta - lrs[t - 1] * a * (polar(m) + weight_decay * theta)
    yield theta


def namo_d(
  theta,
  gradients,
  lr,
  clamp,
  b1=0.95,
  b2=0.99,
  eps=1e-8,
  weight_decay=0.01,
):
  """Algorithm 2: yields theta after every gradient."""
  theta = np.array(theta, np.float64)
  lrs = np.broadcast_to(lr, len(gradients))
  m = np.zeros_like(theta)
  v = np.zeros(theta.shape[1])
  for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * np.sum(g * g, axis=0)
    correction = np.sqrt(1 - b2**t) / (1 - b1**t)
    a = correction * np.sqrt(np.sum(m * m, axis=0)) / (np.sqrt(v) + eps)
    d = np.minimum(np.maximum(a, clamp * a.mean()), a.mean() / clamp)
    theta = theta - lrs[t - 1] * (polar(m) + weight_decay * theta) @ np.diag(d)
    yield theta
