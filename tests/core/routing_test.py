# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Matrix views and the groups of leaves, seen from outside."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

import optax_namo
from tests.helpers import normal as _normal
from tests.helpers import run as _run

_RULES = {
  'namo': optax_namo.scale_by_namo,
  'namo_d_input': lambda **kw: optax_namo.scale_by_namo_d(
    columns='input', **kw
  ),
  'namo_d_output': lambda **kw: optax_namo.scale_by_namo_d(
    columns='output', **kw
  ),
}


class MatrixViewTest(parameterized.TestCase):
  """A leaf of any layout gets the update of its matrices stored apart."""

  def _check(self, rule, shape, numbers, to_matrices):
    """`to_matrices` views a leaf as (batch, in, out)."""
    gradients = [_normal(seed, *shape) for seed in range(3)]
    found = _run(_RULES[rule](weight_dimension_numbers=numbers), gradients)
    expected = [
      _run(_RULES[rule](), [to_matrices(g)[i] for g in gradients])
      for i in range(len(to_matrices(gradients[0])))
    ]
    chex.assert_shape(found, shape)
    chex.assert_trees_all_close(
      to_matrices(found), jnp.stack(expected), atol=1e-6
    )

  @parameterized.parameters(*_RULES)
  def test_stacked_layers(self, rule):
    self._check(rule, (3, 4, 6), MuonDimensionNumbers(1, 2), lambda x: x)

  @parameterized.parameters(*_RULES)
  def test_transposed_layout(self, rule):
    self._check(rule, (6, 4), MuonDimensionNumbers(1, 0), lambda x: x.T[None])

  @parameterized.parameters(*_RULES)
  def test_attention_query(self, rule):
    self._check(
      rule,
      (8, 2, 3),
      MuonDimensionNumbers(0, (1, 2)),
      lambda x: x.reshape(1, 8, 6),
    )

  @parameterized.parameters(*_RULES)
  def test_attention_heads_apart(self, rule):
    self._check(
      rule,
      (8, 2, 3),
      MuonDimensionNumbers(0, 2),
      lambda x: x.transpose(1, 0, 2),
    )

  @parameterized.parameters(*_RULES)
  def test_convolution(self, rule):
    self._check(
      rule,
      (3, 3, 2, 5),
      MuonDimensionNumbers((0, 1, 2), -1),
      lambda x: x.reshape(1, 18, 5),
    )

  def test_same_shapes_share_one_stack(self):
    seen = []

    def spy(stack):
      seen.append(stack.shape)
      return stack

    params = {
      'a': _normal(0, 4, 6),
      'b': _normal(1, 6, 4),
      'c': _normal(2, 3, 4, 6),
      'd': _normal(3, 5, 5),
    }
    numbers = {k: MuonDimensionNumbers(-2, -1) for k in params}
    tx = optax_namo.scale_by_namo(
      nesterov=False, orthogonalizer=spy, weight_dimension_numbers=numbers
    )
    updates = _run(tx, [params])
    self.assertCountEqual(seen, [(5, 4, 6), (1, 5, 5)])
    # Nothing was orthogonalized: each leaf got its own (1 - b1) G back.
    expected = jax.tree.map(lambda x: 0.05 * x, params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-5)


class RoutingTest(absltest.TestCase):
  def _groups(self, params):
    numbers = optax_namo.matrix_dimension_numbers(params)
    groups = jax.tree.map(lambda _, n: n is not None, params, numbers)
    return dict(
      (jax.tree_util.keystr(path, simple=True, separator='/'), group)
      for path, group in jax.tree_util.tree_leaves_with_path(groups)
    )

  def test_whole_components(self):
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
      (group,) = jax.tree.leaves(self._groups(params))
      self.assertEqual(group, name in matrices, name)

  def test_rank(self):
    params = {'a': jnp.ones(()), 'b': jnp.ones(3), 'c': jnp.ones((1, 2, 3))}
    with self.assertWarnsRegex(UserWarning, "'c' of shape"):
      self.assertFalse(any(self._groups(params).values()))

  def test_nnx_state_and_optimizer(self):
    class Net(nnx.Module):
      def __init__(self, rngs):
        self.embed = nnx.Embed(5, 4, rngs=rngs)
        self.dense = nnx.Linear(4, 3, rngs=rngs)
        self.head = nnx.Linear(3, 5, rngs=rngs)

      def __call__(self, x):
        return self.head(self.dense(self.embed(x)))

    model = Net(nnx.Rngs(0))
    before = nnx.state(model, nnx.Param)
    groups = self._groups(before)
    self.assertEqual(
      [name for name, matrix in groups.items() if matrix],
      ['dense/kernel/value'],
    )
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
    self.assertTrue(all(jax.tree.leaves(moved)))

  def test_groups_have_their_own_rates(self):
    params = {'w': jnp.ones((2, 3)), 'b': jnp.ones(3)}
    tx = optax_namo.namo(0.1, adam_learning_rate=0.0)
    updates = _run(tx, [params], params)
    self.assertGreater(float(jnp.abs(updates['w']).min()), 0)
    np.testing.assert_array_equal(updates['b'], 0)

  def test_adamw_group_is_optax_adamw(self):
    params = {'b': _normal(0, 5), 'wte': _normal(1, 3, 4)}
    gradients = [jax.tree.map(lambda x, s=s: x * s, params) for s in (1, 2, 3)]
    tx = optax_namo.namo(
      0.3, adam_learning_rate=0.01, adam_b2=0.9, adam_weight_decay=0.1
    )
    expected = optax.adamw(0.01, b1=0.9, b2=0.9, eps=1e-8, weight_decay=0.1)
    chex.assert_trees_all_close(
      _run(tx, gradients, params), _run(expected, gradients, params), rtol=1e-6
    )

  def test_prefix_and_callable(self):
    matrices = {'w': jnp.ones((2, 3)), 'v': jnp.ones((3, 2))}
    params = {'x': matrices, 'b': jnp.ones(3)}
    prefix = {'x': MuonDimensionNumbers(), 'b': None}
    gradient = jax.tree.map(lambda p: _normal(p.size, *p.shape), params)
    expected = _run(optax_namo.namo(0.1), [gradient], params)
    for spec in (prefix, lambda p: prefix):
      tx = optax_namo.namo(0.1, weight_dimension_numbers=spec)
      chex.assert_trees_all_close(_run(tx, [gradient], params), expected)
    everything = optax_namo.namo(0.1, weight_dimension_numbers=lambda p: None)
    found = _run(everything, [gradient], params)
    adam = _run(optax.adam(0.1, b2=0.95), [gradient], params)
    chex.assert_trees_all_close(found, adam, rtol=1e-6)


if __name__ == '__main__':
  absltest.main()
