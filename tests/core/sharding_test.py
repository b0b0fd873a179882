# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Meshes of eight host devices, in processes of their own."""

import functools
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

from benchmarks import scaling
from benchmarks import steps
import optax_namo

# What one start of eight devices finds for several tests.
_SHARED = tuple(
  f'{name} {kind}'
  for kind in ('auto', 'explicit')
  for name in ('shard_map', 'recorded', 'cost')
) + ('uneven explicit',)


@functools.cache
def _on_eight_devices(*experiments):
  """What tests/core/on_eight_devices.py finds, by experiment."""
  result = subprocess.run(
    [sys.executable, '-m', 'tests.core.on_eight_devices', *experiments],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    env=os.environ
    | {
      # Without the fusion emitters a step compiles in a third of the time.
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8'
      ' --xla_cpu_use_fusion_emitters=false',
      'PJRT_NPROC': '16',  # docs/devices.md: twice the devices.
      'JAX_PLATFORMS': 'cpu',
    },
  )
  assert result.returncode == 0, result.stderr
  found = {experiment: [] for experiment in experiments}
  for line in result.stdout.splitlines():
    experiment, finding = json.loads(line)
    found[experiment].append(finding)
  return found


class ShardingTest(parameterized.TestCase):
  @parameterized.parameters('auto', 'explicit')
  def test_every_layout(self, kind):
    experiment = f'layouts {kind}'
    rows = _on_eight_devices(experiment)[experiment]
    self.assertLen(rows, 14)
    for row in rows:
      with self.subTest(row['name']):
        self.assertLess(row['error'], 1e-5)
        self.assertEmpty(row['moved state'])
        self.assertEmpty(row['moved updates'])
        self.assertEqual(row['compiled'], 1)

  @parameterized.parameters('auto', 'explicit')
  def test_inside_a_shard_map_over_another_axis(self, kind):
    whole, spread, manual = _on_eight_devices(*_SHARED)[f'shard_map {kind}']
    self.assertLess(whole, 1e-5)
    self.assertLess(spread, 1e-5)
    self.assertIn("manual over ['data']", manual)

  @parameterized.parameters('auto', 'explicit')
  def test_each_device_orthogonalizes_its_share(self, kind):
    """Eight layers of width 384, parameters sharded on their first axis."""
    (rows,) = _on_eight_devices(*_SHARED)[f'cost {kind}']
    params = steps.parameters(8, 384, 0, 0)
    with steps.unrolled():
      whole = steps.compiled(optax_namo.namo_d(0.01), params).cost_analysis()
    for optimizer in ('namo_d', 'namo'):
      row = rows[optimizer]
      self.assertNotIn('all-gather', row['collectives'])
      self.assertLess(row['flops'], 1.02 * whole['flops'] / 8)
      if kind == 'auto':
        muon = scaling.total(rows['optax.contrib.muon']['collectives'])
        self.assertLess(scaling.total(row['collectives']), muon / 30)

  @parameterized.parameters('cost auto', 'cost explicit', 'uneven explicit')
  def test_one_exchange_in_and_one_out(self, experiment):
    """For each stack; out lies across fc, with which it is one stack."""
    (rows,) = _on_eight_devices(*_SHARED)[experiment]
    for optimizer in ('namo_d', 'namo'):
      with self.subTest(optimizer):
        found = rows[optimizer]['collectives']
        self.assertSetEqual(set(found), {'all-to-all', 'all-reduce'})
        self.assertLen(
          found['all-to-all'], 2 * len(('qkv', 'proj', 'fc', 'out'))
        )
        # Norms of columns.
        self.assertLess(sum(found['all-reduce']), 1000)
        if experiment.startswith('cost'):
          # A device's eighth of every matrix leaves it once and comes back.
          eighth = 4 * 8 * 12 * 384**2 // 8
          self.assertEqual(sum(found['all-to-all']), 2 * eighth)

  @parameterized.parameters('auto', 'explicit')
  def test_what_is_recorded(self, kind):
    ((alone, sharded),) = _on_eight_devices(*_SHARED)[f'recorded {kind}']
    np.testing.assert_allclose(sharded, alone, rtol=1e-4)

  def test_importing_changes_no_configuration(self):
    code = (
      'import os, jax, optax\n'
      'look = lambda: (dict(jax.config.values), dict(os.environ))\n'
      'before = look()\n'
      'import optax_namo\n'
      'assert look() == before'
    )
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', code], cwd=root, check=True)

  def test_no_mesh(self):
    tx = optax_namo.namo(0.1, shard_over='fsdp')
    params = {'w': jnp.ones((4, 4))}
    jax.eval_shape(tx.init, params)
    state = tx.init(params)
    with self.assertRaisesRegex(ValueError, 'jax.set_mesh'):
      tx.update(params, state, params)


if __name__ == '__main__':
  absltest.main()
