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

from absl import flags
import jax
import optax

from benchmarks.contenders import BASELINE

ROUNDS = flags.DEFINE_integer('rounds', 9, 'Times that each is measured.')
AGAINST = flags.DEFINE_string(
  'against', None, 'A git revision, to whose code the ratios are, too.'
)
ANSWER = flags.DEFINE_bool(
  'answer', False, 'Answer every line that is read; other processes use it.'
)
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def compiled(pieces):
  """Programs by name: traced one by one, compiled at once."""
  lowered = [
    jax.jit(function, donate_argnums=0).lower(carry, *inputs)
    for function, carry, inputs in pieces.values()
  ]
  with futures.ThreadPoolExecutor() as threads:
    return dict(zip(pieces, threads.map(lambda x: x.compile(), lowered)))


def runs(pieces, programs, times=1):
  """By name, a function that runs a piece so many times without waiting."""

  def one(program, carry, inputs):
    def run():
      nonlocal carry
      for _ in range(times):
        carry, rest = program(carry, *inputs)
      jax.block_until_ready((carry, rest))

    return run

  return {
    name: one(programs[name], *arguments)
    for name, (_, *arguments) in pieces.items()
  }


def in_turn(runs, before=lambda: None):
  """A round: the seconds that each takes."""
  seconds = {}
  for name, run in runs.items():
    before()
    start = time.perf_counter()
    run()
    seconds[name] = time.perf_counter() - start
  return seconds


class Rounds(NamedTuple):
  """Seconds by name, a dict a round: of this code, and of the other's."""

  here: list[dict[str, float]]
  there: list[dict[str, float]] = []

  def seconds(self, name):
    return statistics.median(each[name] for each in self.here)

  def ratio(self, one, of):
    return statistics.median(each[one] / each[of] for each in self.here)

  def against(self, name):
    """Where there is another revision, the ratio to it, as a figure."""
    if not self.there:
      return {}
    pairs = zip(self.here, self.there, strict=True)
    return {'ratio': statistics.median(a[name] / b[name] for a, b in pairs)}


def measured(runs):
  """The rounds of what needs no other revision; the first is left out."""
  return Rounds([in_turn(runs) for _ in range(ROUNDS.value + 1)][1:])


def rounds(module, make, question):
  """The rounds of what ``make`` makes of a question; the first is left out.

  With `--against`, ``module`` does the same with that revision's code in a
  process of its own, round by round in turn with this one.
  """
  here, there = [], []
  made = make(question)
  with contextlib.ExitStack() as stack:
    if AGAINST.value:
      ask = stack.enter_context(elsewhere(module))
    for _ in range(ROUNDS.value + 1):
      here.append(in_turn(made))
      if AGAINST.value:
        there.append(ask(question))
  return Rounds(here[1:], there[1:])


def answer(function):
  """Answers questions until there are no more."""
  for line in sys.stdin:
    print(json.dumps(function(json.loads(line))), flush=True)


@contextlib.contextmanager
def process(module, cwd=_ROOT, **environment):
  """Gives a function that asks ``module`` in a process of its own."""
  with subprocess.Popen(
    [sys.executable, '-m', module, '--answer'],
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
def elsewhere(module):
  """The same with the package of the revision; benchmarks are today's."""
  with tempfile.TemporaryDirectory() as scratch:
    archive = ['git', '-C', _ROOT, 'archive', AGAINST.value, 'optax_namo']
    packed = subprocess.run(archive, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(['tar', '-x', '-C', scratch], input=packed, check=True)
    # `-m` looks in the folder it runs in first.
    with process(module, scratch, PYTHONPATH=str(_ROOT)) as ask:
      yield ask


def circumstances():
  """The device and the versions, for a report."""
  device, count = jax.devices()[0], jax.device_count()
  where = device.device_kind + (f', {count} devices' if count > 1 else '')
  if device.platform == 'cpu':
    where = f'CPU, {len(os.sched_getaffinity(0))} cores'
  versions = {'jax': jax.__version__, 'optax': optax.__version__}
  return {'device': where, 'versions': versions}


def title(what):
  """Of a table: what it is of, on what, and what its ratios are to."""
  there = circumstances()
  against = f'; ratio: to {AGAINST.value}' if AGAINST.value else ''
  return (
    f'{what} on {there["device"]}; {BASELINE} is optax'
    f' {there["versions"]["optax"]}{against}'
  )


def table(rows, show):
  """Markdown: a line a name, its figures as ``show`` has it for each."""
  heads = [head for head in show if any(head in row for row in rows.values())]
  lines = [['', *(head.replace('_', ' ') for head in heads)]]
  lines.append(['---'] * len(lines[0]))
  for name, row in rows.items():
    cells = (show[head](row[head]) if head in row else '' for head in heads)
    lines.append([name, *cells])
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def write(report):
  """To the file of `--json`."""
  if _JSON.value:
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')
