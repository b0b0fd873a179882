# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Other people's protocols on tiny data: modded-nanogpt's, AlgoPerf's."""

import importlib
import json
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import track3


def _shard(path, tokens):
  header = np.zeros(256, '<i4')
  header[:3] = 20240520, 1, len(tokens)
  path.write_bytes(header.tobytes() + tokens.astype('<u2').tobytes())


def test_track3_on_two_shards(tmp_path):
  sizes = track3.Sizes(
    vocab=8, layers=1, width=16, head=8, context=8, batch=4, micro=2,
    val_batches=1, eval_every=4,
  )  # fmt: skip
  count = np.arange(2 + 4 * 32) % 8  # To be learned: the next number follows.
  for name in ('train_000001', 'train_000002', 'val_000000'):
    _shard(tmp_path / f'fineweb_{name}.bin', count)
  inputs, targets = next(track3.batches(tmp_path, 'train', sizes))
  assert inputs.shape == (2, 2, 8)
  np.testing.assert_array_equal((inputs + 1) % 8, targets)
  tx = track3.optimizer('namo_d', 0.1, 0.01, 8)
  said = []
  assert track3.train(tmp_path, tx, 8, 0, sizes, said.append) == 0
  losses = [float(line.split()[-1]) for line in said]
  assert losses[0] == pytest.approx(np.log(8), abs=1e-4)
  assert len(losses) == 3 and losses[-1] < losses[0] - 0.3
  with pytest.raises(ValueError, match='no shard'):
    (tmp_path / 'x').write_bytes(bytes(2048))
    track3.shard(tmp_path / 'x')


class _Workload:
  """A line to fit, with AlgoPerf's interface."""

  step_hint = 20
  param_shapes = {'kernel': types.SimpleNamespace(shape_tuple=(4, 3))}

  def model_fn(self, params, batch, state, mode, rng, **options):
    assert mode == 'TRAIN' and options['update_batch_norm']
    return batch['inputs'] @ params['kernel'], state

  def loss_fn(self, label_batch, logits_batch, mask_batch):
    assert mask_batch is None
    each = optax.l2_loss(logits_batch, label_batch)
    return {'summed': each.sum(), 'n_valid_examples': len(each)}


def test_a_submission_to_algoperf(monkeypatch):
  spec = types.SimpleNamespace(
    ForwardPassMode=types.SimpleNamespace(TRAIN='TRAIN')
  )
  where = lambda: jax.sharding.SingleDeviceSharding(jax.devices()[0])
  utils = types.SimpleNamespace(
    get_replicate_sharding=where, get_batch_dim_sharding=where
  )
  package = types.SimpleNamespace(spec=spec, jax_sharding_utils=utils)
  monkeypatch.setitem(sys.modules, 'algoperf', package)
  name = 'benchmarks.algoperf.submission'
  monkeypatch.delitem(sys.modules, name, raising=False)
  of = importlib.import_module(name)
  space = pathlib.Path(of.__file__).with_name('tuning_search_space.json')
  tuned = types.SimpleNamespace(
    **{
      knob: x['max'] if 'max' in x else x['feasible_points'][0]
      for knob, x in json.loads(space.read_text()).items()
    }
  )
  rng, workload = np.random.default_rng(0), _Workload()
  inputs = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)
  batch = {'inputs': inputs, 'targets': inputs @ jnp.eye(4, 3)}
  params = {'kernel': jnp.zeros((4, 3))}
  state = of.init_optimizer_state(workload, None, None, tuned, None)
  gap = lambda p: float(jnp.linalg.norm(p['kernel'] - jnp.eye(4, 3)))
  for step in range(5):
    taken = of.data_selection(
      workload, iter([batch]), state, params, {}, tuned, step, None
    )
    state, params, model_state = of.update_params(
      workload, params, None, {}, tuned, taken, None, state, [], step,
      jax.random.key(0),
    )  # fmt: skip
  assert gap(params) < 3**0.5 - 0.1
  same = of.prepare_for_eval(
    workload, params, None, model_state, tuned, None, state, [], 5, None
  )
  assert same[1] is params and of.get_batch_size('mnist') == 16
