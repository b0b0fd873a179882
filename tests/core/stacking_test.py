# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stacks of bounded size."""

import logging
import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo._layout import stacking

_IN_OUT = MuonDimensionNumbers((0,), (1,))
_STACKED = MuonDimensionNumbers((1,), (2,))


def _leaves(*shapes):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]


def _numbers(leaves):
  return [_IN_OUT if x.ndim == 2 else _STACKED for x in leaves]


class ChunksTest(parameterized.TestCase):
  def _shapes_seen(self, leaves, matrices, entries=2**24, small=0):
    seen = []

    def double(stack):
      seen.append(stack.shape)
      return 2 * stack

    with mock.patch.multiple(
      stacking,
      CHUNK_MATRICES=matrices,
      CHUNK_ENTRIES=entries,
      SMALL_CHUNK_ENTRIES=small,
    ):
      found = stacking.map_stacks(double, leaves, _numbers(leaves))
    chex.assert_trees_all_equal(found, [2 * x for x in leaves])
    return seen

  def test_one_stack_a_shape_up_to_transposition(self):
    leaves = _leaves((4, 6), (6, 4), (3, 4, 6), (2, 6, 4), (5, 5))
    seen = self._shapes_seen(leaves, matrices=64)
    self.assertEqual(seen, [(7, 4, 6), (1, 5, 5)])

  @parameterized.parameters((1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1]))
  def test_at_most_so_many_matrices(self, matrices, batches):
    seen = self._shapes_seen(_leaves(*[(4, 6)] * 7), matrices)
    self.assertEqual(seen, [(batch, 4, 6) for batch in batches])

  def test_at_most_so_many_entries(self):
    seen = self._shapes_seen(_leaves(*[(4, 6)] * 5), 64, entries=2 * 24 + 1)
    self.assertEqual(seen, [(2, 4, 6), (2, 4, 6), (1, 4, 6)])
    # But one matrix at least.
    seen = self._shapes_seen(_leaves(*[(4, 6)] * 2), 64, entries=7)
    self.assertEqual(seen, [(1, 4, 6)] * 2)

  def test_more_matrices_where_they_are_small(self):
    leaves = _leaves(*[(4, 6)] * 7)
    seen = self._shapes_seen(leaves, 2, small=5 * 24 + 1)
    self.assertEqual(seen, [(5, 4, 6), (2, 4, 6)])
    # Bounded by the entries of any chunk all the same.
    seen = self._shapes_seen(leaves, 2, entries=4 * 24, small=5 * 24)
    self.assertEqual(seen, [(4, 4, 6), (3, 4, 6)])

  def test_ten_thousand_small_matrices_are_one_chunk(self):
    seen = []
    stacking.map_stacks(
      lambda stack: seen.append(stack.shape) or stack,
      [jnp.ones((10_000, 8, 8))],
      [_STACKED],
    )
    self.assertEqual(seen, [(10_000, 8, 8)])

  @parameterized.parameters((12, 5, 4), (7, 3, 3), (6, 3, 3), (5, 1, 1))
  def test_a_larger_leaf_goes_through_in_a_loop(self, batch, most, size):
    """Even chunks, traced once; the small leaf beside it is on its own."""
    with self.assertLogs('optax_namo', 'INFO') as logs:
      logging.getLogger('optax_namo').info('at least one line')
      seen = self._shapes_seen(_leaves((batch, 4, 6), (4, 6)), most)
    self.assertEqual(seen, [(size, 4, 6), (1, 4, 6)])
    # Filling up is told.
    self.assertEqual(len(logs.output) > 1, batch % size > 0)

  def test_temporary_memory_is_that_of_one_chunk(self):
    """As XLA schedules for accelerators; on CPUs it runs chunks at once."""
    flags = '--xla_cpu_enable_concurrency_optimized_scheduler=false'
    result = subprocess.run(
      [sys.executable, '-c', _TEMPORARY_MEMORY],
      env={**os.environ, 'XLA_FLAGS': flags},
      capture_output=True,
      text=True,
      check=True,
    )
    wide_one, wide_four, small_one, small_four = map(int, result.stdout.split())
    self.assertLess(wide_one, 4 * 2 * 64 * 96 * 4)
    # The counters of loops over steps are a few bytes a chunk, and in XLA's
    # heap may lie where an array of the next chunk would have fitted.
    array = 32 * 8 * 8 * 4
    self.assertBetween(wide_four, wide_one, wide_one + 4 * 64)
    # Thirty-two of 8 by 8 make a chunk here, but for two of any other size.
    self.assertLess(small_one, 6 * array)
    self.assertBetween(small_four, small_one, small_one + array + 4 * 64)


_TEMPORARY_MEMORY = """
import jax, jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers
import optax_namo
from optax_namo._layout import stacking

stacking.CHUNK_MATRICES = 2
stacking.SMALL_CHUNK_ENTRIES = 32 * 8 * 8
for shape, chunk in ((64, 96), 2), ((8, 8), 32):
  for count in (chunk, 4 * chunk):
    leaves = [jnp.ones(shape)] * count
    function = lambda x: stacking.map_stacks(
      optax_namo.newton_schulz, x, [MuonDimensionNumbers((0,), (1,))] * len(x)
    )
    program = jax.jit(function).lower(leaves).compile()
    print(program.memory_analysis().temp_size_in_bytes)
"""


if __name__ == '__main__':
  absltest.main()
