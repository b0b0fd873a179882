# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.pages``: what pages say of the rows.

A figure or a phrase in a page that comes from the rows stands between comments,
which no reader sees: ``<!--=apart('Ordering'):.4f-->0.0030<!--/-->``. The first
one is what an f-string has between braces, with the methods of ``Facts``; this
command writes between the two what it yields.
"""

from collections.abc import Iterable, Mapping, Sequence
import json
import math
import re
from typing import NamedTuple

from benchmarks.evidence import answers
from benchmarks.evidence import beyond
from benchmarks.evidence import hypotheses
from benchmarks.evidence import ladders
from benchmarks.evidence import report
from benchmarks.evidence.answers import MUON
from benchmarks.evidence.answers import NAMO_D
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import robustness
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.compare.significance import Paired
from optax_namo.nanogpt.compare.significance import paired
from optax_namo.nanogpt.config import make_config

_RESULTS = report.HERE.parent / 'results'
_DOCS = report.HERE.parents[1] / 'docs'
_NAMES = '../README', 'choosing', 'cost', 'evidence', 'rates'
PAGES = [_DOCS / f'{name}.md' for name in _NAMES]
_DIRECTIVE = re.compile(r'<!--=(.*?)-->(.*?)<!--/-->', re.DOTALL)
_NOISE = [name for batch, name in answers.NOISE.items() if batch != 16]
_NUMBERS = 'no one two three four five six seven eight'.split()
_PARTS = {2: 'half', 3: 'third', 4: 'quarter', 10: 'tenth', 100: 'hundredth'}


def spread(values: Iterable[float], digits: int = 1) -> str:
  """'4.1 to 8.3', the least and the largest."""
  values = sorted(values)
  return f'{values[0]:.{digits}f} to {values[-1]:.{digits}f}'


def part(times: float) -> str:
  """'a third', of about 3 times."""
  return f'a {_PARTS[min(_PARTS, key=lambda n: abs(math.log(n / times)))]}'


def _results(name: str) -> dict[str, dict[str, dict]]:
  return json.loads((_RESULTS / f'{name}.json').read_text())


def _shapes(name: str) -> dict[str, dict[str, dict]]:
  """What a benchmark measured of each optimizer, by the shape of the model."""
  return _results(name)['shapes']


def plus_minus(values: Sequence[float], sign: str = '') -> str:
  """'0.0030 ± 0.0012', the mean and half of its interval."""
  test = paired(values)
  return f'{test.mean:{sign}.4f} ± {test.half:.4f}'


class Pair(NamedTuple):
  """A difference in the words of a page: '0.0127 ± 0.0056 below'."""

  of: judge.Difference

  def __str__(self) -> str:
    return judge.size(self.of.paired, 4)

  @property
  def p(self) -> str:
    return judge.p_value(self.of.p)

  def unseen(self, said: str) -> str:
    """What is said where no difference is seen."""
    return 'a difference is seen' if self.of.seen else said

  def off(self, below: str = 'below', above: str = 'above') -> str:
    """'0.0127 below'."""
    return f'{abs(self.of.mean):.4f} {below if self.of.mean < 0 else above}'


class Facts:
  """What the rows say, the names of expressions in pages.

  A question goes by its title without the letter, 'Width 64, no decay', an arm
  by its name in the tables, 'NAMO-D, 4 steps'.
  """

  batches = answers.NOISE

  def __init__(self, rows: Iterable[Row]):
    self._rows = ladders.Rows(rows)

  def arms(self, question: str) -> answers.Arms:
    return answers.arms(self._rows, question)

  def _differences(self, question: str) -> list[judge.Difference]:
    """Without those to AdamW, which is known to be behind."""
    found = answers.differences(self.arms(question))
    return [d for d in found if d.other.optimizer != 'adamw']

  def pair(
    self, question: str, one: str = NAMO_D, other: str = MUON, of: str = ''
  ) -> Pair:
    """Two arms, corrected within the question; or with one of another."""
    for d in self._differences(question):
      if not of and (str(d.one), str(d.other)) == (one, other):
        return Pair(d)
    arms = self.arms(question)[one], self.arms(of or question)[other]
    return Pair(judge.difference(*arms))

  def tie(self, *questions: str, said: str = 'no difference is seen') -> str:
    """What is said where no difference is seen in any of them."""
    seen = any(d.seen for q in questions for d in self._differences(q))
    return 'differences are seen' if seen else said

  def apart(self, question: str, varied: bool = False) -> float:
    """The largest difference of optimizers with all else equal."""
    found = self._differences(question)
    return max(abs(d.mean) for d in found if bool(d.other.labels) == varied)

  def seeds(self, question: str) -> str:
    """How many a difference is paired over, in a word."""
    return _NUMBERS[max(len(d.seeds) for d in self._differences(question))]

  def unseen(self) -> int:
    return len(ladders.UNSEEN)

  def says(self, hypothesis: str, verdict: str, phrase: str) -> str:
    """The phrase if that was the verdict, else all that came out."""
    came_out = hypotheses.TESTS[hypothesis](self._rows)
    return phrase if came_out.endswith(verdict) else came_out

  def over(self, *questions: str) -> float:
    """How far each arm ends above the same of 'Ordering', at least."""
    base = self.arms('Ordering')
    return min(
      judge.difference(arm, base[name]).mean
      for question in questions
      for name, arm in self.arms(question).items()
    )

  def adamw(self) -> float:
    """How far it ends above the others, at least."""
    *others, adamw = self.arms('Ordering').values()
    return min(judge.difference(adamw, arm).mean for arm in others)

  def _costs(self, *endings: str, others: bool = False) -> list[float]:
    """Of variations whose names end so, or of all others."""
    found = judge.differences(answers.variations(self.arms('Variations')))
    return [d.mean for d in found if str(d.one).endswith(endings) != others]

  def no_nesterov(self) -> list[float]:
    return self._costs(' no Nesterov')

  def others(self) -> float:
    """The largest effect of any variation but no Nesterov and fewer steps."""
    return max(map(abs, self._costs(' no Nesterov', ' steps', others=True)))

  def steps(self, number: int) -> Pair:
    return self.pair('Variations', f'{NAMO_D}, {number} steps', NAMO_D)

  def rate(
    self, question: str, *arms: str, knob: str = 'learning_rate'
  ) -> float:
    """The best one, which these arms have in common."""
    (rate,) = {self.arms(question)[arm].setting[knob] for arm in arms}
    return rate

  def times(self, question: str, arm: str, of: str = '') -> float:
    """A best rate over Muon's, or over what it is in question ``of``."""
    below = self.rate(of, arm) if of else self.rate(question, MUON)
    return self.rate(question, arm) / below

  def from_above(self) -> str:
    """Rates of the AdamW group over those where tuning had stopped."""
    pairs = answers.variations(self.arms('Rate of the AdamW group, from above'))
    rate = lambda arm: arm.setting['adam_learning_rate']
    return spread((rate(a) / rate(b) for a, b in pairs), 0)

  def octaves(self) -> str:
    """How much of the rates is within 1% of the best loss."""
    valleys = answers.by_rate(self.arms('Rates')).values()
    widths = sorted(str(robustness.width(losses)) for losses in valleys)
    return f'{widths[0]} to {widths[-1]}'

  def sizes(self) -> str:
    """'1, 2, 4 and 64', of batches beside 16."""
    *most, last = (str(n) for n in self.batches if n != 16)
    return f'{", ".join(most)} and {last}'

  def drifts(self, scale: str) -> str:
    """The cells of best rates' octaves from a width of 64 to 256."""
    of = answers.by_shape_scale(self._rows)[scale]
    return ' | '.join(f'{answers.drift(of, n):+.1f}' for n in answers.RULES)

  def kept_rates(self, scale: str) -> str:
    """The cells of what the rates of 64 cost at 128 and at 256."""
    of = answers.by_shape_scale(self._rows)[scale]
    cost = lambda *at: f'{answers.cost_of_keeping(of, *at):+.3f}'
    return ' | '.join(
      f'{cost(name, 128)}, {cost(name, 256)}' for name in answers.RULES
    )

  def over_batches(
    self, rule: str, questions: Mapping[int, str] = answers.NOISE
  ) -> str:
    return plus_minus(hypotheses.over_batches(self._rows, questions)[rule], '+')

  def over_widths(self) -> str:
    """By a doubling, with decay and without."""
    slopes = hypotheses.over_widths(self._rows).values()
    return ' and '.join(map(plus_minus, slopes))

  def step_times(self, to: str) -> str:
    """NAMO-D's on CPUs over Muon's: 'to_main' of optax, or to the released."""
    of = (shape['namo_d'] for shape in _shapes('step_time').values())
    return spread((x['step_time'][to] for x in of if 'step_time' in x), 2)

  def step_time_on_gpu(self, name: str, shape: str = 'gpt2') -> float:
    """Of an optimizer's step over that of optax's Muon."""
    return _shapes('gpu')[shape][name]['step_time']

  def train_step_on_gpu(self, name: str) -> float:
    """Of a training step of GPT-2 with it, in ms."""
    return _results('gpu')['train'][name]['ms']

  def preset(self):
    return make_config().sizes

  def _to_muon(self, batch: int) -> list[Paired]:
    pairs = answers.by_batch(self._rows).values()
    return [judge.difference(*of[batch]).paired for of in pairs]

  def closest(self) -> int:
    """The batch size at which seeds agree best on differences to Muon."""
    widest = lambda batch: max(test.half for test in self._to_muon(batch))
    return min(self.batches, key=widest)

  def room(self) -> float:
    """The gain over Muon that intervals leave room for there."""
    return -min(test.low for test in self._to_muon(self.closest()))

  def signal_to_noise(self, question: str) -> str:
    """Signal to noise of the batches over NAMO's runs."""
    return f'{answers.signal(self.arms(question)["NAMO"]):.2g}'

  def signal(self) -> str:
    muons = [self.arms(question)[MUON] for question in self.batches.values()]
    return spread(map(answers.signal_to_noise, muons), 2)

  def noise_alone(self) -> float:
    """What the ratio is of gradients that are noise, looked ahead."""
    b1 = make_config().b1
    # Of b1² M + (1 - b1²) G, M the momentum before: G is not yet in it.
    return math.sqrt(b1**4 * (1 - b1) / (1 + b1) + (1 - b1**2) ** 2)

  def beyond(self, task: str, optimizer: str) -> str:
    """How its score on another task lies to Muon's."""
    found = beyond.scores(report.HERE / 'beyond.jsonl', task)
    return judge.size(paired(found[optimizer][1], found['muon'][1]), 4)

  def times_by_batch(self, name: str) -> list[float]:
    return [self.times(question, name) for question in self.batches.values()]

  def rates_by_batch(self, name: str) -> str:
    """The cells of both rates by batch size."""
    cell = '{learning_rate:g}, {adam_learning_rate:g}'.format_map
    arms = (self.arms(question)[name] for question in self.batches.values())
    return ' | '.join(cell(arm.setting) for arm in arms)


def filled(text: str, facts: Facts) -> str:
  """A page with what the rows say; lines stay as they are where that is so."""
  names = {name: getattr(facts, name) for name in dir(facts) if name[0] != '_'}
  names |= {'spread': spread, 'part': part, 'NOISE': _NOISE}
  names |= {'SIGNAL': answers.SIGNAL['under decay']}
  if broken := re.search(r'^\s*<!--[=/][^\n]*', text, re.MULTILINE):
    raise ValueError(
      f'{broken[0]!r} begins a line, where Markdown ends a paragraph: break it'
      ' elsewhere.'
    )

  def said(match: re.Match[str]) -> str:
    expression, before = match.groups()
    new = eval(f'f"""{{{expression}}}"""', names)
    if new.split() == before.split():
      return match[0]
    return f'<!--={expression}-->{new}<!--/-->'

  return _DIRECTIVE.sub(said, text)


def main() -> None:
  ladders.know_siblings()
  facts = Facts(sweep.read_results(report.HERE))
  for path in PAGES:
    files.write_whole(path, filled(path.read_text(encoding='utf-8'), facts))


if __name__ == '__main__':
  main()
