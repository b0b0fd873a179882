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
import json
import pathlib
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import momenta
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns

_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')
_PLOT = flags.DEFINE_string('plot', None, 'Where to draw them, a .png file.')
_ROUNDS = flags.DEFINE_integer('rounds', 9, 'Of timing; 0 leaves it out.')
_STACK = (16, 128, 512)
_MINIMAX = {
  f'minimax {degree} x {steps}': optax_namo.minimax_coefficients(
    3e-3, (degree,) * steps
  )
  for degree, steps in ((3, 6), (5, 4), (7, 3), (9, 3))
}


def cases():
  """(label, arguments of newton_schulz) of every row."""
  for name in ('muon', 'polar_express', 'cans', 'dion'):
    for preconditioning in ('frobenius', 'schatten', 'spectral', 'aol'):
      yield name, dict(coefficients=name, preconditioning=preconditioning)
    yield name, dict(coefficients=name, dtype='bfloat16')
  for label, rows in _MINIMAX.items():
    options = dict(steps=len(rows), coefficients=rows)
    yield label, options | dict(preconditioning='frobenius')
    yield label, options | dict(preconditioning='schatten')
  fast = dict(steps=3, coefficients='minimax', preconditioning='schatten')
  for dtype in ('float32', 'bfloat16', 'float16'):
    yield 'minimax', fast | dict(dtype=dtype)


def function(options):
  options = dict(options)
  if 'dtype' in options:
    options['dtype'] = jnp.dtype(options['dtype'])
  return jax.jit(functools.partial(optax_namo.newton_schulz, **options))


def products(options, n):
  """Products of m x m, where a product with n columns counts n."""
  given = polynomials.checked(options['coefficients'])
  precision = jnp.finfo(options.get('dtype', 'float32')).nmant
  rows, gain = polynomials.schedule(given, options.get('steps', 5), precision)
  runs = ns.cheapest(rows, gain, 1, n)
  return ns.flops(runs, 1, n, options.get('preconditioning', '')) / 2


def gflops(options):
  """Of the products on the stack."""
  batch, m, n = _STACK
  return 2e-9 * batch * m**3 * products(options, n // m)


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


def main(argv):
  del argv
  stages = {
    stage: [(x, polar(x)) for x in (min(x, x.T, key=len) for x in xs)]
    for stage, xs in momenta.load().items()
  }
  stack = jax.random.normal(jax.random.key(0), _STACK)
  rows, programs = [], []
  for label, options in cases():
    run = function(options)
    if _ROUNDS.value:
      programs.append(run.lower(stack).compile())
    rows.append({
      'coefficients': label,
      'steps': options.get('steps', 5),
      'preconditioning': options.get('preconditioning', 'frobenius'),
      'dtype': options.get('dtype', 'float32'),
      'products_square': products(options, 1),
      'products_wide': products(options, 4),
      'gflops': gflops(options),
      'accuracy': accuracy(run, stages),
    })  # fmt: skip
    print('.', end='', flush=True)
  times = [[] for _ in programs]
  for _ in range(_ROUNDS.value):
    for program, seconds in zip(programs, times):
      start = time.perf_counter()
      jax.block_until_ready(program(stack))
      seconds.append(time.perf_counter() - start)
  for row, seconds in zip(rows, times):  # No times without rounds.
    if seconds:
      ratios = np.asarray(seconds) / np.asarray(times[0])
      row['time'] = float(np.median(ratios))
  print('\n' + table(rows))
  if _JSON.value:
    pathlib.Path(_JSON.value).write_text(json.dumps(rows, indent=1) + '\n')
  if _PLOT.value:
    draw(rows, _PLOT.value)


def table(rows):
  """Markdown; times are ratios to the first row's."""
  lines = [
    '| coefficients | steps | preconditioning | dtype | products, square'
    ' | n = 4m | time |'
    + ''.join(f' step {stage}: cos, RMS |' for stage in momenta.STAGES),
    '|---|---|---|---|---|---|---|' + '---|' * len(momenta.STAGES),
  ]
  for row in rows:
    cells = [
      *(row[k] for k in ('coefficients', 'steps', 'preconditioning', 'dtype')),
      f'{row["products_square"]:g}',
      f'{row["products_wide"]:g}',
      f'{row["time"]:.2f}' if 'time' in row else '-',
      *('{:.3f}, {:.3f}'.format(*found) for found in row['accuracy'].values()),
    ]
    lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
  return '\n'.join(lines)


def draw(rows, path):
  """1 - cosine against products, a panel for each stage after the first."""
  stages = momenta.STAGES[1:]
  fig, panels = plt.subplots(
    1, len(stages), figsize=(11, 3.6), dpi=120, layout='constrained'
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
        panel.annotate(text, (p, e), fontsize=6)
    panel.set(
      title=f'step {stage}',
      xlabel='products of m x m, n = 4m',
      ylabel='1 - cosine',
      yscale='log',
    )
  fig.savefig(path)


if __name__ == '__main__':
  app.run(main)
