# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPT-2 in Flax NNX, with nanoGPT's layout and initialization.

Attributes are named as in nanoGPT, but for ``blocks``, which is its ``h``.
The modules know nothing of optimizers: :func:`loss` is a plain function of a
model and two token arrays. Parameters are always float32, and ``GPTConfig``
chooses the dtype of the computation. Sizes below are written as (batch, time,
embed) for activations and (inputs, outputs) for kernels.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math

from flax import nnx
import jax
import jax.numpy as jnp
import optax

_DTYPES = ('float32', 'bfloat16')
_INIT_STDDEV = 0.02  # GPT-2 and nanoGPT, for every kernel and embedding.
_LAYER_NORM_EPSILON = 1e-5  # nanoGPT, PyTorch's default; Flax has 1e-6.

Index = jax.Array | int
# Of one layer, (batch, heads, positions, head_dim) each.
KeysValues = tuple[jax.Array, jax.Array]
Cache = list[KeysValues]  # By layer.


@dataclasses.dataclass(frozen=True)
class GPTConfig:
  """Sizes of a GPT-2.

  Attributes:
    vocab_size: Number of token ids, padding included.
    block_size: Longest sequence the model takes, in tokens.
    num_layers: Number of transformer blocks.
    num_heads: Attention heads per block; divides ``embed_dim``.
    embed_dim: Width of the residual stream.
    use_bias: Whether linear layers and layer norms have biases.
    dtype: Dtype of the computation, 'float32' or 'bfloat16'.
  """

  vocab_size: int
  block_size: int
  num_layers: int
  num_heads: int
  embed_dim: int
  use_bias: bool = False
  dtype: str = 'float32'

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and not (isinstance(value, int) and value > 0):
        raise ValueError(
          f'{field.name} must be a positive integer, got {value!r}.'
        )
    if self.embed_dim % self.num_heads:
      raise ValueError(
        f'embed_dim={self.embed_dim} is not a multiple of'
        f' num_heads={self.num_heads}, the heads of a block: make it one.'
      )
    if self.dtype not in _DTYPES:
      raise ValueError(f'dtype must be one of {_DTYPES}, got {self.dtype!r}.')


def _linear(
  config: GPTConfig,
  inputs: int,
  outputs: int,
  *,
  rngs: nnx.Rngs,
  stddev: float = _INIT_STDDEV,
) -> nnx.Linear:
  return nnx.Linear(
    inputs,
    outputs,
    use_bias=config.use_bias,
    dtype=jnp.dtype(config.dtype),
    kernel_init=nnx.initializers.normal(stddev),
    rngs=rngs,
  )


def _project(linear: nnx.Linear, x: jax.Array) -> jax.Array:
  """Applies a linear layer to all positions as the rows of one matrix.

  XLA's CPU backend transposes a (batch, time, inputs) array to contract its two
  leading axes in the kernel's gradient; with rows the train step of the
  ``char`` preset takes about two thirds of the time.
  """
  y = linear(x.reshape(-1, x.shape[-1]))
  return y.reshape(*x.shape[:-1], y.shape[-1])


def _residual_stddev(config: GPTConfig) -> float:
  # GPT-2 scales the two projections that every block adds to the residual
  # stream, so that its variance at the last block does not grow with depth.
  return _INIT_STDDEV / math.sqrt(2 * config.num_layers)


def _layer_norm(config: GPTConfig, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
  return nnx.LayerNorm(
    config.embed_dim,
    epsilon=_LAYER_NORM_EPSILON,
    use_bias=config.use_bias,
    dtype=jnp.dtype(config.dtype),
    rngs=rngs,
  )


def _embed(config: GPTConfig, rows: int, *, rngs: nnx.Rngs) -> nnx.Embed:
  return nnx.Embed(
    rows,
    config.embed_dim,
    dtype=jnp.dtype(config.dtype),
    embedding_init=nnx.initializers.normal(_INIT_STDDEV),
    rngs=rngs,
  )


def _attend(
  query: jax.Array, key: jax.Array, value: jax.Array, visible: jax.Array
) -> jax.Array:
  """Returns the values' means, weighted by the softmax of the scores.

  Args:
    query: (batch, heads, time, head_dim).
    key: (batch, heads, positions, head_dim).
    value: (batch, heads, positions, head_dim).
    visible: Which positions each time may look at, bool, (time, positions).

  Returns:
    (batch, heads, time, head_dim).
  """
  # XLA's CPU backend takes 1.4 times as long for jax.nn's; on accelerators that
  # moves fewer bytes.
  return jax.lax.platform_dependent(
    query,
    key,
    value,
    visible,
    cpu=_softmax_attention,
    default=_dot_product_attention,
  )


def _softmax_attention(query, key, value, visible):
  query /= math.sqrt(query.shape[-1])
  scores = jnp.einsum(
    'bhtd,bhsd->bhts', query, key, preferred_element_type=jnp.float32
  )
  scores += jnp.where(visible, 0.0, -jnp.inf)[None, None]
  weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
  return jnp.einsum('bhts,bhsd->bhtd', weights, value)


def _dot_product_attention(query, key, value, visible):
  heads_last = lambda x: x.swapaxes(1, 2)  # (batch, time, heads, head_dim)
  query, key, value = map(heads_last, (query, key, value))
  y = jax.nn.dot_product_attention(query, key, value, mask=visible[None, None])
  return heads_last(y)


class CausalSelfAttention(nnx.Module):
  """Multi-head attention in which a position sees itself and the past."""

  def __init__(self, config: GPTConfig, *, rngs: nnx.Rngs):
    width = config.embed_dim
    self.num_heads = config.num_heads
    # Queries, keys and values in one kernel, side by side, as in nanoGPT.
    self.c_attn = _linear(config, width, 3 * width, rngs=rngs)
    self.c_proj = _linear(
      config, width, width, rngs=rngs, stddev=_residual_stddev(config)
    )

  def __call__(
    self, x: jax.Array, past: KeysValues | None = None, start: Index = 0
  ) -> tuple[jax.Array, KeysValues]:
    """Attends from ``start`` on; see ``GPT.hidden``."""
    batch, time, width = x.shape
    heads = (batch, time, self.num_heads, width // self.num_heads)
    # Each (batch, heads, time, head_dim): the products need no other order.
    query, key, value = (
      part.reshape(heads).swapaxes(1, 2)
      for part in jnp.split(_project(self.c_attn, x), 3, axis=-1)
    )
    if past is not None:
      key, value = (
        jax.lax.dynamic_update_slice_in_dim(old, new, start, axis=2)
        for old, new in zip(past, (key, value))
      )
    positions, times = jnp.arange(key.shape[2]), start + jnp.arange(time)
    visible = positions[None, :] <= times[:, None]
    y = _attend(query, key, value, visible)
    y = _project(self.c_proj, y.swapaxes(1, 2).reshape(x.shape))
    return y, (key, value)


def _gelu(x: jax.Array) -> jax.Array:
  """The exact GELU, nanoGPT's; OpenAI's GPT-2 used the tanh form."""
  gelu = functools.partial(jax.nn.gelu, approximate=False)
  # On a CPU the backward pass keeps x alone, and finds the rest again.
  return jax.lax.platform_dependent(x, cpu=jax.checkpoint(gelu), default=gelu)


class MLP(nnx.Module):
  """Two linear layers, four times as wide in between, with the exact GELU."""

  def __init__(self, config: GPTConfig, *, rngs: nnx.Rngs):
    width = config.embed_dim
    self.c_fc = _linear(config, width, 4 * width, rngs=rngs)
    self.c_proj = _linear(
      config, 4 * width, width, rngs=rngs, stddev=_residual_stddev(config)
    )

  def __call__(self, x: jax.Array) -> jax.Array:
    return _project(self.c_proj, _gelu(_project(self.c_fc, x)))


class Block(nnx.Module):
  """Attention, then MLP, each on a normalized copy of the residual stream."""

  def __init__(self, config: GPTConfig, *, rngs: nnx.Rngs):
    self.ln_1 = _layer_norm(config, rngs=rngs)
    self.attn = CausalSelfAttention(config, rngs=rngs)
    self.ln_2 = _layer_norm(config, rngs=rngs)
    self.mlp = MLP(config, rngs=rngs)

  def __call__(
    self, x: jax.Array, past: KeysValues | None = None, start: Index = 0
  ) -> tuple[jax.Array, KeysValues]:
    y, present = self.attn(self.ln_1(x), past, start)
    x = x + y
    return x + self.mlp(self.ln_2(x)), present


class GPT(nnx.Module):
  """A decoder-only transformer whose output layer is its token embedding."""

  def __init__(self, config: GPTConfig, *, rngs: nnx.Rngs):
    self.config = config
    self.wte = _embed(config, config.vocab_size, rngs=rngs)
    self.wpe = _embed(config, config.block_size, rngs=rngs)
    self.blocks = nnx.List(
      [Block(config, rngs=rngs) for _ in range(config.num_layers)]
    )
    self.ln_f = _layer_norm(config, rngs=rngs)

  def hidden(self, tokens: jax.Array) -> jax.Array:
    """Returns what the output layer reads.

    Args:
      tokens: int32 token ids, (batch, time).

    Returns:
      Normalized activations in the dtype of the computation, (batch, time,
      embed).

    Raises:
      ValueError: If ``tokens`` is longer than ``block_size``.
    """
    time = tokens.shape[1]
    if time > self.config.block_size:
      raise ValueError(
        f'A sequence of {time} tokens is longer than'
        f' block_size={self.config.block_size}: crop it, or build the model'
        ' with a larger block_size.'
      )
    return self.extend(tokens, [None] * self.config.num_layers, 0)[0]

  def extend(
    self, tokens: jax.Array, cache: Sequence[KeysValues | None], start: Index
  ) -> tuple[jax.Array, Cache]:
    """Returns what ``hidden`` would, given the positions before the tokens.

    Args:
      tokens: int32 token ids, (batch, time).
      cache: What the positions below ``start`` left, see ``empty_cache``; None
        of each layer for nothing.
      start: The first token's position; the last one's is below
        ``block_size``.

    Returns:
      Normalized activations of the tokens, (batch, time, embed); and the cache
      with the tokens in it.
    """
    positions = self.wpe(start + jnp.arange(tokens.shape[1]))  # (time, embed)
    x = self.wte(tokens) + positions[None]
    present = []
    for block, past in zip(self.blocks, cache):
      x, kept = block(x, past, start)
      present.append(kept)
    return self.ln_f(x), present

  def empty_cache(self, batch: int) -> Cache:
    """Returns room for the keys and values of ``block_size`` positions."""
    config = self.config
    shape = (
      batch,
      config.num_heads,
      config.block_size,
      config.embed_dim // config.num_heads,
    )
    zeros = jnp.zeros(shape, config.dtype)
    return [(zeros, zeros)] * config.num_layers

  def head(self, hidden: jax.Array) -> jax.Array:
    """Returns float32 logits, (..., vocab), of activations, (..., embed)."""
    return self.wte.attend(hidden).astype(jnp.float32)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Returns float32 logits, (batch, time, vocab), of the next tokens.

    Args:
      tokens: int32 token ids, (batch, time), no longer than ``block_size``.
    """
    return self.head(self.hidden(tokens))


def loss(model: GPT, tokens: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the mean cross entropy of the targets, in nats per token.

  Args:
    model: The model.
    tokens: int32 token ids, (batch, time).
    targets: int32 ids of the tokens that follow, (batch, time).

  Returns:
    A float32 scalar.
  """
  return jnp.mean(token_losses(model, tokens, targets))


def token_losses(
  model: GPT, tokens: jax.Array, targets: jax.Array
) -> jax.Array:
  """As ``loss``, but of each token: float32, (batch, time)."""
  logits = model(tokens)  # (batch, time, vocab)
  return optax.softmax_cross_entropy_with_integer_labels(logits, targets)
