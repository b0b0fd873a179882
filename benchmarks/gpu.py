# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs on a GPU: ours beside optax's Muons and AdamW.

  python -m benchmarks.gpu --shapes=gpt2 --json=gpu.json --rows=gpu.jsonl

Every optimizer updates the parameters of a GPT, ten steps at a time, so that
none waits for the host, in turn with the others, `--rounds` times. `--train`
does the same with the example's whole step of GPT-2 in bfloat16, 12 sequences
of 1024 tokens. Times are medians over the rounds; ratios, to the Muon that
optax released and to that of its main, are medians of each round's. FLOPs are
not counted: XLA does not see those of the products that it gives to a library.
Each measurement is a line of `--rows` as soon as it is made, and a second start
goes on from there. For `--against`, where two processes share the GPU, set
XLA_PYTHON_CLIENT_PREALLOCATE=false.
"""

import functools

from absl import flags
import jax.numpy as jnp
import optax

from benchmarks import harness
from benchmarks import steps
from benchmarks import train_step
from benchmarks.contenders import BASELINE
from benchmarks.contenders import contenders
from benchmarks.contenders import MAIN
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import make_config

_GRADIENT = 'loss and gradient'
_WHOLE = 'train'
_STEPS = 10  # Of one optimizer, before the next one's turn.
_SHAPES = flags.DEFINE_list('shapes', ['6x384'], f'Of {list(steps.SHAPES)}.')
_ROWS = flags.DEFINE_string('rows', None, 'Where to keep what is measured.')
_STACK = flags.DEFINE_list(
  'stack', [24, 768, 3072], 'Of matrices, whose products are timed, and'
)
_SIDE = flags.DEFINE_integer('side', 8192, 'the product that they are beside.')
_TRAIN = flags.DEFINE_bool(_WHOLE, False, "GPT-2's whole step, too.")


def optimizers(params):
  """What is compared, by name."""
  found = contenders(params).items()
  return {name: tx for name, tx in found if 'record' not in name}


@functools.lru_cache(maxsize=1)
def of(question):
  """The pieces of a shape, or of the whole step."""
  if question == _WHOLE:
    config = make_config(preset='gpt2', dtype='bfloat16')
    model = train.model_config(config, vocab_size=50304)
    choose = lambda params: (
      {_GRADIENT: optax.set_to_zero()} | optimizers(params)
    )
    pieces = train_step.pieces(model, (1, config.batch_size), choose)
    del pieces[train_step.FORWARD]
  else:
    params = steps.parameters(*steps.SHAPES[question])
    pieces = steps.pieces(params, optimizers(params))
  return harness.Pieces(pieces, _STEPS)


def turn(question):
  return of(question).turn()


def measured(question):
  """Milliseconds of each, and ratios of time and of temporary memory."""
  rounds = harness.rounds(turn, question)
  memory = {
    name: program.memory_analysis().temp_size_in_bytes
    for name, program in of(question).programs.items()
  }
  rows = {}
  for name in memory:
    rows[name] = {'ms': 1e3 * rounds.median(name) / _STEPS}
    for suffix, base in (('', BASELINE), ('_to_main', MAIN)):
      rows[name]['step_time' + suffix] = rounds.ratio(name, base)
      rows[name]['temporary_memory' + suffix] = memory[name] / memory[base]
    if _GRADIENT in memory:
      rows[name]['optimizer_share'] = 1 - rounds.ratio(_GRADIENT, name)
    rows[name] |= rounds.against(name)
  of.cache_clear()  # The next ones need the memory.
  return rows


def fraction(name, bits):
  """FLOP/s of Newton-Schulz's products over those of one large product."""
  dtype = jnp.dtype(name)
  rule = functools.partial(optax_namo.newton_schulz, dtype=dtype)
  schedule = polynomials.schedule('muon', 5, bits)
  stack = tuple(map(int, _STACK.value))
  return steps.product_rate(rule, schedule, stack, _SIDE.value, dtype, _STEPS)


def kept(name, measure, *arguments):
  """A measurement; see ``harness.kept``."""
  name = f'{name}, {harness.ROUNDS.value} rounds'
  return harness.kept(_ROWS.value, name, lambda: measure(*arguments))


def main():
  report = harness.circumstances()
  report |= {'rounds': harness.ROUNDS.value, 'shapes': {}}
  for shape in _SHAPES.value:
    report['shapes'][shape] = kept(shape, measured, shape)
    harness.show(shape, report['shapes'][shape])
  report['products'] = {
    name: kept(f'{name} {_STACK.value} {_SIDE.value}', fraction, name, bits)
    for name, bits in (('float32', 10), ('bfloat16', 7))
  }
  print(f'\nNewton-Schulz beside a large product: {report["products"]}')
  if _TRAIN.value:
    report[_WHOLE] = kept(_WHOLE, measured, _WHOLE)
    harness.show("The example's step of GPT-2", report[_WHOLE])
  harness.write(report)


if __name__ == '__main__':
  harness.run(main, turn)
