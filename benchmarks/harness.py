# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: pieces in turn, other processes, one table.

A piece is (function, carry, inputs), and ``function(carry, *inputs)`` gives
what it carries on and whatever else. In a round each piece runs once, so that
what else the machine does falls on all of them; a ratio is the median of the
rounds' ratios.
"""

from concurrent import futures
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from absl import app
from absl import flags
import jax
import optax

ROUNDS = flags.DEFINE_integer('rounds', 9, 'Times that each is measured.')
AGAINST = flags.DEFINE_string(
  'against', None, 'A git revision, to whose code the ratios are, too.'
)
_ANSWER = flags.DEFINE_bool(
  'answer', False, 'Answer every line that is read; other processes use it.'
)
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')
_ROOT = pathlib.Path(__file__).resolve().parents[1]


class Pieces:
  """Programs by name: traced one by one, compiled at once."""

  def __init__(self, pieces, times=1):
    """``times``: how often each runs in its turn, without waiting."""
    lowered = [
      jax.jit(function, donate_argnums=0).lower(carry, *inputs)
      for function, carry, inputs in pieces.values()
    ]
    with futures.ThreadPoolExecutor() as threads:
      programs = threads.map(lambda x: x.compile(), lowered)
      self.programs = dict(zip(pieces, programs))
    self._carries = {name: carry for name, (_, carry, _) in pieces.items()}
    self._inputs = {name: inputs for name, (_, _, inputs) in pieces.items()}
    self._times = times

  def run(self, name):
    carry = self._carries[name]
    for _ in range(self._times):
      carry, rest = self.programs[name](carry, *self._inputs[name])
    self._carries[name], _ = jax.block_until_ready((carry, rest))

  def turn(self):
    """A round: the seconds that each takes."""
    return {name: seconds(self.run, name) for name in self.programs}


def seconds(function, *arguments):
  start = time.perf_counter()
  function(*arguments)
  return time.perf_counter() - start


class Rounds(NamedTuple):
  """Figures by name, a dict a round: of this code, and of the other's."""

  here: list[dict[str, float]]
  there: list[dict[str, float]] = []

  def median(self, name):
    return statistics.median(each[name] for each in self.here)

  def ratio(self, one, of):
    return statistics.median(each[one] / each[of] for each in self.here)

  def against(self, name):
    """Where there is another revision, the ratio to it, as a figure."""
    if not self.there:
      return {}
    pairs = zip(self.here, self.there, strict=True)
    return {'ratio': statistics.median(a[name] / b[name] for a, b in pairs)}


def rounds(turn, *question):
  """What ``turn`` gives `--rounds` times; a first one is left out.

  Where there are a question and `--against`, a process of its own answers it
  with that revision's code, round by round in turn with this one.
  """
  here, there = [], []
  with contextlib.ExitStack() as stack:
    other = question and AGAINST.value
    ask = stack.enter_context(elsewhere()) if other else None
    for _ in range(ROUNDS.value + 1):
      here.append(turn(*question))
      if ask:
        there.append(ask(*question))
  return Rounds(here[1:], there[1:])


def run(main, answer):
  """Runs ``main``, or answers a question a line where another process asks."""

  def start(argv):
    del argv
    if not _ANSWER.value:
      return main()
    for line in sys.stdin:
      print(json.dumps(answer(json.loads(line))), flush=True)

  app.run(start)


@contextlib.contextmanager
def process(cwd=_ROOT, **environment):
  """Gives a function that asks this program in a process of its own."""
  with subprocess.Popen(
    [sys.executable, '-m', sys.modules['__main__'].__spec__.name, '--answer'],
    cwd=cwd,
    env=os.environ | environment,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as asked:

    def ask(question):
      asked.stdin.write(json.dumps(question) + '\n')
      asked.stdin.flush()
      return json.loads(asked.stdout.readline())

    yield ask


@contextlib.contextmanager
def elsewhere():
  """The same with the package of the revision; benchmarks are today's."""
  with tempfile.TemporaryDirectory() as scratch:
    archive = ['git', '-C', _ROOT, 'archive', AGAINST.value, 'optax_namo']
    packed = subprocess.run(archive, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(['tar', '-x', '-C', scratch], input=packed, check=True)
    # `-m` looks in the folder it runs in first.
    with process(scratch, PYTHONPATH=str(_ROOT)) as ask:
      yield ask


def kept(path, name, measure):
  """What ``measure()`` gave, one line of a file; read where it is there.

  A session on a machine that is lent for minutes goes on where it ended. Lines
  of another device or other releases do not count.
  """
  if path is None:
    return measure()
  path, key = pathlib.Path(path), {'name': name} | circumstances()
  lines = path.read_text().splitlines() if path.exists() else []
  for row in map(json.loads, lines):
    if row | key == row:
      return row['found']
  found = measure()
  with path.open('a') as file:
    print(json.dumps(key | {'found': found}), file=file)
  return found


def circumstances():
  """The device and the versions, for a report."""
  device, count = jax.devices()[0], jax.device_count()
  where = device.device_kind + (f', {count} devices' if count > 1 else '')
  if device.platform == 'cpu':
    where = f'CPU, {len(os.sched_getaffinity(0))} cores'
  versions = {'jax': jax.__version__, 'optax': optax.__version__}
  return {'device': where, 'versions': versions}


def show(what, rows):
  """Prints a table, and where and with which releases it was measured."""
  print(f'\n{what}; {circumstances()}\n\n{table(rows)}', flush=True)


def table(rows):
  """Markdown: a line a name; floats to three decimals, shares in percent."""

  def cell(head, figure):
    if not isinstance(figure, float):
      return str(figure)
    return f'{figure:.1%}' if head.endswith('share') else f'{figure:,.3f}'

  heads = list(dict.fromkeys(head for row in rows.values() for head in row))
  lines = [['', *(head.replace('_', ' ') for head in heads)]]
  lines.append(['---'] * len(lines[0]))
  for name, row in rows.items():
    lines.append([name, *(cell(head, row.get(head, '')) for head in heads)])
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def write(report):
  """To the file of `--json`."""
  if _JSON.value:
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')
