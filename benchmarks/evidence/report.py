# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.report``: RESULTS.md from the rows.

Each question's arms at their tuned knobs, and the paired differences within it:
between optimizers where all else is equal, and of each variation to what it
varies. A question whose runs are not all there is named as open, with no
figure: none is chosen by what has come in so far.
"""

from collections.abc import Iterable, Iterator, Sequence
import itertools
import math
import pathlib
import statistics
from typing import Any

from benchmarks.evidence import plan
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import significance
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.config import OPTIMIZERS

_HERE = pathlib.Path(__file__).parent
_LADDERS = {'weight_decay': plan.DECAYS, 'adam_learning_rate': plan.ADAM_RATES}

Key = tuple[str, str]  # Optimizer and what is varied, '' for nothing.


def label(key: Key) -> str:
  optimizer, varied = key
  name = OPTIMIZERS[optimizer].label
  return f'{name}, {varied}' if varied else name


def pairs(keys: Sequence[Key]) -> list[tuple[Key, Key]]:
  """What is compared: alike in all but the rule, or but the variation."""
  return [
    (one, other)
    for other, one in itertools.combinations(reversed(keys), 2)
    if (one[0] == other[0] and '' in (one[1], other[1])) or one[1] == other[1]
  ]


def answers(
  rows: Iterable[dict[str, Any]],
) -> Iterator[tuple[str, dict[Key, plan.Arm] | None]]:
  """By title, the arms of each question; None while it is open."""
  known = plan.Rows(rows)
  for title, (question, optimizers) in plan.QUESTIONS.items():
    try:
      yield (
        title,
        {
          (optimizer, varied): arm
          for optimizer in optimizers
          for varied, arm in question(known, optimizer).items()
        },
      )
    except plan.Wanted:
      yield title, None


def seeds_of(known: plan.Rows, arm: plan.Arm) -> tuple[int, ...]:
  """The final seeds that an arm has rows for, or those of tuning."""
  return known.seeds(arm, plan.FINAL) or known.seeds(arm, plan.TUNING)


def table_of_arms(known: plan.Rows, arms: dict[Key, plan.Arm]) -> str:
  lines = [
    '| | rate | decay | of AdamW group | validation loss | seeds |',
    '|---|---|---|---|---|---|',
  ]
  for key, arm in arms.items():
    losses = known.losses(arm, seeds_of(known, arm))
    finite = all(map(math.isfinite, losses))
    loss = 'diverged'
    if finite:
      loss = f'{statistics.fmean(losses):.4f} ± {statistics.stdev(losses):.4f}'
    lines.append(
      f'| {label(key)} | {arm["learning_rate"]:g}'
      f'{edge(arm, "learning_rate")} | {arm["weight_decay"]:g}'
      f'{edge(arm, "weight_decay")} | {arm["adam_learning_rate"]:g}'
      f'{edge(arm, "adam_learning_rate")} | {loss} | {len(losses)} |'
    )
  return '\n'.join(lines)


def edge(arm: plan.Arm, knob: str) -> str:
  """Marks a value at the end of its ladder: not tuned."""
  ladder = _LADDERS.get(knob) or plan.rates(plan.rule(arm))
  ends = {ladder[-1], *(ladder[:1] if ladder[0] else ())}  # Below 0 is nothing.
  return ' (edge)' if arm[knob] in ends else ''


def table_of_differences(known: plan.Rows, arms: dict[Key, plan.Arm]) -> str:
  """Paired differences, Holm-corrected within the question."""
  lines = [
    '| | against | difference | 95% interval | pairs | p | more to see 0.005 |',
    '|---|---|---|---|---|---|---|',
  ]
  compared, tests = [], []
  for one, other in pairs(list(arms)):
    seeds = [
      seed
      for seed in seeds_of(known, arms[one])
      if seed in seeds_of(known, arms[other])
    ]
    losses = [known.losses(arms[key], seeds) for key in (one, other)]
    if all(map(math.isfinite, itertools.chain(*losses))) and len(seeds) > 1:
      compared.append((one, other))
      tests.append(significance.paired(*losses))
  corrected = significance.holm([test.p for test in tests])
  level = significance.LEVEL / max(len(tests), 1)
  for (one, other), test, p in zip(compared, tests, corrected, strict=True):
    needed = significance.pairs_needed(test.sd, judge.DIFFERENCE, level=level)
    lines.append(
      f'| {label(one)} | {label(other)} | {test.mean:+.4f} |'
      f' [{test.low:.4f}, {test.high:.4f}] | {test.n} | {judge.p_value(p)} |'
      f' {max(needed - test.n, 0)} |'
    )
  return '\n'.join(lines)


def document(rows: Sequence[dict[str, Any]]) -> str:
  """All that the rows say, in Markdown."""
  known = plan.Rows(rows)
  diverged = sum(bool(row.get('diverged')) for row in rows)
  parts = [
    '# What came out',
    'Made from results.jsonl by `python -m benchmarks.evidence.report`; the'
    ' rules are in [PROTOCOL.md](PROTOCOL.md). Losses in nats a character, mean'
    ' ± standard deviation over seeds that tuning did not use; differences are'
    " paired over seeds, p-values Holm's within a question.",
    f'{len(rows)} runs, {diverged} of them diverged.',
  ]
  for title, arms in answers(rows):
    parts.append(f'## {title}')
    if arms is None:
      parts.append('Open: not all of its runs are there yet.')
      continue
    parts.append(table_of_arms(known, arms))
    parts.append(table_of_differences(known, arms))
  return '\n\n'.join(parts) + '\n'


def main() -> None:
  rows = sweep.read_results(_HERE)
  files.write_whole(_HERE / 'RESULTS.md', document(rows))


if __name__ == '__main__':
  main()
