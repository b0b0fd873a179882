# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs that differ in optimizer, learning rates and seed, and their rows."""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import os
import pathlib
import shutil
import statistics
from typing import Any

import jax
import tqdm

from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import changes
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import SWEPT

# Around the default learning rate, where no rates are given.
_FACTORS = (1 / 1.4, 1, 1.4)


def grid(
  optimizer_names: Sequence[str],
  learning_rates: Mapping[str, Sequence[float]],
  adam_learning_rates: Sequence[float],
  seeds: Sequence[int],
  **shared: Any,
) -> list[Config]:
  """The runs of a sweep, one seed after the other.

  Args:
    optimizer_names: Keys of ``config.OPTIMIZERS``.
    learning_rates: Peak rates of the matrices by optimizer; three around the
      default where one is missing.
    adam_learning_rates: Peak rates of the rest; empty for the default.
    seeds: The seeds.
    **shared: The fields of ``Config`` that all runs share; None means default.

  Returns:
    The configs, each of them once.

  Raises:
    ValueError: A field is out of range, or rates are given for no optimizer.
  """
  if not optimizer_names or not seeds:
    raise ValueError('a comparison needs an optimizer and a seed or more.')
  strange = set(learning_rates) - set(optimizer_names)
  if strange:
    raise ValueError(
      f'learning_rates names {sorted(strange)}, and optimizers only'
      f' {list(optimizer_names)}.'
    )
  runs: dict[Config, None] = {}
  for seed, name in itertools.product(seeds, optimizer_names):
    one = lambda rate, adam_rate, name=name, seed=seed: make_config(
      **shared,
      optimizer=name,
      learning_rate=rate,
      adam_learning_rate=adam_rate,
      seed=seed,
    )
    rates = learning_rates.get(name)
    if not rates:
      default = one(None, None).learning_rate
      rates = [float(f'{default * factor:.2g}') for factor in _FACTORS]
    for rate, adam_rate in itertools.product(
      rates, adam_learning_rates or (None,)
    ):
      runs[one(rate, adam_rate)] = None
  return list(runs)


def read_results(out: pathlib.Path) -> list[dict[str, Any]]:
  """The rows of a comparison's folder."""
  return list(files.read_rows(out / 'results.jsonl'))


def key(config: dict[str, Any]) -> tuple:
  """What tells a run from the others of its comparison."""
  return tuple(config[name] for name in SWEPT)


def claim(out: pathlib.Path, config: Config) -> list[dict[str, Any]]:
  """Makes a folder that of a comparison, for runs like the given one.

  Args:
    out: The folder, of a comparison or of nothing yet.
    config: A run of the sweep to come.

  Returns:
    The rows in the folder's results.jsonl, which ends in a whole line now.

  Raises:
    ValueError: There are runs of another configuration, or a broken row.
    OSError: The folder cannot be written.
  """
  rows = read_results(out)
  others = [row['config'] for row in rows]
  for path in sorted(out.glob('runs/*/config.json')):
    others.append(dataclasses.asdict(run_folder.read_config(path.parent)))
  for other in others:
    changed = [
      line for name, line in changes(other, config).items() if name not in SWEPT
    ]
    if changed:
      raise ValueError(
        f'--out={out} holds runs of another configuration:'
        f' {"; ".join(changed)}. Runs are compared only if they are alike in'
        ' all but optimizer, learning rates and seed: name another --out, or'
        ' give the flags of the runs there.'
      )
  out.mkdir(parents=True, exist_ok=True)
  files.write_whole(out / 'results.jsonl', files.as_rows(rows))
  return rows


def run(
  runs: Sequence[Config], corpus: data.Corpus, out: pathlib.Path
) -> list[dict[str, Any]]:
  """Trains the runs that have no row yet, and appends a row for each.

  All runs are in this process: it loads the text and the libraries once, and
  holds an accelerator once. Each run compiles its own step.

  Args:
    runs: Configs that differ in what is swept alone.
    corpus: The data of all.
    out: The folder of the comparison.

  Returns:
    All rows of the folder, also those of earlier sweeps.

  Raises:
    ValueError: The folder holds runs of another configuration.
  """
  rows = claim(out, runs[0])
  done = {key(row['config']) for row in rows}
  bar = tqdm.tqdm(
    total=len(runs), unit='run', dynamic_ncols=True, desc='comparison'
  )
  for config in runs:
    one = key(dataclasses.asdict(config))
    if one not in done:
      name = '-'.join(map(str, one))
      bar.set_postfix_str(name)
      rows.append(_train(config, corpus, out / 'runs' / name))
      files.append_rows(out / 'results.jsonl', rows[-1:])
      # Only after the row is safe; the metrics stay for the plot command.
      shutil.rmtree(out / 'runs' / name / 'checkpoints')
    bar.update()
  bar.close()
  return rows


def _train(
  config: Config, corpus: data.Corpus, folder: pathlib.Path
) -> dict[str, Any]:
  """Trains, from a run's own checkpoint where there is one; its row."""
  run_folder.claim(folder, config, resume=True)
  train.fit(config, corpus, folder, resume=(folder / 'checkpoints').is_dir())
  steps = metrics.read(folder)
  device = jax.devices()[0].device_kind
  if device == 'cpu':
    device = f'{os.cpu_count()} CPU cores'
  return {
    'config': dataclasses.asdict(config),
    'val_losses': [
      [row['step'], row['val_loss']] for row in steps if 'val_loss' in row
    ],
    'ms_per_step': ms_per_step(config, steps),
    'device': device,
  }


def ms_per_step(config: Config, rows: Sequence[dict[str, Any]]) -> float | None:
  """Median over the steps but the first few, which waited for compilation.

  Args:
    config: The run.
    rows: Its metrics, with ``tokens_per_second``.

  Returns:
    Milliseconds a step, or None where all steps were the first few.
  """
  first = rows[0]['tokens_per_second']  # Of all steps fetched together.
  tokens = config.batch_size * config.accumulate * config.sizes.block_size
  speeds = [row['tokens_per_second'] for row in rows]
  speeds = [speed for speed in speeds if speed != first]
  return 1000 * tokens / statistics.median(speeds) if speeds else None
