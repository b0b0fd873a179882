# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Meshes of eight host devices, in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import steps
import optax_namo


def _on_eight_devices(*arguments):
  """The JSON lines of tests/core/on_eight_devices.py."""
  found = subprocess.run(
    [sys.executable, '-m', 'tests.core.on_eight_devices', *arguments],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    env=os.environ
    | {
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8',
      'JAX_PLATFORMS': 'cpu',
    },
  )
  assert found.returncode == 0, found.stderr
  return [json.loads(line) for line in found.stdout.splitlines()]


class ShardingTest(parameterized.TestCase):
  @parameterized.parameters('auto', 'explicit')
  def test_every_layout(self, kind):
    rows = _on_eight_devices('layouts', kind)
    self.assertLen(rows, 14)
    for row in rows:
      with self.subTest(row['name']):
        self.assertLess(row['error'], 1e-5)
        # On Auto axes the compiler chooses, and moves stacked leaves.
        if kind == 'explicit':
          self.assertEmpty(row['moved state'])
          self.assertEmpty(row['moved updates'])
          self.assertEqual(row['compiled'], 1)

  @parameterized.parameters('auto', 'explicit')
  def test_inside_a_shard_map_over_another_axis(self, kind):
    whole, spread, manual = _on_eight_devices('shard_map', kind)
    self.assertLess(whole, 1e-5)
    self.assertLess(spread, 1e-5)
    self.assertIn("manual over ['data']", manual)

  @pytest.mark.full_compile
  @parameterized.parameters('auto', 'explicit')
  def test_each_device_orthogonalizes_its_share(self, kind):
    """Eight layers of width 384, parameters sharded on their first axis."""
    (rows,) = _on_eight_devices('cost', kind)
    params = steps.parameters(8, 384, 0, 0)
    whole = steps.compiled(optax_namo.namo_d(0.01), params).cost_analysis()
    for optimizer in ('namo_d', 'namo'):
      row = rows[optimizer]
      self.assertNotIn('all-gather', row['collectives'])
      self.assertLess(row['flops'], 1.02 * whole['flops'] / 8)
      if kind == 'auto':
        muon = sum(rows['optax.contrib.muon']['collectives'].values())
        ours = sum(row['collectives'].values())
        self.assertLess(ours, muon / 15)

  @parameterized.parameters('auto', 'explicit')
  def test_what_is_recorded(self, kind):
    ((alone, sharded),) = _on_eight_devices('recorded', kind)
    np.testing.assert_allclose(sharded, alone, rtol=1e-4)

  def test_no_mesh(self):
    tx = optax_namo.namo(0.1, shard_over='fsdp')
    params = {'w': jnp.ones((4, 4))}
    jax.eval_shape(tx.init, params)
    state = tx.init(params)
    with self.assertRaisesRegex(ValueError, 'jax.set_mesh'):
      tx.update(params, state, params)


if __name__ == '__main__':
  absltest.main()
