# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""run.md: commands that work, losses, and no path of the machine."""

import dataclasses
import importlib
import pathlib
import re
import shlex

import pytest

import optax_namo
from optax_namo.nanogpt import summary
from optax_namo.nanogpt.config import make_config
from tests.nanogpt import helpers

_ROWS = [
  {'step': 10 * i, 'loss': 3 - i / 10, 'val_loss': 4 - i / 8}
  for i in range(1, 24)
]


def _written(out, config, rows=(), **more):
  out.mkdir(exist_ok=True)
  summary.write(out, config, 10, rows, **more)
  return (out / 'run.md').read_text()


def _config(command):
  """The config that the flags of a command stand for, and --out."""
  python, m, module, *arguments = shlex.split(command)
  assert (python, m, module) == ('python', '-m', 'optax_namo.nanogpt')
  flags = dict(argument[2:].split('=') for argument in arguments)
  out = flags.pop('out')
  return make_config(**flags), out


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'nesterov': False, 'optimizer': 'muon', 'learning_rate': 0.123456789},
    {'clamp': 0.0, 'mesh': 'fsdp:1', 'steps': 90, 'batch_size': 3},
  ],
)
def test_commands_are_those_of_the_run(tmp_path, changes):
  data = str(tmp_path / 'my text.txt')
  config = helpers.config(data=data, **changes)
  text = _written(tmp_path / 'my run', config)
  # No path says whose machine it was.
  assert str(tmp_path) not in text
  told = dataclasses.replace(config, data='my text.txt')
  train, again, plot, sample = re.findall('^python -m .*', text, re.MULTILINE)
  assert _config(train) == (told, 'my run')
  assert again == f'{train} --resume'
  for command, name in ((plot, 'plot'), (sample, 'sample')):
    assert command == f"python -m optax_namo.nanogpt.{name} 'my run'"
    importlib.import_module(f'optax_namo.nanogpt.{name}')


def test_a_finished_run_has_nothing_to_go_on_with(tmp_path):
  text = _written(tmp_path, helpers.config(steps=10))
  assert '\nFor pictures, and for more text:\n' in text
  assert '--resume' not in text and 'optax_namo.nanogpt.plot' in text


def test_relative_paths_stay(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text = _written(pathlib.Path('run'), helpers.config(data='texts/a.txt'))
  assert '--preset=tiny --data=texts/a.txt --out=run\n' in text


def test_defaults_are_not_told(tmp_path):
  text = _written(tmp_path / 'out', make_config())
  assert '\npython -m optax_namo.nanogpt --out=out\n' in text


def test_losses_in_a_small_table(tmp_path):
  text = _written(tmp_path, helpers.config(), _ROWS)
  rows = re.findall(r'^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$', text, re.M)
  told = {row['step']: (row['loss'], row['val_loss']) for row in _ROWS}
  assert len(rows) == 10
  assert (rows[0][0], rows[-1][0]) == ('10', '230')
  for step, loss, val_loss in rows:
    expected = told[int(step)]
    assert (float(loss), float(val_loss)) == pytest.approx(expected, abs=1e-4)
  few = _written(tmp_path, helpers.config(), _ROWS[:3])
  assert re.findall(r'^\| (\d+) \|', few, re.M) == ['10', '20', '30']
  assert 'No validation loss yet' in _written(tmp_path, helpers.config())


def test_versions_picture_and_sample(tmp_path):
  config = helpers.config()
  text = _written(tmp_path, config)
  assert f'optax-namo {optax_namo.__version__}, jax ' in text
  assert 'CPU core' in text
  assert '![' not in text and 'It writes' not in text
  (tmp_path / 'loss.png').write_bytes(b'')
  sample = 'Once\n\n```\n# upon a time\n' + 'a time ' * 40
  text = _written(tmp_path, config, sample=sample)
  assert '\n![Losses](loss.png)\n' in text
  # As a block of code, which no line of it ends.
  block = text.partition('It writes:\n\n')[2].partition('\n\nTo go on')[0]
  lines = block.splitlines()
  assert all(line.startswith('    ') for line in lines)
  assert [line[4:] for line in lines[:4]] == sample.splitlines()[:4]
  assert max(map(len, lines)) <= 84
  assert ' '.join(line[4:] for line in lines[4:]) == ('a time ' * 40).strip()
