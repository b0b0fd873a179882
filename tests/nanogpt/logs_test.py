# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is logged of a step: diagnostics, and TensorBoard's scalars."""

import struct

import jax.numpy as jnp
import numpy as np
from tensorboardX.proto import event_pb2

import optax_namo
from optax_namo.nanogpt import logs


def test_diagnostics_are_plain_numbers_of_five_digits():
  params = {'block': {'kernel': jnp.arange(12.0).reshape(3, 4)}}
  tx = optax_namo.namo_d(0.1, record='orthogonality')
  _, state = tx.update(params, tx.init(params), params)
  found = logs.diagnostics(state)
  expected = optax_namo.diagnostics(state)['block/kernel']._asdict()
  del expected['step']
  assert list(found) == ['block/kernel']
  assert list(found['block/kernel']) == list(expected)
  for name, value in found['block/kernel'].items():
    assert isinstance(value, float) and len(repr(value)) <= 11
    np.testing.assert_allclose(value, expected[name], rtol=1e-4)


def _events(folder):
  """The scalars in a folder as (step, tag, value), files in order of time."""
  found = []
  for path in sorted(folder.iterdir()):
    content = path.read_bytes()
    while content:  # Length, its checksum, the event, its checksum.
      (size,) = struct.unpack_from('<Q', content)
      event = event_pb2.Event.FromString(content[12 : 12 + size])
      content = content[16 + size :]
      if event.HasField('session_log'):
        found = [f for f in found if f[0] < event.step]
      for value in event.summary.value:
        found.append((event.step, value.tag, value.simple_value))
  return found


def test_board(tmp_path):
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
  board = logs.Board(tmp_path, 0)
  board.write(rows)
  board.close()
  assert _events(tmp_path) == scalars
  # Killed after step 3, resumed from the checkpoint of step 1.
  again = logs.Board(tmp_path, 1)
  again.write(rows[1:2])
  again.close()
  assert sorted(_events(tmp_path)) == sorted(scalars[:3])
