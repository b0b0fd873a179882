# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests of the nanoGPT example share: a model and prompts."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo.nanogpt import model as gpt

CONFIG = gpt.GPTConfig(
  vocab_size=23, block_size=8, num_layers=1, num_heads=2, embed_dim=16
)
# One compilation per shape, rather than one per operation and shape.
logits = nnx.jit(lambda model, tokens: model(tokens))


def build(**changes) -> gpt.GPT:
  fields = {**vars(CONFIG), **changes}
  return gpt.GPT(gpt.GPTConfig(**fields), rngs=nnx.Rngs(0))


def shake(model: gpt.GPT) -> gpt.GPT:
  """Moves the blocks away from initialization, where they do very little."""
  rng = np.random.default_rng(0)
  for path, leaf in nnx.to_flat_state(nnx.state(model.blocks, nnx.Param)):
    stddev = 0.2 if path[-1] == 'kernel' else 0.5
    leaf[...] += jnp.asarray(rng.normal(0, stddev, leaf.shape), jnp.float32)
  return model


def tokens(batch: int = 3, time: int = 8, seed: int = 1) -> jax.Array:
  rng = np.random.default_rng(seed)
  ids = rng.integers(CONFIG.vocab_size, size=(batch, time))
  return jnp.asarray(ids, jnp.int32)
