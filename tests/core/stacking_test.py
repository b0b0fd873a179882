# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stacks of bounded size."""

import os
import subprocess
import sys
from unittest import mock

import chex
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers
import pytest

from optax_namo._layout import stacking

_IN_OUT = MuonDimensionNumbers((0,), (1,))
_STACKED = MuonDimensionNumbers((1,), (2,))


def _leaves(*shapes):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]


def _numbers(leaves):
  return [_IN_OUT if x.ndim == 2 else _STACKED for x in leaves]


def _shapes_seen(leaves, matrices, entries=2**24, small=0):
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


def test_one_stack_a_shape_up_to_transposition():
  leaves = _leaves((4, 6), (6, 4), (3, 4, 6), (2, 6, 4), (5, 5))
  seen = _shapes_seen(leaves, matrices=64)
  assert seen == [(7, 4, 6), (1, 5, 5)]


@pytest.mark.parametrize(
  'matrices, batches',
  [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1])],
)
def test_at_most_so_many_matrices(matrices, batches):
  seen = _shapes_seen(_leaves(*[(4, 6)] * 7), matrices)
  assert seen == [(batch, 4, 6) for batch in batches]


def test_at_most_so_many_entries():
  seen = _shapes_seen(_leaves(*[(4, 6)] * 5), 64, entries=2 * 24 + 1)
  assert seen == [(2, 4, 6), (2, 4, 6), (1, 4, 6)]
  # But one matrix at least.
  seen = _shapes_seen(_leaves(*[(4, 6)] * 2), 64, entries=7)
  assert seen == [(1, 4, 6)] * 2


def test_more_matrices_where_they_are_small():
  leaves = _leaves(*[(4, 6)] * 7)
  seen = _shapes_seen(leaves, 2, small=5 * 24 + 1)
  assert seen == [(5, 4, 6), (2, 4, 6)]
  # Bounded by the entries of any chunk all the same.
  seen = _shapes_seen(leaves, 2, entries=4 * 24, small=5 * 24)
  assert seen == [(4, 4, 6), (3, 4, 6)]


def test_ten_thousand_small_matrices_are_one_chunk():
  seen = []
  stacking.map_stacks(
    lambda stack: seen.append(stack.shape) or stack,
    [jnp.ones((10_000, 8, 8))],
    [_STACKED],
  )
  assert seen == [(10_000, 8, 8)]


@pytest.mark.parametrize(
  'batch, most, size', [(12, 5, 4), (7, 3, 3), (6, 3, 3), (5, 1, 1)]
)
def test_a_larger_leaf_goes_through_in_a_loop(batch, most, size, caplog):
  """Even chunks, traced once; the small leaf beside it is on its own."""
  with caplog.at_level('INFO', 'optax_namo'):
    seen = _shapes_seen(_leaves((batch, 4, 6), (4, 6)), most)
  assert seen == [(size, 4, 6), (1, 4, 6)]
  # Filling up is told.
  assert bool(caplog.records) == (batch % size > 0)


def test_temporary_memory_is_that_of_one_chunk():
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
  assert wide_one < 4 * 2 * 64 * 96 * 4
  # The counters of loops over steps are a few bytes a chunk, and in XLA's
  # heap may lie where an array of the next chunk would have fitted.
  array = 32 * 8 * 8 * 4
  assert wide_one <= wide_four <= wide_one + 4 * 64
  # Thirty-two of 8 by 8 make a chunk here, but for two of any other size.
  assert small_one < 6 * array
  assert small_one <= small_four <= small_one + array + 4 * 64


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
