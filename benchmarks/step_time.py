# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The cost of an optimizer step: ours beside optax's Muons and AdamW.

  python -m benchmarks.step_time --shapes=char,6x384 --json=step_time.json

Every optimizer updates the parameters of a GPT (token and position embeddings
and norms by AdamW; qkv, proj, fc and out of every layer as matrices) in one
process, a step each in turn, `--rounds` times; 0 leaves the times out. Times
are medians over the rounds; ratios, to the Muon that optax released and to that
of its main, are medians of each round's. FLOPs are XLA's count for the step
with the loops of Newton-Schulz unrolled, since it counts a loop's body once.
Temporary memory is what XLA allocates for the step beside parameters, state and
gradients.
"""

import functools

from absl import flags
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from benchmarks import harness
from benchmarks import steps
from benchmarks.contenders import BASELINE
from benchmarks.contenders import FAST
from benchmarks.contenders import MAIN
from optax_namo._polar import coefficients as polynomials

FIGURES = {  # name: (unit, how many of it)
  'step_time': ('ms', 1e-3),
  'flops': ('GFLOP', 1e9),
  'compile_time': ('s', 1),
  'hlo_lines': ('', 1),
  'temporary_memory': ('MB', 1e6),
  'state': ('MB', 1e6),
}

_SHAPES = flags.DEFINE_list(
  'shapes', ['char', '6x384'], f'Of {list(steps.SHAPES)}.'
)
_PLOT = flags.DEFINE_string('plot', None, 'Where to draw them, a .png file.')


def optimizers(shape):
  """The shapes of the parameters, and what is compared, by name."""
  params = steps.parameters(*steps.SHAPES[shape])
  return params, steps.optimizers(params)


@functools.lru_cache(maxsize=1)
def pieces(shape):
  """A step of each."""
  return harness.Pieces(steps.pieces(*optimizers(shape)))


def turn(shape):
  return pieces(shape).turn()


def compare(shape):
  """Every figure of every optimizer, with its ratios to both baselines."""
  params, chosen = optimizers(shape)
  fixed = {name: steps.deterministic(tx, params) for name, tx in chosen.items()}
  found = {  # One round tells them all.
    figure: harness.Rounds([{name: fixed[name][figure] for name in chosen}])
    for figure in fixed[BASELINE]
  }
  if harness.ROUNDS.value:
    compiling = []
    for _ in range(3):
      seconds = {}
      for name, tx in chosen.items():
        jax.clear_caches()
        seconds[name] = harness.seconds(steps.compiled, tx, params)
      compiling.append(seconds)
    found['compile_time'] = harness.Rounds(compiling)
    found['step_time'] = harness.rounds(turn, shape)
    pieces.cache_clear()  # The next ones need the memory.
  rows = {}
  for name in chosen:
    rows[name] = {
      figure: {
        'value': rounds.median(name),
        'ratio': rounds.ratio(name, BASELINE),
        'to_main': rounds.ratio(name, MAIN),
      }
      for figure, rounds in found.items()
    }
    for rounds in found.values():
      rows[name] |= rounds.against(name)
  return rows


def shown(row):
  """Each figure with its unit and both ratios, as text."""
  cells = {
    name: f'{row[name]["value"] / of:.4g} {unit} ({row[name]["ratio"]:.2f}×,'
    f' {row[name]["to_main"]:.2f}×)'
    for name, (unit, of) in FIGURES.items()
    if name in row
  }
  return cells | {k: row[k] for k in row if k not in FIGURES}


def accelerators(shape, rows):
  """FLOPs of the products on GPUs and TPUs, as ratios to optax's Muon."""
  params = steps.parameters(*steps.SHAPES[shape])
  theirs = rows[BASELINE]['flops']['value']
  return {
    f'{coefficients}, {device}': steps.product_flops(
      params, coefficients, count, bits
    )
    / theirs
    for coefficients, count in (('muon', 5), ('minimax', 3))
    for device, bits in (('cuda', 10), ('tpu', 7))
  }


def draw(shapes, device, path):
  """Bars of every figure's ratio to optax main's Muon, one panel a shape."""
  fig, panels = plt.subplots(
    len(shapes),
    figsize=(8, 2.6 * len(shapes)),
    squeeze=False,
    dpi=150,
    layout='constrained',
  )
  for panel, (shape, rows) in zip(panels[:, 0], shapes.items()):
    shown = [figure for figure in FIGURES if figure in rows[MAIN]]
    names = [name for name in rows if name != MAIN]
    width = 0.8 / len(names)
    for i, name in enumerate(names):
      panel.bar(
        np.arange(len(shown)) + (i - (len(names) - 1) / 2) * width,
        [rows[name][figure]['to_main'] for figure in shown],
        width,
        label=name,
      )
    panel.axhline(1, color='black', linewidth=1)
    panel.set_xticks(range(len(shown)), [f.replace('_', ' ') for f in shown])
    panel.set(title=shape, ylabel=f'ratio to\n{MAIN}')
  handles = panels[0, 0].get_legend_handles_labels()
  fig.legend(*handles, loc='outside lower center', fontsize='small', ncols=3)
  fig.suptitle(device)
  fig.savefig(path)


def main():
  report = harness.circumstances() | {'shapes': {}, 'accelerators': {}}
  for shape in _SHAPES.value:
    rows = report['shapes'][shape] = compare(shape)
    harness.show(shape, {name: shown(row) for name, row in rows.items()})
    products = report['accelerators'][shape] = accelerators(shape, rows)
    print(f'Products alone, by the formula: {products}', flush=True)
  if harness.ROUNDS.value:
    schedule = polynomials.schedule('minimax', 3, 23)
    stack = (12, 384, 1536)
    rate = steps.product_rate(FAST, schedule, stack, 2048, jnp.float32)
    print(f'Orthogonalizing beside one large product: {rate}')
  harness.write(report)
  if _PLOT.value:
    draw(report['shapes'], report['device'], _PLOT.value)


if __name__ == '__main__':
  harness.run(main, turn)
