# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Muon of optax's main that the benchmarks compare with."""

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

from benchmarks import contenders
from benchmarks import steps

_NUMBERS = {
  'square': MuonDimensionNumbers(),
  'wide': MuonDimensionNumbers(),
  'tall': MuonDimensionNumbers(),
  'transposed': MuonDimensionNumbers(1, 0),
  'heads': MuonDimensionNumbers(0, (1, 2)),
  'stack': MuonDimensionNumbers(1, 2),
  'bias': None,
}
_SHAPES = {
  'square': (16, 16),
  'wide': (12, 32),
  'tall': (32, 12),
  'transposed': (32, 12),
  'heads': (16, 3, 8),
  'stack': (3, 12, 20),
  'bias': (7,),
}


def _gradients(seed):
  rng = np.random.default_rng(seed)
  return {
    name: jnp.asarray(rng.normal(size=shape), jnp.float32)
    for name, shape in _SHAPES.items()
  }


@pytest.mark.full_compile
class OptaxMainTest(parameterized.TestCase):
  @parameterized.product(beta=(0.9, 0.95), nesterov=(True, False))
  def test_updates_as_optax_does(self, beta, nesterov):
    released = optax.contrib.muon(
      0.01,
      beta=beta,
      nesterov=nesterov,
      weight_decay=0.1,
      consistent_rms=0.2,
      muon_weight_dimension_numbers=_NUMBERS,
    )
    params = [_gradients(9), _gradients(9)]
    state = [released.init(params[0])] * 2
    take = [
      jax.jit(lambda *args, tx=tx: steps.step(tx, *args))
      for tx in (released, contenders.looped(released))
    ]
    for seed in range(4):
      for i in range(2):
        params[i], state[i] = take[i](params[i], state[i], _gradients(seed))
      chex.assert_trees_all_close(*params, rtol=1e-6, atol=1e-6)
      chex.assert_trees_all_close(*state, rtol=1e-6, atol=1e-6)

  def test_a_loop_a_leaf(self):
    """Of five steps, where unrolling leaves none."""
    params = steps.parameters(2, 16, 0, 0)
    main = contenders.contenders(params)[contenders.MAIN]
    loops = lambda: steps.compiled(main, params).as_text().count(' while(')
    self.assertEqual(loops(), len(jax.tree.leaves(params)))
    with steps.unrolled():
      self.assertEqual(loops(), 0)


if __name__ == '__main__':
  absltest.main()
