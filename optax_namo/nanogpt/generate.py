# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sampling from a GPT-2."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp

from optax_namo.nanogpt import model as gpt


def generate(
  model: gpt.GPT,
  tokens: jax.Array,
  num_tokens: int,
  *,
  key: jax.Array,
  temperature: float = 0.8,
  top_k: int | None = None,
) -> jax.Array:
  """Samples tokens that continue a prompt.

  Each token is drawn given at most the ``block_size`` tokens before it. Token
  ``i`` uses ``jax.random.fold_in(key, i)``, so that a longer sample starts
  with the shorter one of the same key. The function is compiled once per
  (batch, ``num_tokens``, ``top_k``), for prompts of every length.

  Args:
    model: The model.
    tokens: The prompt, int32 token ids, (batch, time), with time >= 1.
    num_tokens: How many tokens to add.
    key: A JAX random key.
    temperature: Divides the logits; below 1 it sharpens the distribution.
    top_k: If given, only the ``top_k`` likeliest tokens are drawn.

  Returns:
    The prompt with its continuation, int32, (batch, time + num_tokens).

  Raises:
    ValueError: If an argument is out of its range.
  """
  if tokens.ndim != 2 or not tokens.shape[1]:
    raise ValueError(
      'The prompt must be of shape (batch, time) with at least one token,'
      f' got {tokens.shape}.'
    )
  if num_tokens < 0:
    raise ValueError(f'num_tokens must be 0 or more, got {num_tokens}.')
  if not temperature > 0:
    raise ValueError(f'temperature must be above 0, got {temperature}.')
  if top_k is not None and top_k < 1:
    raise ValueError(f'top_k must be None or 1 or more, got {top_k}.')

  block_size = model.config.block_size
  window = tokens[:, -block_size:]
  length = window.shape[1]
  # No position sees what follows it, so the ids that pad do not matter.
  window = jnp.pad(window, ((0, 0), (0, block_size - length)))
  graphdef, state = nnx.split(model)
  sampled = _sample(
    graphdef, state, window, length, key, temperature, num_tokens, top_k
  )
  return jnp.concatenate([tokens, sampled], axis=1)


@functools.partial(jax.jit, static_argnames=('graphdef', 'num_tokens', 'top_k'))
def _sample(
  graphdef: nnx.GraphDef[gpt.GPT],
  state: nnx.State,
  window: jax.Array,
  length: jax.Array | int,
  key: jax.Array,
  temperature: jax.Array | float,
  num_tokens: int,
  top_k: int | None,
) -> jax.Array:
  """Returns (batch, num_tokens) ids that follow ``window[:, :length]``."""
  model = nnx.merge(graphdef, state)
  block_size = window.shape[1]

  def step(carry, index):
    window, length = carry
    # Only the last position goes through the output layer, the costliest one.
    last = jax.lax.dynamic_index_in_dim(
      model.hidden(window), length - 1, axis=1, keepdims=False
    )  # (batch, embed)
    logits = model.head(last) / temperature  # (batch, vocab)
    if top_k is not None:
      likeliest, _ = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))
      logits = jnp.where(logits < likeliest[:, -1:], -jnp.inf, logits)
    token = jax.random.categorical(jax.random.fold_in(key, index), logits)
    token = token.astype(window.dtype)  # (batch,)
    # A full window drops its oldest token to make room for the new one.
    window = jnp.where(
      length == block_size, jnp.roll(window, -1, axis=1), window
    )
    length = jnp.minimum(length + 1, block_size)
    return (window.at[:, length - 1].set(token), length), token

  carry = (window, jnp.asarray(length, jnp.int32))
  _, sampled = jax.lax.scan(step, carry, jnp.arange(num_tokens))
  return sampled.T
