# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""run.md: what a run was and came to, to be read or pasted into an issue."""

from collections.abc import Sequence
from importlib import metadata
import itertools
import math
import pathlib
import platform
import shlex
import sys
import textwrap
from typing import Any

import numpy as np

import optax_namo
from optax_namo.nanogpt import files
from optax_namo.nanogpt.config import asked_for
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.mesh import device

_LIBRARIES = ('jax', 'optax', 'flax')
_MOST_ROWS = 10  # Of the table.
# A resumed run would take the same steps again, to the same end.
MEND = (
  'A smaller --learning_rate or a longer --warmup_steps, into another --out,'
  ' likely mends it.'
)


def write(
  out: pathlib.Path,
  config: Config,
  step: int,
  rows: Sequence[dict[str, Any]],
  sample: str | None = None,
) -> None:
  """Writes OUT/run.md, in which no path says whose home it is in.

  Args:
    out: The run's folder; a loss.png there is shown.
    config: The run.
    step: The steps done.
    rows: Rows of its metrics that have a ``val_loss``.
    sample: Text of the model.
  """
  unfinished = step < config.steps
  diverged = bool(rows) and not math.isfinite(rows[-1]['val_loss'])
  files.write_whole(
    out / 'run.md',
    '\n\n'.join(
      [
        f'# {OPTIMIZERS[config.optimizer].label} on'
        f' {pathlib.Path(config.data).stem}, preset {config.preset}: step'
        f' {step} of {config.steps}',
        _shell(*_commands(out, config)),
        f'With {_versions()}, on {device()}.',
        _table(rows),
        *(['![Losses](loss.png)'] if (out / 'loss.png').exists() else []),
        *([f'It writes:\n\n{_verbatim(sample)}'] if sample else []),
        f'The loss is not finite. {MEND}'
        if diverged
        else 'For more text, for pictures of the optimizer, and to go on'
        f'{"" if unfinished else " for longer"}:\n\n'
        + _shell(*next_commands(out, config, step)),
      ]
    )
    + '\n',
  )


def _commands(out: pathlib.Path, config: Config) -> list[str]:
  """What trained it: more than one if it was resumed with other flags."""
  newest = _train(asked_for(config), out)
  try:
    before = (out / 'run.md').read_text(encoding='utf-8')
    commands = before.split('```')[1].splitlines()[1:]
  except (OSError, IndexError):  # It is new, or another program's.
    return [newest]
  resumed = f'{newest} --resume'
  return (
    commands if commands[-1:] in ([newest], [resumed]) else [*commands, resumed]
  )


def next_commands(out: pathlib.Path, config: Config, step: int) -> list[str]:
  """What to do with a run after a step: sample, plot, and go on.

  Args:
    out: The run's folder.
    config: The run.
    step: The steps done; after the last one it goes on for as many again.

  Returns:
    A line for a shell each.
  """
  more = asked_for(config)
  if step >= config.steps:
    more['steps'] = 2 * config.steps
  return [
    _module('.sample', _shown(out)),
    _module('.plot', _shown(out)),
    _train(more, out, '--resume'),
  ]


def _shown(path: pathlib.Path) -> str:
  """A path for a shell, as it was given but for the home folder's name."""
  home = pathlib.Path.home()
  if path.is_absolute() and path.is_relative_to(home):
    return f'"$HOME"/{shlex.quote(str(path.relative_to(home)))}'
  return shlex.quote(str(path))


def _module(name: str, *arguments: str) -> str:
  python = _shown(pathlib.Path(sys.orig_argv[0]))  # As it was typed.
  return ' '.join([python, '-m', f'optax_namo.nanogpt{name}', *arguments])


def _train(knobs: dict[str, Any], out: pathlib.Path, *more: str) -> str:
  """What trains it, with the flags that are not at their defaults."""
  flags = {name: shlex.quote(str(value)) for name, value in knobs.items()}
  if 'data' in knobs:
    flags['data'] = _shown(pathlib.Path(knobs['data']))
  flags['out'] = _shown(out)
  return _module('', *(f'--{k}={v}' for k, v in flags.items()), *more)


def _shell(*lines: str) -> str:
  return '\n'.join(['```sh', *lines, '```'])


def _verbatim(text: str) -> str:
  """A block of code, whatever the text holds, without very long lines."""
  lines = [textwrap.wrap(line, 80) or [''] for line in text.splitlines()]
  return '\n'.join(f'    {line}' for line in itertools.chain(*lines))


def _versions() -> str:
  others = [f'{name} {metadata.version(name)}' for name in _LIBRARIES]
  return ', '.join(
    [
      f'optax-namo {optax_namo.__version__}',
      *others,
      f'Python {platform.python_version()}',
    ]
  )


def _table(rows: Sequence[dict[str, Any]]) -> str:
  """Losses over steps, the last row among them."""
  if not rows:
    return 'No validation loss yet.'
  few = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS))
  return '\n'.join(
    [
      '| step | loss of a batch | validation loss, nats per token |',
      '|---:|---:|---:|',
      *(
        f'| {row["step"]} | {row["loss"]:.4f} | {row["val_loss"]:.4f} |'
        for row in (rows[round(i)] for i in few)
      ),
    ]
  )
