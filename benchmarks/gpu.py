# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step costs on a GPU: ours beside optax's Muons and AdamW.

  python -m benchmarks.gpu --shapes=6x384,gpt2 --train --json=gpu.json

Every optimizer updates the parameters of a GPT, ten steps at a time, so that
none waits for the host, in turn with the others, `--rounds` times. `--train`
does the same with the example's whole step of GPT-2 in bfloat16, 12 sequences
of 1024 tokens. Times are medians over the rounds; ratios, to the Muon that
optax released and to that of its main, are medians of each round's. FLOPs are
not counted: XLA does not see those of the products that it gives to a library.
For `--against`, where two processes share the GPU, set
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
from optax_namo.nanogpt import model as gpt

_GRADIENT = 'loss and gradient'
_WHOLE = 'train'
_STEPS = 10  # Of one optimizer, before the next one's turn.
_SHAPES = flags.DEFINE_list('shapes', ['6x384'], f'Of {list(steps.SHAPES)}.')
_TRAIN = flags.DEFINE_bool(_WHOLE, False, "GPT-2's whole step, too.")


def optimizers(params):
  """What is compared, by name."""
  found = contenders(params).items()
  return {name: tx for name, tx in found if 'record' not in name}


@functools.lru_cache(maxsize=1)
def of(question):
  """The pieces of a shape, or of the whole step."""
  if question == _WHOLE:
    layers, width, vocabulary, context = steps.SHAPES['gpt2']
    config = gpt.GPTConfig(
      vocabulary, context, layers, 12, width, dtype='bfloat16'
    )
    choose = lambda params: (
      {_GRADIENT: optax.set_to_zero()} | optimizers(params)
    )
    pieces = train_step.pieces(config, (1, 12), choose)
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


def fractions(shape=(24, 768, 3072), side=8192):
  """FLOP/s of Newton-Schulz's products over those of one large product."""
  found = {}
  for dtype, bits in ((jnp.float32, 10), (jnp.bfloat16, 7)):
    rule = functools.partial(optax_namo.newton_schulz, dtype=dtype)
    schedule = polynomials.schedule('muon', 5, bits)
    found[jnp.dtype(dtype).name] = steps.product_rate(
      rule, schedule, shape, side, dtype, _STEPS
    )
  return found


def main():
  report = harness.circumstances()
  report |= {'rounds': harness.ROUNDS.value, 'shapes': {}}
  for shape in _SHAPES.value:
    report['shapes'][shape] = measured(shape)
    harness.show(shape, report['shapes'][shape])
    harness.write(report)
  report['products'] = fractions()
  print(f'\nNewton-Schulz beside a large product: {report["products"]}')
  harness.write(report)
  if _TRAIN.value:
    report[_WHOLE] = measured(_WHOLE)
    harness.show("The example's step of GPT-2", report[_WHOLE])
    harness.write(report)


if __name__ == '__main__':
  harness.run(main, turn)
