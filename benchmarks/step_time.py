# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The cost of an optimizer step: ours beside optax's Muon and AdamW.

  python benchmarks/step_time.py --shapes=char,6x384 --json=step_time.json

Every optimizer updates the parameters of a GPT (token and position embeddings
and norms by AdamW; qkv, proj, fc and out of every layer as matrices) in one
process, a step each in turn, `--rounds` times. Times are medians over the
rounds; ratios are medians of each round's ratio to optax.contrib.muon. FLOPs
are XLA's count for the step with the loops of Newton-Schulz unrolled, since it
counts a loop's body once. Temporary memory is what XLA allocates for the step
beside parameters, state and gradients.
"""

import functools
import json
import os
import pathlib
import statistics
import time
from unittest import mock

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

import optax_namo
from optax_namo import _coefficients
from optax_namo import _factored
from optax_namo import _norms
from optax_namo import _orthogonalize

# Layers, width, vocabulary, context.
SHAPES = {
  'char': (4, 128, 96, 128),
  '6x384': (6, 384, 0, 0),  # The matrices alone.
  'gpt2': (12, 768, 50304, 1024),
  'gpt2-medium': (24, 1024, 50304, 1024),
}
BASELINE = 'optax.contrib.muon'
FIGURES = {  # name: (unit, how many of it)
  'step_time': ('ms', 1e-3),
  'flops': ('GFLOP', 1e9),
  'compile_time': ('s', 1),
  'hlo_lines': ('lines', 1),
  'temporary_memory': ('MB', 1e6),
  'state': ('MB', 1e6),
}

_SHAPES = flags.DEFINE_list('shapes', ['char', '6x384'], f'Of {list(SHAPES)}.')
_ROUNDS = flags.DEFINE_integer(
  'rounds', 9, 'Steps of each optimizer; 0 leaves the times out.'
)
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')
_PLOT = flags.DEFINE_string('plot', None, 'Where to draw them, a .png file.')


def parameters(layers, width, vocabulary, context):
  """Shapes of a GPT's parameters, float32, kernels (in, out)."""
  block = {
    'qkv': (width, 3 * width),
    'proj': (width, width),
    'fc': (width, 4 * width),
    'out': (4 * width, width),
  }
  rest = {'wte': (vocabulary, width), 'wpe': (context, width), 'norm': (width,)}
  if vocabulary:
    block |= {'norm1': (width,), 'norm2': (width,)}
  shapes = {f'h{i}': block for i in range(layers)}
  if vocabulary:
    shapes |= rest
  return jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def plain_muon():
  """Our chain without norms, adaptive scale, clamp and decay."""

  def momentum(updates, state, params=None):
    del params
    mu = jax.tree.map(lambda m, g: 0.95 * m + 0.05 * g, state, updates)
    factored = lambda m, g: _factored.Factored(
      0.95 * m + 0.05 * g,
      jnp.ones((1, 1)),
      MuonDimensionNumbers((0,), (1,)),
      g.dtype,
    )
    return jax.tree.map(factored, mu, updates), mu

  return optax.chain(
    optax.GradientTransformation(optax.tree.zeros_like, momentum),
    optax_namo.orthogonalize(),
    optax_namo.scale_by_shape(),
    optax_namo.apply_scale(),
    optax.scale_by_learning_rate(0.01),
  )


def standard_form(x):
  """newton_schulz without its Gram form, for stacks with m <= n."""
  rows = _coefficients.triplets('muon', 5)
  return _orthogonalize.standard_form(_norms.normalize(x), rows)


def optimizers(params):
  """What is compared, by name; the same leaves are matrices for all."""
  numbers = optax_namo.matrix_dimension_numbers(params)
  labels = jax.tree.map(
    lambda _, spec: 'adamw' if spec is None else 'matrix', params, numbers
  )
  rates = {'learning_rate': 0.01, 'adam_learning_rate': 0.001}
  return {
    'namo_d': optax_namo.namo_d(**rates),
    'namo': optax_namo.namo(**rates),
    'namo_d, standard form': optax_namo.namo_d(
      **rates, orthogonalizer=standard_form
    ),
    'without norms, scale, clamp, decay': optax.partition(
      {'matrix': plain_muon(), 'adamw': optax.adamw(0.001)}, labels
    ),
    BASELINE: optax.contrib.muon(
      **rates, consistent_rms=0.2, muon_weight_dimension_numbers=numbers
    ),
    'optax.adamw': optax.adamw(0.001),
  }


def step(tx, params, state, grads):
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


def _unrolled(lower, upper, body, carry, **_):
  """``jax.lax.fori_loop`` as a Python loop, so that FLOPs are all counted."""
  for i in range(lower, upper):
    carry = body(i, carry)
  return carry


def compiled(tx, params):
  """The step, compiled for shapes; parameters and state are donated."""
  state = jax.eval_shape(tx.init, params)
  jitted = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1))
  return jitted.lower(params, state, params).compile()


def size(tree):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def deterministic(tx, params):
  """FLOPs, HLO lines and bytes of one step."""
  program = compiled(tx, params)
  with mock.patch.object(jax.lax, 'fori_loop', _unrolled):
    flops = compiled(tx, params).cost_analysis()['flops']
  return {
    'flops': flops,
    'hlo_lines': len(program.as_text().splitlines()),
    'temporary_memory': program.memory_analysis().temp_size_in_bytes,
    'state': size(jax.eval_shape(tx.init, params)),
  }


def timed(candidates, params, rounds):
  """Seconds of compiling and of a step in each round, by name."""
  rng = np.random.default_rng(0)
  normal = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype) * 0.02
  grads = jax.tree.map(normal, params)
  times = {name: {'compile_time': [], 'step_time': []} for name in candidates}
  programs, carries = {}, {}
  for _ in range(3 if rounds else 0):
    for name, tx in candidates.items():
      jax.clear_caches()
      start = time.perf_counter()
      programs[name] = compiled(tx, params)
      times[name]['compile_time'].append(time.perf_counter() - start)
  for name, program in programs.items():
    start = jax.tree.map(jnp.zeros_like, params)
    carries[name] = program(start, jax.jit(candidates[name].init)(start), grads)
  for _ in range(rounds):
    for name, program in programs.items():
      jax.block_until_ready(carries[name])
      start = time.perf_counter()
      carries[name] = jax.block_until_ready(program(*carries[name], grads))
      times[name]['step_time'].append(time.perf_counter() - start)
  return times


def compare(shape, rounds):
  """Every figure of every optimizer, with its ratio to optax's Muon."""
  params = parameters(*SHAPES[shape])
  candidates = optimizers(params)
  times = timed(candidates, params, rounds)
  fixed = {name: deterministic(tx, params) for name, tx in candidates.items()}
  rows = {}
  for name in candidates:
    row = {
      figure: {'value': value, 'ratio': value / fixed[BASELINE][figure]}
      for figure, value in fixed[name].items()
    }
    for figure, seconds in times[name].items():
      if seconds:
        ratios = map(lambda a, b: a / b, seconds, times[BASELINE][figure])
        row[figure] = {
          'value': statistics.median(seconds),
          'ratio': statistics.median(ratios),
        }
    rows[name] = row
  return rows


def table(rows):
  """Markdown: one line an optimizer, each figure with its ratio."""
  shown = [figure for figure in FIGURES if figure in rows[BASELINE]]
  lines = [
    '| |'
    + ''.join(f' {f.replace("_", " ")} ({FIGURES[f][0]}) |' for f in shown),
    '|---|' + '---|' * len(shown),
  ]
  for name, row in rows.items():
    cells = (
      f' {row[f]["value"] / FIGURES[f][1]:.4g} ({row[f]["ratio"]:.2f}×) |'
      for f in shown
    )
    lines.append(f'| {name} |' + ''.join(cells))
  return '\n'.join(lines)


def draw(shapes, device, path):
  """Bars of every figure's ratio to optax's Muon, one panel a shape."""
  fig, panels = plt.subplots(
    len(shapes),
    figsize=(8, 2.6 * len(shapes)),
    squeeze=False,
    dpi=150,
    layout='constrained',
  )
  for panel, (shape, rows) in zip(panels[:, 0], shapes.items()):
    shown = [figure for figure in FIGURES if figure in rows[BASELINE]]
    names = [name for name in rows if name != BASELINE]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
      panel.bar(
        np.arange(len(shown)) + (i - (len(names) - 1) / 2) * width,
        [rows[name][figure]['ratio'] for figure in shown],
        width,
        label=name,
      )
    panel.axhline(1, color='black', linewidth=1)
    panel.set_xticks(range(len(shown)), [f.replace('_', ' ') for f in shown])
    panel.set(title=shape, ylabel=f'ratio to\n{BASELINE}')
  panels[0, 0].legend(fontsize='small', ncols=2)
  fig.suptitle(device)
  fig.savefig(path)


def main(argv):
  del argv
  device = jax.devices()[0]
  where = f'{device.device_kind}, {jax.device_count()} device(s)'
  if device.platform == 'cpu':
    where = f'CPU, {len(os.sched_getaffinity(0))} cores'
  shapes = {}
  for shape in _SHAPES.value:
    shapes[shape] = compare(shape, _ROUNDS.value)
    print(f'\n{shape} on {where}\n\n{table(shapes[shape])}', flush=True)
  if _JSON.value:
    versions = {'jax': jax.__version__, 'optax': optax.__version__}
    report = {'device': where, 'versions': versions, 'shapes': shapes}
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')
  if _PLOT.value:
    draw(shapes, where, _PLOT.value)


if __name__ == '__main__':
  app.run(main)
