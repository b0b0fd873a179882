# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The routing table in the README is that of a model."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp

import optax_namo

_README = pathlib.Path(__file__).parents[2] / 'README.md'


class _Transformer(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(1000, 64)(tokens)
    y = nn.LayerNorm()(x)
    x += nn.MultiHeadDotProductAttention(4)(y, y)
    y = nn.Dense(64)(nn.relu(nn.Dense(256)(nn.LayerNorm()(x))))
    return nn.Dense(1000, name='head')(x + y)


def test_routing_table():
  init = _Transformer().init
  params = jax.eval_shape(init, jax.random.key(0), jnp.ones((1, 8), int))
  table = str(optax_namo.routing_table(params['params']))
  lines = [line.rstrip() for line in table.splitlines()]
  shown = _README.read_text().partition('```text\npath ')[2].partition('```')[0]
  assert f'path {shown}'.splitlines() == lines
