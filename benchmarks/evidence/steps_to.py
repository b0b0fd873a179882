# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.steps_to OUT --target=3.28``.

Of every setting in a comparison's folder, the steps to a validation loss: the
figure of merit of modded-nanogpt's track 3, interpolated between evaluations.
"""

from collections.abc import Sequence
import pathlib
import sys

from absl import app
from absl import flags
import numpy as np
import pandas as pd

from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.report import markdown
from optax_namo.nanogpt.config import OPTIMIZERS

_TARGET = flags.DEFINE_float('target', 3.28, 'Validation loss, nats per token.')


def steps_to(
  losses: Sequence[tuple[int, float | None]], target: float
) -> float | None:
  """The step at which a loss first is at the target, or None.

  Examples:
    >>> steps_to([(100, 4.0), (200, 3.0), (300, 2.0)], 3.25)
    175.0
  """
  curve = pd.Series(dict(losses), dtype=float).dropna()
  reached = curve.index[curve <= target]
  if not len(reached):
    return None
  at = curve.index.get_loc(reached[0])
  ends = curve.iloc[max(at - 1, 0) : at + 1][::-1]  # Losses ascend.
  return float(np.interp(target, ends, ends.index))


def table(rows: Sequence[Row], target: float) -> str:
  """Markdown: a line a setting, mean over its seeds."""
  found = pd.DataFrame(
    {
      '': OPTIMIZERS[row['config']['optimizer']].label,
      'learning rate': row['config']['learning_rate'],
      'steps': steps_to(row['val_losses'], target),
    }
    for row in rows
  ).astype({'steps': float})

  def said(steps: pd.Series) -> str:
    if steps.isna().any():
      return f'reached by {steps.count()}'
    spread = f' ± {steps.std():,.0f}' if len(steps) > 1 else ''
    return f'{steps.mean():,.0f}{spread}'

  return markdown(
    {
      '': label,
      'learning rate': f'{rate:g}',
      f'steps to {target:g}': said(steps),
      'seeds': str(len(steps)),
    }
    for (label, rate), steps in found.groupby(['', 'learning rate'])['steps']
  )


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    sys.exit('error: name the folder of a comparison.')
  rows = sweep.read_results(pathlib.Path(argv[1]))
  if not rows:
    sys.exit(f'error: {argv[1]} has no results.jsonl with rows.')
  print(table(rows, _TARGET.value))


if __name__ == '__main__':
  app.run(main)
