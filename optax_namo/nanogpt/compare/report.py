# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison to look at: a Markdown table and a figure."""

from collections.abc import Sequence
import math
import pathlib
import statistics
from typing import Any

from matplotlib import figure
from matplotlib import ticker

from optax_namo.nanogpt.compare.judge import best_of
from optax_namo.nanogpt.compare.judge import by_optimizer
from optax_namo.nanogpt.compare.judge import by_rate
from optax_namo.nanogpt.compare.judge import final_loss
from optax_namo.nanogpt.config import OPTIMIZERS

_BASELINE = 'adamw'


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The Markdown table of a comparison, and what to know about it."""
  bests = best_of(rows)
  baseline = next((b for b in bests if b.optimizer == _BASELINE), None)
  lines = [
    '| | learning rate | of AdamW group | validation loss | steps to'
    " AdamW's | ms/step | × AdamW |",
    '|---|---|---|---|---|---|---|',
  ]
  for best in bests:
    reached = '-'
    if baseline and math.isfinite(baseline.loss):
      below = [s for s, x in zip(best.steps, best.curve) if x <= baseline.loss]
      reached = str(below[0]) if below else '-'
    ratio = '-'
    if baseline and baseline.ms_per_step and best.ms_per_step:
      ratio = f'{best.ms_per_step / baseline.ms_per_step:.2f}'
    loss = f'{best.loss:.3f}'
    if len(best.losses) > 1 and math.isfinite(best.loss):
      loss += f' ± {statistics.stdev(best.losses):.3f}'
    time = f'{best.ms_per_step:.1f}' if best.ms_per_step else '-'
    lines.append(
      f'| {OPTIMIZERS[best.optimizer].label} | {best.learning_rate:g} |'
      f' {best.adam_learning_rate:g} | {loss} | {reached} | {time} | {ratio} |'
    )
  devices = sorted({row['device'] for row in rows if row['device']})
  config = rows[0]['config']
  seeds = sorted({row['config']['seed'] for row in rows})
  lines += [
    '',
    f'{config["steps"]} steps of the preset {config["preset"]} on'
    f' {pathlib.Path(config["data"]).stem}, seeds'
    f' {", ".join(map(str, seeds))}, {len(rows)} runs. Validation loss in nats'
    ' a token at the last step, mean ± standard deviation over the seeds, at'
    ' the best of the learning rates tried.',
  ]
  if devices:
    lines[-1] += (
      f' ms/step is the median after compilation on {", ".join(devices)}, an'
      ' absolute time of that machine alone.'
    )
  return '\n'.join(lines) + '\n'


def draw(rows: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Draws loss curves at the best rates, and the final loss against the rate.

  Lines are means over the seeds, bands reach from the lowest to the highest.

  Args:
    rows: Rows of results.jsonl.
    path: The PNG file to write.
  """
  fig = figure.Figure(figsize=(11, 4.2), dpi=150, layout='constrained')
  left, right = fig.subplots(1, 2)
  bests = best_of(rows)
  colors = {name: f'C{i}' for i, name in enumerate(OPTIMIZERS)}
  for best in bests:
    color = colors[best.optimizer]
    label = f'{OPTIMIZERS[best.optimizer].label} at {best.learning_rate:g}'
    _band(left, best.steps, zip(*best.curves), color, label)
  for optimizer, of_optimizer in by_optimizer(rows).items():
    seeds_at: dict[float, list[float]] = {}
    for (rate, _), seeds in by_rate(of_optimizer).items():
      losses = [final_loss(row) for row in seeds.values()]
      before = seeds_at.get(rate)  # At another rate of the AdamW group.
      if before is None or statistics.fmean(losses) < statistics.fmean(before):
        seeds_at[rate] = losses
    kept = {
      rate: losses
      for rate, losses in seeds_at.items()
      if all(map(math.isfinite, losses))
    }
    if kept:
      label = OPTIMIZERS[optimizer].label
      _band(right, kept, kept.values(), colors[optimizer], label)
  # The first evaluations are far above what is to be seen, and so may be the
  # losses at rates that are too large.
  finite = [b.loss for b in bests if math.isfinite(b.loss)]
  if finite:
    reach = max(max(finite) - min(finite), 0.1)
    bottom = min(finite) - 0.25 * reach
    left.set_ylim(bottom, max(finite) + 2.5 * reach)
    right.set_ylim(bottom, max(finite) + 1.25 * reach)
  left.set(xlabel='step', ylabel='validation loss (nats a token)')
  left.set_title('at the best learning rate', fontsize=10)
  right.set(xlabel='peak learning rate of the matrices')
  if right.lines:  # Not all of them diverged.
    right.set_xscale('log')
    right.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter('{x:g}')
    right.xaxis.set_minor_locator(ticker.NullLocator())
    right.legend()
  right.set_title(f'after {rows[0]["config"]["steps"]} steps', fontsize=10)
  for axes in (left, right):
    axes.grid(alpha=0.3)
  left.legend()
  fig.savefig(path)


def _band(axes, x, groups, color, label) -> None:
  """The mean of each group as a line, from its least to its largest a band."""
  x, groups = list(x), list(groups)
  mean = [statistics.fmean(group) for group in groups]
  axes.plot(x, mean, color=color, marker='o', markersize=3, label=label)
  axes.fill_between(
    x,
    [min(group) for group in groups],
    [max(group) for group in groups],
    color=color,
    alpha=0.2,
    linewidth=0,
  )
