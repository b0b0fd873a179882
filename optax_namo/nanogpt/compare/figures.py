# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison to look at: what is drawn into axes.

An optimizer has a colour, an arm a marker too. Bands and bars are 95%
t-intervals of paired differences; of one pair there is none.
"""

from collections.abc import Collection, Iterable, Sequence
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
from optax_namo.nanogpt.compare.tuning import Best
from optax_namo.nanogpt.config import OPTIMIZERS

_MARKERS = 'os^DvPX*<>'


def _style(optimizer: str, i: int, hollow: bool) -> dict[str, Any]:
  """The look of the ith arm."""
  color = f'C{list(OPTIMIZERS).index(optimizer)}'
  return {
    'color': color,
    'marker': _MARKERS[i % len(_MARKERS)],
    'markersize': 5,
    'markerfacecolor': 'white' if hollow else color,
    'linewidth': 1.5,
  }


def over_steps(
  axes: Any, comparisons: Sequence[judge.Comparison], bests: Sequence[Best]
) -> None:
  """Draws the difference of each arm to its baseline over steps.

  Args:
    axes: Matplotlib's.
    comparisons: What to draw, all with one baseline.
    bests: All arms of the figure, which decide on the markers.
  """
  names = [str(best.arm) for best in bests]
  for comparison in comparisons:
    if not comparison.seeds:
      continue
    steps, losses = arms.curves(
      one.runs[seed]
      for one in (comparison.arm, comparison.baseline)
      for seed in comparison.seeds
    )
    difference = np.subtract(*np.split(losses, 2))
    mean, n = difference.mean(axis=0), len(difference)
    arm = comparison.arm.arm
    style = _style(arm.optimizer, names.index(str(arm)), hollow=n == 1)
    axes.plot(steps, mean, label=f'{arm}: {_end(comparison)}', **style)
    if n > 1:
      half = stats.t.isf(significance.LEVEL / 2, n - 1) * stats.sem(difference)
      axes.fill_between(
        steps, mean - half, mean + half, color=style['color'], alpha=0.15,
        linewidth=0,
      )  # fmt: skip
  axes.set(xlabel='step')
  _dress(axes, comparisons)
  if comparisons:
    title = f'against {comparisons[0].baseline.arm}, with 95% intervals'
    axes.set_title(title, fontsize=10)


def _end(comparison: judge.Comparison) -> str:
  """The final difference, with the half-width of its interval."""
  if not math.isfinite(comparison.mean):
    return 'diverged'
  if test := comparison.paired:
    digits = judge.decimals(test)
    return f'{test.mean:+.{digits}f} ± {test.half:.{digits}f}'
  return f'{comparison.mean:+.3f}'


def _dress(axes: Any, comparisons: Iterable[judge.Comparison]) -> None:
  """Zero, limits and legend of axes of differences.

  What is near 0 is to be readable: an arm far beyond it may lie outside.
  """
  axes.axhline(0, color='black', linewidth=1)
  ends = [
    (c.paired.low, c.paired.high) if c.paired else (c.mean, c.mean)
    for c in comparisons
    if c.seeds and math.isfinite(c.mean)
  ]
  if ends:
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
  if axes.get_legend_handles_labels()[1]:
    axes.legend(fontsize=8)
  axes.set(ylabel='difference in validation loss (nats a token)')
  axes.grid(alpha=0.3)


def against_rate(axes: Any, bests: Sequence[Best]) -> None:
  """Draws the final loss of each arm against the learning rate.

  Losses are means over the tuning seeds, at the best of the other tuned knobs;
  hollow where that is one seed. Crosses at the top diverged. Bars at the bottom
  span the rates within 1% of the best, arrows where the rates tried end before.

  Args:
    axes: Matplotlib's.
    bests: The arms.
  """
  lows = []
  for i, best in enumerate(bests):
    losses = best.by_value('learning_rate')
    kept = {rate: x for rate, x in losses.items() if math.isfinite(x)}
    gone = [rate for rate in losses if rate not in kept]
    style = _style(best.arm.optimizer, i, hollow=len(best.seeds) == 1)
    color, below = style['color'], axes.get_xaxis_transform()
    axes.plot(kept.keys(), kept.values(), label=str(best.arm), **style)
    axes.plot(
      gone, [0.97 - 0.03 * i] * len(gone), 'x', color=color, transform=below
    )
    if kept:
      lows.append(min(kept.values()))
    if len(kept) > 1:
      width, y = robustness.width(losses), 0.03 + 0.03 * i
      axes.plot([width.low, width.high], [y, y], color=color, transform=below)
      for rate, ends, arrow in (
        (width.low, width.low_ends, '<'), (width.high, width.high_ends, '>'),
      ):  # fmt: skip
        end = '|' if ends else arrow
        axes.plot(rate, y, end, color=color, markersize=5, transform=below)
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
    ylabel='validation loss (nats a token)',
  )
  title = 'tuning (hollow: one seed); below, what is within 1% of the best'
  axes.set_title(title, fontsize=10)
  axes.grid(alpha=0.3)


def panel(
  axes: Any,
  rows: Iterable[dict[str, Any]],
  knob: str,
  baseline: judge.Baseline | None = None,
  *,
  tuned: Collection[str] = arms.TUNED,
  tuning_seeds: Collection[int] | None = None,
) -> None:
  """Draws the final difference to the baseline along one axis of a study.

  Hollow where there is one pair, a cross at the top where a run diverged.

  Args:
    axes: Matplotlib's.
    rows: Rows of results.jsonl, of arms that differ in the knob.
    knob: Its values are what is on the x axis, evenly spaced.
    baseline: What the arms are compared with, at the same value of the knob
      where it has one; None means as ``report.table``.
    tuned: The knobs that were tuned for each arm.
    tuning_seeds: As ``report.table``'s.
  """
  bests = judge.bests(rows, tuned=tuned, tuning_seeds=tuning_seeds)
  comparisons = [
    comparison
    for comparison in judge.compare(bests, baseline)
    if comparison.seeds and knob in comparison.arm.arm.names
  ]
  values = sorted(
    {
      one.arm.knobs[knob]
      for comparison in comparisons
      for one in (comparison.arm, comparison.baseline)
      if knob in one.arm.names
    }
  )
  lines: dict[str, list[judge.Comparison]] = {}
  for comparison in comparisons:
    name = comparison.arm.arm.name(without=knob)
    lines.setdefault(name, []).append(comparison)
  for i, (name, line) in enumerate(lines.items()):
    # Side by side, so that no bar hides another.
    shift = 0.12 * (i - (len(lines) - 1) / 2)
    x = [values.index(c.arm.arm.knobs[knob]) + shift for c in line]
    style = _style(line[0].arm.arm.optimizer, i, hollow=False)
    axes.plot(x, [c.mean for c in line], label=name, **style)
    for at, c in zip(x, line):
      if c.paired:
        interval = c.paired.low, c.paired.high
        axes.plot([at, at], interval, color=style['color'])
      elif math.isfinite(c.mean):
        axes.plot(at, c.mean, **(style | {'markerfacecolor': 'white'}))
      else:  # Diverged.
        top = axes.get_xaxis_transform()
        axes.plot(at, 0.97, 'x', color=style['color'], transform=top)
  axes.set(xlabel=arms.words(knob))
  axes.set_xticks(range(len(values)), map(arms.number, values))
  _dress(axes, comparisons)
  others = {c.baseline.arm.name(without=knob): None for c in comparisons}
  title = f'against {", ".join(others)}, with 95% intervals'
  axes.set_title(title, fontsize=10)
