# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The study to look at: a figure for a question where it helps.

An optimizer has one colour throughout; bars are 95% intervals of paired
differences, each for itself: RESULTS.md corrects for their number.
"""

from collections.abc import Sequence
import math
import statistics

from matplotlib import figure
from matplotlib import ticker
import numpy as np

from benchmarks.evidence import answers
from benchmarks.evidence import tuning
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.config import OPTIMIZERS


def color(key: answers.Key) -> str:
  return f'C{list(OPTIMIZERS).index(key.optimizer)}'


def _axes(columns: int = 1, size: tuple[float, float] = (6.4, 3.6)):
  fig = figure.Figure(figsize=size, dpi=150, layout='constrained')
  axes = fig.subplots(1, columns, squeeze=False)[0]
  for ax in axes:
    ax.spines[['top', 'right']].set_visible(False)
  return fig, axes


def ordering(rows: tuning.Rows, arms: answers.Arms) -> figure.Figure:
  """Final losses of all seeds, and the differences to Muon."""
  fig, (left, right) = _axes(2, (9, 3.4))
  keys = list(arms)
  for x, key in enumerate(keys):
    losses = rows.losses(arms[key], answers.seeds(rows, arms[key]))
    left.plot([x] * len(losses), losses, 'o', color=color(key), alpha=0.5)
    mean = statistics.fmean(losses)
    left.plot([x - 0.25, x + 0.25], [mean, mean], color=color(key))
    left.annotate(
      f'{mean:.3f}', (x, max(losses)), (0, 7), textcoords='offset points',
      ha='center', color=color(key),
    )  # fmt: skip
  left.margins(y=0.12)
  left.set_xticks(range(len(keys)), map(str, keys))
  left.set(
    xlim=(-0.5, len(keys) - 0.5), ylabel='validation loss (nats a character)',
    title='Each at its best rates: a dot a seed',
  )  # fmt: skip
  others = [key for key in keys if key.optimizer in ('namo_d', 'namo')]
  _forest(
    right,
    [(key, answers.MUON) for key in others],
    rows,
    arms,
    labels=list(map(str, others)),
  )
  right.set_title('Closer: the difference to Muon, seed by seed')
  return fig


def _forest(
  axes,
  pairs: Sequence[tuple[answers.Key, answers.Key]],
  rows: tuning.Rows,
  arms: answers.Arms,
  labels: Sequence[str],
) -> None:
  """A line a pair: the mean difference, its interval, and that of each seed."""
  for y, (one, other) in enumerate(pairs):
    common = answers.seeds(rows, arms[one], arms[other])
    each = np.subtract(
      *(rows.losses(arms[key], common) for key in (one, other))
    )
    axes.plot(each, [y] * len(each), '|', color=color(one), alpha=0.6)
    test = answers.paired(rows, arms[one], arms[other])
    if test:
      axes.plot([test.low, test.high], [y, y], color=color(one), linewidth=2)
      axes.plot(test.mean, y, 'o', color=color(one))
      axes.annotate(
        f'{test.mean:+.4f} ± {test.half:.4f}', (test.mean, y), (0, 6),
        textcoords='offset points', ha='center', fontsize=8,
        bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
      )  # fmt: skip
  axes.axvline(0, color='black', linewidth=1)
  axes.set_yticks(range(len(pairs)), labels)
  axes.set(
    ylim=(len(pairs) - 0.5, -0.5),
    xlabel='difference in loss (nats a character); left of 0 is better',
  )
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5))


def varied(rows: tuning.Rows, arms: answers.Arms) -> figure.Figure:
  """Each variation against what it varies."""
  pairs = answers.variations(arms)
  fig, (ax,) = _axes(1, (7, 1 + 0.32 * len(pairs)))
  _forest(ax, pairs, rows, arms, [str(one) for one, _ in pairs])
  ax.set_title('Each against the same optimizer as tuned in (a)')
  return fig


def signal_to_noise(rows: tuning.Rows, arm: tuning.Arm) -> float:
  """Geometric mean of ‖M‖/‖G‖ over matrices and seeds, at the last step."""
  return statistics.geometric_mean(
    told['momentum_norm'] / told['gradient_norm']
    for seed in answers.seeds(rows, arm)
    for told in rows.row(arm, seed)['diagnostics'].values()
  )


def noise(
  rows: tuning.Rows, by_batch: dict[int, answers.Arms]
) -> figure.Figure:
  """Differences to Muon by batch size and ratio of signal to noise."""
  fig, (ax,) = _axes()
  batches = sorted(by_batch)
  octaves = np.log2(batches)
  for key, shift in ((answers.NAMO_D, -0.06), (answers.NAMO, 0.06)):
    tests = [
      answers.paired(rows, by_batch[b][key], by_batch[b][answers.MUON])
      for b in batches
    ]
    _over(ax, octaves + shift, tests, color=color(key), label=str(key))
  ratios = [
    signal_to_noise(rows, by_batch[batch][answers.MUON]) for batch in batches
  ]
  ax.set_xticks(
    octaves,
    [f'{batch}\n{ratio:.3f}' for batch, ratio in zip(batches, ratios)],
  )
  ax.set(
    xlabel='sequences a batch; below, ‖M‖/‖G‖ of Muon, M looked ahead',
    ylabel='loss − loss of Muon (nats)',
  )
  ax.legend()
  return fig


def width(
  rows: tuning.Rows, by_decay: dict[str, answers.Pairs]
) -> figure.Figure:
  """Difference of NAMO-D to Muon by the width of the model."""
  fig, (ax,) = _axes()
  blue, lines = color(answers.NAMO_D), (('-', -0.03), ('--', 0.03))
  for (decay, pairs), (line, shift) in zip(by_decay.items(), lines):
    octaves = np.log2(list(pairs))
    tests = [answers.paired(rows, *pair) for pair in pairs.values()]
    _over(ax, octaves + shift, tests, color=blue, linestyle=line, label=decay)
  ax.set_xticks(octaves, list(map(str, pairs)))
  ax.set(
    xlabel='width of the model',
    ylabel='loss of NAMO-D − loss of Muon (nats)',
  )
  ax.legend()
  return fig


def _over(axes, octaves: Sequence[float], tests, **style) -> None:
  """Mean differences to Muon, joined, each with its interval."""
  points = [(x, test) for x, test in zip(octaves, tests) if test]
  axes.plot(
    [x for x, _ in points],
    [test.mean for _, test in points],
    marker='o',
    **style,
  )
  for x, test in points:
    axes.plot([x, x], [test.low, test.high], color=style['color'])
  axes.axhline(0, color='black', linewidth=1)


def rates(rows: tuning.Rows, arms: answers.Arms) -> figure.Figure:
  """Loss against the rate, around each optimizer's best."""
  fig, (ax,) = _axes()
  for key, losses in answers.by_rate(rows, arms).items():
    finite = {x: y for x, y in losses.items() if math.isfinite(y)}
    ax.semilogx(
      list(finite), list(finite.values()), 'o-', color=color(key),
      label=f'{key}: within 1% for {robustness.width(losses)} octaves',
    )  # fmt: skip
  ax.xaxis.set_major_formatter('{x:g}')
  ax.set(xlabel='learning rate', ylabel='validation loss (nats a character)')
  ax.legend()
  return fig
