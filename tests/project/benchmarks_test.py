# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks compare with, and how."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers
import pytest

from benchmarks import contenders
from benchmarks import exchanges
from benchmarks import harness
from benchmarks import pods
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
@pytest.mark.parametrize('beta', [0.9, 0.95])
@pytest.mark.parametrize('nesterov', [True, False])
def test_updates_as_optax_does(beta, nesterov):
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


@pytest.mark.full_compile
def test_a_loop_a_leaf():
  """Of five steps, where unrolling leaves none."""
  params = steps.parameters(2, 16, 0, 0)
  main = contenders.contenders(params)[contenders.MAIN]
  loops = lambda: steps.compiled(main, params).as_text().count(' while(')
  assert loops() == len(jax.tree.leaves(params))
  with steps.unrolled():
    assert loops() == 0


def test_ratios_are_of_each_round():
  """The machine was busy in the second round, and for `b` in the third."""
  here = [{'a': 1.0, 'b': 2.0}, {'a': 5.0, 'b': 10.0}, {'a': 2.0, 'b': 80.0}]
  there = [{'a': 2.0, 'b': 2.0}, {'a': 10.0, 'b': 10.0}, {'a': 1.0, 'b': 8.0}]
  rounds = harness.Rounds(here, there)
  assert rounds.median('a') == 2.0
  assert rounds.ratio('a', 'b') == 0.5
  assert rounds.against('a') == {'ratio': 0.5}
  assert harness.Rounds(here).against('a') == {}


def test_pieces_carry_on():
  seen = []

  def watched(carry, x):
    jax.debug.callback(lambda carry: seen.append(float(carry)), carry)
    return carry + x, ()

  one, three = jnp.array(1.0), jnp.array(3.0)
  pieces = harness.Pieces({'it': (watched, one, (three,))}, times=2)
  for _ in range(2):
    (name,) = pieces.turn()
  jax.effects_barrier()
  assert name == 'it'
  assert sorted(seen) == [1.0, 4.0, 7.0, 10.0]


def test_a_measurement_is_made_once(tmp_path, monkeypatch):
  numbers = itertools.count()
  kept = lambda name: harness.kept(
    tmp_path / 'rows.jsonl', name, lambda: next(numbers)
  )
  assert [kept('a'), kept('b'), kept('a')] == [0, 1, 0]
  monkeypatch.setattr(harness, 'circumstances', lambda: {'device': 'other'})
  assert [kept('a'), kept('b'), kept('a')] == [2, 3, 2]


def test_table():
  rows = {'a': {'ms': 1234.5, 'of_it_share': 0.25}, 'b': {'note': 'x'}}
  assert harness.table(rows).splitlines() == [
    '|  | ms | of it share | note |',
    '| --- | --- | --- | --- |',
    '| a | 1,234.500 | 25.0% |  |',
    '| b |  |  | x |',
  ]


def test_all_to_all_waits_for_the_middle_of_the_grid():
  """256 chips of v5e: 16 rows wrap, so 32 links of 50 GB/s lie across it."""
  chip = pods.CHIPS['v5e']
  took = lambda found, grid: pods.exchanging(found, chip, grid)
  each = 1e9
  crossing = 128 * each / 2
  np.testing.assert_allclose(
    took({'all-to-all': each}, [16, 16]), crossing / (32 * 50e9)
  )
  # Grids of 8 do not wrap: 8 links, 32 chips on each side.
  np.testing.assert_allclose(
    took({'all-to-all': each}, [8, 8]), 32 * each / 2 / (8 * 50e9)
  )
  np.testing.assert_allclose(took({'all-gather': each}, [8, 8]), each / 200e9)


_LOOP = """
%ends (p: (s32[], f32[8])) -> pred[] {
  %n = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[] compare(%i, %n), direction=LT
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = f32[8]{0} all-to-all(%y), channel_id=1
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8]) while(%start), condition=%ends, body=%body KNOWN
}
"""


@pytest.mark.parametrize('known, times', [('', 3), ('known_trip_count={5}', 5)])
def test_an_exchange_in_a_loop_counts_as_often_as_it_runs(known, times):
  found = exchanges.collectives(_LOOP.replace('KNOWN', known))
  assert found == {'all-to-all': [32] * times}
