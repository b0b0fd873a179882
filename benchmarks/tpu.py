# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs on a TPU, by its compiler's own count; no TPU is needed.

  pip install -e '.[nanogpt,tpu]'
  python -m benchmarks.tpu --against=HEAD~1

libtpu compiles for a TPU that is described to it. Of the compiled program of
the example's gradient and of its optimizer's steps: floating-point operations,
bytes read and written, and temporary memory. No time is measured, nothing runs.
"""

import os

# What libtpu would ask the machine, were it one of a TPU pod.
os.environ |= {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}

# ruff: noqa: E402
from absl import flags
from flax import nnx
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from benchmarks import harness
from benchmarks import steps
from benchmarks.contenders import BASELINE
from benchmarks.contenders import contenders
from benchmarks.contenders import MAIN
from optax_namo.nanogpt import model as gpt

# Name: model, sequences in a batch. A layer of GPT-2 124M is like the others.
MODELS = {
  'char': (gpt.GPTConfig(96, 128, 4, 4, 128), 16),
  'gpt2 of 2 layers': (
    gpt.GPTConfig(50304, 1024, 2, 12, 768, dtype='bfloat16'),
    12,
  ),
}
_UNITS = {
  'flops': ('GFLOP', 1e9),
  'bytes': ('MB read and written', 1e6),
  'temporary_memory': ('MB temporary', 1e6),
}
_TOPOLOGY = 'v5e:2x2'
_MODELS = flags.DEFINE_list('models', ['char'], f'Of {list(MODELS)}.')


def cost(function, *arguments):
  """Figures of the program that the TPU's compiler makes."""
  topology = topologies.get_topology_desc(
    platform='tpu', topology_name=_TOPOLOGY
  )
  there = SingleDeviceSharding(topology.devices[0])
  described = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), arguments
  )
  compiled = lambda: jax.jit(function).lower(*described).compile()
  memory = compiled().memory_analysis().temp_size_in_bytes
  with steps.unrolled():
    counted = compiled().cost_analysis()
  return {
    'flops': counted['flops'],
    'bytes': counted['bytes accessed'],
    'temporary_memory': memory,
  }


def measured(name):
  """Figures of a model's pieces."""
  config, batch = MODELS[name]
  build = lambda: gpt.GPT(config, rngs=nnx.Rngs(0))
  graphdef, params = nnx.split(nnx.eval_shape(build))
  tokens = jax.ShapeDtypeStruct((batch, config.block_size), jnp.int32)
  loss = lambda params, *tokens: gpt.loss(nnx.merge(graphdef, params), *tokens)
  gradient = cost(jax.value_and_grad(loss), params, tokens, tokens)
  rows = {f'{name}: loss and gradient': gradient}
  found = contenders(params)
  for optimizer in ('namo_d', BASELINE, MAIN, 'optax.adamw'):
    tx = found[optimizer]
    state = jax.eval_shape(tx.init, params)
    rows[f'{name}: {optimizer}'] = cost(tx.update, params, state, params)
  return rows


def cell(one, other, unit):
  """A figure; in brackets the ratio to the other revision's."""
  return f'{one / unit:.5g}' + (f' ({one / other:.3f})' if other else '')


def main():
  rows, others = {}, {}
  if harness.AGAINST.value:  # First: one process at a time has libtpu.
    with harness.elsewhere() as ask:
      for name in _MODELS.value:
        others |= ask(name)
  for name in _MODELS.value:
    rows |= measured(name)
  shown = {
    name: {
      title: cell(row[figure], others.get(name, {}).get(figure), unit)
      for figure, (title, unit) in _UNITS.items()
    }
    for name, row in rows.items()
  }
  harness.show(f'Compiled for a TPU {_TOPOLOGY}, one device', shown)
  harness.write({
    'topology': _TOPOLOGY,
    'versions': harness.circumstances()['versions'],
    'against': harness.AGAINST.value,
    'pieces': rows,
    'pieces_there': others,
  })  # fmt: skip


if __name__ == '__main__':
  harness.run(main, measured)
