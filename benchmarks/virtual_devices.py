# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a loop on virtual devices of the CPU ends, by what is set.

  python -m benchmarks.virtual_devices --runs=10 --settings=,PJRT_NPROC=16

A run is a process of eight devices that updates 8 layers of width 384, sharded
on their first axis, three times without waiting, with an eager operation a
parameter between the steps. XLA ends a process whose devices wait for one
another for longer than 40 seconds.
"""

import os
import pathlib
import subprocess
import sys

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import optax

from benchmarks import steps
import optax_namo

_RUNS = flags.DEFINE_integer('runs', 10, 'Processes with each setting.')
_SETTINGS = flags.DEFINE_list(
  'settings',
  ['', 'JAX_CPU_ENABLE_ASYNC_DISPATCH=0', 'PJRT_NPROC=16'],
  'Environment variables, one each; nothing for none.',
)
_STEPS = 3
_RUN = flags.DEFINE_bool('run', False, 'Be one of the processes.')


def run():
  """The loop."""
  mesh = jax.make_mesh((8,), ('fsdp',), axis_types=(AxisType.Auto,))
  sharding = NamedSharding(mesh, P('fsdp', None))
  params = jax.tree.map(
    lambda x: jax.device_put(jnp.full(x.shape, 0.01, x.dtype), sharding),
    steps.parameters(8, 384, 0, 0),
  )
  tx = optax_namo.namo_d(0.01, shard_over='fsdp')
  with jax.set_mesh(mesh):
    state = tx.init(params)
    update = jax.jit(tx.update)
    for _ in range(_STEPS):
      updates, state = update(params, state, params)
      params = optax.apply_updates(params, updates)
    jax.block_until_ready((params, state))


def main(argv):
  del argv
  if _RUN.value:
    run()
    return
  command = [sys.executable, '-m', 'benchmarks.virtual_devices', '--run']
  devices = '--xla_force_host_platform_device_count=8'
  patience = '--xla_cpu_collective_call_terminate_timeout_seconds=40'
  fixed = {'XLA_FLAGS': f'{devices} {patience}', 'JAX_PLATFORMS': 'cpu'}
  for setting in _SETTINGS.value:
    chosen = dict([setting.split('=')]) if setting else {}
    ended = 0
    for _ in range(_RUNS.value):
      result = subprocess.run(
        command,
        cwd=pathlib.Path(__file__).parents[1],
        env=os.environ | fixed | chosen,
        capture_output=True,
        text=True,
      )
      if result.returncode and 'rendezvous' not in result.stderr.lower():
        raise RuntimeError(result.stderr)
      ended += not result.returncode
    what = f'{ended} of {_RUNS.value} runs of {_STEPS} steps ended'
    print(f'{setting or "nothing set"}: {what}', flush=True)


if __name__ == '__main__':
  app.run(main)
