# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares optimizers: a sweep, a table and a figure.

  python -m optax_namo.nanogpt.compare --optimizers=namo_d,muon --seeds=0,1,2

Trains every variant of a run, each a grid over any knobs, at every seed, and
leaves in --out

  results.jsonl    one row a run: its config, validation losses, ms/step
  table.md         each arm at its best, and what may be concluded
  comparison.png   differences to a baseline over steps, and loss against rate
  runs/            the folders of the runs, without their checkpoints

Stopped at any moment, the same command goes on where it was; --max_minutes
stops it between two runs. A further sweep into the same folder adds to what is
there, and several processes may share one: each run is trained by one of them.

Besides the flags of the comparison, those of a run say what all its runs share.
"""

from collections.abc import Iterable, Sequence
import json
import pathlib
import runpy
import sys
from typing import Any

from absl import app
from absl import flags
import yaml

from optax_namo.nanogpt import command
from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import interrupts
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare import variants
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import define_flags
from optax_namo.nanogpt.config import flag_values
from optax_namo.nanogpt.config import KNOBS
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer

_SHARED = [name for name in KNOBS if name != 'seed']
# --help has a heading for each group of flags.
_COMPARISON: Any = {'module_name': 'comparison'}
_CONFIG = flags.DEFINE_string(
  'config',
  None,
  'A YAML file with values of these flags, by their names.',
  **_COMPARISON,
)
_VARIANTS = flags.DEFINE_string(
  'variants',
  None,
  "YAML, from labels to what is run: '{muon: {optimizer: muon, learning_rate:"
  " [0.004, 0.006], seeds: [0, 1]}}'. A list is a grid over that knob, several"
  ' lists are their product. In the place of --optimizers and its rates.',
  **_COMPARISON,
)
_OPTIMIZERS = flags.DEFINE_list(
  'optimizers', list(OPTIMIZERS), 'The optimizers to compare.', **_COMPARISON
)
_ARMS = flags.DEFINE_string(
  'arms',
  None,
  'A Python file with more optimizers, OPTIMIZERS by name:'
  ' examples/siblings.py.',
  **_COMPARISON,
)
_LEARNING_RATES = flags.DEFINE_multi_string(
  'learning_rates',
  [],
  'OPTIMIZER=RATE,RATE,... once for each optimizer; default: its rate in the'
  ' preset, and 1.4 times less and more.',
  **_COMPARISON,
)
_ADAM_LEARNING_RATES = flags.DEFINE_list(
  'adam_learning_rates',
  [],
  'Of the AdamW group; default: of the preset.',
  **_COMPARISON,
)
_SEEDS = flags.DEFINE_list(
  'seeds', ['0', '1'], 'The seeds of every variant.', **_COMPARISON
)
_OUT = flags.DEFINE_string(
  'out', 'out/compare', 'Folder of the comparison.', **_COMPARISON
)
_MAX_MINUTES = flags.DEFINE_float(
  'max_minutes',
  None,
  'Begin no run after so many minutes.',
  lower_bound=0,
  **_COMPARISON,
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Print the runs that are left, and stop.', **_COMPARISON
)

# Two ways to say what is swept.
_RATES = ('optimizers', 'learning_rates', 'adam_learning_rates')
define_flags(_SHARED)  # After the others in --help.
_NAMES = (
  'arms', 'variants', *_RATES, 'seeds', 'out', 'max_minutes', *_SHARED,
)  # fmt: skip


def _arguments(path: str) -> list[str]:
  """The values in a YAML file as command-line flags."""
  try:
    values = yaml.safe_load(files.typed(path).read_text(encoding='utf-8'))
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
    given = [_joined(value)]
    if name == 'variants':
      given = [json.dumps(value)]  # JSON is YAML.
    elif isinstance(value, dict):  # One flag for each optimizer.
      given = [f'{key}={_joined(of)}' for key, of in value.items()]
    arguments += [f'--{name}={text}' for text in given]
  return arguments


def _joined(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def parse(arguments: list[str]) -> list[str]:
  """Flags of the command line over those of the file over the defaults."""
  rest = command.parse(arguments)
  if _CONFIG.value:
    from_file = _arguments(_CONFIG.value)
    flags.FLAGS.unparse_flags()
    rest = command.parse([arguments[0], *from_file, *arguments[1:]])
  if _ARMS.value:
    try:
      OPTIMIZERS.update(
        runpy.run_path(str(files.typed(_ARMS.value)))['OPTIMIZERS']
      )
    except Exception as error:  # It may do anything.
      sys.exit(f'error: --arms={_ARMS.value} gives no OPTIMIZERS: {error!r}')
  return rest


def _numbers(name: str, values: Iterable[str], kind: type) -> list:
  try:
    return [kind(value) for value in values]
  except ValueError:
    raise ValueError(f'--{name} takes numbers, got {list(values)}.') from None


def _variants() -> dict[str, Any]:
  """What the flags sweep."""
  present = lambda *names: [x for x in names if flags.FLAGS[x].present]
  if _VARIANTS.value is not None:
    if both := present(*_RATES):
      raise ValueError(f'--{both[0]} and --variants: give one of them.')
    try:
      given = yaml.safe_load(_VARIANTS.value)
    except yaml.YAMLError as error:
      raise ValueError(f'--variants cannot be read: {error}') from None
    if not isinstance(given, dict):
      raise ValueError(f'--variants must map labels to knobs, got {given!r}.')
    return given
  if one := present('optimizer', 'learning_rate', 'adam_learning_rate'):
    raise ValueError(f'--{one[0]} is for --variants: give --{one[0]}s.')
  rates = {}
  for entry in _LEARNING_RATES.value:
    name, equals, values = entry.partition('=')
    if not equals:
      raise ValueError(
        f'--learning_rates takes OPTIMIZER=RATE,RATE,..., got {entry!r}.'
      )
    rates[name] = _numbers('learning_rates', values.split(','), float)
  return variants.around_the_default(
    _OPTIMIZERS.value,
    rates,
    _numbers('adam_learning_rates', _ADAM_LEARNING_RATES.value, float),
    **flag_values(_SHARED),
  )


def _check(runs: Sequence[Config], out: pathlib.Path) -> data.Corpus:
  """The corpus; what would fail in a run, hours from now, fails here."""
  sweep.check(out, runs)
  corpus = data.load(
    runs[0].data,
    tokenizer=runs[0].tokenizer,
    block_size=max(config.sizes.block_size for config in runs),
  )
  digest = data.digest(corpus)
  for path in out.glob('runs/*/config.json'):
    run_folder.check_data(path.parent, digest)
  for config in runs:
    make_optimizer(config)
    train.model_config(config, corpus.vocab_size)
  for mesh in {config.mesh for config in runs}:
    make_mesh(mesh)
  return corpus


def _print_left(left: Sequence[Config], runs: Sequence[Config]) -> None:
  """The folder of each run and the flags in which the runs differ."""
  differ = [k for k in KNOBS if len({getattr(one, k) for one in runs}) > 1]
  for config in left:
    knobs = [f'--{name}={getattr(config, name)}' for name in differ]
    print(sweep.name_of(config), *knobs)
  print(f'{len(left)} of {len(runs)} runs are left.')


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  out = files.typed(_OUT.value)
  with command.told():
    runs = variants.runs_of(
      _variants(),
      _numbers('seeds', _SEEDS.value, int),
      **flag_values(_SHARED),
    )
    corpus = _check(runs, out)
    if _DRY_RUN.value:
      _print_left(sweep.left(runs, sweep.read_results(out)), runs)
      return
  with interrupts.noted() as seen:
    try:
      rows = sweep.run(
        runs, corpus, out, _MAX_MINUTES.value, lambda step: bool(seen)
      )
    except train.Stopped as stopped:
      print(f'Stopped after step {stopped.step}: the same command goes on.')
      sys.exit(128 + seen[0])  # As a shell counts an end by a signal.
    except BrokenPipeError:  # For ``command.run``.
      raise
    except (OSError, run_folder.RestoreError) as error:  # A full disk, say.
      sys.exit(f'error: {error}')
  if rows:
    text = report.table(rows)
    files.write_whole(out / 'table.md', text)
    report.draw(rows, out / 'comparison.png')
    print(f'\n{text}\nEverything is in {out}.')
  if left := sweep.left(runs, rows):
    print(
      f'{len(left)} of {len(runs)} runs are left, or with another process: the'
      ' same command goes on.'
    )


if __name__ == '__main__':
  command.run(main, __doc__, parse)
