# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.steps_to OUT --target=3.28``.

Of every setting in a comparison's folder, the steps to a validation loss: the
figure of merit of modded-nanogpt's track 3, interpolated between evaluations.
"""

from collections.abc import Sequence
import pathlib
import statistics
import sys

from absl import app
from absl import flags

from optax_namo.nanogpt.compare import sweep
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


def table(rows, target: float) -> str:
  """Markdown: a line a setting, mean over its seeds."""
  settings: dict[tuple[str, float], list[float | None]] = {}
  for row in rows:
    key = row['config']['optimizer'], row['config']['learning_rate']
    settings.setdefault(key, []).append(steps_to(row['val_losses'], target))
  lines = [
    f'| | learning rate | steps to {target:g} | seeds |',
    '|---|---|---|---|',
  ]
  for (optimizer, rate), steps in sorted(settings.items()):
    reached = [step for step in steps if step is not None]
    said = f'reached by {len(reached)}'
    if len(reached) == len(steps):
      said = f'{statistics.fmean(reached):,.0f}'
      if len(reached) > 1:
        said += f' ± {statistics.stdev(reached):,.0f}'
    label = OPTIMIZERS[optimizer].label
    lines.append(f'| {label} | {rate:g} | {said} | {len(steps)} |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    sys.exit('error: name the folder of a comparison.')
  rows = sweep.read_results(pathlib.Path(argv[1]))
  if not rows:
    sys.exit(f'error: {argv[1]} has no results.jsonl with rows.')
  print(table(rows, _TARGET.value))


if __name__ == '__main__':
  app.run(main)
