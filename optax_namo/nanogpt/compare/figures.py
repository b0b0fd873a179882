# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison to look at: what is drawn into axes.

An optimizer has a colour, an arm a marker too. Bands and bars are 95%
t-intervals of paired differences; of one pair there is none.
"""

from collections.abc import Sequence
import math
from statistics import median_low
from typing import Any

from matplotlib import ticker
import numpy as np
from scipy import stats

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.config import OPTIMIZERS

_MARKERS = 'os^DvPX*<>'


def color(arm: Arm) -> str:
  return f'C{list(OPTIMIZERS).index(arm.optimizer)}'


def _style(arm: Arm, i: int, hollow: bool) -> dict[str, Any]:
  """The look of the ith arm."""
  return {
    'color': color(arm),
    'marker': _MARKERS[i % len(_MARKERS)],
    'markersize': 5,
    'markerfacecolor': 'white' if hollow else color(arm),
    'linewidth': 1.5,
  }


def over_steps(
  axes: Any, differences: Sequence[judge.Difference], shown: Sequence[Arm]
) -> None:
  """Draws the difference of each arm to the one baseline over steps.

  All arms of the figure, ``shown``, decide on the markers.
  """
  names = list(map(str, shown))
  for difference in filter(lambda d: d.seeds, differences):
    arm, other, n = difference.one, difference.other, len(difference.seeds)
    curves = arms.curves(
      of.runs[seed] for of in (arm, other) for seed in difference.seeds
    )
    one, base = np.split(curves.to_numpy(), 2, axis=1)
    steps, mean = curves.index, (one - base).mean(axis=1)
    style = _style(arm, names.index(str(arm)), hollow=n == 1)
    axes.plot(steps, mean, label=f'{arm}: {_end(difference)}', **style)
    if n > 1:
      half = stats.t.isf(significance.LEVEL / 2, n - 1) * stats.sem(
        one - base, axis=1
      )
      if len(steps) == 1:  # A band would have no width.
        axes.vlines(steps, mean - half, mean + half, color=style['color'])
      axes.fill_between(
        steps, mean - half, mean + half, color=style['color'], alpha=0.15,
        linewidth=0,
      )  # fmt: skip
  _limit(axes, differences)
  axes.axhline(0, color='black', linewidth=1)
  if axes.get_legend_handles_labels()[1]:
    axes.legend(fontsize=8)
  axes.set(
    xlabel='step', ylabel='difference in validation loss (nats per token)'
  )
  axes.grid(alpha=0.3)
  if differences:
    title = f'against {differences[0].other}'
    if any(d.paired for d in differences):
      title += ', with 95% intervals'
    axes.set_title(title, fontsize=10)


def _end(difference: judge.Difference) -> str:
  """The final difference, with the half-width of its interval."""
  if not math.isfinite(difference.mean):
    return 'diverged'
  if test := difference.paired:
    digits = judge.decimals(test)
    return f'{test.mean:+.{digits}f} ± {test.half:.{digits}f}'
  return f'{difference.mean:+.3f}'


def _limit(axes: Any, differences: Sequence[judge.Difference]) -> None:
  """Makes readable what is near 0: an arm far beyond it may lie outside."""
  ends = [
    (d.paired.low, d.paired.high) if d.paired else (d.mean, d.mean)
    for d in differences
    if d.seeds and math.isfinite(d.mean)
  ]
  if not ends:
    return
  # Four times lets those of like size in, and leaves AdamW out where the
  # others differ by a hundredth of its distance.
  reach = 4 * median_low(max(-low, high) for low, high in ends)
  kept = [x for pair in ends for x in pair if abs(x) <= reach]
  low, high = min(0, *kept), max(0, *kept)
  margin = 0.5 * (high - low) or 0.01
  axes.set_ylim(low - margin, high + margin)
  for line in axes.lines:
    y = line.get_ydata()
    if len(y) and all(x < low - margin or x > high + margin for x in y):
      line.set_label(f'{line.get_label()} (outside)')


def against_rate(axes: Any, shown: Sequence[Arm]) -> None:
  """Draws the final loss of each arm at its best against the learning rate.

  Losses are means over the tuning seeds, at the best of the other tuned knobs;
  hollow where that is one seed. Crosses at the top diverged. Bars at the bottom
  span the rates within 1% of the best, arrows where the rates tried end before.
  """
  lows = []
  for i, arm in enumerate(shown):
    losses = arm.search.by_value('learning_rate')
    kept = {rate: x for rate, x in losses.items() if math.isfinite(x)}
    gone = [rate for rate in losses if rate not in kept]
    style = _style(arm, i, hollow=len(arm.search.seeds) == 1)
    below = {'color': color(arm), 'transform': axes.get_xaxis_transform()}
    axes.plot(kept.keys(), kept.values(), label=str(arm), **style)
    axes.plot(gone, [0.97 - 0.03 * i] * len(gone), 'x', **below)
    if kept:
      lows.append(min(kept.values()))
    if len(kept) > 1:
      width, y = robustness.width(losses), 0.03 + 0.03 * i
      axes.plot([width.low, width.high], [y, y], **below)
      for rate, ends, arrow in (
        (width.low, width.low_ends, '<'), (width.high, width.high_ends, '>'),
      ):  # fmt: skip
        axes.plot(rate, y, '|' if ends else arrow, markersize=5, **below)
  if lows:
    reach = max(max(lows) - min(lows), 0.1)
    axes.set_ylim(min(lows) - 0.4 * reach, max(lows) + 1.25 * reach)
    axes.set_xscale('log')
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.legend(fontsize=8)
  axes.set(
    xlabel='peak learning rate of the matrices',
    ylabel='validation loss (nats per token)',
  )
  title = 'tuning (hollow: one seed); below, what is within 1% of the best'
  axes.set_title(title, fontsize=10)
  axes.grid(alpha=0.3)


def along(
  axes: Any,
  x: Sequence[float],
  differences: Sequence[judge.Difference],
  **style: Any,
) -> None:
  """Draws mean differences, joined, each with its interval.

  Hollow where there is one pair, a cross at the top where a run diverged.
  """
  axes.plot(x, [d.mean for d in differences], **style)
  for at, d in zip(x, differences):
    if d.paired:
      interval = d.paired.low, d.paired.high
      axes.plot([at, at], interval, color=style['color'])
    elif math.isfinite(d.mean):
      hollow = {'markerfacecolor': 'white', 'label': None}
      axes.plot(at, d.mean, **(style | hollow))
    else:  # Diverged.
      top = axes.get_xaxis_transform()
      axes.plot(at, 0.97, 'x', color=style['color'], transform=top)


def forest(
  axes: Any, differences: Sequence[judge.Difference], labels: Sequence[str]
) -> None:
  """Draws a line a difference: its mean and interval, and that of each seed."""
  for y, d in enumerate(differences):
    ys = [y] * len(d.gains)
    axes.plot(d.gains.values(), ys, '|', color=color(d.one), alpha=0.6)
    if test := d.paired:
      ends = test.low, test.high
      axes.plot(ends, [y, y], color=color(d.one), linewidth=2)
      axes.plot(test.mean, y, 'o', color=color(d.one))
      axes.annotate(
        f'{test.mean:+.4f} ± {test.half:.4f}', (test.mean, y), (0, 6),
        textcoords='offset points', ha='center', fontsize=8,
        bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1},
      )  # fmt: skip
  axes.axvline(0, color='black', linewidth=1)
  axes.set_yticks(range(len(differences)), labels)
  axes.set_ylim(len(differences) - 0.5, -0.5)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
