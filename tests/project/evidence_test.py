# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The study's protocol: what it runs next, tunes and reports."""

import copy
import dataclasses
import functools
import math
import pathlib
from unittest import mock

from absl.testing import flagsaver
import chex
from flax import nnx
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.evidence import answers
from benchmarks.evidence import batched
from benchmarks.evidence import hypotheses
from benchmarks.evidence import ladders
from benchmarks.evidence import plan
from benchmarks.evidence import report
from benchmarks.evidence.ladders import Rows
from examples import siblings
from optax_namo.nanogpt.compare import __main__ as command
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import OPTIMIZERS

_FOLDER = pathlib.Path(plan.__file__).parent
_BEST = {'namo_d': 0.07, 'namo': 0.018, 'muon': 0.006, 'adamw': 0.0042}
_SIBLINGS = {n: one.learning_rate for n, one in siblings.OPTIMIZERS.items()}


@pytest.fixture(autouse=True, scope='module')
def _siblings_are_known():
  with mock.patch.dict(OPTIMIZERS):
    ladders.know_siblings()
    yield


def _row(run):
  """What a run would leave, were its loss this function of its knobs."""
  config = run.config
  rule = config.optimizer.removeprefix('optax_')
  best = (_BEST | _SIBLINGS)[rule]
  loss = 1.5 + 0.01 * math.log(config.learning_rate / best) ** 2
  loss += 0.01 * math.log(config.adam_learning_rate / 0.006) ** 2
  loss += abs(config.weight_decay - 0.1)
  loss += {'muon': 0.02, 'optax_muon': 0.02}.get(config.optimizer, 0.0)
  sizes = config.batch_size, config.steps, config.embed_dim
  noise = np.random.default_rng(
    (config.seed, list(_BEST | _SIBLINGS).index(rule), *sizes)
  )
  loss += 0.001 * noise.uniform(-1, 1)
  told = {'momentum_norm': 0.2, 'gradient_norm': 1.0, 'scale_mean': 0.2}
  short = run.task or config.preset == 'small'
  own = {
    'task': run.task,
    'signal': [[1, 0.5]],
    'scales': {'kernel': [0.4] * (config.steps // batched.EVERY)},
  }
  return {
    'config': dataclasses.asdict(config),
    'val_losses': [[1, loss]],
    **(own if short else {'diagnostics': {'kernel': told}}),
  }


@functools.cache
def _studied():
  """The rows of the whole study, made in the order in which it asks."""
  rows = []
  while left := plan.left(rows, plan.ALL):
    runs = {run.key: run for of in left.values() for run in of}
    rows += map(_row, runs.values())
  return rows


def test_the_whole_study():
  rows = _studied()
  # No run is made twice, and nobody is tuned on what it is judged by.
  assert len({batched.run_of(row).key for row in rows}) == len(rows)
  assert not set(ladders.TUNING) & set(ladders.FINAL)
  known = Rows(rows)
  for optimizer, best in _BEST.items():
    arm = ladders.tuned(known, optimizer)
    nearest = min(
      ladders.rates(optimizer), key=lambda r: abs(math.log(r / best))
    )
    assert arm['learning_rate'] == nearest
    assert arm['adam_learning_rate'] == 0.006
    assert arm['weight_decay'] == 0.1
  assert all(answers.arms(known, title) for title in plan.ALL)
  found = dict((name, said) for name, _, said in hypotheses.verdicts(known))
  # NAMO is .02 below Muon whatever the batch or the schedule.
  assert 'Neither' in found['H1']
  assert 'Neither' in found['H2 and H5, noise']
  assert 'Contradicted' in found['H3'] and 'It holds' in found['H4']
  assert 'Neither' in found['H5, schedule']
  document = report.document(rows)
  assert '| NAMO-D | Muon | -0.02' in document
  assert '(edge)' not in document and '## Open' not in document


def test_each_figure_of_the_results_is_drawn():
  rows = _studied()
  drawn = report.drawings(rows)
  document = report.document(rows)
  assert len(drawn) == 10 and all(f']({path})' in document for path in drawn)
  # Of what is open nothing is: here all but (j), which has seeds of its own.
  few = [row for row in rows if row['config']['seed'] in ladders.AROUND]
  assert list(report.drawings(few)) == ['figures/rates.png']
  assert report.document(few).count('](figures') == 1


def test_a_rate_that_halves_as_the_width_grows_drifts_by_an_octave():
  arm = lambda rate: {'NAMO': Arm({}, {}, {'learning_rate': rate}, {})}
  # 0.035 and 0.018 are an octave apart, but for their two digits.
  by_width = {64: arm(0.035), 128: arm(0.025), 256: arm(0.018)}
  assert answers.drift(by_width, 'NAMO') == -1.0


def test_a_slope_over_batch_sizes():
  """Of a gain of NAMO that grows by .003 with every doubling of the batch."""
  rows = copy.deepcopy(_studied())
  for row in rows:
    if row['config']['optimizer'] == 'namo':
      row['val_losses'][0][1] -= 0.003 * math.log2(row['config']['batch_size'])
  known = Rows(rows)
  slopes = hypotheses.over_batches(known)[answers.NAMO]
  np.testing.assert_allclose(np.mean(slopes), -0.003, atol=2e-4)
  assert len(slopes) == len(ladders.FINAL)
  verdict = dict((n, said) for n, _, said in hypotheses.verdicts(known))
  assert 'H5 holds here' in verdict['H2 and H5, noise']


def test_a_slope_over_widths():
  """Of a difference to Muon that grows by .01 with every doubling."""
  rows = copy.deepcopy(_studied())
  for row in rows:
    if row['config']['optimizer'] == 'namo_d':
      row['val_losses'][0][1] += 0.01 * math.log2(row['config']['embed_dim'])
  known = Rows(rows)
  by_decay = hypotheses.over_widths(known)
  assert by_decay.keys() == answers.WIDTHS.keys()
  for slopes in by_decay.values():
    np.testing.assert_allclose(slopes, 0.01, atol=3e-3)
    assert len(slopes) == len(ladders.UNSEEN)
  assert 'It holds.' in hypotheses.width(known)
  assert 'Neither' in hypotheses.width(Rows(_studied()))


def test_what_changes_no_knob_is_no_variation():
  """Muon's two decays are one, and none is its best decay where that is 0."""
  known = Rows(_studied())
  arms = answers.arms(known, 'Decay')
  namo, none = arms['NAMO'], arms['NAMO, none']
  pairs = {(str(d.one), str(d.other)) for d in answers.differences(arms)}
  assert ('NAMO, none', 'NAMO') in pairs
  assert ('Muon, decoupled', 'Muon') not in pairs
  same = none._replace(labels={})
  assert (none, namo) in answers.variations(arms)
  assert none not in [
    one for one, _ in answers.variations(arms | {'NAMO': same})
  ]


def test_an_open_question_has_no_figures():
  rows = _studied()
  gone = next(
    i
    for i, row in enumerate(rows)
    if row['config']['seed'] in ladders.FINAL
    and row['config']['steps'] == 800
    and not row.get('task')
  )
  document = report.document(rows[:gone] + rows[gone + 1 :])
  assert '## (a) Ordering' not in document
  assert '(a) Ordering' in document.split('## Open')[1]


def test_a_best_value_at_the_end_of_its_ladder_is_marked():
  at = lambda **setting: Arm({'optimizer': 'namo'}, {}, setting, {})
  rate = ladders.rates('namo')[-1]
  assert report.edge(at(learning_rate=rate), 'learning_rate')
  assert not report.edge(at(weight_decay=0.0), 'weight_decay')
  assert report.edge(at(weight_decay=1.0), 'weight_decay')


def test_published_results_are_those_of_the_rows():
  rows = sweep.read_results(_FOLDER)
  for row in rows:
    from_file(row['config'])
  assert (_FOLDER / 'RESULTS.md').read_text() == report.document(rows)
  for path in report.drawings(rows):
    assert (_FOLDER / path).exists()


def test_the_study_of_gpt2_can_be_run(capsys, tmp_path):
  """All but the data: the runs it names, and that they are left."""
  ids = np.arange(2000, dtype=np.uint16)
  for name in ('train.bin', 'val.bin'):
    ids.tofile(tmp_path / name)
  config = f'--config={_FOLDER / "gpt2.yaml"}'
  with flagsaver.flagsaver():
    command.main(
      command.parse(
        ['compare', config, f'--data={tmp_path}', f'--out={tmp_path / "out"}',
         '--dry_run']
      )
    )  # fmt: skip
  assert '36 of 36 runs are left' in capsys.readouterr().out


def test_a_rate_that_follows_a_curve():
  """In a state of Flax; a curve of no matrix is an error."""
  params = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
  tx = batched._follow({'kernel': jnp.array([0.5, 0.25])})
  state = tx.init(params)
  for factor in (0.5, 0.25):
    updates, state = tx.update(params, state)
    chex.assert_trees_all_close(
      updates['kernel'][...], factor * params['kernel'][...]
    )
    chex.assert_trees_all_close(updates['bias'][...], params['bias'][...])
  with pytest.raises(KeyError):
    batched._follow({'other': jnp.ones(2)}).update(params, jnp.zeros([], int))
