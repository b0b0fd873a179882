# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stacks of bounded size."""

import os
import re
import subprocess
import sys

import chex
import jax
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


def _shapes_seen(leaves, most, turns=0):
  seen = []

  def double(stack):
    seen.append(stack.shape)
    return 2 * stack

  found = stacking._mapped(
    double, _numbers(leaves), lambda _: most, turns, *leaves
  )
  chex.assert_trees_all_equal(list(found), [2 * x for x in leaves])
  return seen


@pytest.mark.accelerator
def test_one_stack_a_shape_up_to_transposition():
  leaves = _leaves((4, 6), (6, 4), (3, 4, 6), (2, 6, 4), (5, 5))
  seen = _shapes_seen(leaves, most=64)
  assert seen == [(7, 4, 6), (1, 5, 5)]


@pytest.mark.accelerator
@pytest.mark.parametrize(
  'most, batches',
  [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 3, 1])],
)
def test_at_most_so_many_matrices(most, batches):
  seen = _shapes_seen(_leaves(*[(4, 6)] * 7), most)
  assert seen == [(batch, 4, 6) for batch in batches]


@pytest.mark.accelerator
def test_chunks_of_one_shape_take_turns():
  """The function is traced once for as many as have so many entries."""
  leaves = _leaves(*[(4, 6)] * 4, *[(6, 4)] * 3)
  assert _shapes_seen(leaves, 1, turns=7 * 24) == [(1, 4, 6)]
  assert _shapes_seen(leaves, 1, turns=7 * 24 - 1) == [(1, 4, 6)] * 2
  assert _shapes_seen(leaves, 3, turns=6 * 24) == [(3, 4, 6), (1, 4, 6)]


def test_most_matrices():
  assert stacking.most_matrices(2**24) == 1
  assert stacking.most_matrices(2**22) == 4
  assert stacking.most_matrices(2**16) == 64
  assert stacking.most_matrices(8 * 8) == 2**14


@pytest.mark.accelerator
def test_ten_thousand_small_matrices_are_one_chunk():
  assert _shapes_seen(
    [jnp.ones((10_000, 8, 8))], stacking.most_matrices(64)
  ) == [(10_000, 8, 8)]


def _programs(platform):
  """The shapes that a program for a platform orthogonalizes at once."""
  double = lambda stack: jnp.sin(stack)
  leaves = [jnp.ones((512, 512))] * 3 + [jnp.ones((64, 64))] * 3
  mapped = lambda leaves: stacking.map_stacks(double, leaves, _numbers(leaves))
  text = jax.jit(mapped).trace(leaves).lower(lowering_platforms=(platform,))
  return sorted(re.findall(r'stablehlo.sine.*tensor<(.*)xf32>', text.as_text()))


@pytest.mark.accelerator
def test_stacks_are_of_the_platform_that_a_program_is_for():
  """Large matrices go one by one on CPUs, small ones together anywhere."""
  assert _programs('cpu') == ['1x512x512', '3x64x64']
  for platform in 'cuda', 'tpu':
    assert _programs(platform) == ['3x512x512', '3x64x64']


@pytest.mark.accelerator
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
  # Counters and tuples of loops are a few bytes a chunk, and in XLA's heap may
  # lie where an array of the next chunk would have fitted.
  array = 32 * 8 * 8 * 4
  assert wide_one <= wide_four <= wide_one + 4 * 128
  # Thirty-two of 8 by 8 make a chunk here, but for two of any other size.
  assert small_one < 6 * array
  assert small_one <= small_four <= small_one + array + 4 * 64


_TEMPORARY_MEMORY = """
import jax, jax.numpy as jnp
from optax.contrib import MuonDimensionNumbers
import optax_namo
from optax_namo._layout import stacking

stacking.LARGE_ON_CPUS = 64 * 96
stacking.SMALL_CHUNK_ENTRIES = 32 * 8 * 8
for shape, chunk in ((64, 96), 2), ((8, 8), 32):
  stacking.TURNS_ON_CPUS = chunk * shape[0] * shape[1]
  for count in (chunk, 4 * chunk):
    leaves = [jnp.ones(shape)] * count
    function = lambda x: stacking.map_stacks(
      optax_namo.newton_schulz, x, [MuonDimensionNumbers((0,), (1,))] * len(x)
    )
    program = jax.jit(function).lower(leaves).compile()
    print(program.memory_analysis().temp_size_in_bytes)
"""
