# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The cost of an optimizer step: ours beside optax's Muon and AdamW.

  python -m benchmarks.step_time --shapes=char,6x384 --json=step_time.json

Every optimizer updates the parameters of a GPT (token and position embeddings
and norms by AdamW; qkv, proj, fc and out of every layer as matrices) in one
process, a step each in turn, `--rounds` times. Times are medians over the
rounds; ratios are medians of each round's ratio to optax.contrib.muon. FLOPs
are XLA's count for the step with the loops of Newton-Schulz unrolled, since it
counts a loop's body once. Temporary memory is what XLA allocates for the step
beside parameters, state and gradients.
"""

import json
import os
import pathlib
import statistics
import time

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from benchmarks import steps
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns

FIGURES = {  # name: (unit, how many of it)
  'step_time': ('ms', 1e-3),
  'flops': ('GFLOP', 1e9),
  'compile_time': ('s', 1),
  'hlo_lines': ('lines', 1),
  'temporary_memory': ('MB', 1e6),
  'state': ('MB', 1e6),
}

_SHAPES = flags.DEFINE_list(
  'shapes', ['char', '6x384'], f'Of {list(steps.SHAPES)}.'
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 9, 'Steps of each optimizer; 0 leaves the times out.'
)
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')
_PLOT = flags.DEFINE_string('plot', None, 'Where to draw them, a .png file.')


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
      programs[name] = steps.compiled(tx, params)
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
  params = steps.parameters(*steps.SHAPES[shape])
  candidates = steps.optimizers(params)
  times = timed(candidates, params, rounds)
  fixed = {
    name: steps.deterministic(tx, params) for name, tx in candidates.items()
  }
  rows = {}
  for name in candidates:
    row = {
      figure: {'value': value, 'ratio': value / fixed[steps.BASELINE][figure]}
      for figure, value in fixed[name].items()
    }
    for figure, seconds in times[name].items():
      if seconds:
        ratios = map(lambda a, b: a / b, seconds, times[steps.BASELINE][figure])
        row[figure] = {
          'value': statistics.median(seconds),
          'ratio': statistics.median(ratios),
        }
    rows[name] = row
  return rows


def table(rows):
  """Markdown: one line an optimizer, each figure with its ratio."""
  shown = [figure for figure in FIGURES if figure in rows[steps.BASELINE]]
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


def accelerators(shape, rows):
  """FLOPs of the products on GPUs and TPUs, as ratios to optax's Muon."""
  params = steps.parameters(*steps.SHAPES[shape])
  theirs = rows[steps.BASELINE]['flops']['value']
  return {
    f'{coefficients}, {device}': steps.product_flops(
      params, coefficients, count, bits
    )
    / theirs
    for coefficients, count in (('muon', 5), ('minimax', 3))
    for device, bits in (('cuda', 10), ('tpu', 7))
  }


def fraction_of_product_rate(stack=(12, 384, 1536), side=2048):
  """FLOP/s of Newton-Schulz's products over those of one large product."""
  x = jax.random.normal(jax.random.key(0), stack)
  y = jax.random.normal(jax.random.key(1), (side, side))
  fast = jax.jit(steps.FAST).lower(x).compile()
  product = jax.jit(jnp.matmul).lower(y, y).compile()
  rows, gain = polynomials.schedule('minimax', 3, 23)
  runs = ns.cheapest(rows, gain, *stack[1:])
  flops = stack[0] * ns.flops(runs, *stack[1:])

  def rate(flops, program, *arguments):
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    return flops / (time.perf_counter() - start)

  fast(x), product(y, y)
  return statistics.median(
    rate(flops, fast, x) / rate(2 * side**3, product, y, y) for _ in range(9)
  )


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
    shown = [figure for figure in FIGURES if figure in rows[steps.BASELINE]]
    names = [name for name in rows if name != steps.BASELINE]
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
    panel.set(title=shape, ylabel=f'ratio to\n{steps.BASELINE}')
  handles = panels[0, 0].get_legend_handles_labels()
  fig.legend(*handles, loc='outside lower center', fontsize='small', ncols=3)
  fig.suptitle(device)
  fig.savefig(path)


def main(argv):
  del argv
  device = jax.devices()[0]
  where = f'{device.device_kind}, {jax.device_count()} device(s)'
  if device.platform == 'cpu':
    where = f'CPU, {len(os.sched_getaffinity(0))} cores'
  shapes, accelerated = {}, {}
  for shape in _SHAPES.value:
    shapes[shape] = compare(shape, _ROUNDS.value)
    print(f'\n{shape} on {where}\n\n{table(shapes[shape])}', flush=True)
    accelerated[shape] = accelerators(shape, shapes[shape])
    print(f'Products alone, by the formula: {accelerated[shape]}', flush=True)
  if _ROUNDS.value:
    rate = fraction_of_product_rate()
    print(f'Orthogonalizing runs at {rate:.2f} of the rate of a large product.')
  if _JSON.value:
    versions = {'jax': jax.__version__, 'optax': optax.__version__}
    report = {'device': where, 'versions': versions, 'shapes': shapes}
    report['accelerators'] = accelerated
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')
  if _PLOT.value:
    draw(shapes, where, _PLOT.value)


if __name__ == '__main__':
  app.run(main)
