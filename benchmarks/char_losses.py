# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses of the four optimizers on the char preset, for the README.

  python benchmarks/char_losses.py

runs `python -m optax_namo.nanogpt` for every optimizer at several learning
rates, and with further seeds at the best of them. It goes on where it was
stopped, and leaves its table and figure in benchmarks/results. Losses do not
depend on the machine's speed.
"""

import json
import pathlib
import statistics
import subprocess
import sys

from absl import app
from absl import flags
from matplotlib import figure

from optax_namo.nanogpt import run_folder

# A factor of 1.4 apart.
_RATES = {
  'namo_d': (0.025, 0.035, 0.049),
  'namo': (0.035, 0.05, 0.07),
  'muon': (0.0042, 0.006, 0.0084),
  'adamw': (0.0021, 0.003, 0.0042, 0.006),
}
_SEEDS = flags.DEFINE_integer('seeds', 2, 'Seeds at the best learning rate.')
_STEPS = flags.DEFINE_integer('steps', 800, 'Steps of every run.')
_RUNS = flags.DEFINE_string('runs', 'out/char_losses', 'Folder of the runs.')
_RESULTS = flags.DEFINE_string(
  'results', str(pathlib.Path(__file__).with_name('results')), 'Folder.'
)


def _run(optimizer: str, learning_rate: float, seed: int) -> list[dict]:
  """The metrics of a run, trained as far as it is not yet."""
  out = pathlib.Path(_RUNS.value, f'{optimizer}-{learning_rate:g}-{seed}')
  rows = run_folder.read_metrics(out / 'metrics.jsonl')
  if not rows or rows[-1]['step'] < _STEPS.value:
    subprocess.run(
      [
        sys.executable,
        '-m',
        'optax_namo.nanogpt',
        f'--optimizer={optimizer}',
        f'--learning_rate={learning_rate}',
        f'--seed={seed}',
        f'--steps={_STEPS.value}',
        f'--out={out}',
        '--resume',
      ],
      check=True,
    )
    rows = run_folder.read_metrics(out / 'metrics.jsonl')
  return rows


def _plot(curves: dict[str, list[dict]], path: pathlib.Path) -> None:
  fig = figure.Figure(figsize=(7, 4), dpi=150, layout='constrained')
  axes = fig.subplots()
  for optimizer, rows in curves.items():
    seen = [row for row in rows if 'val_loss' in row]
    axes.plot(
      [row['step'] for row in seen],
      [row['val_loss'] for row in seen],
      marker='o',
      markersize=3,
      label=optimizer,
    )
  axes.set(
    xlabel='step', ylabel='validation loss (nats a character)', ylim=(None, 2.4)
  )
  axes.grid(alpha=0.3)
  axes.legend()
  fig.savefig(path)


def main(argv: list[str]) -> None:
  del argv
  runs, curves = [], {}
  for optimizer, rates in _RATES.items():
    tried = {rate: _run(optimizer, rate, seed=0) for rate in rates}
    best = min(tried, key=lambda rate: tried[rate][-1]['val_loss'])
    curves[optimizer] = tried[best]
    seeds = [_run(optimizer, best, seed) for seed in range(_SEEDS.value)]
    losses = [rows[-1]['val_loss'] for rows in seeds]
    runs.append(
      {
        'optimizer': optimizer,
        'learning_rate': best,
        'val_loss': statistics.mean(losses),
        'val_loss_of_seeds': losses,
        'val_loss_of_rates': {
          rate: rows[-1]['val_loss'] for rate, rows in tried.items()
        },
      }
    )
  results = pathlib.Path(_RESULTS.value)
  results.mkdir(parents=True, exist_ok=True)
  summary = {'steps': _STEPS.value, 'runs': runs}
  run_folder.write_whole(
    results / 'char_losses.json', json.dumps(summary, indent=2) + '\n'
  )
  _plot(curves, results / 'char_losses.png')
  print('\n| optimizer | learning rate | validation loss | of the seeds |')
  print('|---|---|---|---|')
  for run in runs:
    seeds = ', '.join(f'{loss:.3f}' for loss in run['val_loss_of_seeds'])
    print(
      f'| {run["optimizer"]} | {run["learning_rate"]} |'
      f' {run["val_loss"]:.3f} | {seeds} |'
    )


if __name__ == '__main__':
  app.run(main)
