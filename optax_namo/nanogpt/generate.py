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

  Each token is drawn given at most the ``block_size`` tokens before it. Up to
  there a token costs one position, since keys and values of those before it are
  kept; beyond, the whole window shifts and is computed anew, as in nanoGPT.
  Token
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
  block_size = model.config.block_size
  most = 2**31 - 1 - block_size  # Positions have 32 bits.
  if not 0 <= num_tokens <= most:
    raise ValueError(f'num_tokens must be from 0 to {most}, got {num_tokens}.')
  if not temperature > 0:
    raise ValueError(
      f'temperature must be above 0, got {temperature}. top_k=1 takes the'
      ' likeliest token, always.'
    )
  if top_k is not None and top_k < 1:
    raise ValueError(f'top_k must be 1 or more, got {top_k}.')

  window = tokens[:, -block_size:]
  length = window.shape[1]
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
  batch, block_size = window.shape

  def draw(hidden, index):
    """Token ``index``, (batch,), given the activations before it."""
    logits = model.head(hidden) / temperature  # (batch, vocab)
    if top_k is not None:
      likeliest, _ = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))
      logits = jnp.where(logits < likeliest[:, -1:], -jnp.inf, logits)
    token = jax.random.categorical(jax.random.fold_in(key, index), logits)
    return token.astype(window.dtype)

  def at(hidden, position):
    return jax.lax.dynamic_index_in_dim(hidden, position, 1, keepdims=False)

  def extend(index, carry):
    """Draws given the cache, to which token ``index - 1`` is new."""
    tokens, cache = carry
    position = length + index - 1
    hidden, cache = model.extend(at(tokens, position)[:, None], cache, position)
    token = draw(hidden[:, 0], index)
    return tokens.at[:, position + 1].set(token), cache

  def crop(index, tokens):
    """Draws given the newest tokens, all of them at new positions."""
    window = jax.lax.dynamic_slice_in_dim(
      tokens, length + index - block_size, block_size, axis=1
    )
    token = draw(model.hidden(window)[:, -1], index)
    return tokens.at[:, length + index].set(token)

  # The ids behind those drawn do not matter: no position sees what follows it.
  tokens = jnp.pad(window, ((0, 0), (0, num_tokens)))
  hidden, cache = model.extend(window, model.empty_cache(batch), 0)
  tokens = tokens.at[:, length].set(draw(at(hidden, length - 1), 0))
  # Beyond block_size positions shift, and what was kept of them is void.
  fit = jnp.minimum(num_tokens, block_size - length + 1)
  tokens, _ = jax.lax.fori_loop(1, fit, extend, (tokens, cache))
  tokens = jax.lax.fori_loop(fit, num_tokens, crop, tokens)
  return jax.lax.dynamic_slice_in_dim(tokens, length, num_tokens, axis=1)
