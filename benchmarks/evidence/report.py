# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.report``: RESULTS.md and figures of the rows.

What became of the hypotheses; each question's arms at their tuned knobs, and
the paired differences within it, between optimizers where all else is equal and
of each variation to what it varies; and the rates that tuning found. A question
whose runs are not all there is named as open, with no figure: none is chosen by
what has come in so far.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import pathlib

from matplotlib.figure import Figure

from benchmarks.evidence import answers
from benchmarks.evidence import figures
from benchmarks.evidence import hypotheses
from benchmarks.evidence import plan
from benchmarks.evidence.plan import Rows
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.config import OPTIMIZERS

HERE = pathlib.Path(__file__).parent
# By title: where its figure is, and what draws it.
_DRAWN: dict[str, tuple[str, Callable[[answers.Arms], Figure]]] = {
  hypotheses.A: ('figures/ordering.png', figures.ordering),
  hypotheses.D: ('figures/decay.png', figures.varied),
  hypotheses.H: ('figures/adamw_group.png', figures.varied),
  '(e, f, g, i) Variations': ('figures/variations.png', figures.varied),
  '(j) Rates': ('figures/rates.png', figures.rates),
}
_KNOBS = {
  'rate': 'learning_rate',
  'decay': 'weight_decay',
  'of AdamW group': 'adam_learning_rate',
}


def _table_of_arms(arms: answers.Arms) -> str:
  return report.markdown(
    [
      {
        '': name,
        **{
          words: f'{arm.setting[knob]:g}{edge(arm, knob)}'
          for words, knob in _KNOBS.items()
        },
        'validation loss': report.loss(arm, 4),
        'seeds': str(len(arm.runs)),
      }
      for name, arm in arms.items()
    ]
  )


def edge(arm: Arm, knob: str) -> str:
  """Marks a value at the end of its ladder: not tuned."""
  ladder = plan.ladder(knob, arm.optimizer)
  ends = {ladder[-1], *(ladder[:1] if ladder[0] else ())}  # Below 0 is nothing.
  return ' (edge)' if arm.setting[knob] in ends else ''


def _table_of_hypotheses(rows: Rows) -> str:
  return report.markdown(
    [
      dict(zip(('', 'said before', 'came out'), one))
      for one in hypotheses.verdicts(rows)
    ]
  )


def _rates(found: Mapping[str, answers.Arms]) -> Iterator[dict[str, str]]:
  """Tuned rates, and what they are over Muon's, where nothing is varied."""
  for title, arms in found.items():
    if answers.NAMO_D in arms and not any(a.labels for a in arms.values()):
      rates = {name: arm.setting['learning_rate'] for name, arm in arms.items()}
      muon = rates[answers.MUON]
      line = {OPTIMIZERS[rule].label: '' for rule in plan.RATES}
      line |= {n: f'{rate:g} ({rate / muon:.1f}×)' for n, rate in rates.items()}
      yield {'': title} | line


def _section(title: str, arms: answers.Arms) -> Iterator[str]:
  yield f'## {title}'
  found = answers.differences(arms)
  if found:
    yield answers.sentences(found)
  if title in _DRAWN:
    yield _image(*_DRAWN[title])
  if found:
    yield _table_of_arms(arms)
    yield report.differences(found, digits=4)


def _image(path: str, draw: Callable[..., Figure]) -> str:
  return f'![{(draw.__doc__ or "").rstrip(".")}]({path})'


def document(rows: Sequence[Row]) -> str:
  """All that the rows say, in Markdown."""
  known = Rows(rows)
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
  parts += [_image(path, draw) for path, draw, _ in _overviews(known)]
  found = {title: answers.arms(known, title) for title in plan.QUESTIONS}
  answered = {title: arms for title, arms in found.items() if arms}
  for title, arms in answered.items():
    parts += _section(title, arms)
  if lines := list(_rates(answered)):
    parts += [
      '## Rates',
      'At the optimum of each question, over that of Muon.',
      report.markdown(lines),
    ]
  if left := [title for title in found if title not in answered]:
    parts += ['## Open', f'Not all runs are there yet of {"; ".join(left)}.']
  return '\n\n'.join(parts) + '\n'


def by_batch(rows: Rows) -> dict[int, answers.Arms]:
  """The answers by batch size, as far as there are any."""
  return {
    batch: arms
    for batch, title in hypotheses.NOISE.items()
    if (arms := answers.arms(rows, title))
  }


def _overviews(rows: Rows) -> Iterator[tuple[str, Callable[..., Figure], dict]]:
  """Where a figure of several questions is to be, what draws it, and of what.

  Those of which enough is answered.
  """
  if len(batches := by_batch(rows)) > 2:
    yield 'figures/noise.png', figures.noise, batches
  try:
    pairs = {d: hypotheses.by_width(rows, d) for d in hypotheses.WIDTHS}
  except hypotheses.Undecided:
    return
  yield 'figures/width.png', figures.width, pairs


def drawings(rows: Sequence[Row]) -> dict[str, Figure]:
  """The figures of the answered questions, by where they are to be."""
  known = Rows(rows)
  drawn = {
    path: draw(arms)
    for title, (path, draw) in _DRAWN.items()
    if (arms := answers.arms(known, title))
  }
  return drawn | {path: draw(of) for path, draw, of in _overviews(known)}


def main() -> None:
  rows = sweep.read_results(HERE)
  files.write_whole(HERE / 'RESULTS.md', document(rows))
  (HERE / 'figures').mkdir(exist_ok=True)
  for path, drawn in drawings(rows).items():
    drawn.savefig(HERE / path)


if __name__ == '__main__':
  main()
