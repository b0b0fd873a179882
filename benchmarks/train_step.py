# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The example's train step: tokens a second, and where its time goes.

  python -m benchmarks.train_step --against=HEAD~1

Times the model's forward pass, the example's step without an optimizer, and
whole steps by optimizer, once each in turn, `--rounds` times, on one device.
Times are medians over the rounds, and shares and ratios medians of what each
round gives. With `--against`, another revision's code does the same in a
process of its own, round by round in turn with this one's.
"""

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from absl import app
from absl import flags
from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np
import optax
from optax.contrib import muon

from benchmarks import revisions
import optax_namo
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import PRESETS
from optax_namo.nanogpt.mesh import shardings

_VOCABULARY = 96  # About what the characters of an English text need.
FORWARD, BACKWARD = 'forward', 'forward and backward'
RECORD = ', record=True'

_PRESET = flags.DEFINE_string('preset', 'char', f'Of {list(PRESETS)}.')
_ROUNDS = flags.DEFINE_integer('rounds', 9, 'Times that each is measured.')
_AGAINST = flags.DEFINE_string(
  'against', None, 'A git revision, to whose code the ratios are.'
)
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')
_ANSWER = flags.DEFINE_bool(
  'answer', False, 'Measure a round for every line read; --against uses it.'
)


def optimizers(params):
  """What is compared, by name; clipped, as in the example."""
  numbers = optax_namo.matrix_dimension_numbers(params)
  rates = {'learning_rate': 0.01, 'adam_learning_rate': 0.001}
  bare = {
    BACKWARD: optax.set_to_zero(),
    'adamw': optax.adamw(0.001),
    'namo_d': optax_namo.namo_d(**rates),
    'namo_d' + RECORD: optax_namo.namo_d(**rates, record=True),
    'namo': optax_namo.namo(**rates),
    'namo' + RECORD: optax_namo.namo(**rates, record=True),
    'optax.contrib.muon': muon(
      **rates, consistent_rms=0.2, muon_weight_dimension_numbers=numbers
    ),
  }
  clip = optax.clip_by_global_norm(1.0)
  return {name: optax.chain(clip, tx) for name, tx in bare.items()}


def programs(preset):
  """Functions that run each piece once, by name."""
  sizes = PRESETS[preset]
  config = gpt.GPTConfig(
    _VOCABULARY,
    sizes.block_size,
    sizes.num_layers,
    sizes.num_heads,
    sizes.embed_dim,
  )
  mesh = jax.make_mesh((1,), ('data',), axis_types=(AxisType.Auto,))
  graphdef, params = nnx.split(gpt.GPT(config, rngs=nnx.Rngs(0)))
  rng = np.random.default_rng(0)
  shape = (2, 1, sizes.batch_size, sizes.block_size)
  ids = jnp.asarray(rng.integers(_VOCABULARY, size=shape), jnp.int32)
  batch = jax.device_put(ids, NamedSharding(mesh, PartitionSpec()))

  def stepper(tx):
    step = train.make_step(graphdef, tx, mesh)

    def first(params):
      return train.TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))

    abstract = jax.eval_shape(first, params)
    state = jax.jit(first, out_shardings=shardings(mesh, abstract))(params)

    def once():
      nonlocal state
      state, scalars = step(state, *batch)
      jax.block_until_ready((state, scalars))

    return once

  @jax.jit
  def forward(params):
    return gpt.loss(nnx.merge(graphdef, params), *batch[:, 0])

  return {FORWARD: lambda: jax.block_until_ready(forward(params))} | {
    name: stepper(tx) for name, tx in optimizers(params).items()
  }


def one_round(pieces):
  """Seconds of each piece."""
  seconds = {}
  for name, run in pieces.items():
    start = time.perf_counter()
    run()
    seconds[name] = time.perf_counter() - start
  return seconds


@contextlib.contextmanager
def other(revision, preset):
  """Gives a function that measures a round with another revision's code."""
  command = [sys.executable, __file__, '--answer', f'--preset={preset}']
  with revisions.environment(revision) as environment:
    process = subprocess.Popen(
      command,
      env=environment,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

    def ask():
      process.stdin.write('\n')
      process.stdin.flush()
      return json.loads(process.stdout.readline())

    try:
      yield ask
    finally:
      process.stdin.close()
      process.wait()


def figures(rounds, tokens):
  """Of each piece: ms, tokens a second, and its ratios within a round."""
  ratio = lambda a, b: statistics.median(r[a] / r[b] for r in rounds)
  rows = {}
  for name in rounds[0]:
    seconds = statistics.median(r[name] for r in rounds)
    row = {'ms': 1e3 * seconds, 'tokens_per_second': tokens / seconds}
    if name not in (FORWARD, BACKWARD):
      row['forward_share'] = ratio(FORWARD, name)
      row['backward_share'] = ratio(BACKWARD, name) - ratio(FORWARD, name)
      row['optimizer_share'] = 1 - ratio(BACKWARD, name)
    if name.endswith(RECORD):
      row['record_share'] = 1 - ratio(name.removesuffix(RECORD), name)
    rows[name] = row
  return rows


def table(rows):
  """Markdown: a line a piece, shares of the step in percent."""
  heads = {
    'ms': '{:.1f}',
    'tokens_per_second': '{:,.0f}',
    'forward_share': '{:.0%}',
    'backward_share': '{:.0%}',
    'optimizer_share': '{:.0%}',
    'record_share': '{:.1%}',
    'ratio': '{:.3f}',
  }
  shown = [head for head in heads if any(head in row for row in rows.values())]
  titles = ''.join(f' {head.replace("_", " ")} |' for head in shown)
  lines = [f'| |{titles}', '|---|' + '---|' * len(shown)]
  for name, row in rows.items():
    cells = (heads[h].format(row[h]) if h in row else '' for h in shown)
    lines.append(f'| {name} |' + ''.join(f' {cell} |' for cell in cells))
  return '\n'.join(lines)


def main(argv):
  del argv
  pieces = programs(_PRESET.value)
  one_round(pieces)  # Compiles.
  if _ANSWER.value:
    for _ in sys.stdin:
      print(json.dumps(one_round(pieces)), flush=True)
    return
  here, there = [], []
  with contextlib.ExitStack() as stack:
    if _AGAINST.value:
      ask = stack.enter_context(other(_AGAINST.value, _PRESET.value))
      ask()  # It has compiled once it answers.
    for _ in range(_ROUNDS.value):
      here.append(one_round(pieces))
      if _AGAINST.value:
        there.append(ask())
  sizes = PRESETS[_PRESET.value]
  rows = figures(here, sizes.batch_size * sizes.block_size)
  if there:
    for name, row in rows.items():
      row['ratio'] = statistics.median(
        a[name] / b[name] for a, b in zip(here, there, strict=True)
      )
  device = jax.devices()[0]
  where = f'{device.device_kind}, {jax.device_count()} device(s)'
  if device.platform == 'cpu':
    where = f'CPU, {len(os.sched_getaffinity(0))} cores'
  against = f'; ratio to {_AGAINST.value}' if there else ''
  print(f'{_PRESET.value} on {where}{against}\n\n{table(rows)}')
  if _JSON.value:
    report = {
      'device': where,
      'versions': {'jax': jax.__version__, 'optax': optax.__version__},
      'preset': _PRESET.value,
      'rounds': _ROUNDS.value,
      'against': _AGAINST.value,
      'pieces': rows,
    }
    pathlib.Path(_JSON.value).write_text(json.dumps(report, indent=2) + '\n')


if __name__ == '__main__':
  app.run(main)
