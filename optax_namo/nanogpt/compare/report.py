# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison to read: Markdown tables, sentences and a figure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
import math
import pathlib
import statistics
from typing import Any

from matplotlib import figure
import pandas as pd

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.compare import figures
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare import tuning
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.significance import LEVEL
from optax_namo.nanogpt.compare.significance import POWER

_MARKS = {'lowest': ' ↓', 'highest': ' ↑'}


def table(
  rows: Sequence[Row],
  *,
  baseline: judge.Baseline | None = None,
  tuned: Collection[str] = arms.TUNED,
  tuning_seeds: Collection[int] | None = None,
) -> str:
  """What a comparison shows, in Markdown.

  The table of the arms, what to know of their tuning, the table of their paired
  differences to the baseline, and what may be concluded.

  Args:
    rows: Rows of results.jsonl.
    baseline: What the arms are compared with, an optimizer or values of knobs;
      None means Muon where it is, else optax's, else AdamW.
    tuned: The knobs that were tuned for each arm.
    tuning_seeds: The seeds that choose each arm's setting, which the others
      judge; None means that the seeds that all settings have choose, and all
      judge.
  """
  bests = tuning.bests(rows, tuned=tuned, tuning_seeds=tuning_seeds)
  parts = [
    _arms(bests, tuned),
    _caption(rows, bests, tuning_seeds),
    _notes(rows, tuned, bests),
    _conclusions(judge.compare(bests, baseline)),
  ]
  return '\n\n'.join(filter(None, parts)) + '\n'


def draw(
  rows: Sequence[Row],
  path: pathlib.Path,
  *,
  baseline: judge.Baseline | None = None,
  **chosen: Any,
) -> None:
  """Draws differences to the baseline over steps, and loss against the rate.

  A row of two pictures for each arm that is a baseline, into a PNG file; the
  arguments are those of ``table``.
  """
  bests = tuning.bests(rows, **chosen)
  groups: dict[str, list[judge.Difference]] = {}
  for difference in judge.compare(bests, baseline):
    groups.setdefault(str(difference.other), []).append(difference)
  shown = list(groups.values()) or [[]]
  fig = figure.Figure(
    figsize=(11, 4.2 * len(shown)), dpi=150, layout='constrained'
  )
  grid = fig.subplots(len(shown), 2, squeeze=False)
  for (left, right), group in zip(grid, shown):
    arms = [arm for arm in bests if any(arm in d[:2] for d in group)]
    figures.over_steps(left, group, arms)
    figures.against_rate(right, arms or bests)
  fig.savefig(path)


def markdown(lines: Iterable[Mapping[str, str]]) -> str:
  """A table whose lines map from its headers to cells."""
  lines = list(lines)
  header = '|'.join(f' {name} ' if name else ' ' for name in lines[0])
  cells = [f'| {" | ".join(line.values())} |' for line in lines]
  return '\n'.join([f'|{header}|', '|---' * len(lines[0]) + '|', *cells])


def loss(arm: Arm, digits: int = 3) -> str:
  """Mean ± standard deviation over the seeds."""
  losses = list(arm.losses.values())
  if gone := sum(map(math.isinf, losses)):
    return f'{gone} of {len(losses)} diverged'
  if not losses:
    return '-'
  text = f'{statistics.fmean(losses):.{digits}f}'
  if len(losses) > 1:
    text += f' ± {statistics.stdev(losses):.{digits}f}'
  return text


def differences(
  found: Iterable[judge.Difference], digits: int | None = None
) -> str:
  """The table of paired differences; decimals as of the interval, or given."""
  return markdown(
    {
      '': str(one),
      'against': str(other),
      'difference': f'{t.mean:+.{digits or judge.decimals(t)}f}' if t else '-',
      '95% interval': judge.interval(t, digits) if t else '-',
      'pairs': str(len(seeds)),
      'p': '-' if p is None else judge.p_value(p),
      f'more seeds to see {judge.DIFFERENCE}': str(more) if t else '-',
    }
    for one, other, seeds, t, p, more in found
  )


def _arms(bests: Sequence[Arm], tuned: Collection[str]) -> str:
  """The table of the arms, without the columns that would say nothing."""
  if not bests:
    return 'No run has finished.'
  lines = pd.DataFrame(
    {
      '': str(arm),
      **{arms.words(knob): _value(arm, knob, bests) for knob in tuned},
      'validation loss': loss(arm),
      'seeds': str(len(arm.runs)),
      'rates within 1%': _width(arm),
      "steps to AdamW's": _steps_to_adamw(arm, bests),
      'ms/step': _time(arm),
    }
    for arm in bests
  )
  return markdown(lines.loc[:, (lines != '-').any()].to_dict('records'))


def _value(arm: Arm, knob: str, bests: Sequence[Arm]) -> str:
  """The best value of a tuned knob, where any arm has more than one."""
  if all(len({x.values[knob] for x in b.search.tried}) == 1 for b in bests):
    return '-'
  mark = _MARKS.get(arm.edges.get(knob, ''), '')
  return arms.number(arm.setting[knob]) + mark


def _width(arm: Arm) -> str:
  losses = arm.search.by_value('learning_rate')
  finite = sum(map(math.isfinite, losses.values()))
  return str(robustness.width(losses)) if finite > 1 else '-'


def _steps_to_adamw(arm: Arm, bests: Sequence[Arm]) -> str:
  """The first evaluation at which the mean is at the last one of AdamW."""
  is_adamw = arm.optimizer == 'adamw'
  adamw = arm if is_adamw else judge.against(arm, 'adamw', bests)
  if not (adamw and arm.runs and adamw.runs):
    return '-'
  if math.inf in (*arm.losses.values(), *adamw.losses.values()):
    return '-'
  means = arms.curves(arm.runs.values()).mean(axis=1)
  reached = means.index[means <= statistics.fmean(adamw.losses.values())]
  return str(reached[0]) if len(reached) else '-'


def _time(arm: Arm) -> str:
  times = [t for row in arm.runs.values() if (t := row['ms_per_step'])]
  return f'{statistics.median(times):.1f}' if times else '-'


def _caption(
  rows: Sequence[Row],
  bests: Sequence[Arm],
  tuning_seeds: Collection[int] | None,
) -> str:
  configs = [row['config'] for row in rows]
  each = lambda values: ' and '.join(map(str, sorted(set(values))))
  text = (
    f'{each(config["steps"] for config in configs)} steps of the preset'
    f' {each(config["preset"] for config in configs)} on'
    f' {each(pathlib.Path(config["data"]).stem for config in configs)},'
    f' {tuning.seed_list({config["seed"] for config in configs})},'
    f' {len(rows)} runs. Validation loss in nats per token at the last step,'
    ' mean ± standard deviation over the seeds, of each arm at the best of its'
    ' settings, which are compared on the same seeds.'
  )
  if tuning_seeds:
    chose = tuning.seed_list(tuning_seeds)
    text += f' The settings were chosen on {chose}, and are judged on others.'
  else:
    text += ' The seeds that chose a setting judge it as well.'
  if unfinished := sum(not arms.finished(row) for row in rows):
    text += f' Runs that did not finish, and do not count: {unfinished}.'
  if any(arm.edges for arm in bests):
    text += ' ↓ and ↑: the best is the lowest or highest value tried.'
  text += (
    ' Rates within 1%: the width, in factors of 2, of the range of learning'
    ' rates whose loss is within 1% of the best, interpolated; ≥ where the'
    ' rates tried end before.'
  )
  if devices := sorted({row['device'] for row in rows if row['device']}):
    text += (
      f' ms/step is the median after compilation on {", ".join(devices)}, an'
      ' absolute time of that machine alone.'
    )
  return text


def _notes(
  rows: Sequence[Row], tuned: Collection[str], bests: Sequence[Arm]
) -> str:
  """What to know of the tuning: each note once, with the arms it is on."""
  about: dict[str, list[str]] = {}
  for arm in bests:
    for note in tuning.notes(arm):
      about.setdefault(note, []).append(str(arm))
  judged = list(map(str, bests))
  for name in map(str, arms.find(rows, tuned)):
    if name not in judged:
      note = 'not judged: none of its settings has all tuning seeds'
      about.setdefault(note, []).append(name)
  return '\n'.join(
    f'- {"all" if len(names) == len(bests) > 1 else "; ".join(names)}: {note}.'
    for note, names in about.items()
  )


def _conclusions(found: Sequence[judge.Difference]) -> str:
  """The table of paired differences, and a conclusion from each."""
  if not found:
    return ''
  caption = 'Differences are paired over seeds: same data, same initialization.'
  if any(difference.paired for difference in found):
    caption += (
      ' Intervals are those of the t-test of one pairing; its p is'
      f' Holm-corrected for the {len(found)} here. With the seeds of the last'
      f' column more, a true difference of {judge.DIFFERENCE} is found with'
      f' probability {POWER} at the level {LEVEL}, so corrected, if the spread'
      ' seen is the true one.'
    )
  sentences = [f'- {judge.conclusion(difference)}' for difference in found]
  return '\n\n'.join([differences(found), caption, '\n'.join(sentences)])
