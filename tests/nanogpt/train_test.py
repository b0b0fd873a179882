# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training: what a run leaves, and that nothing interrupts it for good."""

import dataclasses
import json
import math
import shutil

import chex
from flax import nnx
import jax
import numpy as np
import optax
import pytest

import optax_namo
from optax_namo.nanogpt import data
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.config import PRESETS
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import schedule
from tests.nanogpt import helpers


def _run(config, corpus, out, resume=False):
  run_folder.claim(out, config, resume)
  return train.run(config, corpus, out, resume)


def _fit(config, corpus, out, resume=False):
  run_folder.claim(out, config, resume)
  final, _ = train.fit(config, corpus, out, resume)
  return final


def _prepare(config, corpus):
  """The step, the state before the first one, and the batches by step."""
  mesh = make_mesh(config.mesh)
  model = train.model_config(config, corpus.vocab_size)
  tx = train.optimizer(config, model)
  graphdef, state = train.init(config, model, tx, mesh)
  step = train.make_step(graphdef, tx, mesh)
  return step, state, lambda i: train.batches(config, corpus, i, mesh)


def _assert_same_end(config, corpus, *folders):
  """The newest checkpoints are of the last step and equal to the last bit."""
  _, fresh, _ = _prepare(config, corpus)
  states = []
  for out in folders:
    with run_folder.checkpoints(out) as manager:
      states.append(run_folder.restore(manager, fresh))
    assert int(states[-1].step) == config.steps
  chex.assert_trees_all_equal(*states)


@pytest.mark.accelerator
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_loss_falls_and_files_are_left(optimizer, corpus, tmp_path, capsys):
  config = helpers.config(
    optimizer=optimizer, steps=100, eval_every=40, checkpoint_every=25
  )
  out = tmp_path / 'out'
  final = _run(config, corpus, out)
  rows = metrics.read(out)
  assert [row['step'] for row in rows] == list(range(1, 101))
  assert abs(rows[0]['loss'] - math.log(corpus.vocab_size)) < 0.2
  # Letter frequencies alone give 0.91 of a uniform guess.
  assert final['val_loss'] < 0.6 * math.log(corpus.vocab_size)
  assert [r['step'] for r in rows if 'val_loss' in r] == [40, 80, 100]
  told = [r['step'] for r in rows if 'diagnostics' in r]
  tells = optimizer in ('namo_d', 'namo', 'muon')
  assert told == ([40, 80, 100] if tells else [])
  # float32 at full precision: nothing was rounded for the eye.
  assert all(float(np.float32(row['loss'])) == row['loss'] for row in rows)
  assert json.loads((out / 'config.json').read_text())['optimizer'] == optimizer
  assert (out / 'loss.png').read_bytes().startswith(b'\x89PNG')
  assert len((out / 'sample.txt').read_text()) > 100
  summary = (out / 'run.md').read_text()
  assert 'step 100 of 100' in summary and '![Losses](loss.png)' in summary
  assert f'| 100 | {final["loss"]:.4f} | {final["val_loss"]:.4f} |' in summary
  kept = sorted(int(p.name) for p in (out / 'checkpoints').iterdir())
  assert kept == [50, 75, 100]  # The newest three.
  printed = capsys.readouterr().out
  assert (out / 'sample.txt').read_text() in printed
  # And what to do next, as run.md says it.
  commands = [line.strip() for line in printed.splitlines()[-3:]]
  assert '\n'.join(commands) in summary
  assert [line.split()[2].rpartition('.')[2] for line in commands] == [
    'sample', 'plot', 'nanogpt'
  ]  # fmt: skip


def test_resume_is_bit_identical(corpus, whole, tmp_path, monkeypatch, capsys):
  (config, expected), broken = whole, tmp_path / 'broken'
  make_batch = data.batch

  def fail(*args, step, **kwargs):
    if step == 23:  # Rows up to 21 are written, the checkpoint is of step 20.
      raise KeyboardInterrupt
    return make_batch(*args, step=step, **kwargs)

  with monkeypatch.context() as patch:
    patch.setattr(data, 'batch', fail)
    with pytest.raises(KeyboardInterrupt):
      _fit(config, corpus, broken)
  assert len(helpers.losses(broken)) == 21
  _fit(config, corpus, broken, resume=True)
  assert 'Going on from step 20' in capsys.readouterr().out
  assert helpers.losses(broken) == helpers.losses(expected)
  _assert_same_end(config, corpus, broken, expected)


def test_stopped_and_resumed_is_bit_identical(corpus, whole, tmp_path):
  (config, expected), out = whole, tmp_path / 'out'
  told = {}

  def stop(step):
    told[step] = (out / 'run.md').read_text() if step > 10 else ''
    return step == 13

  run_folder.claim(out, config, resume=False)
  with pytest.raises(train.Stopped, match='after step 13'):
    train.run(config, corpus, out, resume=False, stop=stop)
  assert 'step 10 of 25' in told[11]
  assert 'loss.png' not in told[11]  # Not yet drawn.
  text = (out / 'run.md').read_text()
  assert 'step 13 of 25' in text and '![Losses](loss.png)' in text
  assert (out / 'loss.png').exists() and not (out / 'sample.txt').exists()
  kept = sorted(int(p.name) for p in (out / 'checkpoints').iterdir())
  assert kept == [10, 13]
  assert len(helpers.losses(out)) == 13
  _fit(config, corpus, out, resume=True)
  assert helpers.losses(out) == helpers.losses(expected)
  _assert_same_end(config, corpus, out, expected)


def test_a_run_that_is_at_its_end_does_not_stop(corpus, tmp_path):
  config = helpers.config(checkpoint_every=25)
  run_folder.claim(tmp_path / 'out', config, resume=False)
  final, _ = train.fit(
    config, corpus, tmp_path / 'out', resume=False, stop=lambda step: step == 25
  )
  assert final['step'] == 25


@pytest.mark.parametrize(('stops_at', 'since'), [(None, 14), (13, 13)])
def test_nothing_replaces_a_good_checkpoint(
  corpus, tmp_path, monkeypatch, stops_at, since
):
  """The parameters after step 13 are not finite, nor is the loss of 14."""
  config, make_step = helpers.config(eval_every=25), train.make_step

  def make_broken(*args):
    step = make_step(*args)

    def broken(state, *batch):
      state, scalars = step(state, *batch)
      factor = math.nan if int(state.step) == 13 else 1.0
      params = jax.tree.map(lambda x: x * factor, state.params)
      return state._replace(params=params), scalars

    return broken

  monkeypatch.setattr(train, 'make_step', make_broken)
  out = tmp_path / 'out'
  run_folder.claim(out, config, resume=False)
  stop = lambda step: step == stops_at
  with pytest.raises(train.Diverged, match=f'not finite since step {since}$'):
    train.run(config, corpus, out, resume=False, stop=stop)
  assert [path.name for path in (out / 'checkpoints').iterdir()] == ['10']
  summary = (out / 'run.md').read_text()
  assert '--resume' not in summary and 'A smaller --learning_rate' in summary
  assert math.isnan(metrics.read(out)[-1]['val_loss'])


@pytest.mark.parametrize(
  ('written', 'of_before'),
  [
    ('Sphinx of black quartz. ' * 90, '25 cannot be .* the text'),
    (helpers.TEXT[::-1], ''),  # Of as many characters.
  ],
)
def test_resume_on_another_text(whole, tmp_path, written, of_before):
  config, finished = whole
  out = shutil.copytree(finished, tmp_path / 'out')
  longer = dataclasses.replace(config, steps=26)
  (tmp_path / 'other.txt').write_text(written)
  other = data.load(
    str(tmp_path / 'other.txt'), block_size=helpers.TINY.block_size
  )
  before = (out / 'config.json').read_bytes()
  run_folder.claim(out, longer, resume=True)
  with pytest.raises(run_folder.RestoreError, match='not those that the run'):
    train.fit(longer, other, out, resume=True)
  assert (out / 'config.json').read_bytes() == before
  run_folder.write_config(out, config)  # As once, without a digest.
  before = (out / 'config.json').read_bytes()
  if not of_before:
    assert train.fit(longer, other, out, resume=True)[0]['step'] == 26
    return
  with pytest.raises(run_folder.RestoreError, match=of_before):
    train.fit(longer, other, out, resume=True)
  assert (out / 'config.json').read_bytes() == before


def test_kill_in_the_middle_of_saving(corpus, whole, ended, tmp_path, capsys):
  (config, expected), (folder, ends) = whole, ended
  code, told = ends['killed']
  assert code == -9, told
  assert 'Going on from step 10 ' in told
  killed = shutil.copytree(folder / 'killed', tmp_path / 'killed')
  names = [path.name for path in (killed / 'checkpoints').iterdir()]
  assert any('tmp' in name for name in names), names
  assert [name for name in names if name.isdecimal()] == ['10']
  assert helpers.losses(killed) == helpers.losses(expected)[:20]
  _fit(config, corpus, killed, resume=True)
  assert 'Going on from step 10 ' in capsys.readouterr().out
  assert helpers.losses(killed) == helpers.losses(expected)
  _assert_same_end(config, corpus, killed, expected)


def test_an_emptied_checkpoint_is_none(corpus, whole, tmp_path, capsys):
  config, finished = whole
  out = shutil.copytree(finished, tmp_path / 'out')
  shutil.rmtree(out / 'checkpoints' / '25')
  (out / 'checkpoints' / '25').mkdir()
  assert run_folder.newest_step(out) == 20
  _fit(config, corpus, out, resume=True)
  assert 'Going on from step 20 ' in capsys.readouterr().out
  _assert_same_end(config, corpus, out, finished)


def test_resume_of_nothing(corpus, tmp_path, capsys):
  config = helpers.config(checkpoint_every=25)
  _fit(config, corpus, tmp_path / 'out', resume=True)
  assert 'Going on' not in capsys.readouterr().out
  assert len(helpers.losses(tmp_path / 'out')) == 25


def test_resume_of_a_finished_run_changes_nothing(corpus, whole, tmp_path):
  config, finished = whole
  out = tmp_path / 'out'
  shutil.copytree(finished, out)
  before = (out / 'metrics.jsonl').read_bytes()
  first = _fit(config, corpus, out, resume=True)
  assert (out / 'metrics.jsonl').read_bytes() == before
  assert first['step'] == 25
  # Asked for fewer steps, it does not take any back.
  shorter = helpers.config(data=config.data, steps=3)
  with pytest.raises(ValueError, match='at step 25: --steps=3 is less'):
    _fit(shorter, corpus, out, resume=True)
  assert (out / 'metrics.jsonl').read_bytes() == before


def test_a_finished_run_goes_on_without_its_metrics(corpus, whole, tmp_path):
  config, finished = whole
  out = shutil.copytree(finished, tmp_path / 'out')
  (out / 'metrics.jsonl').unlink()
  final = _run(config, corpus, out, resume=True)
  last = helpers.losses(finished)[-1]
  assert final['step'] == 25
  assert final['val_loss'] == pytest.approx(last['val_loss'], rel=1e-6)
  assert final['loss'] == pytest.approx(last['loss'], rel=0.2)  # Of all text.
  assert 'No validation loss yet' in (out / 'run.md').read_text()


def test_accumulation_is_a_larger_batch(corpus):
  states = []
  for accumulate, batch_size in ((1, 8), (4, 2)):
    config = helpers.config(
      accumulate=accumulate, batch_size=batch_size, seed=3
    )
    step, state, batches = _prepare(config, corpus)
    for i in range(3):
      state, scalars = step(state, *batches(i))
    states.append((state.params, scalars))
  chex.assert_trees_all_close(*states, rtol=1e-3, atol=1e-4)


def test_one_cpu_takes_its_batch_in_slices(corpus, monkeypatch):
  """The same step: the mean of the slices' gradients."""
  config = helpers.config(batch_size=256)  # Of 16 tokens each.
  steps = []
  for tokens in (10**6, 128):
    monkeypatch.setattr(train, '_CPU_TOKENS', tokens)
    train.make_step.cache_clear()
    step, state, batches = _prepare(config, corpus)
    text = step.lower(state, *batches(0)).as_text()
    steps.append((*step(state, *batches(0)), 'tensor<32x8x16xi32>' in text))
  whole, sliced = steps
  assert (whole[2], sliced[2]) == (False, True)
  chex.assert_trees_all_close(sliced[1], whole[1], rtol=1e-5)
  chex.assert_trees_all_close(
    sliced[0].params, whole[0].params, rtol=1e-3, atol=1e-4
  )


@pytest.mark.parametrize('eval_sequences', (160, 27))  # 20 batches, 3.4.
def test_the_validation_sample_is_that_of_no_batch_size(corpus, eval_sequences):
  model = train.model_config(helpers.config(), corpus.vocab_size)
  network = gpt.GPT(model, rngs=nnx.Rngs(0))
  graphdef, params = nnx.split(network)
  losses = []
  for batch_size in (8, 1):
    config = helpers.config(
      batch_size=batch_size, eval_sequences=eval_sequences
    )
    evaluate = train.make_evaluate(graphdef, config, corpus.val, make_mesh(''))
    losses.append(evaluate(params))
  assert losses[0] == losses[1]
  # The crops, one at a time: nothing is left out and nothing counts twice.
  crops = data.eval_batches(
    corpus.val,
    num_sequences=eval_sequences,
    batch_size=eval_sequences,
    block_size=helpers.TINY.block_size,
  )
  (crop,) = crops
  expected = nnx.jit(gpt.loss)(network, *crop)
  np.testing.assert_allclose(losses[0], expected, rtol=1e-6)


def test_step_donates_and_compiles_once(corpus):
  config = helpers.config(dtype='bfloat16')
  step, state, batches = _prepare(config, corpus)
  before = jax.tree.leaves(state)
  for i in range(4):
    state, scalars = step(state, *batches(i))
  assert all(leaf.is_deleted() for leaf in before)
  assert step._cache_size() == 1
  chex.assert_tree_all_finite((state, scalars))
  assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {
    'float32'
  }


def test_seeds_share_their_programs(corpus):
  """Another seed is another beginning, and compiles nothing."""
  (one, first, batches), (other, second, _) = (
    _prepare(helpers.config(seed=seed), corpus) for seed in (0, 1)
  )
  rate, _, _ = _prepare(helpers.config(learning_rate=1.0), corpus)
  assert one is other and one is not rate
  assert np.any(
    first.params.wpe.embedding[...] != second.params.wpe.embedding[...]
  )


def test_optimizers_differ_in_the_matrices_alone(corpus):
  """One step at a matrix rate of zero moves the rest, alike in all."""
  model = train.model_config(helpers.config(), corpus.vocab_size)
  params, loss_and_gradient = helpers.task(corpus)
  (_, gradients), after = loss_and_gradient(params, 0), []
  for optimizer in OPTIMIZERS:
    config = helpers.config(optimizer=optimizer, learning_rate=0.0)
    tx = train.optimizer(config, model)

    @jax.jit
    def step(params, gradients, tx=tx):
      updates, _ = tx.update(gradients, tx.init(params), params)
      return optax.apply_updates(params, updates)

    after.append(step(params, gradients))
    moved = jax.tree_util.tree_map_with_path(
      lambda path, a, b: ('kernel' in str(path), bool(np.any(a != b))),
      params,
      after[-1],
    )
    for kernel, has_moved in jax.tree.leaves(
      moved, is_leaf=lambda x: isinstance(x, tuple)
    ):
      assert has_moved != kernel
  for other in after[1:]:
    chex.assert_trees_all_close(after[0], other, rtol=1e-6, atol=1e-9)


def test_routing_of_the_model():
  config = helpers.config(columns='output')
  table = train.routing(config, train.model_config(config, 28))
  rows = {row.path: row for row in table}
  assert rows['blocks/0/attn/c_attn/kernel'].view == ((1, 16, 48),)
  assert rows['blocks/0/attn/c_attn/kernel'].column_axes == (1,)
  assert {p for p, row in rows.items() if row.group == 'adamw'} == {
    'wte/embedding', 'wpe/embedding', 'ln_f/scale',
    'blocks/0/ln_1/scale', 'blocks/0/ln_2/scale',
  }  # fmt: skip


@pytest.mark.parametrize('preset', PRESETS)
def test_the_loss_says_what_names_say(preset):
  config = make_config(preset=preset)
  table = train.routing(config, train.model_config(config, 50_304))
  params = {
    row.path: jax.ShapeDtypeStruct(row.shape, 'float32') for row in table
  }
  by_name = optax_namo.routing_table(params)
  alike = lambda rows: {row._replace(why='') for row in rows}
  assert alike(table) == alike(by_name)
  assert all('by name' not in row.why for row in table)


def test_schedule_is_warm_up_stable_decay():
  config = helpers.config(steps=30, warmup_steps=5, decay_steps=10)
  rates = [float(schedule(config, 2.0)(t)) for t in range(30)]
  np.testing.assert_allclose(rates[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
  np.testing.assert_allclose(rates[5:20], 2.0)
  np.testing.assert_allclose(rates[20:], np.linspace(2.0, 0.2, 10), rtol=1e-5)
  config = helpers.config(steps=3, warmup_steps=0, decay_steps=0)
  assert [float(schedule(config, 2.0)(t)) for t in range(3)] == [2.0] * 3


@pytest.mark.parametrize('optimizer', ('namo_d', 'namo'))
def test_the_step_lowers_for_every_platform(corpus, optimizer):
  config = helpers.config(optimizer=optimizer, steps=100)
  step, state, batches = _prepare(config, corpus)
  batch = batches(0)
  exported = jax.export.export(step, platforms=('cpu', 'cuda', 'tpu'))
  # What was lowered runs here, and is the same step.
  state_there, scalars = exported(state, *batch).call(state, *batch)
  expected, _ = step(state, *batch)
  assert math.isfinite(scalars['loss'])
  chex.assert_trees_all_close(state_there, expected, rtol=1e-4, atol=1e-6)
