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
from benchmarks.evidence import batched
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare.figures import along
from optax_namo.nanogpt.compare.figures import color
from optax_namo.nanogpt.compare.figures import forest
from optax_namo.nanogpt.config import OPTIMIZERS

_BETTER = 'difference in loss (nats per character); left of 0 is better'


def _axes(columns: int = 1, size: tuple[float, float] = (6.4, 3.6)):
  fig = figure.Figure(figsize=size, dpi=150, layout='constrained')
  axes = fig.subplots(1, columns, squeeze=False)[0]
  for ax in axes:
    ax.spines[['top', 'right']].set_visible(False)
  return fig, axes


def ordering(arms: answers.Arms) -> figure.Figure:
  """Final losses of all seeds, and the differences to Muon."""
  fig, (left, right) = _axes(2, (9, 3.4))
  for x, arm in enumerate(arms.values()):
    losses = list(arm.losses.values())
    left.plot([x] * len(losses), losses, 'o', color=color(arm), alpha=0.5)
    mean = statistics.fmean(losses)
    left.plot([x - 0.25, x + 0.25], [mean, mean], color=color(arm))
    left.annotate(
      f'{mean:.3f}', (x, max(losses)), (0, 7), textcoords='offset points',
      ha='center', color=color(arm),
    )  # fmt: skip
  left.margins(y=0.12)
  left.set_xticks(range(len(arms)), list(arms))
  left.set(
    xlim=(-0.5, len(arms) - 0.5), ylabel='validation loss (nats per character)',
    title='Each at its best rates, a dot for each seed',
  )  # fmt: skip
  names = (answers.NAMO_D, answers.NAMO)
  muon = arms[answers.MUON]
  forest(right, judge.differences([(arms[n], muon) for n in names]), names)
  right.set(
    title='Closer: the difference to Muon, seed by seed', xlabel=_BETTER
  )
  return fig


def varied(arms: answers.Arms) -> figure.Figure:
  """Each variation against what it varies."""
  found = judge.differences(answers.variations(arms))
  fig, (ax,) = _axes(1, (7, 1 + 0.32 * len(found)))
  forest(ax, found, [str(d.one) for d in found])
  ax.set(title='Each against the same optimizer as tuned', xlabel=_BETTER)
  return fig


def noise(by_rule: dict[str, answers.Pairs]) -> figure.Figure:
  """Differences to Muon by batch size and ratio of signal to noise."""
  fig, ax, octaves = _over(by_rule, 0.06)
  muons = {n: muon for n, (_, muon) in by_rule[answers.NAMO].items()}
  told = [f'{n}\n{answers.signal_to_noise(x):.3f}' for n, x in muons.items()]
  ax.set_xticks(octaves, told)
  ax.set(
    xlabel='sequences in a batch; below, ‖M‖/‖G‖ of Muon, M looked ahead',
    ylabel='loss − loss of Muon (nats)',
  )
  return fig


def signal(by_schedule: dict[str, answers.Pairs]) -> figure.Figure:
  """NAMO's difference to Muon by signal to noise, and its scale over a run."""
  fig, (left, right) = _axes(2, (9, 3.6))
  for (at, pairs), style in zip(by_schedule.items(), ('-', '--')):
    found = judge.differences(list(pairs.values()))
    x = [answers.signal(namo) for namo, _ in pairs.values()]
    along(
      left, x, found, color=color(found[0].one), marker='o', linestyle=style,
      label=at,
    )  # fmt: skip
  left.axhline(0, color='black', linewidth=1)
  left.legend()
  left.set_xscale('log')
  left.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  left.xaxis.set_major_formatter('{x:g}')
  left.xaxis.set_minor_locator(ticker.NullLocator())
  left.set(
    xlabel='signal to noise of its batches, |E G|² / E |G − E G|²',
    ylabel='loss of NAMO − loss of Muon (nats)',
  )
  for batch, (namo, _) in next(iter(by_schedule.values())).items():
    runs = namo.runs.values()
    scales = [x for row in runs for x in row['scales'].values()]
    steps = batched.EVERY * np.arange(len(scales[0]))
    right.semilogy(steps, np.mean(scales, axis=0), label=f'{batch}')
  right.axhline(0.17, color='black', linewidth=1, linestyle=':')
  right.annotate('noise alone', (0, 0.175), fontsize=8)
  right.legend(title='sequences a batch', fontsize=8)
  right.set(xlabel='step', ylabel='mean scale of NAMO')
  return fig


def width(by_decay: dict[str, answers.Pairs]) -> figure.Figure:
  """Difference of NAMO-D to Muon by the width of the model."""
  fig, ax, octaves = _over(by_decay, 0.03, styles=('-', '--'))
  ax.set_xticks(octaves, [f'{2**x:.0f}' for x in octaves])
  ax.set(
    xlabel='width of the model',
    ylabel='loss of NAMO-D − loss of Muon (nats)',
  )
  return fig


def transfer(by_scale: dict[str, dict[int, answers.Arms]]) -> figure.Figure:
  """Best rates over that at a width of 64, by the shape scale."""
  fig, panels = _axes(3, (9, 3.2))
  for ax, name in zip(panels, answers.RULES):
    # Half octaves apart: lines that would hide each other are moved a little.
    for (scale, of), style, up in zip(
      by_scale.items(), ('-', '--', ':'), (-0.04, 0, 0.04)
    ):
      arms = [found[name] for found in of.values()]
      rates = np.array([arm.setting['learning_rate'] for arm in arms])
      ax.plot(
        range(len(of)), np.log2(rates / rates[0]) + up, 'o' + style,
        color=color(arms[0]), label=scale,
      )  # fmt: skip
      ax.set_xticks(range(len(of)), map(str, of))
    ax.axhline(0, color='black', linewidth=1)
    ax.set(title=name, xlabel='width of the model')
  low, high = zip(*(ax.get_ylim() for ax in panels))
  for ax in panels:
    ax.set_ylim(min(low), max(high))
  panels[0].set_ylabel('octaves of the best rate')
  panels[0].legend(title='shape scale')
  return fig


def siblings(by_batch: dict[int, answers.Arms]) -> figure.Figure:
  """What others take instead, against Muon; AdamW is outside."""
  fig, panels = _axes(2, (10, 4))
  for ax, (batch, arms) in zip(panels, by_batch.items()):
    found = [d for d in answers.differences(arms) if d.one.optimizer != 'adamw']
    forest(ax, found, [str(d.one) for d in found])
    ax.set(title=f'Against Muon, {batch} sequences a batch', xlabel=_BETTER)
    ax.xaxis.label.set_size(8)
  return fig


def _over(
  lines: dict[str, answers.Pairs],
  shift: float,
  styles: Sequence[str] = ('-', '-'),
):
  """Two lines of differences, side by side, over octaves; with these."""
  fig, (ax,) = _axes()
  sides = -shift, shift
  for at, (name, pairs), style in zip(sides, lines.items(), styles):
    octaves = np.log2(list(pairs))
    found = judge.differences(list(pairs.values()))
    along(
      ax, octaves + at, found, color=color(found[0].one), marker='o',
      linestyle=style, label=name,
    )  # fmt: skip
  ax.axhline(0, color='black', linewidth=1)
  ax.legend()
  return fig, ax, octaves


def rates(arms: answers.Arms) -> figure.Figure:
  """Loss against the rate, around each optimizer's best."""
  fig, (ax,) = _axes()
  shade = {arm.optimizer: color(arm) for arm in arms.values()}
  for optimizer, losses in answers.by_rate(arms).items():
    finite = {x: y for x, y in losses.items() if math.isfinite(y)}
    octaves = robustness.width(losses)
    ax.semilogx(
      list(finite), list(finite.values()), 'o-', color=shade[optimizer],
      label=f'{OPTIMIZERS[optimizer].label}: within 1% for {octaves} octaves',
    )  # fmt: skip
  ax.xaxis.set_major_formatter('{x:g}')
  ax.set(xlabel='learning rate', ylabel='validation loss (nats per character)')
  ax.legend()
  return fig
