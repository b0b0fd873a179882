# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is logged of a step: diagnostics, and TensorBoard's scalars."""

import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tensorboardX.proto import event_pb2

import optax_namo
from optax_namo.nanogpt import metrics


def test_diagnostics_are_plain_numbers_of_five_digits():
  params = {'block': {'kernel': jnp.arange(12.0).reshape(3, 4)}}
  tx = optax_namo.namo_d(0.1, record='orthogonality')
  _, state = jax.jit(tx.update)(params, tx.init(params), params)
  told = metrics.diagnostics(state)
  expected = optax_namo.diagnostics(state)['block/kernel']._asdict()
  del expected['step']
  assert list(told) == ['block/kernel']
  assert list(told['block/kernel']) == list(expected)
  for name, value in told['block/kernel'].items():
    assert isinstance(value, float) and len(repr(value)) <= 11
    np.testing.assert_allclose(value, expected[name], rtol=1e-4)


def test_an_optimizer_that_records_nothing_tells_nothing():
  params = {'kernel': jnp.ones((3, 4))}
  for tx in (optax.adamw(0.1), optax_namo.namo_d(0.1)):
    assert metrics.diagnostics(tx.init(params)) == {}


def _events(folder):
  """The scalars in a folder as (step, tag, value), files in order of time."""
  scalars = []
  for path in sorted(folder.iterdir()):
    content = path.read_bytes()
    while content:  # Length, its checksum, the event, its checksum.
      (size,) = struct.unpack_from('<Q', content)
      event = event_pb2.Event.FromString(content[12 : 12 + size])
      content = content[16 + size :]
      if event.HasField('session_log'):
        scalars = [s for s in scalars if s[0] < event.step]
      for value in event.summary.value:
        scalars.append((event.step, value.tag, value.simple_value))
  return scalars


def test_both_go_on_after_a_step(tmp_path):
  rows = [
    {'step': 1, 'loss': 4.0},
    {'step': 2, 'loss': 3.0, 'diagnostics': {'a/kernel': {'scale_mean': 0.5}}},
    {'step': 3, 'loss': 2.0},
  ]
  scalars = [
    (1, 'train/loss', 4.0),
    (2, 'train/loss', 3.0),
    (2, 'scale_mean/a/kernel', 0.5),
    (3, 'train/loss', 2.0),
  ]
  log = metrics.Log(tmp_path, 0, tensorboard=True)
  log.write(rows)
  log.close()
  board = tmp_path / 'tensorboard'
  assert _events(board) == scalars
  assert metrics.read(tmp_path) == rows
  # Killed after step 3, resumed from the checkpoint of step 1.
  again = metrics.Log(tmp_path, 1, tensorboard=True)
  again.write(rows[1:2])
  again.close()
  assert sorted(_events(board)) == sorted(scalars[:3])
  assert metrics.read(tmp_path) == rows[:2]


@pytest.mark.parametrize(
  'line', [b'[]', b'3', b'null', b'{"loss": 1}', b'{"step": 1, ', b'\xff\xfe']
)
def test_a_damaged_line_takes_no_other(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  rows = [{'step': step, 'loss': 2.0} for step in (1, 2)]
  first, second = (json.dumps(row).encode() for row in rows)
  path.write_bytes(b'\n'.join([line, first, line, second, b'']))
  assert metrics.read(tmp_path) == rows
  metrics.Log(tmp_path, 2, tensorboard=False).close()
  assert path.read_bytes() == b'\n'.join([first, second, b''])


def test_rows_after_a_step_are_cut(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  rows = [{'step': step, 'loss': step / 3} for step in range(1, 6)]
  torn = ''.join(json.dumps(row) + '\n' for row in rows) + '{"step": 6, "lo'
  path.write_text(torn)
  assert metrics.read(tmp_path) == rows
  log = metrics.Log(tmp_path, 3, tensorboard=False)
  log.write([{'step': 4, 'loss': 0.5}])
  # Not closed yet: the rows are there for whoever looks, or kills.
  assert metrics.read(tmp_path) == [*rows[:3], {'step': 4, 'loss': 0.5}]
  log.close()
