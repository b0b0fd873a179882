# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Short runs from one program, what theory expects of them, and other tasks."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.evidence import batched
from benchmarks.evidence import beyond
from benchmarks.evidence import theory
from optax_namo.nanogpt import data
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import PRESETS
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer

_BATCH = 4


@functools.cache
def _corpus():
  tokens = np.random.default_rng(0).integers(5, size=4000).astype(np.uint16)
  return data.Corpus(tokens[:2000], tokens[2000:], 5, list, str, 'random')


def _run(task='', **knobs):
  config = make_config(
    **{'preset': 'small', 'optimizer': 'muon', 'steps': 6, 'embed_dim': 8,
       'batch_size': _BATCH, 'eval_sequences': 16, 'weight_decay': 0.0,
       'ns_steps': 1, **knobs}
  )  # fmt: skip
  return batched.Run(config, task)


@pytest.fixture(autouse=True, scope='module')
def _little_to_compile():
  """One layer, and probes of a batch's shape: one program has both."""
  small = dataclasses.replace(PRESETS['small'], num_layers=1)
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(PRESETS, 'small', small)
    patch.setattr(batched, '_PROBE', _BATCH)
    yield


@pytest.fixture(scope='module')
def rows():
  """Of two runs of NAMO, which differ in rate and seed, from one program."""
  knobs = [{'learning_rate': 0.1, 'seed': 0}, {'learning_rate': 0.2, 'seed': 1}]
  runs = [_run(optimizer='namo', **of) for of in knobs]
  return batched.train_runs(runs, _corpus())


def test_a_run_ends_as_the_examples_does(rows):
  config = batched.run_of(rows[1]).config
  mesh, tx = make_mesh(''), make_optimizer(config)
  graphdef, state = train.init(config, train.model_config(config, 5), tx, mesh)
  step = train.make_step(graphdef, tx, mesh)
  for i in range(config.steps):
    state, _ = step(state, *train.batches(config, _corpus(), i, mesh))
  evaluate = train.make_evaluate(graphdef, config, _corpus().val, mesh)
  ((steps, loss),) = rows[1]['val_losses']
  assert steps == 6
  assert loss == pytest.approx(evaluate(state.params), abs=1e-4)


def test_a_row_has_signal_and_scales(rows):
  for row in rows:
    json.dumps(row, allow_nan=False)
    ((steps, signal),) = row['signal']
    assert steps == 6 and math.isfinite(signal)
    assert len(row['scales']) == 4  # Matrices.
    for scales in row['scales'].values():
      assert len(scales) == 2 and scales[0] == pytest.approx(1.95, abs=1e-3)


def test_muon_follows_what_namo_had(rows):
  """At its own scale's curve and rate it is NAMO."""
  config = batched.run_of(rows[0]).config
  run = batched.Run(
    dataclasses.replace(config, optimizer='muon'), 'follows each matrix'
  )
  curves = batched.curves(run, rows[:1])
  for path, scales in rows[0]['scales'].items():
    np.testing.assert_allclose(curves[path][:: batched.EVERY], scales)
  # Two, as in `rows`: the gradient is the same program.
  row, _ = batched.train_runs([run] * 2, _corpus(), rows[:1])
  assert row['val_losses'][0][1] == pytest.approx(
    rows[0]['val_losses'][0][1], abs=0.02
  )


def test_tasks():
  sizes = [
    batched.batch(_run('ramp', steps=14), _corpus(), i)[0].shape[1]
    for i in range(14)
  ]
  assert sizes == sorted(2 * [16, 32, 64, 128, 256, 512, 1024])
  plain, noisy = _run(batch_size=64), _run('labels', batch_size=64)
  for step, share in ((2, 0.0), (3, 0.4)):  # A fifth of the drawn are right.
    inputs, targets = batched.batch(plain, _corpus(), step)
    same, drawn = batched.batch(noisy, _corpus(), step)
    np.testing.assert_array_equal(inputs, same)
    assert np.mean(targets != drawn) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize('namo', [True, False])
def test_theory_is_what_a_noisy_quadratic_does(namo):
  rng, steps, inputs, replicas = np.random.default_rng(0), 100, 256, 40
  rates = np.full((1, steps), 0.1)
  e = np.full((replicas, inputs), 2.0)
  m, v = np.zeros_like(e), np.zeros(replicas)
  for t in range(1, steps + 1):
    g = e + rng.standard_normal(e.shape)
    m = theory.B1 * m + (1 - theory.B1) * g
    v = theory.B2 * v + (1 - theory.B2) * np.mean(g**2, 1)
    ahead = theory.B1 * m + (1 - theory.B1) * g
    size = np.sqrt(np.mean(ahead**2, 1))
    corrected = v / (1 - theory.B2**t)
    scale = size / np.sqrt(corrected) / (1 - theory.B1**t) if namo else 1.0
    e = e - 0.1 * (scale / size)[:, None] * ahead
  (expected,) = theory.losses(rates, 4.0, namo)
  assert np.mean(e**2) == pytest.approx(expected, rel=0.1)


def test_theory_expects_nothing_where_all_is_noise():
  assert theory.expected(0.1, decays=True) == pytest.approx(1, abs=0.03)
  assert theory.expected(16, decays=False) < theory.expected(16, True) < 1


def test_beyond_tunes_and_goes_on(monkeypatch, tmp_path):
  made = []

  def program(task, optimizer):
    best = {'muon': 0.012, 'adamw': 0.0042}.get(optimizer, 0.07)

    def scores(rates, seeds):
      made.append(len(seeds))
      loss = abs(math.log(rates['learning_rate'] / best))
      loss += abs(math.log(rates['adam_learning_rate'] / 0.006))
      return jnp.asarray(loss + 0.01 * seeds)

    return scores

  monkeypatch.setattr(beyond, '_program', program)
  path = tmp_path / 'beyond.jsonl'
  knobs = beyond.tuned(beyond.Rows(path, 'cart and pole'), 'namo')
  assert (knobs['learning_rate'], knobs['adam_learning_rate']) == (0.07, 0.006)
  first = beyond.table(path)
  count = len(made)
  assert beyond.table(path) == first and len(made) == count
  assert 'ViT, 16 images: NAMO-D | 0.07, 0.006' in first


def test_a_pole_falls_without_a_policy():
  """And pushing it left alone, it is down at once."""
  task = beyond.TASKS['cart and pole']
  left = lambda states: jnp.stack([0 * states[:, 0] + 50, states[:, 0]], axis=1)
  loss, alive = jax.jit(lambda key: task.loss(left, key))(jax.random.key(0))
  assert 8 / 200 < float(alive) < 12 / 200  # Nine or ten steps.
  assert float(task.score(None, jnp.full(20, alive))) == pytest.approx(
    1 - float(alive)
  )
