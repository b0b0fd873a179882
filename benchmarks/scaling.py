# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs each of several devices: ours beside optax's Muon.

  python -m benchmarks.scaling --json=scaling.json

Compiles the step of 8 layers of width 384 for 1, 2, 4 and 8 devices (of the
host: nothing is timed) with the parameters sharded on their first axis, and
reads FLOPs and collectives from the compiled program. Bytes are those of the
collectives' results on one device. FLOPs are counted with the loops of
Newton-Schulz unrolled. Work is the share of matrices that are not filling: 8
layers divide by every number of devices, `--layers=5` does not.
"""

import functools
import math
import re

from absl import flags
import jax
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import optax

from benchmarks import harness
from benchmarks import steps
import optax_namo

_LAYERS = flags.DEFINE_integer('layers', 8, 'Layers of width 384.')
_COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
_BYTES = {'f32': 4, 's32': 4, 'u32': 4, 'pred': 1}


def collectives(hlo: str) -> dict[str, list[int]]:
  """Bytes of the results of every collective in compiled HLO, by kind."""
  found: dict[str, list[int]] = {}
  pattern = rf'= (.*?) ({"|".join(_COLLECTIVES)})(?:-start)?\('
  for results, kind in re.findall(pattern, hlo):
    size = 0
    for dtype, shape in re.findall(r'(\w+)\[([\d,]*)\]', results):
      size += _BYTES[dtype] * math.prod(int(n) for n in shape.split(',') if n)
    found.setdefault(kind, []).append(size)
  return found


def total(collectives: dict[str, list[int]]) -> int:
  """Bytes of all of them."""
  return sum(map(sum, collectives.values()))


def figures(layers: int, explicit: bool = False) -> dict[str, dict]:
  """FLOPs and bytes on each of the devices there are, by optimizer."""
  kind = AxisType.Explicit if explicit else AxisType.Auto
  mesh = jax.make_mesh((jax.device_count(),), ('fsdp',), axis_types=(kind,))
  params = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, P('fsdp', None))
    ),
    steps.parameters(layers, 384, 0, 0),
  )

  def compiled(tx):
    with jax.set_mesh(mesh):
      shardings = jax.jit(tx.init).lower(params).compile().output_shardings
      state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        shardings,
      )
      step = jax.jit(functools.partial(steps.step, tx))
      return step.lower(params, state, params).compile()

  optimizers = {
    'namo_d': optax_namo.namo_d(0.01, shard_over='fsdp'),
    'namo': optax_namo.namo(0.01, shard_over='fsdp'),
    'optax.contrib.muon': optax.contrib.muon(0.01, consistent_rms=0.2),
  }
  if explicit:
    del optimizers['optax.contrib.muon']  # Raises ShardingTypeError there.
  rows = {}
  for name, tx in optimizers.items():
    with steps.unrolled():
      program = compiled(tx)
    rows[name] = {
      'flops': program.cost_analysis()['flops'],
      'collectives': collectives(program.as_text()),
    }
  of_each_shape = (layers, layers, 2 * layers)  # qkv; proj; fc and out.
  filled = sum(
    -(-n // jax.device_count()) * jax.device_count() for n in of_each_shape
  )
  return rows | {'work': sum(of_each_shape) / filled}


def main():
  found, rows = {}, {}
  for devices in (1, 2, 4, 8):
    count = f'--xla_force_host_platform_device_count={devices}'
    with harness.process(XLA_FLAGS=count, JAX_PLATFORMS='cpu') as ask:
      found[devices] = ask(_LAYERS.value)
    work = found[devices].pop('work')
    muon = total(found[devices]['optax.contrib.muon']['collectives'])
    for name, row in found[devices].items():
      exchanged = total(row['collectives'])
      kinds = sorted(row['collectives'].items())
      rows[f'{name} on {devices}'] = {
        'GFLOP a device': row['flops'] / 1e9,
        'of one': row['flops'] / found[1][name]['flops'],
        'work that counts, share': work,
        'MB exchanged': exchanged / 1e6,
        "of Muon's": f'1/{muon / exchanged:.0f}' if exchanged else '-',
        'by': ', '.join(f'{len(each)} {kind}' for kind, each in kinds) or '-',
      }
    found[devices]['work'] = work
  harness.show('By devices', rows)
  harness.write(found)


if __name__ == '__main__':
  harness.run(main, figures)
