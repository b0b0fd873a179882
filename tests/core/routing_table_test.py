# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the routing table says of each leaf."""

import re

from flax import nnx
import jax
import jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo


def test_rows_and_print():
  params = {
    'wte': {'embedding': jnp.ones((9, 4))},
    'attn': {
      'out': {'kernel': jnp.ones((2, 3, 4)), 'bias': jnp.ones(4)},
      'qkv': {'kernel': jnp.ones((4, 12))},
    },
    't': jnp.ones(()),
  }
  split = optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (6, 4, 2))
  table = optax_namo.routing_table(
    params, rules=[('qkv/kernel', split)], columns='output'
  )
  rows = {row.path: row for row in table}
  out = rows['attn/out/kernel']
  assert out.view == ((1, 6, 4),)
  assert out.column_axes == (2,)
  assert rows['wte/embedding'].group == 'adamw'
  assert sum(row.size for row in table) == 36 + 24 + 4 + 48 + 1
  by_input = optax_namo.routing_table(params, columns='input')
  assert {row.path: row for row in by_input}['attn/out/kernel'].column_axes == (
    0,
    1,
  )
  text = str(table)
  assert '1 of 1 × 4 × 6, 1 of 1 × 4 × 4, 1 of 1 × 4 × 2' in text
  lines = text.splitlines()
  assert re.search(r'^total of 2 .* matrix .* 72$', lines[-2])
  assert re.search(r'^total of 3 .* adamw .* 41$', lines[-1])
  assert len({len(line) for line in lines}) == 1


def test_shapes_suffice():
  abstract = {'w': jax.ShapeDtypeStruct((3, 4), jnp.float32)}
  (row,) = optax_namo.routing_table(abstract)
  assert (row.path, row.group, row.size) == ('w', 'matrix', 12)


def _model():
  rngs = nnx.Rngs(0)
  return nnx.Sequential(
    nnx.Linear(4, 8, rngs=rngs), nnx.Dropout(0.1, rngs=rngs),
    nnx.Linear(8, 2, rngs=rngs),
  )  # fmt: skip


def test_a_whole_model_without_its_random_counts():
  loss = lambda model, x: jnp.mean(model(x) ** 2)
  for use in (None, (loss, jnp.ones((3, 4)))):
    table = optax_namo.routing_table(_model(), use=use)
    assert [row.path for row in table] == [
      'layers/0/bias', 'layers/0/kernel', 'layers/2/bias', 'layers/2/kernel',
    ]  # fmt: skip


@pytest.mark.parametrize('use', [jnp.sum, (), (jnp.ones(3),)])
def test_use_is_a_function_and_its_arguments(use):
  with pytest.raises(TypeError, match=r'such as \(loss, batch\), got'):
    optax_namo.routing_table({'a': jnp.ones((2, 3))}, use=use)


def test_the_warning_of_use_points_at_the_caller():
  params = {'a': jnp.ones((2, 3)), 'b': jnp.ones((3, 4))}
  loss = lambda params: jnp.sum(params['b'])
  with pytest.warns(UserWarning, match="'a' .* is not used") as warned:
    optax_namo.routing_table(params, use=(loss,))
  assert {one.filename for one in warned} == {__file__}
