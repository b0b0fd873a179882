# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws runs: the loss curves, and what the optimizer's state told.

  python -m optax_namo.nanogpt.plot RUN...

makes RUN/loss.png from RUN/metrics.jsonl, and RUN/diagnostics.png where the
run's optimizer recorded something: adamw and optax_muon do not.
"""

from collections.abc import Sequence
import math
import pathlib
import statistics
from typing import Any

from absl import app
from matplotlib import colormaps
from matplotlib import figure
from matplotlib.axes import Axes

from optax_namo.nanogpt import command
from optax_namo.nanogpt import files
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import OPTIMIZERS

# Columns of diagnostics.png: title, and the fields drawn solid and dashed.
_PANELS = (
  ('scale:\nmean, min to max', ('scale_mean',)),
  ('columns clamped\nlow (—), high (- -)', ('clamped_low', 'clamped_high')),
  ('norm of gradient (—),\nmomentum (- -)', ('gradient_norm', 'momentum_norm')),
  ('update RMS /\nlearning rate', ('update_rms',)),
)


def losses(
  rows: Sequence[dict[str, Any]], path: pathlib.Path, *, title: str
) -> None:
  """Draws training and validation loss over steps, and below them the scales.

  Args:
    rows: Rows of metrics with ``step``, ``loss`` and sometimes ``val_loss`` and
      ``diagnostics``; without these there is no lower panel.
    path: The PNG file to write.
    title: The figure's title.
  """
  told = [row for row in rows if 'diagnostics' in row]
  heights = [4, 2][: 1 + bool(told)]
  fig = figure.Figure(figsize=(7, sum(heights)), dpi=150, layout='constrained')
  axes, *below = fig.subplots(
    len(heights), squeeze=False, sharex=True, height_ratios=heights
  )[:, 0]
  axes.plot(
    [row['step'] for row in rows],
    [row['loss'] for row in rows],
    marker=_marker(rows),
    linewidth=0.8,
    alpha=0.7,
    label='training (one batch)',
  )
  seen = [row for row in rows if 'val_loss' in row]
  axes.plot(
    [row['step'] for row in seen],
    [row['val_loss'] for row in seen],
    marker='o',
    markersize=4,
    label='validation',
  )
  axes.set(ylabel='loss (nats per token)', title=title)
  for panel in below:
    _scales(panel, told)
  for panel in (axes, *below):
    panel.grid(alpha=0.3)
    panel.legend(framealpha=0.5)  # A short run may lie below it.
  panel.set_xlabel('step')
  panel.xaxis.get_major_locator().set_params(integer=True)
  fig.savefig(path)


def _scales(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
  """What the optimizer did: the scales of all matrices over steps."""
  steps = [row['step'] for row in rows]
  of = lambda reduce, field: [
    reduce([one[field] for one in row['diagnostics'].values()]) for row in rows
  ]
  color = 'tab:green'
  axes.plot(
    steps,
    of(statistics.fmean, 'scale_mean'),
    marker='o',
    markersize=4,
    color=color,
    label='mean over matrices',
  )
  low, high = of(min, 'scale_min'), of(max, 'scale_max')
  label = 'smallest to largest'
  _band(axes, steps, low, high, color=color, alpha=0.2, label=label)
  highest = max(filter(math.isfinite, high), default=1.0)
  axes.set_ylim(0, 1.1 * highest)
  axes.set_ylabel('scale (Muon: 1)')


def _marker(points: Sequence[Any]) -> str | None:
  """A line of one point is none."""
  return '.' if len(points) == 1 else None


def _band(
  axes: Axes,
  steps: Sequence[int],
  low: Sequence[float],
  high: Sequence[float],
  **style: Any,
) -> None:
  """A range over steps; at a single one it is a bar."""
  if len(steps) == 1:
    axes.vlines(steps, low, high, linewidth=6, **style)
  else:
    axes.fill_between(steps, low, high, linewidth=0, **style)


def diagnostics(
  rows: Sequence[dict[str, Any]], path: pathlib.Path, *, title: str
) -> None:
  """Draws scales, clamp hits, norms and update sizes over steps.

  A row of panels for each kind of matrix, a line for each layer, dark to light.

  Args:
    rows: Rows of metrics, some of them with ``diagnostics``.
    path: The PNG file to write.
    title: The figure's title.
  """
  rows = [row for row in rows if 'diagnostics' in row]
  steps = [row['step'] for row in rows]
  kinds: dict[str, list[str]] = {}  # The layers of each kind of matrix.
  for name in rows[0]['diagnostics']:
    parts = name.split('/')
    kind = '/'.join(part for part in parts if not part.isdecimal())
    kinds.setdefault(kind, []).append(name)
  fig = figure.Figure(
    figsize=(8.4, 1.9 * len(kinds) + 1), dpi=150, layout='constrained'
  )
  grid = fig.subplots(len(kinds), len(_PANELS), squeeze=False, sharex=True)
  for i, (kind, names) in enumerate(kinds.items()):
    names.sort(key=_layers)
    for axes, (heading, fields) in zip(grid[i], _PANELS):
      for j, name in enumerate(names):
        color = colormaps['viridis'](0.85 * j / max(len(names) - 1, 1))
        of = lambda field, name=name: [
          row['diagnostics'][name][field] for row in rows
        ]
        for field, style in zip(fields, ('-', '--')):
          layer = ''.join(map(str, _layers(name))) or kind
          label = f'layer {layer}' if field == fields[0] else None
          axes.plot(
            steps,
            of(field),
            style,
            marker=_marker(steps),
            color=color,
            linewidth=1.2,
            label=label,
          )
        if fields == ('scale_mean',):
          low, high = of('scale_min'), of('scale_max')
          _band(axes, steps, low, high, color=color, alpha=0.12)
      axes.grid(alpha=0.3)
      axes.tick_params(labelsize=7, which='both')
      if i == 0:
        axes.set_title(heading, fontsize=8)
      if 'gradient_norm' in fields:
        axes.set_yscale('log')
      if 'clamped_low' in fields:
        axes.set_ylim(-0.03, 1.03)
      else:
        axes.margins(y=0.1)
    grid[i][0].set_ylabel(kind, fontsize=8)
  for axes in grid[-1]:
    axes.set_xlabel('step')
  handles, labels = grid[0][0].get_legend_handles_labels()
  fig.legend(
    handles, labels, loc='outside lower center', ncols=min(len(labels), 12)
  )
  fig.suptitle(title)
  fig.savefig(path)


def _layers(name: str) -> list[int]:
  return [int(part) for part in name.split('/') if part.isdecimal()]


def title_of(config: Config) -> str:
  """The run of a picture."""
  return (
    f'{OPTIMIZERS[config.optimizer].label} at {config.learning_rate:.2g}:'
    f' {config.preset}, {pathlib.Path(config.data).stem}'
  )


def run(folder: pathlib.Path) -> list[pathlib.Path]:
  """Draws what the folder of a run tells, and returns the pictures."""
  rows = metrics.read(folder)
  if not rows:
    raise ValueError(
      f'{folder} has no rows in a metrics.jsonl. Name the --out of a run.'
    )
  config = run_folder.read_config(folder)
  title = title_of(config)
  drawn = [folder / 'loss.png']
  losses(rows, drawn[0], title=title)
  if any('diagnostics' in row for row in rows):
    drawn.append(folder / 'diagnostics.png')
    diagnostics(rows, drawn[1], title=title)
  return drawn


def main(argv: list[str]) -> None:
  if len(argv) < 2:
    raise app.UsageError('name the folders of one or more runs')
  with command.told():
    for name in argv[1:]:
      for path in run(files.typed(name)):
        print(path)


if __name__ == '__main__':
  command.run(main, __doc__)
