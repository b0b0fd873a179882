# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Comparisons: what is run, kept, gone on with, refused and reported."""

import contextlib
import json
import math
import pathlib
import shutil
import signal

from absl import flags
from absl.testing import flagsaver
import jax
import pytest
import yaml

from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import interrupts
from optax_namo.nanogpt import plot
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.compare import __main__ as command
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare import variants
from optax_namo.nanogpt.config import ADAM_LEARNING_RATE
from optax_namo.nanogpt.config import flag_values
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import KNOBS
from optax_namo.nanogpt.config import OPTIMIZERS
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
def finished(text, once):
  """The folder of a finished comparison; not to be changed."""

  def make(folder):
    # As conftest does for what a test compiles: the losses are to be the same.
    jax.config.update('jax_disable_most_optimizations', True)
    _main(folder, **_flags(text, folder / 'out'))

  return once('finished', make) / 'out'


def _losses(out):
  rows = sweep.read_results(out)
  return {identity(from_file(row['config'])): row['val_losses'] for row in rows}


def _strict(line):
  """As any other reader of JSON takes a line; NaN is none."""

  def refuse(constant):
    raise ValueError(f'{constant} is no JSON')

  return json.loads(line, parse_constant=refuse)


def test_what_a_comparison_leaves(finished):
  rows = sweep.read_results(finished)
  assert [row['config']['optimizer'] for row in rows] == ['namo', 'adamw']
  for row in rows:
    assert [step for step, _ in row['val_losses']] == [5, 10, 15, 20, 25]
    assert row['val_losses'][-1][1] < row['val_losses'][0][1]
    assert row['ms_per_step'] > 0 and row['device']
    assert 'diverged' not in row
    assert tuple(row['config']) == KNOBS
  # What NAMO told at the last evaluation; AdamW tells nothing.
  assert {field.split('/')[-1] for field in rows[0]['diagnostics']} == {
    'kernel'
  }
  assert 'diagnostics' not in rows[1]
  assert (finished / 'table.md').read_text() == report.table(rows)
  assert (finished / 'comparison.png').read_bytes().startswith(_PNG)
  folders = sorted((finished / 'runs').iterdir())
  names = {sweep.name_of(from_file(row['config'])) for row in rows}
  assert {folder.name for folder in folders} == names
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
  make_batch, seen = data.batch, []

  def interrupt(*args, step, **kwargs):
    if step == 13:
      seen.append(signal.SIGINT)
    return make_batch(*args, step=step, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(data, 'batch', interrupt)
    patch.setattr(interrupts, 'noted', lambda: contextlib.nullcontext(seen))
    with pytest.raises(SystemExit, match='130'):
      _main(tmp_path, **_flags(text, out))
  assert 'after step 14: the same command goes on' in capsys.readouterr().out
  assert len(sweep.read_results(out)) == 1
  assert not (out / 'table.md').exists()
  _main(tmp_path, **_flags(text, out))
  assert 'Going on from step 14 ' in capsys.readouterr().out
  assert _losses(out) == _losses(finished)
  assert len((out / 'results.jsonl').read_text().splitlines()) == 2


def test_killed_while_it_saves(text, ended, tmp_path, capsys):
  folder, ends = ended
  code, told = ends['compare']
  assert code == -9, told
  out = shutil.copytree(folder / 'compare', tmp_path / 'out')
  assert sweep.read_results(out) == []
  (run,) = out.glob('runs/*/')
  assert (run / 'checkpoints/10').is_dir()
  only_adamw = {'optimizers': ['adamw'], 'learning_rates': {'adamw': [0.01]}}
  _main(tmp_path, **_flags(text, out, **only_adamw))
  assert 'Going on from step 10 ' in capsys.readouterr().out
  (row,) = sweep.read_results(out)
  assert run.name == sweep.name_of(from_file(row['config']))
  assert (out / 'table.md').exists()


def test_another_text_is_refused(finished, text, tmp_path):
  before = (finished / 'results.jsonl').read_bytes()
  for name in ('data', 'tokenizer'):
    with pytest.raises(
      SystemExit, match=rf"--{name} was .* is now 'gpt2'.*out"
    ):
      _main(tmp_path, f'--{name}=gpt2', **_flags(text, finished))
  assert (finished / 'results.jsonl').read_bytes() == before
  # A run of which there is no row yet counts as well.
  out = tmp_path / 'out'
  config = helpers.config(data=str(text))
  run_folder.claim(out / 'runs' / 'some', config, resume=False)
  with pytest.raises(SystemExit, match="--data was .* is now 'gpt2'"):
    _main(tmp_path, '--data=gpt2', **_flags(text, out))
  assert not (out / 'results.jsonl').exists()
  several = {
    name: {'optimizer': name, 'data': str(name)} for name in ('namo', 'muon')
  }
  with pytest.raises(SystemExit, match="--data was 'muon' and is now 'namo'"):
    _main(tmp_path, preset='tiny', out=str(tmp_path / 'new'), variants=several)


def test_a_changed_text_is_refused(text, tmp_path):
  config, out = helpers.config(data=str(text)), tmp_path / 'out'
  run_folder.claim(out / 'runs' / 'some', config, resume=False)
  run_folder.write_config(out / 'runs' / 'some', config, 'of another text')
  with pytest.raises(SystemExit, match='rhyme.txt. are not those that the run'):
    _main(tmp_path, **_flags(text, out))
  assert not (out / 'results.jsonl').exists()


def test_the_folder_of_a_run_is_refused(whole, text, tmp_path):
  out = shutil.copytree(whole[1], tmp_path / 'out')
  before = sorted(out.rglob('*'))
  with pytest.raises(SystemExit, match=f'--out={out} is the folder of a run'):
    _main(tmp_path, **_flags(text, out))
  assert sorted(out.rglob('*')) == before


@pytest.mark.parametrize(
  ('code', 'message'),
  [
    ('x = 1', r"KeyError\('OPTIMIZERS'\)"),
    ("raise RuntimeError('hi')", r"RuntimeError\('hi'\)"),
  ],
)
def test_arms_that_are_none(code, message, text, tmp_path):
  path = tmp_path / 'arms.py'
  path.write_text(code)
  with pytest.raises(SystemExit, match=f'--arms={path} gives no .*{message}'):
    _main(tmp_path, f'--arms={path}', **_flags(text, tmp_path / 'out'))


def test_a_broken_row_is_named_and_nothing_lost(finished, text, tmp_path):
  out = tmp_path / 'out'
  lines = _copy_results(finished, out)
  broken = lines[0][:30] + '\n' + lines[1]
  (out / 'results.jsonl').write_text(broken)
  with pytest.raises(SystemExit, match='results.jsonl, line 1 is not JSON'):
    _main(tmp_path, **_flags(text, out))
  assert (out / 'results.jsonl').read_text() == broken


def _variants(text, out, **knobs):
  """Three short runs of one compiled step."""
  variant = {'optimizer': 'adamw', 'learning_rate': 0.01, 'seeds': [0, 1, 2]}
  return {
    'preset': 'tiny', 'data': str(text), 'steps': 2, 'seeds': [0],
    'out': str(out), 'variants': {'adamw': variant | knobs},
  }  # fmt: skip


def test_variants_in_one_folder(finished, text, tmp_path, capsys):
  """Runs of any knobs lie beside each other, and are not run again."""
  out = tmp_path / 'out'
  lines = _copy_results(finished, out)
  values = _variants(text, out, embed_dim=[8, 16], seeds=[3])
  _main(tmp_path, **values)
  configs = [row['config'] for row in sweep.read_results(out)]
  assert [(one['steps'], one['embed_dim'], one['seed']) for one in configs] == [
    (25, 16, 0),
    (25, 16, 0),
    (2, 8, 3),
    (2, 16, 3),
  ]
  assert 'left' not in capsys.readouterr().out
  assert (out / 'results.jsonl').read_text().startswith(''.join(lines))
  _main(tmp_path, '--dry_run', **values)
  assert capsys.readouterr().out == '0 of 2 runs are left.\n'


def test_pieces(text, tmp_path, monkeypatch, capsys):
  """After its minutes a sweep ends between two runs."""
  out, now = tmp_path / 'out', [0.0]
  fit = train.fit

  def slow(*args, **kwargs):
    now[0] += 40
    return fit(*args, **kwargs)

  monkeypatch.setattr(train, 'fit', slow)
  monkeypatch.setattr(sweep.time, 'monotonic', lambda: now[0])
  values = _variants(text, out)
  _main(tmp_path, '--max_minutes=1', **values)  # Begun at 0 s and at 40 s.
  assert '1 of 3 runs are left' in capsys.readouterr().out
  assert len(sweep.read_results(out)) == 2
  assert (out / 'table.md').exists()
  _main(tmp_path, '--max_minutes=1', **values)
  assert 'left' not in capsys.readouterr().out
  assert len(sweep.read_results(out)) == 3


def test_a_run_of_another_process_is_left_to_it(text, tmp_path, capsys):
  out = tmp_path / 'out'
  values = _variants(text, out)
  first = variants.runs_of(
    values['variants'], [0], preset='tiny', data=str(text), steps=2
  )[0]
  (out / 'runs').mkdir(parents=True)
  held = out / 'runs' / f'{sweep.name_of(first)}.lock'
  with files.lock(held) as mine:
    assert mine
    _main(tmp_path, **values)
    assert '1 of 3 runs are left, or with another' in capsys.readouterr().out
  # It went without a row, by kill -9 say: the run is free again.
  assert held.exists()
  _main(tmp_path, **values)
  seeds = [row['config']['seed'] for row in sweep.read_results(out)]
  assert seeds == [1, 2, 0]
  assert not list(out.glob('runs/*.lock'))


def test_two_processes_share_the_work(text, tmp_path):
  """Each run is one's alone."""
  values = _variants(text, 'out', seeds=[*range(6)])
  variants_ = json.dumps(values.pop('variants'))
  values |= {'variants': variants_, 'seeds': 0}
  command = ['optax_namo.nanogpt.compare', *helpers.flags(values)]
  told = helpers.children(tmp_path, [command] * 2, together=True)
  assert [code for code, _ in told] == [0, 0], told
  out = tmp_path / 'out'
  assert len(_losses(out)) == len(sweep.read_results(out)) == 6


@pytest.mark.parametrize(
  ('losses', 'diverged'),
  [
    ([2.0, 1.5], False),
    ([2.0], False),
    ([2.0, 1.5, 2.1], False),  # It has overfitted.
    ([5.0, 4.0], True),  # Above log(30) = 3.4.
    ([2.0, math.nan], True),
    ([math.inf, 1.5], True),
  ],
)
def test_diverged(losses, diverged):
  assert sweep.diverged(losses, vocab_size=30) == diverged


def test_a_diverged_run_ends_and_has_a_row(text, tmp_path, capsys):
  out = tmp_path / 'out'
  values = _variants(
    text, out, seeds=[0], learning_rate=[1e38, 0.01], steps=20, eval_every=5,
    checkpoint_every=20,
  )  # fmt: skip
  _main(tmp_path, **values)
  assert 'The loss of step 5 is not finite' in capsys.readouterr().out
  lines = (out / 'results.jsonl').read_text().splitlines()
  bad, good = map(_strict, lines)
  assert bad['diverged'] is True
  assert bad['val_losses'] == [[5, None]]
  assert 'diverged' not in good
  assert [step for step, _ in good['val_losses']] == [5, 10, 15, 20]
  _main(tmp_path, '--dry_run', **values)
  assert '0 of 2 runs are left' in capsys.readouterr().out
  for path in out.glob('runs/*/'):
    assert not (path / 'checkpoints').exists()


def test_variants_are_grids_over_any_knob():
  runs = variants.runs_of(
    {
      'a': {
        'optimizer': 'namo', 'learning_rate': [0.1, 0.2], 'steps': [20, 30],
      },
      'b': {'optimizer': 'muon', 'batch_size': 4, 'seeds': [5]},
      'again': {'optimizer': 'namo', 'learning_rate': '1e-1', 'steps': 20},
      'elsewhere': {'optimizer': 'muon', 'batch_size': 4, 'mesh': 'data:2',
                    'seeds': 5, 'eval_every': 3},
    },
    [3, 4],
    preset='tiny',
    embed_dim=8,
  )  # fmt: skip
  # Each once; what cannot change a result makes no further run.
  told = [
    (run.optimizer, run.learning_rate, run.steps, run.seed) for run in runs
  ]
  rates = [('namo', rate, steps) for rate in (0.1, 0.2) for steps in (20, 30)]
  assert told[:8] == [(*one, seed) for seed in (3, 4) for one in rates]
  assert told[8:] == [
    ('muon', OPTIMIZERS['muon'].learning_rate, helpers.TINY.steps, 5)
  ]
  assert {run.embed_dim for run in runs} == {8}
  names = [sweep.name_of(run) for run in runs]
  assert len(set(names)) == len(names)
  assert all(name == pathlib.PurePath(name).name for name in names)
  # A number is the same however it is written.
  (one,), (other,) = (
    variants.runs_of({'': {'clip': clip, 'clamp': clamp}}, [0], preset='tiny')
    for clip, clamp in ((1, '0.5'), (1.0, 0.5))
  )
  assert sweep.name_of(one) == sweep.name_of(other)


def test_variants_of_the_flags_for_rates():
  given = variants.around_the_default(
    ['namo_d', 'adamw'], {'namo_d': [0.1, 0.2]}, [1e-3, 2e-3], preset='tiny'
  )
  runs = variants.runs_of(given, [3, 4], preset='tiny')
  assert len(runs) == len(set(runs)) == 2 * (2 + 3) * 2
  assert [run.seed for run in runs] == [3] * 10 + [4] * 10
  assert {run.learning_rate for run in runs if run.optimizer == 'adamw'} == {
    0.003, 0.0042, 0.0059
  }  # fmt: skip
  assert {run.adam_learning_rate for run in runs} == {1e-3, 2e-3}
  given = variants.around_the_default(['adamw'], {}, [], preset='tiny')
  defaults = variants.runs_of(given, [0, 0], preset='tiny')
  assert len(defaults) == 3  # Each once.
  assert defaults[0].adam_learning_rate == ADAM_LEARNING_RATE


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({}, 'there are no variants'),
    ({'a': 0.1}, r"variant 'a': 0.1 does not map knobs to values, as in"),
    ({'a': {'steps': 5, 'learning_rat': 1}},
     r"\['learning_rat'\] are no knobs; known.* Is .*'learning_rate'\?"),
    ({'a': {'seed': 1}}, r"\['seed'\] are no knobs; known.*'seeds'"),
    ({'a': {'clamp': []}}, "'a': clamp is an empty list: give"),
    ({'a': {'learning_rate': 'fast'}},
     "'a': learning_rate='fast': could not convert string"),
    ({'a': {'steps': 2.5}}, "'a': steps=2.5: Expect .* int, found .*float"),
    ({'a': {'nesterov': [True, 'maybe']}}, "nesterov='maybe': Non-boolean"),
    ({'a': {}, 'b': {'optimizer': 'sgd'}},
     "'b': optimizer='sgd': value should be one of .*muon"),
    ({'a': {'steps': 5, 'warmup_steps': 6}}, "'a': warmup_steps=6 .* steps=5"),
  ],
)  # fmt: skip
def test_bad_variants(given, message, tmp_path):
  with pytest.raises(SystemExit, match=f'error: .*{message}'):
    _main(tmp_path, preset='tiny', out=str(tmp_path / 'out'), variants=given)
  assert not (tmp_path / 'out').exists()


def test_variants_on_the_command_line(text, tmp_path, capsys):
  out = tmp_path / 'out'
  shared = {'preset': 'tiny', 'data': str(text), 'out': str(out)}
  sweep_ = '--variants={m: {optimizer: muon, clamp: [0.5, 1], seeds: 7}}'
  _main(tmp_path, sweep_, '--dry_run', **shared)
  *lines, summary = capsys.readouterr().out.splitlines()
  assert [line.split()[1:] for line in lines] == [
    ['--clamp=0.5'], ['--clamp=1.0']
  ]  # fmt: skip
  assert lines[0].startswith('muon-0.006-7-')
  assert summary == '2 of 2 runs are left.'
  assert not out.exists()
  for argument, message in (
    ('--optimizers=namo', '--optimizers and --variants: give one'),
    ('--variants=muon', "must map labels to knobs, got 'muon'"),
    ('--variants={', 'variants cannot be read'),
    ('--variants={m: {embed_dim: 9}}', 'embed_dim=9 is not a multiple of'),
    ('--variants={m: {clamp: 2}}', 'clamp must be in'),
    ('--variants={m: {mesh: "data:8"}}', 'mesh=.data:8. is of 8 devices'),
  ):
    with pytest.raises(SystemExit, match=message):
      _main(tmp_path, sweep_, argument, **shared)
  with pytest.raises(SystemExit, match='--learning_rate is for --variants'):
    _main(tmp_path, '--learning_rate=0.1', **shared)
  assert not out.exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--optimizers='], 'there are no variants'),
    (['--seeds='], 'seed is an empty list'),
    (['--optimizers=sgd'], "optimizer='sgd': value should be one of"),
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
    name: value for name, value in vars(config).items() if name != 'seed'
  }
  arguments = [f'--{name}={value}' for name, value in shared.items()]
  with flagsaver.flagsaver():
    command.parse(['compare', *arguments])
    assert flag_values(shared) == shared


def test_bad_file(tmp_path):
  with pytest.raises(SystemExit, match=r"has {'stepz'}. Known are .*steps"):
    _main(tmp_path, stepz=3)


def test_time_leaves_compilation_out():
  config = helpers.config(optimizer='adamw')
  tokens = config.batch_size * config.sizes.block_size
  speeds = [10.0] * 10 + [1000.0] * 10 + [2000.0] * 10 + [4000.0] * 10
  metrics = [{'tokens_per_second': speed} for speed in speeds]
  assert sweep.ms_per_step(config, metrics) == 1000 * tokens / 2000
  assert sweep.ms_per_step(config, metrics[:10]) is None


def test_the_published_rows_are_what_their_file_asks_for():
  folder = _ROOT / 'benchmarks' / 'results' / 'char_losses'
  rows = sweep.read_results(folder)
  asked = yaml.safe_load((_ROOT / 'benchmarks/char_losses.yaml').read_text())
  assert _ROOT / asked.pop('out') == folder
  runs = variants.runs_of(asked.pop('variants'), asked.pop('seeds'), **asked)
  assert len(runs) == len(rows)
  assert not sweep.left(runs, rows)
