# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests share."""

import functools
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def normal(seed, *shape, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), dtype)


def run(tx, gradients, params=None):
  """The last updates of a run at parameters that stay, by one jitted step."""
  state = tx.init(gradients[0] if params is None else params)
  step = jax.jit(tx.update)  # One compilation, not one for each operation.
  for gradient in gradients:
    updates, state = step(gradient, state, params)
  return updates


def relative_error(found, expected):
  """||found - expected|| / ||expected||, in float64."""
  found, expected = (np.asarray(x, np.float64) for x in (found, expected))
  return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def tolerance(on_cpus: float) -> float:
  """A bound on what float32 products lead to, where the tests run.

  Bounds are those of CPUs, which multiply float32 as it is. By default GPUs
  round the operands to TF32, by up to 2**-11, and TPUs to bfloat16, by up to
  2**-8. Five steps of Newton-Schulz make of the latter an error of 0.035, nine
  times as much; 16 times leaves a margin.
  """
  rounding = {'cpu': 0.0, 'tpu': 2.0**-8}
  return max(on_cpus, 16 * rounding.get(jax.default_backend(), 2.0**-11))


@functools.cache
def on_eight_devices(module, *experiments):
  """What a module finds in a process of eight devices, by experiment."""
  result = subprocess.run(
    [sys.executable, '-m', module, *experiments],
    cwd=pathlib.Path(__file__).parents[1],
    capture_output=True,
    text=True,
    env=environment(8),
  )
  assert result.returncode == 0, result.stderr
  found: dict[str, list[Any]] = {experiment: [] for experiment in experiments}
  for line in result.stdout.splitlines():
    experiment, finding = json.loads(line)
    found[experiment].append(finding)
  return found


def environment(devices=1):
  """Of a process of so many host devices, which compiles as tests do."""
  count = f'--xla_force_host_platform_device_count={devices}'
  return os.environ | {
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'JAX_PLATFORMS': 'cpu',
    'PJRT_NPROC': f'{2 * devices}',  # docs/devices.md: twice the devices.
    'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {count}',
  }
