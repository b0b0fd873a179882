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
import pandas as pd

from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.report import markdown
from optax_namo.nanogpt.config import OPTIMIZERS

_TARGET = flags.DEFINE_float('target', 3.28, 'Validation loss, nats a token.')


def steps_to(
  losses: Sequence[tuple[int, float | None]], target: float
) -> float | None:
  """The step at which a loss first is at the target, or None.

  Examples:
    >>> steps_to([(100, 4.0), (200, 3.0), (300, 2.0)], 3.25)
    175.0
  """
  before = None
  for step, loss in losses:
    if loss is not None and loss <= target:
      if before is None:
        return float(step)
      last, above = before
      return last + (step - last) * (above - target) / (above - loss)
    if loss is not None:
      before = step, loss
  return None


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
  lines = []
  for (label, rate), steps in found.groupby(['', 'learning rate'])['steps']:
    said = f'reached by {steps.count()}'
    if steps.notna().all():
      said = f'{steps.mean():,.0f}'
      if len(steps) > 1:
        said += f' ± {steps.std():,.0f}'
    lines.append(
      {
        '': label,
        'learning rate': f'{rate:g}',
        f'steps to {target:g}': said,
        'seeds': str(len(steps)),
      }
    )
  return markdown(lines)


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    sys.exit('error: name the folder of a comparison.')
  rows = sweep.read_results(pathlib.Path(argv[1]))
  if not rows:
    sys.exit(f'error: {argv[1]} has no results.jsonl with rows.')
  print(table(rows, _TARGET.value))


if __name__ == '__main__':
  app.run(main)
