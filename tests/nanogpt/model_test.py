# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the GPT-2 model: sizes, initialization and causality."""

import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_namo.nanogpt import model as gpt
from tests.nanogpt import helpers

_loss = nnx.jit(gpt.loss)
_extend = nnx.jit(gpt.GPT.extend)


def _param_shapes(model: gpt.GPT) -> dict[tuple, tuple]:
  flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
  return {path: leaf.shape for path, leaf in flat}


@pytest.mark.parametrize(
  'change',
  [
    {'vocab_size': 0},
    {'block_size': -1},
    {'num_layers': 1.0},
    {'num_heads': 3},
    {'embed_dim': '16'},
    {'dtype': 'float16'},
  ],
)
def test_config_error_names_the_field_and_its_value(change):
  ((field, value),) = change.items()
  with pytest.raises(ValueError, match=rf'{field}.*{value}'):
    helpers.build(**change)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('time', [1, 8])
def test_logits_and_params_are_float32(dtype, time):
  def run():
    model = helpers.build(dtype=dtype, use_bias=True)
    tokens = helpers.tokens(time=time)
    return nnx.state(model), model.hidden(tokens), model(tokens)

  params, hidden, logits = nnx.eval_shape(run)
  assert logits.shape == (3, time, helpers.CONFIG.vocab_size)
  assert logits.dtype == jnp.float32
  assert hidden.dtype == dtype
  for leaf in jax.tree.leaves(params):
    assert leaf.dtype == jnp.float32


def test_bfloat16_computes_about_the_same():
  logits = helpers.logits(helpers.build(), helpers.tokens())
  rounded = helpers.logits(helpers.build(dtype='bfloat16'), helpers.tokens())
  # bfloat16 keeps 8 bits, and the logits are about 0.1.
  np.testing.assert_allclose(rounded, logits, atol=5e-3)
  assert not np.array_equal(rounded, logits)


def _numpy_logits(model, tokens):
  """GPT-2 of one sequence, written out in float64."""
  params = {
    '.'.join(map(str, path)): np.asarray(leaf[...], np.float64)
    for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
  }
  time, heads = len(tokens), model.config.num_heads

  def norm(name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * params[f'{name}.scale'] + params[f'{name}.bias']

  def linear(name, x):
    return x @ params[f'{name}.kernel'] + params[f'{name}.bias']

  def attend(query, key, value):
    scores = query @ key.T / math.sqrt(query.shape[-1])
    weights = np.tril(np.exp(scores))
    return weights / weights.sum(-1, keepdims=True) @ value

  x = params['wte.embedding'][tokens] + params['wpe.embedding'][:time]
  for block in (f'blocks.{i}' for i in range(model.config.num_layers)):
    parts = linear(f'{block}.attn.c_attn', norm(f'{block}.ln_1', x))
    query, key, value = (
      np.split(part, heads, axis=-1) for part in np.split(parts, 3, axis=-1)
    )
    y = np.concatenate(list(map(attend, query, key, value)), axis=-1)
    x = x + linear(f'{block}.attn.c_proj', y)
    y = linear(f'{block}.mlp.c_fc', norm(f'{block}.ln_2', x))
    y = y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2
    x = x + linear(f'{block}.mlp.c_proj', y)
  return norm('ln_f', x) @ params['wte.embedding'].T


def test_logits_are_those_of_gpt2_written_out():
  # Embeddings stay small, where the epsilon of the layer norms shows.
  model = helpers.shake(helpers.build(use_bias=True))
  tokens = helpers.tokens(batch=1)
  np.testing.assert_allclose(
    helpers.logits(model, tokens)[0],
    _numpy_logits(model, np.asarray(tokens[0])),
    atol=2e-6,
  )


def test_too_long_sequence_is_an_error():
  with pytest.raises(ValueError, match='9 tokens .* block_size=8'):
    helpers.logits(helpers.build(), helpers.tokens(time=9))


def test_loss_is_the_mean_negative_log_probability():
  model, tokens = helpers.build(), helpers.tokens()
  targets = helpers.tokens(seed=2)
  loss = _loss(model, tokens, targets)
  assert loss.shape == () and loss.dtype == jnp.float32

  logits = np.asarray(helpers.logits(model, tokens), np.float64)
  probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  picked = [probs[i, t, targets[i, t]] for i in range(3) for t in range(8)]
  np.testing.assert_allclose(loss, -np.mean(np.log(picked)), rtol=1e-5)


def test_initial_loss_is_that_of_a_uniform_guess():
  loss = _loss(helpers.build(), helpers.tokens(), helpers.tokens(seed=2))
  np.testing.assert_allclose(
    loss, math.log(helpers.CONFIG.vocab_size), atol=0.05
  )


def test_names_and_shapes_of_the_params():
  assert _param_shapes(helpers.build(use_bias=True)) == {
    ('wte', 'embedding'): (23, 16),
    ('wpe', 'embedding'): (8, 16),
    ('blocks', 0, 'ln_1', 'scale'): (16,),
    ('blocks', 0, 'ln_1', 'bias'): (16,),
    ('blocks', 0, 'attn', 'c_attn', 'kernel'): (16, 48),
    ('blocks', 0, 'attn', 'c_attn', 'bias'): (48,),
    ('blocks', 0, 'attn', 'c_proj', 'kernel'): (16, 16),
    ('blocks', 0, 'attn', 'c_proj', 'bias'): (16,),
    ('blocks', 0, 'ln_2', 'scale'): (16,),
    ('blocks', 0, 'ln_2', 'bias'): (16,),
    ('blocks', 0, 'mlp', 'c_fc', 'kernel'): (16, 64),
    ('blocks', 0, 'mlp', 'c_fc', 'bias'): (64,),
    ('blocks', 0, 'mlp', 'c_proj', 'kernel'): (64, 16),
    ('blocks', 0, 'mlp', 'c_proj', 'bias'): (16,),
    ('ln_f', 'scale'): (16,),
    ('ln_f', 'bias'): (16,),
  }


def test_bias_is_off_by_default():
  assert not [path for path in _param_shapes(helpers.build()) if 'bias' in path]


@pytest.mark.parametrize(
  'use_bias, expected',
  # Embeddings, then layer norms and the four kernels of each block, then
  # the last layer norm; with biases, the count of OpenAI's GPT-2 small.
  [
    (
      False,
      (50257 + 1024) * 768 + 12 * (2 * 768 + (3 + 1 + 4 + 4) * 768**2) + 768,
    ),
    (True, 124_439_808),
  ],
)
def test_num_params_of_gpt2_small(use_bias, expected):
  config = gpt.GPTConfig(50257, 1024, 12, 12, 768, use_bias=use_bias)
  model = nnx.eval_shape(lambda: gpt.GPT(config, rngs=nnx.Rngs(0)))
  shapes = _param_shapes(model).values()
  assert sum(map(math.prod, shapes)) == expected


def test_init_scales():
  model = helpers.build(num_layers=8, use_bias=True)
  params: dict[str, list[np.ndarray]] = {}
  for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)):
    # The same layer of all blocks together, for a sample of some size.
    name = '.'.join(part for part in path if isinstance(part, str))
    params.setdefault(name, []).append(np.ravel(leaf[...]))
  assert len(params) == 16
  for name, values in params.items():
    value = np.concatenate(values)
    if name.endswith('bias'):
      assert not value.any()
    elif name.endswith('scale'):
      assert (value == 1).all()
    else:
      # 0.02 / sqrt(2 * 8) for what is added to the residual stream.
      stddev = 0.005 if 'c_proj' in name else 0.02
      np.testing.assert_allclose(value.std(), stddev, rtol=0.1, err_msg=name)
      assert abs(value.mean()) < 0.2 * stddev


def test_output_depends_on_the_past_only():
  model, tokens = helpers.build(num_layers=2), helpers.tokens(batch=1)
  weights = np.linspace(-1.0, 2.0, helpers.CONFIG.vocab_size, dtype=np.float32)

  @nnx.jit
  @nnx.grad
  def gradient(model, position):
    return jnp.dot(model(tokens)[0, position], weights)

  for position in range(helpers.CONFIG.block_size):
    # wpe is added to the input embeddings and used nowhere else, so that its
    # gradient is that of the input embedding at every position.
    rows = np.asarray(gradient(model, position).wpe.embedding[...])
    assert np.abs(rows[: position + 1]).max(axis=1).min() > 0
    assert not rows[position + 1 :].any()


def test_head_is_tied_to_the_token_embedding():
  model = helpers.build()
  tokens = jnp.full((1, 4), 5)

  @nnx.jit
  def gradients(model):
    read = nnx.grad(lambda model: jnp.sum(model.hidden(tokens)[0, -1, :3]))
    written = nnx.grad(lambda model: model(tokens)[0, -1, 7])
    return read(model).wte.embedding, written(model).wte.embedding

  for grads, rows in zip(gradients(model), ([5], [5, 7]), strict=True):
    assert np.flatnonzero(np.any(grads[...], axis=1)).tolist() == rows


@pytest.mark.parametrize('chunks', [[1] * 8, [3, 1, 4], [8]])
def test_kept_keys_and_values_give_the_same_activations(chunks):
  model = helpers.shake(helpers.build(num_layers=2, use_bias=True))
  tokens = helpers.tokens()
  # What stands behind the positions seen so far must not matter.
  cache = jax.tree.map(lambda x: x + 9.0, model.empty_cache(3))
  start, parts = 0, []
  for size in chunks:
    part = tokens[:, start : start + size]
    hidden, cache = _extend(model, part, cache, start)
    parts.append(model.head(hidden))
    start += size
  np.testing.assert_allclose(
    np.concatenate(parts, axis=1), helpers.logits(model, tokens), atol=1e-5
  )


@pytest.mark.full_compile
def test_what_is_kept_for_the_backward_pass(monkeypatch):
  """On a CPU a layer keeps GELU's input alone, or its output as well."""
  build = lambda: helpers.build(num_layers=3, num_heads=1, embed_dim=64)
  blocks = nnx.eval_shape(build).blocks  # Compiled, and not run.
  graphdef, params = nnx.split(nnx.List([block.mlp for block in blocks]))
  x = jnp.ones((3, 8, 64))

  def loss(params):
    y = x
    for mlp in nnx.merge(graphdef, params):
      y = y + mlp(y)
    return jnp.sum(y**2)

  def temporary_memory():
    program = jax.jit(jax.grad(loss)).lower(params).compile()
    return program.memory_analysis().temp_size_in_bytes

  ours = temporary_memory()
  plain = lambda x: jax.nn.gelu(x, approximate=False)
  monkeypatch.setattr(gpt, '_gelu', plain)
  wide = 4 * 3 * 8 * 4 * 64
  # By one output of GELU, at least: six with jax 0.10, three with jax 0.12.
  assert temporary_memory() - ours > wide


def test_gelu_is_the_exact_one():
  x = np.linspace(-6.0, 6.0, 97, dtype=np.float32)
  exact = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()]
  slope = [
    (1 + math.erf(v / math.sqrt(2))) / 2
    + v * math.exp(-v * v / 2) / math.sqrt(2 * math.pi)
    for v in x.tolist()
  ]
  np.testing.assert_allclose(gpt._gelu(x), exact, atol=1e-6)
  np.testing.assert_allclose(jax.vmap(jax.grad(gpt._gelu))(x), slope, atol=1e-6)
