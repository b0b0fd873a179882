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
import contextlib
import pathlib
from typing import Any

from matplotlib.figure import Figure

from benchmarks.evidence import answers
from benchmarks.evidence import figures
from benchmarks.evidence import hypotheses
from benchmarks.evidence import ladders
from benchmarks.evidence import plan
from benchmarks.evidence import theory
from benchmarks.evidence.ladders import Rows
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.config import OPTIMIZERS

HERE = pathlib.Path(__file__).parent
# The figures by the question under which they are, and of several questions.
_DRAWN: dict[str, tuple[str, Callable[[answers.Arms], Figure]]] = {
  '(a) Ordering': ('figures/ordering.png', figures.ordering),
  '(d) Decay': ('figures/decay.png', figures.varied),
  '(h) Rate of the AdamW group': ('figures/adamw_group.png', figures.varied),
  '(e, f, g, i) Variations': ('figures/variations.png', figures.varied),
  '(j) Rates': ('figures/rates.png', figures.rates),
}
_OVERVIEWS: tuple[tuple[str, Callable[..., Figure], Callable], ...] = (
  ('figures/noise.png', figures.noise, answers.by_batch),
  ('figures/width.png', figures.width, answers.by_width),
  ('figures/signal.png', figures.signal, answers.by_signal),
  ('figures/transfer.png', figures.transfer, answers.by_shape_scale),
  ('figures/siblings.png', figures.siblings, answers.by_siblings),
)
_KNOBS = {
  'rate': 'learning_rate',
  'decay': 'weight_decay',
  'of AdamW group': 'adam_learning_rate',
}
_NAMED = 4  # Pairs in a sentence, where more would not be read.


def edge(arm: Arm, knob: str) -> str:
  """Marks a value at the end of its ladder: not tuned."""
  ladder = ladders.ladder(knob, arm.optimizer)
  ends = {ladder[-1], *(ladder[:1] if ladder[0] else ())}  # Below 0 is nothing.
  return ' (edge)' if arm.setting[knob] in ends else ''


def _sentences(found: Sequence[judge.Difference]) -> str:
  """What differences show, and what they do not."""
  said = [
    f'{d.one} is {judge.size(d.paired, 4)} {d.other} ({judge.p_value(d.p)}).'
    for d in found
    if d.seen
  ]
  if rest := [d for d in found if not d.seen]:
    names = f'any of {len(rest)} {"other " if said else ""}pairs'
    if len(rest) <= _NAMED:
      names = '; or '.join(f'{d.one} and {d.other}' for d in rest)
    widest = max(d.paired.half for d in rest)
    said.append(
      f'No difference is seen between {names}; 95% intervals are'
      f' ± {widest:.4f} or less.'
    )
  return ' '.join(said)


def _rates(found: Mapping[str, answers.Arms]) -> Iterator[dict[str, str]]:
  """Tuned rates, and what they are over Muon's, where nothing is varied."""
  for title, arms in found.items():
    if answers.NAMO_D in arms and not any(a.labels for a in arms.values()):
      rates = {name: arm.setting['learning_rate'] for name, arm in arms.items()}
      muon = rates[answers.MUON]
      line = {OPTIMIZERS[rule].label: '' for rule in ladders.RATES}
      cell = lambda rate, muon=muon: f'{rate:g} ({rate / muon:.1f}×)'
      line |= {n: cell(rate) for n, rate in rates.items() if n in line}
      yield {'': title} | line


def _section(title: str, arms: answers.Arms) -> Iterator[str]:
  yield f'## {title}'
  found = answers.differences(arms)
  if found:
    yield _sentences(found)
  if title in _DRAWN:
    yield _image(*_DRAWN[title])
  if found:
    yield report.markdown(
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
    )
    yield report.differences(found, digits=4)


def _image(path: str, draw: Callable[..., Figure]) -> str:
  return f'![{(draw.__doc__ or "").rstrip(".")}]({path})'


def _asked_at(answered: Mapping[str, answers.Arms]) -> Iterator[dict[str, str]]:
  """Of each question how much signal there was in NAMO's gradients."""
  for title, arms in answered.items():
    ours = arms.get(answers.NAMO) or arms.get(answers.NAMO_D)
    if not ours:
      continue
    scale, signal = answers.scale(ours), answers.signal(ours)
    if signal is None:  # Not noise alone lowers the scale: it is a bound.
      told = f'≥ {max(0.0, (scale**2 - 0.029) / (1 - scale**2)):.1g}'
    else:
      told = f'{signal:.2g}'
    yield {'': title, 'mean scale': f'{scale:.2f}', 'signal to noise': told}


def _theory(
  by_schedule: Mapping[str, answers.Pairs],
) -> Iterator[dict[str, str]]:
  """Differences of NAMO to Muon beside what theory expects."""
  for at, pairs in by_schedule.items():
    for batch, (namo, muon) in pairs.items():
      found = judge.difference(namo, muon).paired
      expected = theory.expected(batch, decays=at == 'under decay')
      yield {
        'sequences a batch': f'{batch}, {at}',
        'signal to noise, NAMO and Muon': (
          f'{answers.signal(namo):.2g}, {answers.signal(muon):.2g}'
        ),
        'mean scale': f'{answers.scale(namo):.2f}',
        'NAMO − Muon': f'{found.mean:+.4f} {judge.interval(found)}',
        "theory: NAMO's error / Muon's": f'{expected:.2f}',
      }


def _transfer(
  by_scale: Mapping[str, Mapping[int, answers.Arms]],
) -> Iterator[dict[str, str]]:
  """Best rates by width, and what that of the least costs at the largest."""
  for scale, of in by_scale.items():
    for name in answers.RULES:
      yield {
        'shape scale': scale,
        '': name,
        **{
          f'best rate at {n}': f'{arms[name].setting["learning_rate"]:g}'
          for n, arms in of.items()
        },
        'octaves': f'{answers.drift(of, name):+.1f}',
        **{
          f'rates of 64 at {n}, loss': (
            f'{answers.cost_of_keeping(of, name, n):+.4f}'
          )
          for n in (128, 256)
        },
      }


def _spectral(
  by_decay: Mapping[str, answers.Pairs],
) -> Iterator[dict[str, str]]:
  """Best rates with `rms` as how far they move a square matrix."""
  for decay, pairs in by_decay.items():
    for i, name in enumerate((answers.NAMO_D, answers.MUON)):
      rates = {n: pair[i].setting['learning_rate'] for n, pair in pairs.items()}
      yield {
        '0.2 √n r': f'{name}, {decay}',
        **{f'n = {n}': f'{0.2 * n**0.5 * r:.3f}' for n, r in rates.items()},
      }


def _answered(rows: Rows) -> dict[str, answers.Arms]:
  found = {}
  for title in plan.ALL:
    with contextlib.suppress(answers.Undecided):
      found[title] = answers.arms(rows, title)
  return found


def _overviews(rows: Rows) -> Iterator[tuple[str, Callable[..., Figure], Any]]:
  """Figures of several questions, of what they are, if all are answered."""
  for path, draw, of in _OVERVIEWS:
    with contextlib.suppress(answers.Undecided):
      yield path, draw, of(rows)


def document(rows: Sequence[Row]) -> str:
  """All that the rows say, in Markdown."""
  known = Rows(rows)
  diverged = sum(bool(row.get('diverged')) for row in rows)
  parts = [
    '# What came out',
    'Made from results.jsonl by `python -m benchmarks.evidence.report`; the'
    ' rules are in [PROTOCOL.md](PROTOCOL.md). Losses in nats per character,'
    ' mean ± standard deviation over seeds that tuning did not use, but in (j),'
    ' which has its seeds and one more; differences are paired over seeds, ±'
    ' half the width of their 95% intervals, p-values'
    " Holm's within a question. (m), (n), (o), (p), (k)'s seeds, and five of"
    " (l)'s eight, (q) over 300 steps, (r) of each step and (v) from above were"
    " asked for after a look at what there was: the protocol's changes 5 to 7,"
    ' 10 to 12, 16, 21 and 22.',
    f'{len(rows)} runs, {diverged} of them diverged.',
    '## The hypotheses',
    report.markdown(
      dict(zip(('', 'said before', 'came out'), one))
      for one in hypotheses.verdicts(known)
    ),
    *(_image(path, draw) for path, draw, _ in _overviews(known)),
  ]
  answered = _answered(known)
  for title, arms in answered.items():
    parts += _section(title, arms)
  with contextlib.suppress(answers.Undecided):
    lines = list(_theory(answers.by_signal(known)))
    parts += [
      '## Signal and theory',
      'Of (q). Theory is of a quadratic that begins at .22 times the batch as'
      ' signal to noise, what a pilot had after five steps.',
      report.markdown(lines),
    ]
  with contextlib.suppress(answers.Undecided):
    lines = list(_transfer(answers.by_shape_scale(known)))
    parts += [
      '## Rates over width',
      'Of (u), in the unit of each shape scale; losses less those at the best'
      ' rates of that width, over its seeds.',
      report.markdown(lines),
      'Of (k), (o) and (a), with `rms`, in spectral units.',
      report.markdown(_spectral(answers.by_width(known))),
    ]
  if lines := list(_asked_at(answered)):
    parts += [
      '## At which signal to noise',
      "NAMO's mean scale, over the run where it was kept, else at its last"
      ' step; and the signal to noise of its gradients, where measured. Else'
      ' the scale bounds it from below: noise lowers it, and so do gradients'
      ' that turn against each other. It is measured on clean labels, at two'
      ' steps of a run: at the last it is far below the mean.',
      report.markdown(lines),
    ]
  if lines := list(_rates(answered)):
    parts += [
      '## Rates',
      'At the optimum of each question, over that of Muon.',
      report.markdown(lines),
    ]
  if left := [title for title in plan.ALL if title not in answered]:
    parts += [
      '## Open',
      f'Not all runs are there yet of {"; ".join(left)}. What has char in its'
      ' name waits for an accelerator.',
    ]
  return '\n\n'.join(parts) + '\n'


def drawings(rows: Sequence[Row]) -> dict[str, Figure]:
  """The figures of the answered questions, by where they are to be."""
  known = Rows(rows)
  answered = _answered(known)
  drawn = {
    path: draw(answered[title])
    for title, (path, draw) in _DRAWN.items()
    if title in answered
  }
  return drawn | {path: draw(of) for path, draw, of in _overviews(known)}


def main() -> None:
  ladders.know_siblings()
  rows = sweep.read_results(HERE)
  files.write_whole(HERE / 'RESULTS.md', document(rows))
  (HERE / 'figures').mkdir(exist_ok=True)
  for path, drawn in drawings(rows).items():
    drawn.savefig(HERE / path)


if __name__ == '__main__':
  main()
