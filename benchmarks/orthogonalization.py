# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Accuracy against cost of Newton-Schulz on momenta of real training.

  python -m benchmarks.orthogonalization --json=orthogonalization.json

For sets of coefficients, numbers of steps, preconditionings and precisions: the
median over 16 momenta (`benchmarks.momenta`) of the cosine to the exact polar
factor and of the root mean square of what singular values lack to 1, beside the
products of m x m, the FLOPs and the time on a stack of 16 x 128 x 512. The
Pareto figure shows the float32 rows.
"""

import functools

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import harness
from benchmarks import momenta
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns

_PLOT = flags.DEFINE_string('plot', None, 'Where to draw them, a .png file.')
_STACK = (16, 128, 512)
_MINIMAX = {
  f'minimax {degree} x {steps}': optax_namo.minimax_coefficients(
    3e-3, (degree,) * steps
  )
  for degree, steps in ((3, 6), (5, 4), (7, 3), (9, 3))
}


def cases():
  """(label, arguments of newton_schulz) of every row."""
  default = dict(steps=5, preconditioning='frobenius', dtype='float32')
  for name in ('muon', 'polar_express', 'cans', 'dion'):
    named = default | dict(coefficients=name)
    for preconditioning in ('frobenius', 'schatten', 'spectral', 'aol'):
      yield name, named | dict(preconditioning=preconditioning)
    yield name, named | dict(dtype='bfloat16')
  for label, rows in _MINIMAX.items():
    own = default | dict(steps=len(rows), coefficients=rows)
    yield label, own
    yield label, own | dict(preconditioning='schatten')
  fast = dict(steps=3, coefficients='minimax', preconditioning='schatten')
  for dtype in ('float32', 'bfloat16', 'float16'):
    yield 'minimax', fast | dict(dtype=dtype)


def products(n, coefficients, steps, preconditioning, dtype):
  """Products of m x m, where a product with n columns counts n."""
  given = polynomials.checked(coefficients)
  schedule = polynomials.schedule(given, steps, jnp.finfo(dtype).nmant)
  return ns.flops(ns.cheapest(*schedule, 1, n), 1, n, preconditioning) / 2


def accuracy(run, stages):
  """By stage: median cosine to the polar factor, median RMS of 1 - values."""
  found = {}
  for stage, matrices in stages.items():
    pairs = []
    for x, exact in matrices:
      o = np.asarray(run(x), np.float64)
      cosine = np.sum(o * exact) / np.linalg.norm(o) / np.linalg.norm(exact)
      values = np.linalg.svd(o, compute_uv=False)
      pairs.append((cosine, np.sqrt(np.mean((1 - values) ** 2))))
    found[stage] = tuple(np.median(pairs, axis=0).round(4).tolist())
  return found


def polar(x):
  u, _, vt = np.linalg.svd(np.float64(x), full_matrices=False)
  return u @ vt


def figures():
  """A row a case; times, on the stack, are ratios to the first case's."""
  batch, m, n = _STACK
  stages = {
    stage: [(x, polar(x)) for x in (min(x, x.T, key=len) for x in xs)]
    for stage, xs in momenta.record().items()
  }
  stack = jax.random.normal(jax.random.key(0), _STACK)
  rows, pieces = [], {}
  for label, options in cases():
    dtype = jnp.dtype(options['dtype'])
    rule = functools.partial(
      optax_namo.newton_schulz, **(options | {'dtype': dtype})
    )
    pieces[len(rows)] = (lambda x, rule=rule: (x, rule(x)), stack + 0, ())
    rows.append(options | {
      'coefficients': label,
      'products_square': products(1, **options),
      'products_wide': products(4, **options),
      'gflops': 2e-9 * batch * m**3 * products(n // m, **options),
      'accuracy': accuracy(jax.jit(rule), stages),
    })  # fmt: skip
    print('.', end='', flush=True)
  if harness.ROUNDS.value:
    rounds = harness.rounds(harness.Pieces(pieces).turn)
    for i, row in enumerate(rows):
      row['time'] = rounds.ratio(i, 0)
  return rows


def show(rows):
  """Prints them; of accuracy a column a stage, the cosine and the RMS."""
  table = {}
  for row in rows:
    row = dict(row)
    name = ', '.join(
      row.pop(k) for k in ('coefficients', 'preconditioning', 'dtype')
    )
    for stage, found in row.pop('accuracy').items():
      row[f'step {stage}'] = '{:.3f}, {:.3f}'.format(*found)
    table[name] = row
  harness.show('Cosine to the polar factor, RMS of 1 - singular values', table)


def draw(rows, path):
  """1 - cosine against products, a panel for each stage after the first."""
  stages = momenta.STAGES[1:]
  fig, panels = plt.subplots(
    1, len(stages), figsize=(8.4, 3.4), dpi=150, layout='constrained'
  )
  for panel, stage in zip(panels, stages):
    points = [
      (row['products_wide'], 1 - row['accuracy'][stage][0], row)
      for row in rows
      if row['dtype'] == 'float32'
    ]
    panel.scatter([p for p, _, _ in points], [e for _, e, _ in points], s=12)
    best = np.inf
    for p, e, row in sorted(points, key=lambda point: point[:2]):
      if e < best:
        best = e
        text = f'{row["coefficients"]}, {row["preconditioning"]}'
        right = p > 25  # Labels stay in the panel, beside their points.
        panel.annotate(
          text.replace(', ', ',\n'), (p, e), (-5 if right else 5, -3),
          textcoords='offset points', ha='right' if right else 'left',
          va='center', fontsize=7,
        )  # fmt: skip
    panel.margins(x=0.12, y=0.12)
    panel.tick_params(labelsize=8, which='both')
    panel.set(
      title=f'step {stage}',
      xlabel='products of m × m, n = 4m',
      yscale='log',
    )
  panels[0].set_ylabel('1 - cosine')
  fig.savefig(path)


def main(argv):
  del argv
  rows = figures()
  show(rows)
  harness.write(rows)
  if _PLOT.value:
    draw(rows, _PLOT.value)


if __name__ == '__main__':
  app.run(main)
