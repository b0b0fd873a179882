# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Momenta of real training: what Newton-Schulz is given, at several stages.

A character GPT of 4 layers, 128 wide, on State of the Union addresses, trained
by NAMO-D for 300 steps: about a minute on two CPU cores. The matrices are what
`newton_schulz` gets, Nesterov's look ahead included.
"""

from flax import nnx
import jax
import numpy as np
import optax

from benchmarks import steps
import optax_namo
from optax_namo.nanogpt import data
from optax_namo.nanogpt import model as gpt

STAGES = (1, 10, 50, 300)
_BATCH, _BLOCK = 16, 128


def record() -> dict[int, list[np.ndarray]]:
  """Trains, and returns the 16 momenta of every stage, float32 (m, n) each."""
  corpus = data.load('sotu', block_size=_BLOCK)
  config = gpt.GPTConfig(corpus.vocab_size, _BLOCK, 4, 4, 128)
  graphdef, params = nnx.split(gpt.GPT(config, rngs=nnx.Rngs(0)))
  warm_up = optax.linear_schedule(0, 0.035, 40)
  tx = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax_namo.namo_d(warm_up, adam_learning_rate=3e-3),
  )
  # The first stage once more, beside the optimizer, to see what it hands on.
  first = optax_namo.adaptive_momentum()

  @jax.jit
  def step(params, state, momentum, batch):
    loss = lambda params: gpt.loss(nnx.merge(graphdef, params), *batch)
    gradients = jax.grad(loss)(params)
    updates, state = tx.update(gradients, state, params)
    seen, momentum = first.update(steps.matrices(gradients), momentum)
    return optax.apply_updates(params, updates), state, momentum, seen

  carry = params, tx.init(params), first.init(steps.matrices(params))
  found = {}
  for i in range(1, max(STAGES) + 1):
    batch = data.batch(
      corpus.train, seed=0, step=i, batch_size=_BATCH, block_size=_BLOCK
    )
    *carry, seen = step(*carry, batch)
    if i in STAGES:
      found[i] = [np.asarray(u.direction) for u in seen]
  return found
