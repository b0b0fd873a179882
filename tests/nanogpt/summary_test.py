# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""run.md: commands that work, losses, and nobody's home."""

import importlib
import os
import pathlib
import re
import shlex
import sys

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
  """The config that the flags of a command stand for, --out, --resume."""
  python, m, module, *arguments = shlex.split(os.path.expandvars(command))
  assert (python, m) == (sys.orig_argv[0], '-m')  # As it was typed.
  assert module == 'optax_namo.nanogpt'
  resume = arguments[-1:] == ['--resume']
  flags = dict(
    argument[2:].split('=') for argument in arguments[: -1 if resume else None]
  )
  out = pathlib.Path(flags.pop('out'))
  return make_config(**flags), out, resume


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'nesterov': False, 'optimizer': 'muon', 'learning_rate': 0.123456789},
    {'clamp': 0.0, 'mesh': 'fsdp:1', 'steps': 90, 'batch_size': 3},
  ],
)
@pytest.mark.parametrize('home', ['.', 'elsewhere'])
def test_commands_are_those_of_the_run(tmp_path, changes, home, monkeypatch):
  """Absolute paths stay: what is copied works, wherever one stands."""
  monkeypatch.setenv('HOME', str(tmp_path / home))
  config = helpers.config(data=str(tmp_path / 'my text.txt'), **changes)
  out = tmp_path / 'my run'
  text = _written(out, config)
  train, sample, plot, again = re.findall(
    '^.*python.* -m .*', text, re.MULTILINE
  )
  assert _config(train) == (config, out, False)
  assert _config(again) == (config, out, True)
  for command, name in ((plot, 'plot'), (sample, 'sample')):
    module, folder = shlex.split(os.path.expandvars(command))[2:]
    assert module == f'optax_namo.nanogpt.{name}'
    assert folder == str(out)
    importlib.import_module(module)
  # But a home's name is nobody's business.
  assert (str(tmp_path) in text) == (home != '.')


def test_a_finished_run_goes_on_for_longer(tmp_path):
  text = _written(tmp_path, helpers.config(steps=10))
  config, out, resume = _config(text.splitlines()[-2])
  assert (config, out, resume) == (helpers.config(steps=20), tmp_path, True)


def test_relative_paths_stay(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  text = _written(pathlib.Path('run'), helpers.config(data='texts/a.txt'))
  assert '--preset=tiny --data=texts/a.txt --out=run\n' in text


def test_defaults_are_not_told(tmp_path):
  out = tmp_path / 'out'
  text = _written(out, make_config())
  assert f' -m optax_namo.nanogpt --out={out}\n' in text


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
  block = text.partition('It writes:\n\n')[2].partition('\n\nFor more')[0]
  lines = block.splitlines()
  assert all(line.startswith('    ') for line in lines)
  assert [line[4:] for line in lines[:4]] == sample.splitlines()[:4]
  assert max(map(len, lines)) <= 84
  assert ' '.join(line[4:] for line in lines[4:]) == ('a time ' * 40).strip()


def test_a_run_resumed_with_other_flags_names_each_command(tmp_path):
  shorter, longer = helpers.config(steps=10), helpers.config(steps=20)
  for config in (shorter, shorter, longer, longer):
    text = _written(tmp_path, config)
  commands = text.split('```')[1].splitlines()[1:]
  assert [_config(command) for command in commands] == [
    (shorter, tmp_path, False),
    (longer, tmp_path, True),
  ]
