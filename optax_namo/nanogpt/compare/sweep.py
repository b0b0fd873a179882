# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains what has no row yet: resumable, and shared by several processes.

The rows are strict JSON, and only runs that came to their end have one:

  config        every knob under its flag's name, as a value the flag parses
  val_losses    [step, nats per token] of every evaluation; null: not finite
  ms_per_step   median after compilation, or null
  device        what it ran on
  diagnostics   of the last evaluation, where the optimizer tells any
  diverged      true for a run whose loss was not finite, and ended there, or
                was at last above its first one or a uniform guess's; else not
                there
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
import statistics
import time
from typing import Any

import tqdm

from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import changes
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.mesh import device

# Losses on another text, or of other tokens, are not to be compared.
_ALIKE = ('data', 'tokenizer')


def read_results(out: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a comparison's folder."""
  return list(files.read_rows(out / 'results.jsonl'))


def left(
  runs: Iterable[Config], rows: Iterable[dict[str, Any]]
) -> list[Config]:
  """The runs that have no row."""
  done = {identity(from_file(row['config'])) for row in rows}
  return [config for config in runs if identity(config) not in done]


def name_of(config: Config) -> str:
  """A run's folder: optimizer, rate, seed, and a hash of all knobs."""
  digest = hashlib.sha256(identity(config).encode()).hexdigest()[:8]
  rate = f'{config.learning_rate:g}'
  return f'{config.optimizer}-{rate}-{config.seed}-{digest}'


def check(out: pathlib.Path, runs: Sequence[Config]) -> None:
  """Raises ValueError if runs, or those of the folder, differ in their text.

  Or if the folder is that of a single run.
  """
  if (out / 'config.json').exists():
    raise ValueError(f'--out={out} is the folder of a run: name another.')
  others = [dataclasses.asdict(config) for config in runs]
  others += [row['config'] for row in read_results(out)]
  for path in sorted(out.glob('runs/*/config.json')):
    others.append(dataclasses.asdict(run_folder.read_config(path.parent)))
  for other in others:
    changed = changes(other, runs[0])
    if lines := [changed[name] for name in _ALIKE if name in changed]:
      raise ValueError(
        f'{"; ".join(lines)}, for a run of this comparison or in --out={out}.'
        ' Losses are compared on one text in one kind of tokens: name another'
        ' --out, or make them the same.'
      )


def run(
  runs: Sequence[Config],
  corpus: data.Corpus,
  out: pathlib.Path,
  max_minutes: float | None = None,
  stop: Callable[[int], bool] = train.never,
) -> list[dict[str, Any]]:
  """Trains the runs that have no row yet, and appends a row for each.

  All runs are in this process: it loads the text and the libraries once, and
  holds an accelerator once. Runs that differ in seeds alone share a compiled
  step. Other processes may do the same in the same folder: each run is one's
  alone.

  Args:
    runs: Configs of one corpus, checked before (``check``).
    corpus: The data of all.
    out: The folder of the comparison.
    max_minutes: No run is begun after so many minutes; None means no end.
    stop: See ``train.fit``, which then raises ``train.Stopped``.

  Returns:
    All rows of the folder, also those of earlier sweeps.
  """
  try:
    (out / 'runs').mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise OSError(
      f'--out={out} cannot be written: {error}. Name a folder that can.'
    ) from error
  began = time.monotonic()
  bar = tqdm.tqdm(runs, unit='run', dynamic_ncols=True, desc='comparison')
  for config in bar:
    if not left([config], read_results(out)):
      continue
    if max_minutes is not None and time.monotonic() - began > 60 * max_minutes:
      break
    folder = out / 'runs' / name_of(config)
    bar.set_postfix_str(folder.name)
    held = folder.with_name(f'{folder.name}.lock')
    with files.lock(held) as mine:
      if not mine:
        continue  # Another process is at it.
      if left([config], read_results(out)):  # Nor has one just ended it.
        row = _train(config, corpus, folder, stop)
        append(out / 'results.jsonl', row)
        # Only after the row is safe; the metrics stay for the plot command.
        shutil.rmtree(folder / 'checkpoints')
      held.unlink(missing_ok=True)  # Who holds it later finds the row.
  bar.close()
  return read_results(out)


def append(path: pathlib.Path, row: dict[str, Any]) -> None:
  """Adds a row, in the place of one that a kill cut short."""
  with files.lock(path, wait=True):
    os.truncate(path, path.read_bytes().rfind(b'\n') + 1)
    files.append_rows(path, [row])


def _train(
  config: Config,
  corpus: data.Corpus,
  folder: pathlib.Path,
  stop: Callable[[int], bool],
) -> dict[str, Any]:
  """Trains, from a run's own checkpoint where there is one; its row."""
  run_folder.claim(folder, config, resume=True)
  resume = (folder / 'checkpoints').is_dir()
  train.fit(config, corpus, folder, resume, stop=stop)
  steps = metrics.read(folder)
  losses = [[x['step'], x['val_loss']] for x in steps if 'val_loss' in x]
  if not losses:
    raise OSError(
      f'{folder} has a checkpoint but no metrics any more: remove it, and the'
      ' same command trains the run anew.'
    )
  row = {
    'config': dataclasses.asdict(config),
    'val_losses': losses,
    'ms_per_step': ms_per_step(config, steps),
    'device': device(),
  }
  if 'diagnostics' in steps[-1]:
    row['diagnostics'] = steps[-1]['diagnostics']
  if diverged([loss for _, loss in losses], corpus.vocab_size):
    row['diverged'] = True
  # NaN and Infinity are no JSON: null.
  return json.loads(json.dumps(row), parse_constant=lambda _: None)


def diverged(losses: Sequence[float], vocab_size: int) -> bool:
  """Whether a run has a loss that is no number, or ends worse than a guess.

  One that ends above its first evaluation may have overfitted, or its data may
  have changed: its loss counts.
  """
  finite = all(map(math.isfinite, losses))
  return not (finite and losses[-1] <= math.log(vocab_size))


def ms_per_step(config: Config, rows: Sequence[dict[str, Any]]) -> float | None:
  """Median over the steps but the first few, which waited for compilation.

  None where the metrics have no others.
  """
  first = rows[0]['tokens_per_second']  # Of all steps fetched together.
  tokens = config.batch_size * config.accumulate * config.sizes.block_size
  speeds = [row['tokens_per_second'] for row in rows]
  speeds = [speed for speed in speeds if speed != first]
  return 1000 * tokens / statistics.median(speeds) if speeds else None
