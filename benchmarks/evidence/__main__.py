# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence``: goes on with the study of PROTOCOL.md.

Prints what is left, trains it, and appends a row for each run to results.jsonl
beside this file. Stopped at any moment, the same command goes on; started twice
it shares the work. --max_minutes=100 begins no run after that time, --dry_run
only prints. With --accelerator it asks what takes one, runs side by side.
"""

from collections.abc import Iterator
import dataclasses
import hashlib
import itertools
import pathlib
import time

from absl import app
from absl import flags
from absl import logging
import jax

from benchmarks.evidence import batched
from benchmarks.evidence import ladders
from benchmarks.evidence import plan
from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import sweep

_HERE = pathlib.Path(__file__).parent
_MAX_MINUTES = flags.DEFINE_float(
  'max_minutes', 120.0, 'Begin no run after so many minutes.', lower_bound=0
)
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print what is left, and stop.')
_ACCELERATOR = flags.DEFINE_bool(
  'accelerator', False, 'Ask what takes a GPU or TPU, in the place of the rest.'
)
_OUT = flags.DEFINE_string('out', str(_HERE), 'Folder of the rows.')
_WAIT = 20.0  # Seconds, where other processes have all that is left to do now.


def told(left: dict[str, list]) -> str:
  """A line a question, with the runs that it asks for next."""
  lines = [f'{name}: {len(runs)} runs next' for name, runs in left.items()]
  return '\n'.join(lines) or 'Every question has its runs.'


def _pieces(runs: list[batched.Run]) -> Iterator[list[batched.Run]]:
  """Runs for one program: one on a CPU, else so many as are alike."""
  alike = lambda run: run._replace(
    config=dataclasses.replace(
      run.config, **dict.fromkeys(batched.INPUTS, 0.0), seed=0
    )
  )
  for _, group in itertools.groupby(runs, alike):
    size = 8 if _ACCELERATOR.value else 1
    while piece := list(itertools.islice(group, size)):
      yield piece


def _make(
  runs: list[batched.Run],
  corpus: data.Corpus,
  out: pathlib.Path,
  seconds: float,
) -> None:
  """Trains runs that have no row yet; the short ones from one program."""
  end = time.monotonic() + seconds
  short = lambda run: (
    run.task or run.config.preset == 'small' or _ACCELERATOR.value
  )
  if long := [run.config for run in runs if not short(run)]:
    sweep.run(long, corpus, out, seconds / 60)
  for piece in _pieces([run for run in runs if short(run)]):
    if time.monotonic() > end:
      break
    name = hashlib.sha256(piece[0].key.encode()).hexdigest()
    held = out / 'runs' / f'{name}.lock'
    with files.lock(held) as mine:
      rows = sweep.read_results(out)
      done = {batched.run_of(row).key for row in rows}
      left = [run for run in piece if run.key not in done]
      if mine and left:
        for row in batched.train_runs(left, corpus, rows):
          sweep.append(out / 'results.jsonl', row)
      if mine:
        held.unlink(missing_ok=True)


def main(argv: list[str]) -> None:
  del argv
  logging.set_verbosity(logging.WARNING)  # Orbax narrates at INFO.
  ladders.know_siblings()
  out = pathlib.Path(_OUT.value)
  end = time.monotonic() + 60 * _MAX_MINUTES.value
  # A run's seeds share their program.
  jax.config.update('jax_compilation_cache_dir', str(out / 'runs' / 'compiled'))
  asked = plan.ACCELERATED if _ACCELERATOR.value else plan.QUESTIONS
  left = plan.left(sweep.read_results(out), asked)
  print(told(left))
  if _DRY_RUN.value:
    return
  corpus = data.load('sotu', block_size=128)
  while left and (seconds := end - time.monotonic()) > 0:
    before = len(sweep.read_results(out))
    # A question whole, then the next.
    _make(next(iter(left.values())), corpus, out, seconds)
    rows = sweep.read_results(out)
    if len(rows) == before:  # Other processes are at all of them.
      time.sleep(_WAIT)
    left = plan.left(rows, asked)
  print(told(left))


if __name__ == '__main__':
  app.run(main)
