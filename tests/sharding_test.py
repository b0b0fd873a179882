# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stacks spread over a mesh of eight host devices, in a process of its own."""

import json
import os
import subprocess
import sys

from absl.testing import absltest
import jax
import jax.numpy as jnp
import numpy as np

import optax_namo

_SCRIPT = """
import json

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np
import optax_namo

rng = np.random.default_rng(0)
params = {
  'a': rng.normal(size=(64, 128)), 'b': rng.normal(size=(128, 64)),
  'wte': rng.normal(size=(8, 64)), 'bias': rng.normal(size=64),
}
params |= {f'layer_{i}': rng.normal(size=(64, 128)) for i in range(9)}
params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
mesh = jax.make_mesh((8,), ('fsdp',), axis_types=(AxisType.Auto,))

def run(shard_over, spec, use_mesh):
  tx = optax_namo.namo_d(0.1, shard_over=shard_over)
  put = lambda x: jax.device_put(x, NamedSharding(mesh, spec))
  p = jax.tree.map(put, params)
  state = tx.init(p)
  step = jax.jit(tx.update).lower(p, state, p).compile()
  for i in range(3):
    g = jax.tree.map(lambda x: jnp.sin((i + 1) * x), p)
    if use_mesh:
      with jax.set_mesh(mesh):
        updates, state = jax.jit(tx.update)(g, state, p)
    else:
      updates, state = jax.jit(tx.update)(g, state, p)
  return updates, step.cost_analysis()['flops']

expected, whole = run(None, P(), False)
for spec in (P(), P('fsdp')):
  for use_mesh in (True, False):
    found, share = run('fsdp', spec, use_mesh)
    error = max(
      float(jnp.abs(found[k] - expected[k]).max()) for k in params
    )
    print(json.dumps({'error': error, 'share': share / whole}))

explicit = jax.make_mesh((8,), ('fsdp',), axis_types=(AxisType.Explicit,))
tx = optax_namo.namo_d(0.1, shard_over='fsdp')
put = lambda x: jax.device_put(x, NamedSharding(explicit, P()))
p = jax.tree.map(put, params)
try:
  with jax.set_mesh(explicit):
    tx.update(p, tx.init(p), p)
except ValueError as error:
  assert 'Auto' in str(error), error
  print(json.dumps('explicit meshes are refused'))

# What is recorded, on one device and sharded.
tx = optax_namo.namo_d(0.1, record='orthogonality', orthogonalizer=jnp.sign)
only = {'a': params['a']}
for sharding in (NamedSharding(mesh, P('fsdp')),
                 NamedSharding(explicit, P(None, 'fsdp'))):
  told = []
  for p in (only, jax.device_put(only, sharding)):
    with jax.set_mesh(p['a'].sharding.mesh if told else jax.make_mesh((), ())):
      _, state = jax.jit(tx.update)(p, tx.init(p), p)
      found = jax.jit(optax_namo.diagnostics)(state)['a']
      told.append(jax.tree.map(float, found))
  print(json.dumps(told))
"""


class ShardingTest(absltest.TestCase):
  def test_same_numbers_and_an_eighth_of_the_work(self):
    flags = '--xla_force_host_platform_device_count=8'
    found = subprocess.run(
      [sys.executable, '-c', _SCRIPT],
      capture_output=True,
      text=True,
      env=os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'},
    )
    self.assertEqual(found.returncode, 0, found.stderr)
    lines = map(json.loads, found.stdout.splitlines())
    *runs, refused, auto, explicit = lines
    self.assertLen(runs, 4)
    self.assertEqual(refused, 'explicit meshes are refused')
    for run in runs:
      self.assertLess(run['error'], 1e-5)
      # Eleven matrices are padded to sixteen: two of them for each device,
      # 2 / 11 = 0.18 of all, and what the rest of the step costs.
      self.assertBetween(run['share'], 0.15, 0.25)
    for alone, sharded in (auto, explicit):
      np.testing.assert_allclose(sharded, alone, rtol=1e-5)

  def test_no_mesh(self):
    tx = optax_namo.namo(0.1, shard_over='fsdp')
    params = {'w': jnp.ones((4, 4))}
    jax.eval_shape(tx.init, params)
    state = tx.init(params)
    with self.assertRaisesRegex(ValueError, "'fsdp'.*jax.set_mesh"):
      tx.update(params, state, params)


if __name__ == '__main__':
  absltest.main()
