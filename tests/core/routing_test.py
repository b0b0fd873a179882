# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which leaves are matrices and which are AdamW's, and what follows."""

import chex
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run


def _groups(params):
  numbers = optax_namo.matrix_dimension_numbers(params)
  groups = jax.tree.map(lambda _, n: n is not None, params, numbers)
  return dict(
    (jax.tree_util.keystr(path, simple=True, separator='/'), group)
    for path, group in jax.tree_util.tree_leaves_with_path(groups)
  )


@pytest.mark.filterwarnings('ignore:NO LEAF IS A MATRIX')
def test_whole_components():
  matrices = [
    'dense/kernel', 'MultiHeadAttention_0/query', 'heads/kernel',
    'header', 'mlp/wte_proj', 'logits_scale/w', 'relhead',
  ]  # fmt: skip
  others = [
    'wte', 'wpe/kernel', 'Embed_0/embedding', 'embedder/w', 'lm_head/kernel',
    'head/kernel', 'decoder/logits/kernel', 'LM_HEAD/w', 'pos_embedding',
    'tok_emb', 'unembed/kernel', 'rel_embedding', 'positional_encoding',
    'mask_token', 'blocks/gamma',
  ]  # fmt: skip
  for name in matrices + others:
    params = jnp.ones((2, 3))
    for part in reversed(name.split('/')):
      params = {part: params}
    (group,) = jax.tree.leaves(_groups(params))
    assert group == (name in matrices), name


def test_rank():
  params = {'a': jnp.ones(()), 'b': jnp.ones(3), 'c': jnp.ones((1, 2, 3))}
  with pytest.warns(UserWarning, match="'c' of shape"):
    assert not any(_groups(params).values())


def test_nnx_state_and_optimizer():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.embed = nnx.Embed(5, 4, rngs=rngs)
      self.dense = nnx.Linear(4, 3, rngs=rngs)
      self.head = nnx.Linear(3, 5, rngs=rngs)

    def __call__(self, x):
      return self.head(self.dense(self.embed(x)))

  model = Net(nnx.Rngs(0))
  before = nnx.state(model, nnx.Param)
  groups = _groups(before)
  assert [name for name, matrix in groups.items() if matrix] == [
    'dense/kernel/value'
  ]
  optimizer = nnx.Optimizer(model, optax_namo.namo_d(0.1), wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer):
    grads = nnx.grad(lambda m: jnp.mean(m(jnp.arange(5)) ** 2))(model)
    optimizer.update(model, grads)

  before = jax.tree.map(jnp.copy, before)
  step(model, optimizer)
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()), before, nnx.state(model, nnx.Param)
  )
  assert all(jax.tree.leaves(moved))


def test_groups_have_their_own_rates():
  params = {'w': jnp.ones((2, 3)), 'b': jnp.ones(3)}
  tx = optax_namo.namo(0.1, adam_learning_rate=0.0)
  updates = _run(tx, [params], params)
  assert float(jnp.abs(updates['w']).min()) > 0
  np.testing.assert_array_equal(updates['b'], 0)


@pytest.mark.filterwarnings('ignore:NO LEAF IS A MATRIX')
def test_adamw_group_is_optax_adamw():
  params = {'b': _normal(0, 5), 'wte': _normal(1, 3, 4)}
  gradients = [jax.tree.map(lambda x, s=s: x * s, params) for s in (1, 2, 3)]
  tx = optax_namo.namo(
    0.3, adam_learning_rate=0.01, adam_b2=0.9, adam_weight_decay=0.1
  )
  expected = optax.adamw(0.01, b1=0.9, b2=0.9, eps=1e-8, weight_decay=0.1)
  chex.assert_trees_all_close(
    _run(tx, gradients, params), _run(expected, gradients, params), rtol=1e-6
  )
