# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m optax_namo.nanogpt.compare``: a sweep, a table and a figure.

Trains every optimizer at every learning rate, AdamW-group rate and seed, alike
in all else, and leaves in --out

  results.jsonl    one row a run: its config, validation losses, ms/step
  table.md         each optimizer at its best rates
  comparison.png   loss curves, and loss against learning rate
  runs/            the folders of the runs, without their checkpoints

Stopped at any moment, the same command goes on where it was. A further sweep of
other rates or seeds into the same folder adds to what is there.
"""

from collections.abc import Iterable
import pathlib
import sys
from typing import Any

from absl import app
from absl import flags
from absl import logging
import yaml

from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.config import define_flags
from optax_namo.nanogpt.config import flag_values
from optax_namo.nanogpt.config import KNOBS
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.config import SWEPT
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer

_SHARED = [name for name in KNOBS if name not in SWEPT]
define_flags(_SHARED)
_CONFIG = flags.DEFINE_string(
  'config', None, 'A YAML file with values of these flags, by their names.'
)
_OPTIMIZERS = flags.DEFINE_list(
  'optimizers', list(OPTIMIZERS), 'The optimizers to compare.'
)
_LEARNING_RATES = flags.DEFINE_multi_string(
  'learning_rates',
  [],
  'OPTIMIZER=RATE,RATE,... once for each optimizer; default: its rate in the'
  ' preset, and 1.4 times less and more.',
)
_ADAM_LEARNING_RATES = flags.DEFINE_list(
  'adam_learning_rates', [], 'Of the AdamW group; default: of the preset.'
)
_SEEDS = flags.DEFINE_list('seeds', ['0', '1'], 'The seeds of every pairing.')
_OUT = flags.DEFINE_string('out', 'out/compare', 'Folder of the comparison.')


_NAMES = (
  'optimizers',
  'learning_rates',
  'adam_learning_rates',
  'seeds',
  'out',
  *_SHARED,
)


def _arguments(path: str) -> list[str]:
  """The values in a YAML file as command-line flags."""
  try:
    values = yaml.safe_load(pathlib.Path(path).read_text(encoding='utf-8'))
  except (OSError, yaml.YAMLError) as error:
    sys.exit(f'error: --config={path} cannot be read: {error}')
  if not isinstance(values, dict) or not set(values) <= set(_NAMES):
    strange = set(values) - set(_NAMES) if isinstance(values, dict) else values
    sys.exit(
      f'error: --config={path} must map flags to values, and has {strange}.'
      f' Known are {", ".join(_NAMES)}.'
    )
  arguments = []
  for name, value in values.items():
    if isinstance(value, dict):  # One flag for each optimizer.
      arguments += [f'--{name}={k}={_joined(v)}' for k, v in value.items()]
    else:
      arguments.append(f'--{name}={_joined(value)}')
  return arguments


def _joined(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def parse(arguments: list[str]) -> list[str]:
  """Flags of the command line over those of the file over the defaults."""
  program, *given = arguments
  rest = app.parse_flags_with_usage(arguments)
  if _CONFIG.value:
    from_file = _arguments(_CONFIG.value)
    flags.FLAGS.unparse_flags()
    rest = app.parse_flags_with_usage([program, *from_file, *given])
  if len(rest) > 1:
    raise app.UsageError(f'unknown argument {rest[1]!r}; flags begin with --')
  return rest


def _numbers(name: str, values: Iterable[str], kind: type) -> list:
  try:
    return [kind(value) for value in values]
  except ValueError:
    raise ValueError(f'--{name} takes numbers, got {list(values)}.') from None


def main(argv: list[str]) -> None:
  del argv
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax narrates at INFO.
  out = pathlib.Path(_OUT.value)
  try:
    rates = {}
    for entry in _LEARNING_RATES.value:
      name, _, values = entry.partition('=')
      rates[name] = _numbers('learning_rates', values.split(','), float)
    runs = sweep.grid(
      _OPTIMIZERS.value,
      rates,
      _numbers('adam_learning_rates', _ADAM_LEARNING_RATES.value, float),
      _numbers('seeds', _SEEDS.value, int),
      **flag_values(_SHARED),
    )
    for config in runs:
      make_optimizer(config)  # Bad hyperparameters fail here.
    make_mesh(runs[0].mesh)  # Too few devices fail here.
    corpus = data.load(
      runs[0].data,
      tokenizer=runs[0].tokenizer,
      block_size=runs[0].sizes.block_size,
    )
    sweep.claim(out, runs[0])
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  rows = sweep.run(runs, corpus, out)
  text = report.table(rows)
  files.write_whole(out / 'table.md', text)
  report.draw(rows, out / 'comparison.png')
  print(f'\n{text}\nEverything is in {out}.')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
