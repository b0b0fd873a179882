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

import functools

from absl import flags
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import harness
from benchmarks.contenders import BASELINE
from benchmarks.contenders import contenders
from benchmarks.contenders import MAIN
from benchmarks.contenders import RECORD
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import PRESETS
from optax_namo.nanogpt.mesh import make_mesh

_VOCABULARY = 96  # About what the characters of an English text need.
FORWARD, BACKWARD = 'forward', 'forward and backward'
_PRESET = flags.DEFINE_string('preset', 'char', f'Of {list(PRESETS)}.')


def pieces(config, batch, choose):
  """The forward pass, and the example's step with every optimizer.

  Args:
    config: The model.
    batch: Its micro-batches, and the sequences of each.
    choose: From parameters to optimizers by name.
  """
  mesh = make_mesh('')
  graphdef, params = nnx.split(gpt.GPT(config, rngs=nnx.Rngs(0)))
  shape = (2, *batch, config.block_size)
  tokens = np.random.default_rng(0).integers(config.vocab_size, size=shape)
  inputs, targets = jnp.asarray(tokens, jnp.int32)
  copied = functools.partial(jax.tree.map, jnp.copy)  # To be donated.

  def forward(params, inputs, targets):
    model = nnx.merge(graphdef, params)
    return params, gpt.loss(model, inputs[0], targets[0])

  def piece(tx):
    state = train.TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))
    return train.make_step(graphdef, tx, mesh), copied(state), (inputs, targets)

  return {FORWARD: (forward, copied(params), (inputs, targets))} | {
    name: piece(tx) for name, tx in choose(params).items()
  }


def optimizers(params):
  """What is compared, by name; clipped, as in the example."""
  found = contenders(params)
  names = 'namo_d', 'namo_d' + RECORD, 'namo', 'namo' + RECORD, BASELINE, MAIN
  bare = {BACKWARD: optax.set_to_zero(), 'adamw': found['optax.adamw']}
  bare |= {name: found[name] for name in names}
  clip = optax.clip_by_global_norm(1.0)
  return {name: optax.chain(clip, tx) for name, tx in bare.items()}


@functools.lru_cache(maxsize=1)
def of_preset(preset):
  """Each piece once."""
  config = make_config(preset=preset)
  model = train.model_config(config, _VOCABULARY)
  batch = 1, config.batch_size
  return harness.Pieces(pieces(model, batch, optimizers))


def turn(preset):
  return of_preset(preset).turn()


def figures(rounds, tokens):
  """Of each piece: ms, tokens a second, and its ratios within a round."""
  rows = {}
  for name in rounds.here[0]:
    seconds = rounds.median(name)
    row = {'ms': 1e3 * seconds, 'tokens_per_second': tokens / seconds}
    if name not in (FORWARD, BACKWARD):
      forward, backward = (rounds.ratio(x, name) for x in (FORWARD, BACKWARD))
      row['forward_share'] = forward
      row['backward_share'] = backward - forward
      row['optimizer_share'] = 1 - backward
    if name.endswith(RECORD):
      row['record_share'] = 1 - rounds.ratio(name.removesuffix(RECORD), name)
    rows[name] = row | rounds.against(name)
  return rows


def main():
  preset = _PRESET.value
  rounds = harness.rounds(turn, preset)
  sizes = PRESETS[preset]
  rows = figures(rounds, sizes.batch_size * sizes.block_size)
  harness.show(preset, rows)
  harness.write(
    harness.circumstances()
    | {
      'preset': preset,
      'rounds': harness.ROUNDS.value,
      'against': harness.AGAINST.value,
      'pieces': rows,
    }
  )


if __name__ == '__main__':
  harness.run(main, turn)
