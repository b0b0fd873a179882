# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whole optimizers in float64 NumPy, with a bound on what float32 may differ.

The bound follows the conditioning of each step: what cancels in the momentum,
how far the orthogonalizer pulls two nearby matrices apart, and rounding on top.
"""

from typing import NamedTuple

import numpy as np

from tests.oracles import paper

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Options(NamedTuple):
  """What does not change the compiled program's inputs."""

  columns: str | None  # None is NAMO.
  nesterov: bool
  decay: str
  shape_scale: str
  clamped: bool
  exact: bool  # Orthogonalized by SVD.


def _orthogonalize(m, exact):
  """Orth(M), and the most by which it magnifies a change of M / ||M||_F.

  The Gram form gathers five factors before they meet the matrix. Where several
  directions dwarf the rest it had up to 5 times the error of the standard form
  in 15,000 runs.
  """
  s = np.linalg.svd(m, compute_uv=False)
  s = s / (np.linalg.norm(s) or 1)
  if exact:
    return paper.polar(m) if s.any() else 0 * m, 1 / max(s.min(), 1e-30)
  # On a grid: f(s) / s and the slope of f, the five polynomials composed.
  grid = np.concatenate([s, np.linspace(s.min(), s.max(), 65)])
  a, b, c = _COEFFICIENTS
  slope = np.ones_like(grid)
  f = grid
  for _ in range(5):
    slope = slope * np.abs(a + 3 * b * f**2 + 5 * c * f**4)
    f = a * f + b * f**3 + c * f**5
  stretch = np.abs(f) / np.where(grid > 0, grid, 1)
  gram = 8 if max(m.shape) > 1.5 * min(m.shape) > 1.5 else 1
  return paper.newton_schulz(m), gram * max(1, slope.max(), stretch.max())


def _shape_factor(shape, shape_scale, rms):
  fan_in, fan_out = shape
  return {
    'rms': rms * max(fan_in, fan_out) ** 0.5,
    'width': max(1, fan_out / fan_in) ** 0.5,
    'none': 1.0,
  }[shape_scale]


def _bias(decay, t):
  """``1 - decay**t``; subtraction would leave twelve digits at 0.9999."""
  return -np.expm1(t * np.log(decay)) if decay > 0.5 else 1 - decay**t


def matrix(theta, gradients, hyper, options, unit):
  """Yields the update of an (in, out) matrix at every step, and its bound.

  Args:
    theta: The matrix, which stays where it is.
    gradients: (steps, in, out).
    hyper: Hyperparameters by name.
    options: Options.
    unit: The spacing of the numbers at 1 that the arithmetic is done in.
  """
  axes = {None: (0, 1), 'input': (1,), 'output': (0,)}[options.columns]
  norm = lambda x: np.sqrt(np.sum(np.square(x), axis=axes, keepdims=True))
  b1, b2, rate = hyper['b1'], hyper['b2'], hyper['learning_rate']
  m, m_abs = np.zeros_like(theta), np.zeros_like(theta)
  v = np.square(norm(m))
  factor = _shape_factor(theta.shape, options.shape_scale, hyper['rms'])
  # Squares of what is less vanish: the scale's entries, where eps dwarfs them.
  dtype = np.float32 if unit > 1e-10 else np.float64
  smallest = np.sqrt(float(np.finfo(dtype).tiny) * theta.size)
  for t, g in enumerate(gradients, start=1):
    m = b1 * m + (1 - b1) * g
    m_abs = b1 * m_abs + (1 - b1) * np.abs(g)
    v = b2 * v + (1 - b2) * np.square(norm(g))
    look, look_abs = m, m_abs
    if options.nesterov:
      look = b1 * m + (1 - b1) * g
      look_abs = b1 * m_abs + (1 - b1) * np.abs(g)
    below = np.sqrt(v) + hyper['eps']
    correction = np.sqrt(_bias(b2, t)) / _bias(b1, t)
    correction = correction * (below > 0) / np.where(below > 0, below, 1)
    d, d_error = correction * norm(look), unit * correction * norm(look_abs)
    d_error = d_error + smallest
    if options.clamped:
      c, mean = hyper['clamp'], d.mean()
      clipped = np.clip(d, c * mean, mean / c)
      relative = d_error.mean() / mean if mean else 0.0
      d, d_error = clipped, np.maximum(d_error, clipped * relative)
    o, amplification = _orthogonalize(look, options.exact)
    cancelled = np.linalg.norm(look_abs) / (np.linalg.norm(look) or 1)
    o_error = unit * amplification * cancelled
    decay = hyper['weight_decay'] * theta
    decay_scale = d if options.decay == 'adaptive' else np.ones_like(d)
    update = -rate * (factor * o * d + decay * decay_scale)
    terms = (
      factor * o_error * d.max(),
      factor * np.linalg.norm(o * d_error),
      np.linalg.norm(decay * (d_error if decay_scale is d else 0)),
      unit * np.linalg.norm(decay * decay_scale),
      unit * factor * np.linalg.norm(o * d),
    )
    yield update, rate * sum(terms)


def adamw(theta, gradients, hyper, unit):
  """Yields the update of a leaf of the AdamW group, and its bound."""
  b1, b2, rate = (hyper[k] for k in ('adam_b1', 'adam_b2', 'learning_rate'))
  m = m_abs = v = np.zeros_like(theta)
  for t, g in enumerate(gradients, start=1):
    m = b1 * m + (1 - b1) * g
    m_abs = b1 * m_abs + (1 - b1) * np.abs(g)
    v = b2 * v + (1 - b2) * g * g
    below = np.sqrt(v / (1 - b2**t)) + hyper['adam_eps']
    decay = hyper['adam_weight_decay'] * theta
    update = -rate * (m / (1 - b1**t) / below + decay)
    # optax computes 1 - b^t by subtraction: up to 1 / (1 - b) units of error.
    lost = 1 / (1 - b1) + 1 / (1 - b2)
    error = lost * m_abs / (1 - b1**t) / below + np.abs(decay)
    yield update, rate * unit * np.linalg.norm(error)
