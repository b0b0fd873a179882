# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rows of a comparison say: a Markdown table and a figure."""

from collections.abc import Iterable, Sequence
import math
import pathlib
import statistics
from typing import Any, NamedTuple

from matplotlib import figure
from matplotlib import ticker

from optax_namo.nanogpt import config as configs

_BASELINE = 'adamw'
_NAMES = {'namo_d': 'NAMO-D', 'namo': 'NAMO', 'muon': 'Muon', 'adamw': 'AdamW'}


class Best(NamedTuple):
  """An optimizer at its best learning rates.

  Attributes:
    optimizer: Its name in the config.
    learning_rate: Peak learning rate of the matrices.
    adam_learning_rate: Peak learning rate of the rest.
    losses: Final validation loss of each seed, in nats a token.
    steps: The steps of the evaluations.
    curves: Validation losses, (seed, evaluation).
    ms_per_step: Median over the seeds of milliseconds a step, or None.
  """

  optimizer: str
  learning_rate: float
  adam_learning_rate: float
  losses: list[float]
  steps: list[int]
  curves: list[list[float]]
  ms_per_step: float | None

  @property
  def loss(self) -> float:
    return statistics.fmean(self.losses)

  @property
  def curve(self) -> list[float]:
    return [statistics.fmean(losses) for losses in zip(*self.curves)]


def final_loss(row: dict[str, Any]) -> float:
  """The last validation loss of a run; infinite where it diverged."""
  loss = row['val_losses'][-1][1]
  return loss if math.isfinite(loss) else math.inf


def _by_rate(rows: Iterable[dict[str, Any]]) -> dict[tuple, dict[int, dict]]:
  """From learning rates to the rows of each seed, rates in order."""
  rates: dict[tuple, dict[int, dict]] = {}
  for row in rows:
    config = row['config']
    rate = config['learning_rate'], config['adam_learning_rate']
    rates.setdefault(rate, {})[config['seed']] = row
  return dict(sorted(rates.items()))


def _optimizers(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict]]:
  found: dict[str, list[dict]] = {name: [] for name in configs.LEARNING_RATES}
  for row in rows:
    found[row['config']['optimizer']].append(row)
  return {name: rows for name, rows in found.items() if rows}


def best_of(rows: Iterable[dict[str, Any]]) -> list[Best]:
  """Each optimizer at the rates with the lowest mean final loss.

  Rates are compared on the seeds that all rates of the optimizer have, so that
  further seeds at the best rate do not change which it is.

  Args:
    rows: Rows of results.jsonl.

  Returns:
    One ``Best`` for each optimizer.
  """
  bests = []
  for optimizer, of_optimizer in _optimizers(rows).items():
    rates = _by_rate(of_optimizer)
    common = set.intersection(*(set(seeds) for seeds in rates.values()))

    def loss(rate, rates=rates, common=common):
      return statistics.fmean(
        final_loss(row)
        for seed, row in rates[rate].items()
        if seed in common or not common
      )

    rate = min(rates, key=loss)
    learning_rate, adam_learning_rate = rate
    runs = [rates[rate][seed] for seed in sorted(rates[rate])]
    times = [run['ms_per_step'] for run in runs if run['ms_per_step']]
    bests.append(
      Best(
        optimizer,
        learning_rate,
        adam_learning_rate,
        losses=[final_loss(run) for run in runs],
        steps=[step for step, _ in runs[0]['val_losses']],
        curves=[[loss for _, loss in run['val_losses']] for run in runs],
        ms_per_step=statistics.median(times) if times else None,
      )
    )
  return bests


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
      f'| {_NAMES[best.optimizer]} | {best.learning_rate:g} |'
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
  colors = {name: f'C{i}' for i, name in enumerate(_NAMES)}
  for best in bests:
    color = colors[best.optimizer]
    label = f'{_NAMES[best.optimizer]} at {best.learning_rate:g}'
    _band(left, best.steps, zip(*best.curves), color, label)
  for optimizer, of_optimizer in _optimizers(rows).items():
    seeds_at: dict[float, list[float]] = {}
    for (rate, _), seeds in _by_rate(of_optimizer).items():
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
      _band(right, kept, kept.values(), colors[optimizer], _NAMES[optimizer])
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
