# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.report``: RESULTS.md and figures of the rows.

What became of the hypotheses; each question's arms at their tuned knobs, and
the paired differences within it, between optimizers where all else is equal and
of each variation to what it varies; and the rates that tuning found. A question
whose runs are not all there is named as open, with no figure: none is chosen by
what has come in so far.
"""

from collections.abc import Callable, Sequence
import math
import pathlib
import statistics
from typing import Any

from matplotlib.figure import Figure

from benchmarks.evidence import answers
from benchmarks.evidence import figures
from benchmarks.evidence import hypotheses
from benchmarks.evidence import plan
from benchmarks.evidence import tuning
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.config import OPTIMIZERS

_HERE = pathlib.Path(__file__).parent
_LADDERS = {
  'weight_decay': tuning.DECAYS,
  'adam_learning_rate': tuning.ADAM_RATES,
}
_NOISE = 'figures/noise.png'
_WIDTH = 'figures/width.png'
# By title: where its figure is, and what draws it.
_DRAWN: dict[str, tuple[str, Callable[[tuning.Rows, answers.Arms], Figure]]] = {
  hypotheses.A: ('figures/ordering.png', figures.ordering),
  hypotheses.D: ('figures/decay.png', figures.varied),
  hypotheses.H: ('figures/adamw_group.png', figures.varied),
  '(e, f, g, i) Variations': ('figures/variations.png', figures.varied),
  '(j) Rates': ('figures/rates.png', figures.rates),
}


def _table(header: str, lines: Sequence[str]) -> str:
  columns = header.count('|') - 1
  return '\n'.join([header, '|---' * columns + '|', *lines])


def _table_of_arms(rows: tuning.Rows, arms: answers.Arms) -> str:
  lines = []
  for key, arm in arms.items():
    losses = rows.losses(arm, answers.seeds(rows, arm))
    loss = 'diverged'
    if all(map(math.isfinite, losses)):
      loss = f'{statistics.fmean(losses):.4f} ± {statistics.stdev(losses):.4f}'
    knobs = ' | '.join(
      f'{arm[knob]:g}{edge(arm, knob)}'
      for knob in ('learning_rate', 'weight_decay', 'adam_learning_rate')
    )
    lines.append(f'| {key} | {knobs} | {loss} | {len(losses)} |')
  return _table(
    '| | rate | decay | of AdamW group | validation loss | seeds |', lines
  )


def edge(arm: tuning.Arm, knob: str) -> str:
  """Marks a value at the end of its ladder: not tuned."""
  ladder = _LADDERS.get(knob) or tuning.rates(tuning.rule(arm))
  ends = {ladder[-1], *(ladder[:1] if ladder[0] else ())}  # Below 0 is nothing.
  return ' (edge)' if arm[knob] in ends else ''


def _table_of_differences(found: Sequence[answers.Difference]) -> str:
  return _table(
    '| | against | difference | 95% interval | pairs | p | more to see 0.005 |',
    [
      f'| {d.one} | {d.other} | {d.test.mean:+.4f} |'
      f' [{d.test.low:.4f}, {d.test.high:.4f}] | {d.test.n} |'
      f' {judge.p_value(d.p)} | {d.more} |'
      for d in found
    ],
  )


def _table_of_hypotheses(rows: tuning.Rows) -> str:
  return _table(
    '| | said before | came out |',
    [f'| {" | ".join(one)} |' for one in hypotheses.verdicts(rows)],
  )


def _table_of_rates(found: dict[str, answers.Arms | None]) -> str:
  """Tuned rates, and what they are over Muon's, of what is answered."""
  lines = []
  for title, arms in found.items():
    if arms and not any(key.varied for key in arms):  # Else they are (a)'s.
      best = {key.optimizer: arm['learning_rate'] for key, arm in arms.items()}
      lines.append(
        f'| {title} | '
        + ' | '.join(
          f'{best[rule]:g} ({best[rule] / best["muon"]:.1f}×)'
          if rule in best
          else ''
          for rule in tuning.RATES
        )
        + ' |'
      )
  if not lines:
    return ''
  names = ' | '.join(OPTIMIZERS[rule].label for rule in tuning.RATES)
  return _table(f'| | {names} |', lines)


def _section(rows: tuning.Rows, title: str, arms: answers.Arms) -> list[str]:
  parts = [f'## {title}']
  found = answers.differences(rows, arms)
  if found:
    parts.append(answers.sentences(found))
  if title in _DRAWN:
    path, draw = _DRAWN[title]
    parts.append(_image(path, draw))
  if found:
    parts += [_table_of_arms(rows, arms), _table_of_differences(found)]
  return parts


def _image(path: str, draw: Callable[..., Figure]) -> str:
  return f'![{(draw.__doc__ or "").rstrip(".")}]({path})'


def document(rows: Sequence[dict[str, Any]]) -> str:
  """All that the rows say, in Markdown."""
  known = tuning.Rows(rows)
  diverged = sum(bool(row.get('diverged')) for row in rows)
  parts = [
    '# What came out',
    'Made from results.jsonl by `python -m benchmarks.evidence.report`; the'
    ' rules are in [PROTOCOL.md](PROTOCOL.md). Losses in nats a character, mean'
    ' ± standard deviation over seeds that tuning did not use, but in (j),'
    ' which has its seeds and one more; differences are paired over seeds, ±'
    ' half the width of their 95% intervals, p-values'
    " Holm's within a question. (m), (n), (o), (p), (k)'s seeds, and five of"
    " (l)'s eight were asked for after a look at what there was: the"
    " protocol's changes 5 to 7 and 10 to 12.",
    f'{len(rows)} runs, {diverged} of them diverged.',
    '## The hypotheses',
    _table_of_hypotheses(known),
  ]
  if len(by_batch(known)) > 2:
    parts.append(_image(_NOISE, figures.noise))
  if by_width(known):
    parts.append(_image(_WIDTH, figures.width))
  found = {title: answers.arms(known, title) for title in plan.QUESTIONS}
  for title, arms in found.items():
    if arms:
      parts += _section(known, title, arms)
  if rates := _table_of_rates(found):
    parts += [
      '## Rates',
      'At the optimum of each question, over that of Muon.',
      rates,
    ]
  if left := [title for title, arms in found.items() if not arms]:
    parts += ['## Open', f'Not all runs are there yet of {"; ".join(left)}.']
  return '\n\n'.join(parts) + '\n'


def by_batch(rows: tuning.Rows) -> dict[int, answers.Arms]:
  """Question (b) as far as it is answered, and (a)."""
  return {
    batch: arms
    for batch, title in hypotheses.NOISE.items()
    if (arms := answers.arms(rows, title))
  }


def by_width(rows: tuning.Rows) -> dict[str, answers.Pairs]:
  """What H6 compares, by decay; nothing while a question of it is open."""
  try:
    return {d: hypotheses.by_width(rows, d) for d in hypotheses.WIDTHS}
  except hypotheses.Open:
    return {}


def drawings(rows: Sequence[dict[str, Any]]) -> dict[str, Figure]:
  """The figures of the answered questions, by where they are to be."""
  known = tuning.Rows(rows)
  drawn = {
    path: draw(known, arms)
    for title, (path, draw) in _DRAWN.items()
    if (arms := answers.arms(known, title))
  }
  if len(batches := by_batch(known)) > 2:
    drawn[_NOISE] = figures.noise(known, batches)
  if pairs := by_width(known):
    drawn[_WIDTH] = figures.width(known, pairs)
  return drawn


def main() -> None:
  rows = sweep.read_results(_HERE)
  files.write_whole(_HERE / 'RESULTS.md', document(rows))
  (_HERE / 'figures').mkdir(exist_ok=True)
  for path, drawn in drawings(rows).items():
    drawn.savefig(_HERE / path)


if __name__ == '__main__':
  main()
