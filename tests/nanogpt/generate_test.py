# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of sampling, against nanoGPT's loop written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optax_namo.nanogpt import generate
from tests.nanogpt import helpers


def _crop_and_sample(model, tokens, num_tokens, *, key, temperature, top_k):
  """nanoGPT's loop: crop, run, take the last logits, draw, append."""
  block_size = model.config.block_size
  for i in range(num_tokens):
    logits = helpers.logits(model, tokens[:, -block_size:])[:, -1] / temperature
    if top_k is not None:
      lowest = jnp.sort(logits, axis=-1)[:, -top_k][:, None]
      logits = jnp.where(logits < lowest, -jnp.inf, logits)
    token = jax.random.categorical(jax.random.fold_in(key, i), logits)
    tokens = np.concatenate([tokens, token[:, None]], axis=1)
  return tokens


@pytest.mark.parametrize('top_k', [None, 3])
@pytest.mark.parametrize('time', [1, 3, 5])
def test_generate_equals_cropping_loop(time, top_k):
  model = helpers.shake(helpers.build(block_size=3))
  prompt = helpers.tokens(time=time)
  # Sharper than at initialization, so that the logits decide.
  model.wte.embedding[...] *= 20.0
  options = {'key': jax.random.key(4), 'temperature': 0.7, 'top_k': top_k}
  sampled = generate.generate(model, prompt, 8, **options)
  assert sampled.shape == (3, time + 8)
  assert sampled.dtype == prompt.dtype
  np.testing.assert_array_equal(sampled[:, :time], prompt)
  expected = _crop_and_sample(model, prompt, 8, **options)
  np.testing.assert_array_equal(sampled, expected)


def test_generate_is_a_function_of_the_key():
  model, prompt = helpers.build(), helpers.tokens(time=2)

  def sample(num_tokens, seed):
    key = jax.random.key(seed)
    return np.asarray(generate.generate(model, prompt, num_tokens, key=key))

  np.testing.assert_array_equal(sample(9, 5), sample(9, 5))
  assert not np.array_equal(sample(9, 5), sample(9, 6))
  np.testing.assert_array_equal(sample(9, 5)[:, :3], sample(1, 5))
  np.testing.assert_array_equal(sample(0, 5), prompt)


def test_generate_compiles_once_for_prompts_of_every_length():
  model, key = helpers.build(), jax.random.key(0)
  generate.generate(model, helpers.tokens(time=1), 1, key=key)
  compiled = generate._sample._cache_size()
  generate.generate(model, helpers.tokens(time=5), 1, key=key)
  generate.generate(model, helpers.tokens(time=8), 1, key=key, temperature=1.5)
  assert generate._sample._cache_size() == compiled


def test_generate_is_greedy_at_a_low_temperature():
  model, prompt, key = helpers.build(), helpers.tokens(), jax.random.key(0)
  sampled = generate.generate(model, prompt, 1, key=key, temperature=1e-6)
  likeliest = np.argmax(helpers.logits(model, prompt)[:, -1], axis=-1)
  np.testing.assert_array_equal(sampled[:, -1], likeliest)


def test_top_k_may_exceed_the_vocabulary():
  model, prompt, key = helpers.build(), helpers.tokens(), jax.random.key(0)
  np.testing.assert_array_equal(
    generate.generate(model, prompt, 1, key=key, top_k=1000),
    generate.generate(model, prompt, 1, key=key),
  )


@pytest.mark.parametrize(
  'change, message',
  [
    ({'num_tokens': -1}, 'num_tokens .* -1'),
    ({'temperature': 0.0}, 'temperature .* 0.0'),
    ({'temperature': math.nan}, 'temperature .* nan'),
    ({'top_k': 0}, 'top_k .* 0'),
    ({'tokens': jnp.zeros((2, 0), jnp.int32)}, r'\(2, 0\)'),
    ({'tokens': jnp.zeros((2,), jnp.int32)}, r'\(2,\)'),
  ],
)
def test_generate_errors(change, message):
  arguments = {'tokens': helpers.tokens(), 'num_tokens': 2, **change}
  with pytest.raises(ValueError, match=message):
    generate.generate(helpers.build(), key=jax.random.key(0), **arguments)
