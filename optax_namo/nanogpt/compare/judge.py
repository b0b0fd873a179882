# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the rows of a comparison say: each optimizer at its best rates."""

from collections.abc import Iterable
import math
import statistics
from typing import Any, NamedTuple

from optax_namo.nanogpt.config import OPTIMIZERS


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
  return loss if loss is not None and math.isfinite(loss) else math.inf


def by_rate(rows: Iterable[dict[str, Any]]) -> dict[tuple, dict[int, dict]]:
  """From learning rates to the rows of each seed, rates in order."""
  rates: dict[tuple, dict[int, dict]] = {}
  for row in rows:
    config = row['config']
    rate = config['learning_rate'], config['adam_learning_rate']
    rates.setdefault(rate, {})[config['seed']] = row
  return dict(sorted(rates.items()))


def by_optimizer(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict]]:
  """The rows of each optimizer that has any, in the order of the table."""
  groups: dict[str, list[dict]] = {name: [] for name in OPTIMIZERS}
  for row in rows:
    groups[row['config']['optimizer']].append(row)
  return {name: group for name, group in groups.items() if group}


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
  for optimizer, of_optimizer in by_optimizer(rows).items():
    rates = by_rate(of_optimizer)
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
        steps=min(([s for s, _ in run['val_losses']] for run in runs), key=len),
        curves=[
          [math.inf if loss is None else loss for _, loss in run['val_losses']]
          for run in runs
        ],
        ms_per_step=statistics.median(times) if times else None,
      )
    )
  return bests
