# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs each chip of a TPU pod, by the TPU's compiler's own count.

  pip install -e '.[tpu,test]'
  python -m benchmarks.pods                 # The rows that are not there yet.
  python -m benchmarks.pods --show          # The table of docs/devices.md.
  python -m benchmarks.pods --row='llama-7b v5e:16x16 fsdp:256 namo_d'

libtpu compiles for chips that are described to it; no TPU is needed, no time is
measured, nothing runs. A row is a process: bytes by kind of collective (of the
results, on one chip), temporary memory, FLOPs of the products, and whether
arguments and temporaries fit. A program takes a minute or three on two cores.
"""

import collections
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
import time
from typing import NamedTuple

from absl import app
from absl import flags
import jax
from jax.experimental import topologies
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from matplotlib import figure
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

from benchmarks import contenders
from benchmarks import exchanges
from benchmarks import steps
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns

_ROW = flags.DEFINE_string('row', None, 'The one row to count and print.')
_SHOW = flags.DEFINE_bool('show', False, 'Write the table into the page.')
_ONLY = flags.DEFINE_string('only', '', 'Rows whose names contain this.')
_RESULTS = pathlib.Path(__file__).parent / 'results' / 'pods.jsonl'
_PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'devices.md'


class Chip(NamedTuple):
  """As Google's page of a TPU has it, cloud.google.com/tpu/docs/v5e, say."""

  peak: float  # FLOP/s, in bfloat16.
  memory: float  # Bytes.
  links: float  # Bytes/s out of a chip, over all its links.
  wraps: int  # The side from which on a grid is a torus.


CHIPS = {
  'v5e': Chip(197e12, 16 * 2**30, 200e9, 16),
  'v5p': Chip(459e12, 95 * 2**30, 600e9, 4),
  'v6e': Chip(918e12, 32 * 2**30, 448e9, 16),
}
TOKENS = 2**20  # In a batch.


def model(layers, width, hidden, vocabulary, *, keys=None, experts=0, active=0):
  """Shapes and layouts of a decoder's stacked layers, and its parameters.

  Returns:
    Shapes, float32; specs over the axes 'fsdp', 'tensor' and 'expert'; the
    parameters that a token meets.
  """
  keys = keys or width
  block = {
    'q': ((width, width), ('fsdp', 'tensor')),
    'k': ((width, keys), ('fsdp', 'tensor')),
    'v': ((width, keys), ('fsdp', 'tensor')),
    'o': ((width, width), ('tensor', 'fsdp')),
  }
  mlp = {
    'gate': ((width, hidden), ('fsdp', 'tensor')),
    'up': ((width, hidden), ('fsdp', 'tensor')),
    'down': ((hidden, width), ('tensor', 'fsdp')),
  }
  batch, over = ((layers, experts), (None, 'expert')) if experts else (
    (layers,), (None,)
  )  # fmt: skip
  leaves = {k: ((layers, *s), P(None, *a)) for k, (s, a) in block.items()}
  leaves |= {k: ((*batch, *s), P(*over, *a)) for k, (s, a) in mlp.items()}
  size = lambda names: sum(math.prod(leaves[k][0]) for k in names)
  met = size(block) + size(mlp) * (active / experts if experts else 1)
  leaves |= {
    'wte': ((vocabulary, width), P('tensor', 'fsdp')),
    'head': ((width, vocabulary), P('fsdp', 'tensor')),
    'norm': ((layers, width), P(None, None)),
  }
  shapes = {
    k: jax.ShapeDtypeStruct(s, jnp.float32) for k, (s, _) in leaves.items()
  }
  return shapes, {k: s for k, (_, s) in leaves.items()}, met


MODELS = {
  'gpt2': lambda: model(12, 768, 3072, 50304),
  'llama-7b': lambda: model(32, 4096, 11008, 32000),
  'llama-70b': lambda: model(80, 8192, 28672, 32000, keys=1024),
  'mixtral': lambda: model(
    32, 4096, 14336, 32000, keys=1024, experts=8, active=2
  ),
  'deepseek': lambda: model(
    27, 2048, 1408, 102400, experts=64, active=6
  ),  # The routed experts of DeepSeek-V2-Lite, with plain attention.
  '8x2048': lambda: model(8, 2048, 5632, 32000),
  '12x1536': lambda: model(12, 1536, 6144, 32000),
}  # fmt: skip
FAST = 'namo_d, fast'  # Three steps, in bfloat16.
OPTIMIZERS = ('namo_d', FAST, 'optax.muon', 'optax.adamw')
# The most telling first.
_PLACES = {
  'v5e:16x16': ('fsdp:256', 'fsdp:64,tensor:4'),
  'v5e:8x8': ('fsdp:64', 'fsdp:16,tensor:4'),
  'v5e:4x4': ('fsdp:16', 'fsdp:4,tensor:4'),
  'v5p:4x4x4': ('fsdp:64', 'fsdp:16,tensor:4'),
  'v6e:8x8': ('fsdp:64', 'fsdp:16,tensor:4'),
}
_EXPERTS = {
  'v5e:16x16': ('expert:8,fsdp:8,tensor:4',),
  'v5e:8x8': ('expert:8,fsdp:4,tensor:2',),
  'v5e:4x4': (),
}


def names():
  """Of all rows, the most telling first."""
  found = []
  for name in ('llama-7b', 'gpt2', 'mixtral', 'llama-70b', 'deepseek'):
    places = _EXPERTS if name in ('mixtral', 'deepseek') else _PLACES
    for topology, meshes in places.items():
      for mesh in meshes:
        found += [f'{name} {topology} {mesh} {o}' for o in OPTIMIZERS]
  return found


def numbers(shapes):
  """The dimension numbers of the matrices; None for what AdamW has."""
  return {
    k: None
    if k in ('wte', 'head', 'norm')
    else MuonDimensionNumbers(x.ndim - 2, x.ndim - 1)
    for k, x in shapes.items()
  }


def optimizer(name, shapes, axes):
  """The transformation of a row; a rule of ours, or optax's."""
  specs = numbers(shapes)
  rates = {'learning_rate': 0.01, 'adam_learning_rate': 0.001}
  ours = functools.partial(
    optax_namo.namo_d,
    **rates,
    weight_dimension_numbers=specs,
    shard_over=axes,
  )
  if name == 'namo_d':
    return ours()
  if name == FAST:
    return ours(
      orthogonalizer=functools.partial(contenders.FAST, dtype=jnp.bfloat16)
    )
  if name == 'optax.muon':
    return optax.contrib.muon(
      **rates, consistent_rms=0.2, muon_weight_dimension_numbers=specs
    )
  return optax.adamw(0.001)


def placed(shapes, specs, mesh):
  """Shapes with their shardings; a spec's axes that the mesh lacks go."""
  there = lambda spec: P(*(a if a in mesh.axis_names else None for a in spec))
  return {
    k: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, there(specs[k]))
    )
    for k, x in shapes.items()
  }


def like_parameters(tx, params, mesh):
  """The state's shapes, what is like a parameter placed where that lies."""

  def place(path, x):
    p = params.get(getattr(path[-1], 'key', None))
    like = p is not None and p.shape == x.shape
    sharding = p.sharding if like else NamedSharding(mesh, P())
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  return jax.tree_util.tree_map_with_path(
    place, jax.eval_shape(tx.init, params)
  )


def grouped(shapes, apart):
  """How many matrices there are, by both sides and what ``apart`` gives."""
  found = collections.Counter()
  for k, spec in numbers(shapes).items():
    if spec is not None:
      *batch, m, n = shapes[k].shape
      found[min(m, n), max(m, n), apart(shapes[k])] += math.prod(batch)
  return found


def product_flops(name, shapes, mesh):
  """FLOPs of the products of one chip, filling counted; ours alone."""
  bits = 7  # TPUs round operands of float32 products to bfloat16.
  schedule = (
    polynomials.schedule('minimax', 3, bits)
    if name == FAST
    else polynomials.schedule('muon', 5, bits)
  )
  apart = lambda x: mesh.shape.get('expert', 1) if x.ndim > 3 else 1
  return sum(
    -(-count // mesh.size) * ns.flops(ns.cheapest(*schedule, m, n), m, n)
    for (m, n, _), count in grouped(shapes, apart).items()
  )


def bound(params, mesh):
  """Bytes that a chip receives at least, in and out, with the deal filled up.

  In is its share of the matrices. Out are its blocks of the results, which is
  as much, or more where devices have the same blocks and share the work.
  """
  dividing = lambda x: [a for a in x.sharding.spec if a in mesh.axis_names]
  held = lambda x: math.prod(mesh.shape[a] for a in dividing(x))
  size = mesh.size
  return sum(
    4 * m * n * (-(-count // size) + max(-(-count // size), count / holders))
    for (m, n, holders), count in grouped(params, held).items()
  )


def count(row):
  """The figures of a row."""
  # What libtpu would ask the machine, were it one of a TPU pod.
  os.environ |= {
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_WORKER_HOSTNAMES': 'localhost',
  }
  jax.config.update('jax_platforms', 'cpu')
  name, topology, axes, rule = row.split(' ', 3)
  axes = {a: int(n) for a, n in (x.split(':') for x in axes.split(','))}
  described = topologies.get_topology_desc(
    platform='tpu', topology_name=topology
  )
  mesh = Mesh(np.array(described.devices).reshape(*axes.values()), tuple(axes))
  shapes, specs, met = MODELS[name]()
  params = placed(shapes, specs, mesh)
  tx = optimizer(rule, shapes, tuple(axes))
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    state = like_parameters(tx, params, mesh)
    step = jax.jit(functools.partial(steps.step, tx), donate_argnums=(0, 1))
    start = time.time()
    lowered = step.lower(params, state, params)
  figures = {
    'parameters': sum(math.prod(x.shape) for x in shapes.values()),
    'met': met,
    'bound': bound(params, mesh),
  }
  try:
    program = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return figures | {
      'fits': False,
      'says': str(error)[:300],
      'seconds': time.time() - start,
    }
  memory = program.memory_analysis()
  found = exchanges.collectives(program.as_text())
  flops = (
    product_flops(rule, shapes, mesh)
    if rule.startswith('namo')
    else program.cost_analysis()['flops']
  )
  return figures | {
    'exchanged': {kind: sum(sizes) for kind, sizes in found.items()},
    'largest': {kind: max(sizes) for kind, sizes in found.items()},
    'flops': flops,
    'temporary': memory.temp_size_in_bytes,
    'arguments': memory.argument_size_in_bytes,
    'fits': True,
    'seconds': time.time() - start,
  }


def exchanging(exchanged, chip, grid):
  """Seconds of all exchanges of a step, at the published rate of the links.

  Of an all-to-all a quarter of all bytes crosses the middle of the grid's
  longest side each way, over one link a row of chips, or two on a torus. All
  else is at the rate of all links of a chip.
  """
  longest = max(grid)
  across = (2 if longest >= chip.wraps else 1) * chip.links / (2 * len(grid))
  crossing = exchanged.get('all-to-all', 0) * longest / 4
  rest = sum(exchanged.values()) - exchanged.get('all-to-all', 0)
  return crossing / across + rest / chip.links


def share(row, figures):
  """What part of a training step the optimizer takes, from the chip's rates.

  Its products at the chip's peak and its exchanges, beside the model's own 6
  FLOPs a token and parameter at the peak.
  """
  _, topology, _, _ = row.split(' ', 3)
  kind, sides = topology.split(':')
  grid, chip = list(map(int, sides.split('x'))), CHIPS[kind]
  took = figures['flops'] / chip.peak
  took += exchanging(figures['exchanged'], chip, grid)
  step = 6 * figures['met'] * TOKENS / math.prod(grid) / chip.peak
  return took / (took + step)


def table(found):
  """Markdown: a line for each model and mesh, with AdamW left out."""
  rules = ('namo_d', 'namo_d, fast', 'optax.muon')
  each = ('namo_d', 'fast', 'Muon')
  lines = [
    '| model | chips | mesh | bound, MB | '
    + ' | '.join(f'exchanged: {name}' for name in each)
    + ' | largest all-gather | '
    + ' | '.join(f'temporary, GB: {name}' for name in each)
    + ' | '
    + ' | '.join(f'of a step: {name}' for name in each)
    + ' |',
    '|' + '---|' * 14,
  ]
  asked = dict.fromkeys(' '.join(row.split()[:3]) for row in found)
  order = [*MODELS]
  for at in sorted(asked, key=lambda at: (order.index(at.split()[0]), at)):
    of = [found.get(f'{at} {rule}', {}) for rule in rules]
    if not any(of):
      continue
    name, topology, axes = at.split()
    kind, grid = topology.split(':')
    fits = [x.get('fits') and x for x in of]
    exchanged = [
      x and f'{sum(x["exchanged"].values()) / 1e6:.0f}' for x in fits
    ]
    gathered = (
      fits[0] and f'{fits[0]["largest"].get("all-gather", 0) / 1e6:.2f}'
    )
    held = [x and x['temporary'] + x['arguments'] for x in fits]
    temporary = [
      f'{x["temporary"] / 1e9:.2f}'
      + ', does not fit' * (y > CHIPS[kind].memory)
      if x
      else 'does not fit' * bool(one)
      for x, y, one in zip(fits, held, of)
    ]
    shares = [
      x and f'{share(f"{at} {rule}", x):.1%}' for x, rule in zip(fits, rules)
    ]
    (bound,) = {x['bound'] for x in of if x}
    cells = [
      *(name, f'{kind} {grid}', axes.replace(',', ', '), f'{bound / 1e6:.0f}'),
      *(*exchanged, gathered, *temporary, *shares),
    ]
    lines.append('| ' + ' | '.join(x or '' for x in cells) + ' |')
  return '\n'.join(lines)


def draw(found):
  """Bytes exchanged and temporary memory by the number of chips."""
  fig = figure.Figure(figsize=(9, 3.6), dpi=150, layout='constrained')
  panels = fig.subplots(1, 2)
  colors = {'optax.muon': 'tab:gray', 'namo_d': 'tab:blue', 'bound': 'black'}
  for name, style in (('gpt2', 'o-'), ('llama-7b', 's--')):
    lines = {}
    for row, figures in found.items():
      model, topology, _, rule = row.split(' ', 3)
      kind, grid = topology.split(':')
      if model == name and kind == 'v5e' and figures['fits']:
        chips = math.prod(map(int, grid.split('x')))
        both = (sum(figures['exchanged'].values()), figures['temporary'])
        # Of several meshes of so many chips, that with least to exchange.
        at = lines.setdefault(rule, {})
        at[chips] = min(at.get(chips, both), both)
        bound = lines.setdefault('bound', {})
        bound[chips] = (figures['bound'], math.nan)
    for rule, color in colors.items():
      points = sorted(lines.get(rule, {}).items())
      for ax, i in zip(panels, (0, 1)):
        ax.plot(
          [chips for chips, _ in points],
          # Nothing is left where all fits into a core's own memory.
          [both[i] / 1e6 or math.nan for _, both in points],
          ':' if rule == 'bound' else style,
          color=color,
          markersize=5,
          label=f'{name}, {rule}',
        )
  for ax, title in zip(panels, ('exchanged', 'temporary memory')):
    ax.set(xscale='log', yscale='log', xlabel='chips', title=title)
    ax.set_xticks((16, 64, 256), ('16', '64', '256'), minor=False)
    ax.minorticks_off()
    ax.set_ylabel('MB a step and chip')
    ax.spines[['top', 'right']].set_visible(False)
  panels[0].legend(fontsize=8)
  return fig


def show():
  """The table into the page, and its figure."""
  found = rows()
  draw(found).savefig(_RESULTS.with_suffix('.png'))
  before, rest = _PAGE.read_text().split('<!--pods-->')
  after = rest.split('<!--/pods-->')[1]
  told = f'<!--pods-->\n{table(found)}\n<!--/pods-->'
  _PAGE.write_text(before + told + after)


def rows():
  """The rows that were counted, by name."""
  lines = _RESULTS.read_text().splitlines() if _RESULTS.exists() else []
  return {row.pop('row'): row for row in map(json.loads, lines)}


def main(argv):
  del argv
  if _ROW.value:
    print(json.dumps({'row': _ROW.value} | count(_ROW.value)), flush=True)
    return
  if _SHOW.value:
    show()
    return
  for row in names():
    if row in rows() or _ONLY.value not in row:
      continue
    found = subprocess.run(
      [sys.executable, '-m', 'benchmarks.pods', f'--row={row}'],
      stdout=subprocess.PIPE,
      text=True,
    )
    if found.returncode:
      print(f'{row}: failed', flush=True)
      continue
    with _RESULTS.open('a') as file:
      file.write(found.stdout)
    print(found.stdout, flush=True)


if __name__ == '__main__':
  app.run(main)
