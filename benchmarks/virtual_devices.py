# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether a loop on virtual devices of the CPU ends, by what is set.

  python -m benchmarks.virtual_devices --runs=10 --settings=,PJRT_NPROC=16

A run is a process of eight devices that updates 8 layers of width 384, sharded
on their first axis, `--steps` times without waiting, with an eager operation a
parameter between the steps. XLA ends a process whose devices wait for one
another for longer than `--patience` seconds.
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
_STEPS = flags.DEFINE_integer('steps', 3, 'Updates in a run.')
_SETTINGS = flags.DEFINE_list(
  'settings',
  ['', 'JAX_CPU_ENABLE_ASYNC_DISPATCH=0', 'PJRT_NPROC=16'],
  'Environment variables, one each; nothing for none.',
)
_PATIENCE = flags.DEFINE_integer('patience', 40, "XLA's, in seconds.")
_RUN = flags.DEFINE_bool('run', False, 'Be one of the processes.')


def run(count):
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
    for _ in range(count):
      updates, state = update(params, state, params)
      params = optax.apply_updates(params, updates)
    jax.block_until_ready((params, state))


def main(argv):
  del argv
  if _RUN.value:
    run(_STEPS.value)
    return
  command = [
    sys.executable,
    '-m',
    'benchmarks.virtual_devices',
    '--run',
    f'--steps={_STEPS.value}',
  ]
  flag = '--xla_cpu_collective_call_terminate_timeout_seconds'
  fixed = {
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8'
    f' {flag}={_PATIENCE.value}',
    'JAX_PLATFORMS': 'cpu',
  }
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
    print(
      f'{setting or "nothing set"}: {ended} of {_RUNS.value} runs of'
      f' {_STEPS.value} steps ended',
      flush=True,
    )


if __name__ == '__main__':
  app.run(main)
