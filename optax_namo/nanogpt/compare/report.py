# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison to read: Markdown tables, sentences and a figure."""

from collections.abc import Collection, Iterable, Sequence
import math
import pathlib
import statistics
from typing import Any

from matplotlib import figure

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.compare import figures
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare import tuning
from optax_namo.nanogpt.compare.significance import LEVEL
from optax_namo.nanogpt.compare.significance import POWER
from optax_namo.nanogpt.compare.tuning import Best

_MARKS = {'lowest': ' ↓', 'highest': ' ↑'}


def table(
  rows: Sequence[dict[str, Any]],
  *,
  baseline: judge.Baseline | None = None,
  tuned: Collection[str] = arms.TUNED,
  tuning_seeds: Collection[int] | None = None,
) -> str:
  """What a comparison shows, in Markdown.

  Args:
    rows: Rows of results.jsonl.
    baseline: What the arms are compared with, an optimizer or values of knobs;
      None means Muon where it is, else optax's, else AdamW.
    tuned: The knobs that were tuned for each arm.
    tuning_seeds: The seeds that choose each arm's setting, which the others
      judge; None means that the seeds that all settings have choose, and all
      judge.

  Returns:
    The table of the arms, what to know of their tuning, the table of their
    paired differences to the baseline, and what may be concluded.
  """
  bests = judge.bests(rows, tuned=tuned, tuning_seeds=tuning_seeds)
  parts = [
    _arms(bests, tuned),
    _caption(rows, bests, tuning_seeds),
    _notes(rows, tuned, bests),
    _differences(judge.compare(bests, baseline)),
  ]
  return '\n\n'.join(filter(None, parts)) + '\n'


def draw(
  rows: Sequence[dict[str, Any]],
  path: pathlib.Path,
  *,
  baseline: judge.Baseline | None = None,
  tuned: Collection[str] = arms.TUNED,
  tuning_seeds: Collection[int] | None = None,
) -> None:
  """Draws differences to the baseline over steps, and loss against the rate.

  A row of two pictures for each arm that is a baseline.

  Args:
    rows: Rows of results.jsonl.
    path: The PNG file to write.
    baseline: As ``table``'s.
    tuned: As ``table``'s.
    tuning_seeds: As ``table``'s.
  """
  bests = judge.bests(rows, tuned=tuned, tuning_seeds=tuning_seeds)
  comparisons = judge.compare(bests, baseline)
  groups: dict[str, list[judge.Comparison]] = {}
  for comparison in comparisons:
    groups.setdefault(str(comparison.baseline.arm), []).append(comparison)
  fig = figure.Figure(
    figsize=(11, 4.2 * max(len(groups), 1)), dpi=150, layout='constrained'
  )
  grid = fig.subplots(max(len(groups), 1), 2, squeeze=False)
  for (left, right), group in zip(grid, list(groups.values()) or [[]]):
    shown = [best for best in bests if any(best in c[:2] for c in group)]
    figures.over_steps(left, group, shown)
    figures.against_rate(right, shown or bests)
  fig.savefig(path)


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  rule = ['---'] * len(header)
  return '\n'.join(
    f'| {" | ".join(cells)} |'.replace('|  |', '| |', 1)
    for cells in (header, rule, *lines)
  )


def _arms(bests: Sequence[Best], tuned: Collection[str]) -> str:
  """The table of the arms, without the columns that would say nothing."""
  if not bests:
    return 'No run has finished.'
  header = [
    '', *map(arms.words, tuned), 'validation loss', 'seeds', 'rates within 1%',
    "steps to AdamW's", 'ms/step',
  ]  # fmt: skip
  lines = [
    [
      str(best.arm),
      *(_value(best, knob, bests) for knob in tuned),
      _loss(best),
      str(len(best.runs)),
      _width(best),
      _steps_to_adamw(best, bests),
      _time(best),
    ]
    for best in bests
  ]
  kept = [i for i, column in enumerate(zip(*lines)) if set(column) != {'-'}]
  return _markdown(
    [header[i] for i in kept], [[line[i] for i in kept] for line in lines]
  )


def _value(best: Best, knob: str, bests: Sequence[Best]) -> str:
  """The best value of a tuned knob, where any arm has more than one."""
  if all(len(other.arm.grid(knob)) == 1 for other in bests):
    return '-'
  value = arms.number(best.setting.values[knob])
  return value + _MARKS.get(best.edges.get(knob, ''), '')


def _loss(best: Best) -> str:
  losses = list(best.losses.values())
  gone = sum(map(math.isinf, losses))
  if gone:
    return f'{gone} of {len(losses)} diverged'
  if not losses:
    return '-'
  text = f'{statistics.fmean(losses):.3f}'
  if len(losses) > 1:
    text += f' ± {statistics.stdev(losses):.3f}'
  return text


def _width(best: Best) -> str:
  losses = best.by_value('learning_rate')
  finite = sum(map(math.isfinite, losses.values()))
  return str(robustness.width(losses)) if finite > 1 else '-'


def _steps_to_adamw(best: Best, bests: Sequence[Best]) -> str:
  """The first evaluation at which the mean is at the last one of AdamW."""
  is_adamw = best.arm.optimizer == 'adamw'
  adamw = best if is_adamw else judge.against(best, 'adamw', bests)
  if not best.runs or not adamw or not adamw.runs:
    return '-'
  if math.inf in (*best.losses.values(), *adamw.losses.values()):
    return '-'
  goal = statistics.fmean(adamw.losses.values())
  steps, losses = arms.curves(best.runs.values())
  reached = steps[losses.mean(axis=0) <= goal]
  return str(reached[0]) if len(reached) else '-'


def _time(best: Best) -> str:
  times = [row['ms_per_step'] for row in best.runs.values()]
  times = [time for time in times if time]
  return f'{statistics.median(times):.1f}' if times else '-'


def _caption(
  rows: Sequence[dict[str, Any]],
  bests: Sequence[Best],
  tuning_seeds: Collection[int] | None,
) -> str:
  of = lambda knob: ' and '.join(
    map(str, sorted({row['config'][knob] for row in rows}))
  )
  data = ' and '.join(
    sorted({pathlib.Path(row['config']['data']).stem for row in rows})
  )
  seeds = tuning.seed_list({row['config']['seed'] for row in rows})
  text = (
    f'{of("steps")} steps of the preset {of("preset")} on {data}, {seeds},'
    f' {len(rows)} runs. Validation loss in nats a token at the last step, mean'
    ' ± standard deviation over the seeds, of each arm at the best of its'
    ' settings, which are compared on the same seeds.'
  )
  if tuning_seeds:
    chose = tuning.seed_list(tuning_seeds)
    text += f' The settings were chosen on {chose}, and are judged on others.'
  else:
    text += ' The seeds that chose a setting judge it as well.'
  unfinished = sum(not arms.finished(row) for row in rows)
  if unfinished:
    text += f' Runs that did not finish, and do not count: {unfinished}.'
  if any(best.edges for best in bests):
    text += ' ↓ and ↑: the best is the lowest or highest value tried.'
  text += (
    ' Rates within 1%: the width, in factors of 2, of the range of learning'
    ' rates whose loss is within 1% of the best, interpolated; ≥ where the'
    ' rates tried end before.'
  )
  devices = sorted({row['device'] for row in rows if row['device']})
  if devices:
    text += (
      f' ms/step is the median after compilation on {", ".join(devices)}, an'
      ' absolute time of that machine alone.'
    )
  return text


def _notes(
  rows: Sequence[dict[str, Any]],
  tuned: Collection[str],
  bests: Sequence[Best],
) -> str:
  """What to know of the tuning: each note once, with the arms it is on."""
  about: dict[str, list[str]] = {}
  for best in bests:
    for note in tuning.notes(best):
      about.setdefault(note, []).append(str(best.arm))
  judged = [best.arm for best in bests]
  for arm in arms.find(rows, tuned):
    if arm not in judged:
      note = 'not judged: none of its settings has all tuning seeds'
      about.setdefault(note, []).append(str(arm))
  return '\n'.join(
    f'- {"all" if len(names) == len(bests) > 1 else "; ".join(names)}: {note}.'
    for note, names in about.items()
  )


def _differences(comparisons: Sequence[judge.Comparison]) -> str:
  """The table of paired differences, and a conclusion from each."""
  if not comparisons:
    return ''
  lines = []
  for comparison in comparisons:
    cells = ['-'] * 4
    test = comparison.paired
    if test and comparison.p is not None:
      cells = [
        f'{test.mean:+.{judge.decimals(test)}f}',
        judge.interval(test),
        judge.p_value(comparison.p),
        str(judge.more_pairs(comparison)),
      ]
    lines.append(
      [
        str(comparison.arm.arm),
        str(comparison.baseline.arm),
        *cells[:2],
        str(len(comparison.seeds)),
        *cells[2:],
      ]
    )
  header = [
    '', 'against', 'difference', '95% interval', 'pairs', 'p',
    f'more seeds to see {judge.DIFFERENCE}',
  ]  # fmt: skip
  caption = (
    'Differences are paired over seeds: same data, same initialization.'
    ' Intervals are those of the t-test of one pairing; its p is Holm-corrected'
    f' for the {len(comparisons)} here. With the seeds of the last column'
    f' more, a true difference of {judge.DIFFERENCE} is found with probability'
    f' {POWER} at the level {LEVEL}, so corrected, if the spread seen is the'
    ' true one.'
  )
  sentences = [
    f'- {judge.conclusion(comparison)}' for comparison in comparisons
  ]
  return '\n\n'.join([_markdown(header, lines), caption, '\n'.join(sentences)])
