# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs on a TPU, by its compiler's own count; no TPU is needed.

  pip install -e '.[nanogpt,tpu]'
  python -m benchmarks.tpu --against=HEAD~1

libtpu compiles for a TPU that is described to it. Of the compiled program of
the example's gradient and of its optimizer's steps: floating-point operations,
bytes read and written, and temporary memory. No time is measured, nothing runs.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

# What libtpu would ask the machine, were it one of a TPU pod.
os.environ |= {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}

# ruff: noqa: E402
from absl import app
from absl import flags
from flax import nnx
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
import optax
from optax.contrib import muon

from benchmarks import revisions
from benchmarks import steps
import optax_namo
from optax_namo.nanogpt import model as gpt

# Name: model, sequences in a batch. A layer of GPT-2 124M is like the others.
MODELS = {
  'char': (gpt.GPTConfig(96, 128, 4, 4, 128), 16),
  'gpt2 of 2 layers': (
    gpt.GPTConfig(50304, 1024, 2, 12, 768, dtype='bfloat16'),
    12,
  ),
}
_TOPOLOGY = 'v5e:2x2'
_MODELS = flags.DEFINE_list('models', ['char'], f'Of {list(MODELS)}.')
_AGAINST = flags.DEFINE_string(
  'against', None, 'A git revision, to whose code the ratios are.'
)
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')


def optimizers(params):
  """Those whose steps are compared, by name."""
  numbers = optax_namo.matrix_dimension_numbers(params)
  rates = {'learning_rate': 0.01, 'adam_learning_rate': 0.001}
  return {
    'namo_d': optax_namo.namo_d(**rates),
    'optax.contrib.muon': muon(
      **rates, consistent_rms=0.2, muon_weight_dimension_numbers=numbers
    ),
    'optax.adamw': optax.adamw(0.001),
  }


def cost(function, *arguments):
  """Figures of the program that the TPU's compiler makes."""
  (device, *_) = topologies.get_topology_desc(
    platform='tpu', topology_name=_TOPOLOGY
  ).devices
  there = SingleDeviceSharding(device)
  described = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there), arguments
  )
  # The body of a loop would be counted once.
  with steps.unrolled():
    program = jax.jit(function).lower(*described).compile()
  counted = program.cost_analysis()
  return {
    'flops': counted['flops'],
    'bytes': counted['bytes accessed'],
    'temporary_memory': program.memory_analysis().temp_size_in_bytes,
  }


def measured(names):
  """Figures by piece."""
  rows = {}
  for name in names:
    config, batch = MODELS[name]
    build = lambda config=config: gpt.GPT(config, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(nnx.eval_shape(build))
    tokens = jax.ShapeDtypeStruct((batch, config.block_size), jnp.int32)

    def loss(params, *tokens, graphdef=graphdef):
      return gpt.loss(nnx.merge(graphdef, params), *tokens)

    rows[f'{name}: loss and gradient'] = cost(
      jax.value_and_grad(loss), params, tokens, tokens
    )
    for optimizer, tx in optimizers(params).items():
      state = jax.eval_shape(tx.init, params)
      rows[f'{name}: {optimizer}'] = cost(tx.update, params, state, params)
  return rows


def elsewhere(revision, names):
  """What ``measured`` says of another revision's code."""
  with (
    revisions.environment(revision) as environment,
    tempfile.TemporaryDirectory() as scratch,
  ):
    answer = pathlib.Path(scratch, 'figures.json')
    subprocess.run(
      [sys.executable, __file__, f'--models={",".join(names)}',
       f'--json={answer}'],
      env=environment, stdout=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return json.loads(answer.read_text())['pieces']


def table(rows, others):
  """Markdown: a line a piece; in brackets the ratio to the other revision."""
  units = {'flops': 1e9, 'bytes': 1e6, 'temporary_memory': 1e6}
  lines = [
    '| | GFLOP | MB read and written | MB temporary |',
    '|---|---|---|---|',
  ]
  for name, row in rows.items():
    cells = []
    for figure, unit in units.items():
      cell = f'{row[figure] / unit:.5g}'
      if others and others[name][figure]:
        cell += f' ({row[figure] / others[name][figure]:.3f})'
      cells.append(cell)
    lines.append(f'| {name} | {" | ".join(cells)} |')
  return '\n'.join(lines)


def main(argv):
  del argv
  # First: one process at a time has libtpu.
  others = elsewhere(_AGAINST.value, _MODELS.value) if _AGAINST.value else {}
  rows = measured(_MODELS.value)
  print(f'Compiled for a TPU {_TOPOLOGY}, one device\n\n{table(rows, others)}')
  if _JSON.value:
    report = {
      'topology': _TOPOLOGY,
      'versions': {'jax': jax.__version__, 'optax': optax.__version__},
      'against': _AGAINST.value,
      'pieces': rows,
      'pieces_there': others,
    }
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
  app.run(main)
