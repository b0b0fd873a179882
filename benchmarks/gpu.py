# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs on a GPU: ours beside optax's Muon and AdamW.

  python -m benchmarks.gpu --shapes=6x384,gpt2 --train --json=gpu.json

Every optimizer updates the parameters of a GPT, ten steps at a time, so that
none waits for the host, in turn with the others, `--rounds` times. `--train`
does the same with the example's whole step of GPT-2 in bfloat16, 12 sequences
of 1024 tokens. Times are medians over the rounds, ratios medians of each
round's ratio to optax.contrib.muon. FLOPs are not counted: XLA does not see
those of the products that it gives to a library.
"""

from concurrent import futures
import functools
import json
import pathlib
import statistics
import time

from absl import app
from absl import flags
from flax import nnx
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import numpy as np
import optax

from benchmarks import steps
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import train

_GRADIENT = 'loss and gradient'
_STEPS = 10  # Of one optimizer, before the next one's turn.
_SHAPES = flags.DEFINE_list('shapes', ['6x384'], f'Of {list(steps.SHAPES)}.')
_TRAIN = flags.DEFINE_bool('train', False, "GPT-2's whole step, too.")
_ROUNDS = flags.DEFINE_integer('rounds', 9, 'Turns of each optimizer.')
_JSON = flags.DEFINE_string('json', None, 'Where to write the figures.')


def optimizers(params):
  """What is compared, by name."""
  rates = {'learning_rate': 0.01, 'adam_learning_rate': 0.001}
  in_bfloat16 = {
    f'{name}, bfloat16': optax_namo.namo_d(
      **rates, orthogonalizer=functools.partial(rule, dtype=jnp.bfloat16)
    )
    for name, rule in (
      ('namo_d', optax_namo.newton_schulz),
      ('namo_d, minimax', steps.FAST),
    )
  }
  others = steps.optimizers(params)
  names = ('namo_d', 'namo_d, minimax', 'namo', steps.BASELINE, 'optax.adamw')
  return {name: others[name] for name in names} | in_bfloat16


def updates(shape):
  """Of each optimizer, by name: its step, what it carries and what it takes.

  A step gives what it carries on, and whatever else.
  """
  params = steps.parameters(*steps.SHAPES[shape])
  rng = np.random.default_rng(0)
  normal = lambda x: jnp.asarray(0.02 * rng.normal(size=x.shape), x.dtype)
  gradients = jax.tree.map(normal, params)

  def piece(tx):
    start = jax.tree.map(jnp.zeros_like, params)
    step = lambda carry, gradients: (steps.step(tx, *carry, gradients), ())
    return step, (start, jax.jit(tx.init)(start)), (gradients,)

  return {name: piece(tx) for name, tx in optimizers(params).items()}


def train_steps():
  """The same of the example's step; without an optimizer, too."""
  layers, width, vocabulary, context = steps.SHAPES['gpt2']
  config = gpt.GPTConfig(
    vocabulary, context, layers, 12, width, dtype='bfloat16'
  )
  mesh = jax.make_mesh((1,), ('data',), axis_types=(AxisType.Auto,))
  graphdef, params = nnx.split(gpt.GPT(config, rngs=nnx.Rngs(0)))
  tokens = np.random.default_rng(0).integers(vocabulary, size=(2, 1, 12, 1024))
  inputs, targets = jnp.asarray(tokens, jnp.int32)

  def piece(tx):
    state = train.TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))
    state = jax.tree.map(jnp.copy, state)  # To be donated.
    return train.make_step(graphdef, tx, mesh), state, (inputs, targets)

  compared = {_GRADIENT: optax.set_to_zero()} | optimizers(params)
  return {name: piece(tx) for name, tx in compared.items()}


def measured(pieces, rounds):
  """Milliseconds and temporary memory of each, and ratios to optax's Muon."""

  def compiled(piece):
    step, carry, inputs = piece
    return jax.jit(step, donate_argnums=0).lower(carry, *inputs).compile()

  with futures.ThreadPoolExecutor() as threads:
    programs = dict(zip(pieces, threads.map(compiled, pieces.values())))
  carries = {name: carry for name, (_, carry, _) in pieces.items()}

  def seconds(name):
    start = time.perf_counter()
    for _ in range(_STEPS):
      carries[name], _ = programs[name](carries[name], *pieces[name][2])
    jax.block_until_ready(carries[name])
    return (time.perf_counter() - start) / _STEPS

  taken = [
    {name: seconds(name) for name in programs} for _ in range(rounds + 1)
  ][1:]  # The first warms up.
  ratio = lambda one, of: statistics.median(r[one] / r[of] for r in taken)
  memory = lambda p: p.memory_analysis().temp_size_in_bytes
  least = memory(programs[steps.BASELINE])
  rows = {}
  for name, program in programs.items():
    rows[name] = {
      'ms': 1e3 * statistics.median(r[name] for r in taken),
      'step_time': ratio(name, steps.BASELINE),
      'temporary_memory': memory(program) / least,
    }
    if _GRADIENT in programs:
      rows[name]['optimizer_share'] = 1 - ratio(_GRADIENT, name)
  return rows


def fractions(shape=(24, 768, 3072), side=8192):
  """FLOP/s of Newton-Schulz's products over those of one large product."""

  def rate(function, flops, dtype, *arguments):
    arguments = [x.astype(dtype) for x in arguments]
    program = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(program(*arguments))
    start = time.perf_counter()
    for _ in range(_STEPS):
      result = program(*arguments)
    jax.block_until_ready(result)
    return _STEPS * flops / (time.perf_counter() - start)

  stack = jax.random.normal(jax.random.key(0), shape)
  large = jax.random.normal(jax.random.key(1), (side, side))
  found = {}
  for dtype, bits in ((jnp.float32, 10), (jnp.bfloat16, 7)):
    rows, gain = polynomials.schedule('muon', 5, bits)
    runs = ns.cheapest(rows, gain, *shape[1:])
    flops = shape[0] * ns.flops(runs, *shape[1:])
    products = functools.partial(optax_namo.newton_schulz, dtype=dtype)
    ours = rate(products, flops, jnp.float32, stack)
    theirs = rate(jnp.matmul, 2 * side**3, dtype, large, large)
    found[jnp.dtype(dtype).name] = {
      'tflops': ours / 1e12,
      'of_large_product': ours / theirs,
    }
  return found


def table(rows):
  """Markdown: a line an optimizer."""
  heads = {
    'ms': '{:.2f}',
    'step_time': '{:.2f}',
    'temporary_memory': '{:.2f}',
    'optimizer_share': '{:.1%}',
  }
  shown = [head for head in heads if head in rows[steps.BASELINE]]
  titles = ''.join(f' {head.replace("_", " ")} |' for head in shown)
  lines = [f'| |{titles}', '|---|' + '---|' * len(shown)]
  for name, row in rows.items():
    cells = (f' {heads[head].format(row[head])} |' for head in shown)
    lines.append(f'| {name} |' + ''.join(cells))
  return '\n'.join(lines)


def main(argv):
  del argv
  report = {
    'device': jax.devices()[0].device_kind,
    'versions': {'jax': jax.__version__, 'optax': optax.__version__},
    'rounds': _ROUNDS.value,
    'shapes': {},
  }

  def keep():
    if _JSON.value:
      text = json.dumps(report, indent=2) + '\n'
      pathlib.Path(_JSON.value).write_text(text)

  for shape in _SHAPES.value:
    rows = measured(updates(shape), _ROUNDS.value)
    report['shapes'][shape] = rows
    print(f'\n{shape} on {report["device"]}\n\n{table(rows)}', flush=True)
    keep()
  report['products'] = fractions()
  print(f'\nNewton-Schulz beside a large product: {report["products"]}')
  keep()
  if _TRAIN.value:
    report['train'] = measured(train_steps(), _ROUNDS.value)
    print(f"\nThe example's step of GPT-2\n\n{table(report['train'])}")
    keep()


if __name__ == '__main__':
  app.run(main)
