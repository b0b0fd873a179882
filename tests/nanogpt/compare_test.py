# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Comparisons: what is run, kept, gone on with, refused and reported."""

import json
import math
import pathlib

from absl import flags
from absl.testing import flagsaver
import jax
import pytest

from optax_namo.nanogpt import data
from optax_namo.nanogpt import plot
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.compare import __main__ as command
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.config import ADAM_LEARNING_RATE
from optax_namo.nanogpt.config import flag_values
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.config import SWEPT
from tests.nanogpt import helpers

_RATES = {'namo': [0.05], 'adamw': [0.01]}
_ROOT = pathlib.Path(__file__).parents[2]
_PNG = b'\x89PNG'


@pytest.fixture(autouse=True, scope='module')
def _tiny_flag():
  with pytest.MonkeyPatch.context() as patch:
    parser = flags.FLAGS['preset'].parser
    patch.setattr(parser, 'enum_values', [*parser.enum_values, 'tiny'])
    yield


def _flags(text, out, **changes):
  values = {
    'optimizers': ['namo', 'adamw'], 'learning_rates': _RATES, 'seeds': [0],
    'preset': 'tiny', 'data': str(text), 'steps': 25, 'eval_every': 5,
    'out': str(out),
  }  # fmt: skip
  return values | changes


def _main(tmp_path, *arguments, **values):
  """The command with a YAML file and further arguments."""
  path = tmp_path / 'sweep.yaml'
  path.write_text(json.dumps(values))  # JSON is YAML.
  with flagsaver.flagsaver():
    command.main(
      command.parse(['compare', f'--config={path}', *map(str, arguments)])
    )


@pytest.fixture(scope='module')
def finished(text, tmp_path_factory):
  """The folder of a finished comparison; not to be changed."""
  # As conftest does for what a test compiles: the losses are to be the same.
  jax.config.update('jax_disable_most_optimizations', True)
  tmp_path = tmp_path_factory.mktemp('finished')
  _main(tmp_path, **_flags(text, tmp_path / 'out'))
  return tmp_path / 'out'


def _losses(out):
  rows = sweep.read_results(out)
  return {sweep.key(row['config']): row['val_losses'] for row in rows}


def test_what_a_comparison_leaves(finished):
  rows = sweep.read_results(finished)
  assert [row['config']['optimizer'] for row in rows] == ['namo', 'adamw']
  for row in rows:
    assert [step for step, _ in row['val_losses']] == [5, 10, 15, 20, 25]
    assert row['val_losses'][-1][1] < row['val_losses'][0][1]
    assert row['ms_per_step'] > 0 and row['device']
  assert (finished / 'table.md').read_text() == report.table(rows)
  assert (finished / 'comparison.png').read_bytes().startswith(_PNG)
  folders = sorted((finished / 'runs').iterdir())
  assert len(folders) == 2
  for folder in folders:  # What is large is gone, what plot needs is kept.
    assert {path.name for path in folder.iterdir()} == {
      'config.json', 'metrics.jsonl'
    }  # fmt: skip


def test_plot_of_its_runs(finished, tmp_path, capsys):
  (namo,) = (finished / 'runs').glob('namo-*')
  (adamw,) = (finished / 'runs').glob('adamw-*')
  copies = []
  for source in (namo, adamw):
    copies.append(tmp_path / source.name)
    copies[-1].mkdir()
    for name in ('config.json', 'metrics.jsonl'):
      (copies[-1] / name).write_bytes((source / name).read_bytes())
  plot.main(['plot', *map(str, copies)])
  drawn = [
    copies[0] / 'loss.png', copies[0] / 'diagnostics.png',
    copies[1] / 'loss.png',
  ]  # fmt: skip
  assert capsys.readouterr().out.split() == list(map(str, drawn))
  for path in drawn:
    assert path.read_bytes().startswith(_PNG)
  with pytest.raises(SystemExit, match='error: .*nothing has no rows'):
    plot.main(['plot', str(tmp_path / 'nothing')])


def test_a_finished_comparison_trains_nothing(
  finished, text, tmp_path, monkeypatch
):
  monkeypatch.setattr(train, 'fit', None)
  before = (finished / 'results.jsonl').read_bytes()
  _main(tmp_path, **_flags(text, finished))
  assert (finished / 'results.jsonl').read_bytes() == before


def _copy_results(finished, out):
  out.mkdir()
  lines = (finished / 'results.jsonl').read_text().splitlines(keepends=True)
  (out / 'results.jsonl').write_text(''.join(lines))
  return lines


def test_interrupted_in_a_run_and_in_a_row(
  finished, text, tmp_path, monkeypatch, capsys
):
  out = tmp_path / 'out'
  lines = _copy_results(finished, out)
  (out / 'results.jsonl').write_text(lines[0] + lines[1][:40])
  make_batch = data.batch

  def fail(*args, step, **kwargs):
    if step == 13:  # The checkpoint is of step 10.
      raise KeyboardInterrupt
    return make_batch(*args, step=step, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(data, 'batch', fail)
    with pytest.raises(KeyboardInterrupt):
      _main(tmp_path, **_flags(text, out))
  assert (out / 'results.jsonl').read_text() == lines[0]
  assert not (out / 'table.md').exists()
  capsys.readouterr()
  _main(tmp_path, **_flags(text, out))
  assert 'Going on from step 10 ' in capsys.readouterr().out
  assert _losses(out) == _losses(finished)


def test_killed_while_it_saves(text, tmp_path, capsys):
  out = tmp_path / 'out'
  only_adamw = {
    'optimizers': 'adamw', 'learning_rates': 'adamw=0.01', 'seeds': '0'
  }  # fmt: skip
  ended = helpers.finish(
    helpers.process(
      'optax_namo.nanogpt.compare',
      _flags(text, out, **only_adamw),
      sabotage=helpers.KILL_AFTER_ARRAYS,
      run=out / 'runs' / 'adamw-0.01-0.003-0',
    )
  )
  assert ended.returncode == -9, ended.stderr
  assert sweep.read_results(out) == []
  assert list((out / 'runs').glob('adamw-*/checkpoints/10'))
  _main(tmp_path, **_flags(text, out, **only_adamw))
  assert 'Going on from step 10 ' in capsys.readouterr().out
  assert len(sweep.read_results(out)) == 1
  assert (out / 'table.md').exists()


def test_another_configuration_is_refused(finished, text, tmp_path):
  before = (finished / 'results.jsonl').read_bytes()
  for name, value in (('steps', 30), ('clip', 0.5), ('tokenizer', 'gpt2')):
    with pytest.raises(SystemExit, match=rf'--{name} was .* is now {value!r}'):
      _main(tmp_path, f'--{name}={value}', **_flags(text, finished))
  assert (finished / 'results.jsonl').read_bytes() == before
  # A run of which there is no row yet counts as well.
  out = tmp_path / 'out'
  (config,) = sweep.grid(
    ['adamw'],
    {'adamw': [0.01]},
    [],
    [0],
    preset='tiny',
    data=str(text),
    steps=25,
  )
  run_folder.claim(out / 'runs' / 'some', config, resume=False)
  with pytest.raises(SystemExit, match='--steps was 25 and is now 26'):
    _main(tmp_path, '--steps=26', **_flags(text, out))
  assert not (out / 'results.jsonl').exists()


def test_a_broken_row_is_named_and_nothing_lost(finished, text, tmp_path):
  out = tmp_path / 'out'
  lines = _copy_results(finished, out)
  broken = lines[0][:30] + '\n' + lines[1]
  (out / 'results.jsonl').write_text(broken)
  with pytest.raises(SystemExit, match='results.jsonl, line 1 is not JSON'):
    _main(tmp_path, **_flags(text, out))
  assert (out / 'results.jsonl').read_text() == broken


def test_grid():
  runs = sweep.grid(
    ['namo_d', 'adamw'], {'namo_d': [0.1, 0.2]}, [1e-3, 2e-3], [3, 4],
    preset='tiny',
  )  # fmt: skip
  assert len(runs) == len(set(runs)) == 2 * (2 + 3) * 2
  assert [run.seed for run in runs] == [3] * 10 + [4] * 10
  assert {run.learning_rate for run in runs if run.optimizer == 'adamw'} == {
    0.003, 0.0042, 0.0059
  }  # fmt: skip
  assert {run.adam_learning_rate for run in runs} == {1e-3, 2e-3}
  defaults = sweep.grid(['adamw'], {}, [], [0, 0], preset='tiny')
  assert len(defaults) == 3  # Each once.
  assert defaults[0].adam_learning_rate == ADAM_LEARNING_RATE


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--optimizers='], 'needs an optimizer and a seed'),
    (['--optimizers=sgd'], "optimizer must be one of .*'sgd'"),
    (['--learning_rates=muon=0.1'], r"names \['muon'\], and optimizers only"),
    (['--learning_rates=adamw=fast'], 'learning_rates takes numbers'),
    (['--seeds=one'], 'seeds takes numbers'),
    (['--clamp=2', '--optimizers=namo_d'], 'clamp must be in'),
    (['--config=missing.yaml'], 'missing.yaml cannot be read'),
  ],
)
def test_bad_flags(arguments, message, text, tmp_path):
  values = _flags(text, tmp_path / 'out')
  del values['learning_rates']
  with pytest.raises(SystemExit, match=message):
    _main(tmp_path, *arguments, **values)
  assert not (tmp_path / 'out').exists()


def test_what_a_config_holds_is_what_its_flags_parse(text):
  config = helpers.config(
    data=str(text), clamp=0.0, columns='output', warmup_steps=0, mesh='data:2',
    dtype='bfloat16', clip=0.5, eval_every=7,
  )  # fmt: skip
  shared = {
    name: value for name, value in vars(config).items() if name not in SWEPT
  }
  arguments = [f'--{name}={value}' for name, value in shared.items()]
  with flagsaver.flagsaver():
    command.parse(['compare', *arguments])
    assert flag_values(shared) == shared


def test_bad_file(tmp_path):
  with pytest.raises(SystemExit, match=r"has {'stepz'}. Known are .*steps"):
    _main(tmp_path, stepz=3)


def _row(optimizer, rate, seed, losses, ms=None, adam_rate=3e-3):
  config = helpers.config(
    preset='char',
    steps=30,
    optimizer=optimizer,
    learning_rate=rate,
    adam_learning_rate=adam_rate,
    seed=seed,
  )
  return {
    'config': vars(config),
    'val_losses': [[10 * (i + 1), loss] for i, loss in enumerate(losses)],
    'ms_per_step': ms,
    'device': ms and 'abacus',
  }


_ROWS = [
  _row('adamw', 0.01, 0, [3.0, 2.5, 2.0], 10.0),
  _row('adamw', 0.01, 1, [3.0, 2.5, 2.2], 12.0),
  _row('adamw', 0.02, 0, [3.0, 2.6, 2.3], 99.0),
  _row('namo', 0.1, 0, [2.2, 2.0, 1.9], 22.0),
  _row('namo', 0.1, 1, [2.4, 2.1, 1.7], 22.0),
  # On the common seed this is worse; its second AdamW rate is worse still.
  _row('namo', 0.2, 0, [2.4, 2.1, 1.95]),
  _row('namo', 0.2, 0, [2.4, 2.1, 1.96], adam_rate=6e-3),
  _row('muon', 0.3, 0, [3.0, math.nan, math.nan]),
  _row('muon', 0.4, 0, [9.0, 3.0, 2.9]),
]


def test_table():
  lines = report.table(_ROWS).splitlines()
  assert lines[2:5] == [
    '| NAMO | 0.1 | 0.003 | 1.800 ± 0.141 | 20 | 22.0 | 2.00 |',
    '| Muon | 0.4 | 0.003 | 2.900 | - | - | - |',
    '| AdamW | 0.01 | 0.003 | 2.100 ± 0.141 | 30 | 11.0 | 1.00 |',
  ]
  assert 'on abacus' in lines[-1] and '30 steps' in lines[-1]
  assert 'seeds 0, 1' in lines[-1]
  # Without a baseline, and where all diverged.
  assert '| NAMO | 0.1 | 0.003 | 1.800 ± 0.141 | - | 22.0 | - |' in (
    report.table(_ROWS[3:7])
  )
  assert '| Muon | 0.3 | 0.003 | inf | - | - | - |' in report.table(_ROWS[7:8])


def test_more_seeds_at_a_rate_do_not_make_it_the_best():
  lucky = _row('namo', 0.2, 1, [1.0, 1.0, 1.0])
  (best,) = judge.best_of([*_ROWS[3:6], lucky])
  assert best.learning_rate == 0.2  # Both rates have both seeds now.
  lucky = _row('namo', 0.2, 2, [1.0, 1.0, 1.0])
  (best,) = judge.best_of([*_ROWS[3:6], lucky])
  assert best.learning_rate == 0.1


@pytest.mark.parametrize('rows', [_ROWS, _ROWS[7:8], _ROWS[:1]])
def test_figure(rows, tmp_path):
  report.draw(rows, tmp_path / 'figure.png')
  assert (tmp_path / 'figure.png').read_bytes().startswith(_PNG)


def test_time_leaves_compilation_out():
  (config,) = sweep.grid(['adamw'], {'adamw': [0.1]}, [], [0], preset='tiny')
  tokens = config.batch_size * config.sizes.block_size
  speeds = [10.0] * 10 + [1000.0] * 10 + [2000.0] * 10 + [4000.0] * 10
  metrics = [{'tokens_per_second': speed} for speed in speeds]
  assert sweep.ms_per_step(config, metrics) == 1000 * tokens / 2000
  assert sweep.ms_per_step(config, metrics[:10]) is None


def test_the_published_comparison():
  """The benchmark's rows, its file, its table and the README agree."""
  folder = _ROOT / 'benchmarks' / 'results' / 'char_losses'
  rows = sweep.read_results(folder)
  assert (folder / 'table.md').read_text() == report.table(rows)
  bests = {best.optimizer: best for best in judge.best_of(rows)}
  assert {name: best.learning_rate for name, best in bests.items()} == {
    name: one.learning_rate for name, one in OPTIMIZERS.items()
  }
  readme = (_ROOT / 'README.md').read_text()
  for line in (folder / 'table.md').read_text().splitlines():
    if line.startswith('| ') and not line.startswith('| |'):
      name, rate, _, loss, steps = line.strip('| ').split(' | ')[:5]
      assert f'| {name} | {rate} | {loss} | {steps} |' in readme
