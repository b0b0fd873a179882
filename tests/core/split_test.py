# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A leaf of several matrices gets the updates of the matrices stored apart."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

import optax_namo

_SPECS = {
  # name: (shape, specification, dimension numbers of a part)
  'fused_qkv': ((6, 12), 1, (4, 4, 4), MuonDimensionNumbers(0, 1)),
  'fused_gate_up_of_rows': ((10, 4), -2, (5, 5), MuonDimensionNumbers(0, 1)),
  'unequal': ((5, 9), 1, (6, 2, 1), MuonDimensionNumbers(0, 1)),
  'stack': ((3, 4, 8), 2, (4, 4), MuonDimensionNumbers(1, 2)),
  'heads': ((6, 2, 4), 1, (1, 1), MuonDimensionNumbers(0, (1, 2))),
}


def _normal(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _run(tx, params, gradients):
  state = tx.init(params)
  step = jax.jit(tx.update)
  for gradient in gradients:
    updates, state = step(gradient, state, params)
  return updates, state


class SplitTest(parameterized.TestCase):
  @parameterized.product(
    name=tuple(_SPECS),
    case=(
      ('namo', {'decay': 'adaptive'}),
      ('namo_d', {'columns': 'input', 'clamp': 0.8, 'decay': 'decoupled'}),
      ('namo_d', {'columns': 'output', 'clamp': 0.8, 'decay': 'adaptive'}),
    ),
  )
  def test_equals_separate_parameters(self, name, case):
    shape, axis, sizes, numbers = _SPECS[name]
    optimizer, options = case
    options = options | {'weight_decay': 0.1, 'record': True}
    make = lambda spec: getattr(optax_namo, optimizer)(
      0.1, weight_dimension_numbers=spec, **options
    )
    cut = lambda x: dict(
      zip('abc', jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis))
    )
    params = _normal(0, *shape)
    gradients = [_normal(i, *shape) for i in range(1, 5)]
    split = optax_namo.SplitMatrices(numbers, axis, sizes)
    found, state = _run(make(split), params, gradients)
    chex.assert_equal_shape((found, params))
    expected, _ = _run(make(numbers), cut(params), list(map(cut, gradients)))
    chex.assert_trees_all_close(cut(found), expected, atol=1e-6)
    is_namo = lambda x: isinstance(x, optax_namo.NamoState)
    (inner,) = filter(is_namo, jax.tree.leaves(state, is_leaf=is_namo))
    self.assertIsInstance(inner.mu, tuple)
    self.assertLen(inner.mu, len(sizes))
    # As one matrix the update would be another.
    whole, _ = _run(make(numbers), params, gradients)
    self.assertGreater(float(jnp.abs(whole - found).max()), 1e-3)

  def test_mask_and_neighbours(self):
    params = {'qkv': _normal(0, 4, 8), 'w': _normal(1, 4, 4), 'b': jnp.ones(4)}
    spec = {
      'qkv': optax_namo.SplitMatrices(MuonDimensionNumbers(), 1, (4, 4)),
      'w': MuonDimensionNumbers(),
      'b': None,
    }
    mask = {'qkv': False, 'w': True, 'b': True}
    tx = lambda decay: optax_namo.namo_d(
      0.1,
      weight_decay=decay,
      weight_decay_mask=mask,
      weight_dimension_numbers=spec,
    )
    with_decay, _ = _run(tx(0.5), params, [params])
    without, _ = _run(tx(0.0), params, [params])
    np.testing.assert_array_equal(with_decay['qkv'], without['qkv'])
    self.assertGreater(
      float(jnp.abs(with_decay['w'] - without['w']).max()), 1e-3
    )

  def test_bfloat16_and_wrappers(self):
    params = {'qkv': _normal(0, 4, 8).astype(jnp.bfloat16)}
    spec = optax_namo.SplitMatrices(MuonDimensionNumbers(), 1, (4, 4))
    tx = optax_namo.namo_d(0.1, weight_dimension_numbers=spec)
    for wrapped in (
      tx,
      optax.apply_if_finite(tx, 2),
      optax.MultiSteps(tx, 1),
      optax.masked(tx, {'qkv': True}),
    ):
      updates, state = _run(wrapped, params, [params] * 2)
      chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
      chex.assert_trees_all_equal_shapes_and_dtypes(state, wrapped.init(params))

  def test_rules_may_split(self):
    params = {'block': {'c_attn': {'kernel': _normal(0, 4, 12)}}}
    split = optax_namo.SplitMatrices(MuonDimensionNumbers(0, 1), 1, (4, 4, 4))
    (row,) = optax_namo.routing_table(
      params, rules=[(r'c_attn/kernel$', split)]
    )
    self.assertEqual(row.view, ((1, 4, 4),) * 3)
    self.assertEqual(row.group, 'matrix')

  @parameterized.parameters(
    (1, (4, 5), 'add up to 8'),
    (1, (), 'add up to 8'),
    (1, (9, -1), 'positive'),
    (2, (4, 4), 'axis that is not there'),
  )
  def test_errors(self, axis, sizes, message):
    spec = optax_namo.SplitMatrices(MuonDimensionNumbers(), axis, sizes)
    tx = optax_namo.namo(0.1, weight_dimension_numbers={'w': spec})
    with self.assertRaisesRegex(ValueError, f"'w' .*{message}"):
      tx.init({'w': jnp.ones((4, 8))})

  @parameterized.parameters(None, 'all')
  def test_parts_need_dimension_numbers(self, inner):
    spec = optax_namo.SplitMatrices(inner, 1, (4, 4))
    tx = optax_namo.namo(0.1, weight_dimension_numbers={'w': spec})
    with self.assertRaisesRegex(TypeError, "'w' .*MuonDimensionNumbers"):
      tx.init({'w': jnp.ones((4, 8))})


class RoutingTableTest(absltest.TestCase):
  def test_rows_and_print(self):
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
    self.assertEqual(out.view, ((1, 6, 4),))
    self.assertEqual(out.column_axes, (2,))
    self.assertEqual(rows['wte/embedding'].group, 'adamw')
    self.assertEqual(sum(row.size for row in table), 36 + 24 + 4 + 48 + 1)
    by_input = optax_namo.routing_table(params, columns='input')
    self.assertEqual(
      {row.path: row for row in by_input}['attn/out/kernel'].column_axes,
      (0, 1),
    )
    text = str(table)
    self.assertIn('1 of 1 × 4 × 6, 1 of 1 × 4 × 4, 1 of 1 × 4 × 2', text)
    lines = text.splitlines()
    self.assertRegex(lines[-2], r'^total of 2 .* matrix .* 72$')
    self.assertRegex(lines[-1], r'^total of 3 .* adamw .* 41$')
    self.assertLen({len(line) for line in lines}, 1)

  def test_shapes_suffice(self):
    abstract = {'w': jax.ShapeDtypeStruct((3, 4), jnp.float32)}
    (row,) = optax_namo.routing_table(abstract)
    self.assertEqual((row.path, row.group, row.size), ('w', 'matrix', 12))


if __name__ == '__main__':
  absltest.main()
