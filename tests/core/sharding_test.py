# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Meshes of eight host devices, in processes of their own."""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import exchanges
from benchmarks import steps
import optax_namo
from tests import helpers
from tests.core import on_eight_devices

# What one start of eight devices finds for several tests.
_SHARED = tuple(
  f'{name} {kind}'
  for kind in ('auto', 'explicit')
  for name in (
    'shard_map',
    'recorded',
    'cost',
    'compiled',
    'parts',
    'few_bits',
    'placed',
    'stays',
  )
) + (
  'uneven explicit',
  'init_in_shard_map auto',
  'mixed both',
  'placed mixed',
  'roles mixed',
  'vmapped explicit',
)
_DRAWN = ('drawn explicit', 'drawn told', 'drawn auto', 'drawn mixed')
_ROUNDS = ('in_rounds explicit', 'in_rounds auto', 'thirds explicit')


_on_eight_devices = functools.partial(
  helpers.on_eight_devices, 'tests.core.on_eight_devices'
)


@pytest.mark.parametrize('layout', on_eight_devices.LAYOUTS)
@pytest.mark.parametrize('optimizer', ['namo', 'namo_d'])
@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_ten_steps_are_those_of_one_device(kind, optimizer, layout):
  experiment = f'layouts {kind}'
  rows = _on_eight_devices(experiment)[experiment]
  (row,) = (r for r in rows if r['name'] == f'{optimizer}, {layout}')
  assert row['error'] < 1e-5
  assert not row['moved state']
  assert not row['moved updates']
  assert row['compiled'] == 1


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_inside_a_shard_map_over_another_axis(kind):
  whole, spread, manual = _on_eight_devices(*_SHARED)[f'shard_map {kind}']
  assert whole < 1e-5
  assert spread < 1e-5
  assert "manual over ['data']. Where each device holds whole" in manual


@functools.cache
def _flops_on_one_device():
  with steps.unrolled():
    program = steps.compiled(
      optax_namo.namo_d(0.01), steps.parameters(8, 384, 0, 0)
    )
  return program.cost_analysis()['flops']


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_each_device_orthogonalizes_its_share(kind):
  """Eight layers of width 384."""
  (rows,) = _on_eight_devices(*_SHARED)[f'cost {kind}']
  whole = _flops_on_one_device()
  for optimizer in ('namo_d', 'namo'):
    row = rows[optimizer]
    assert 'all-gather' not in row['collectives']
    assert row['flops'] < 1.02 * whole / 8
    if kind == 'auto':
      muon = exchanges.total(rows['optax.contrib.muon']['collectives'])
      assert exchanges.total(row['collectives']) < muon / 30


@pytest.mark.parametrize(
  'experiment', ['cost auto', 'cost explicit', 'uneven explicit']
)
@pytest.mark.parametrize('optimizer', ['namo_d', 'namo'])
def test_one_exchange_in_and_one_out(experiment, optimizer):
  """For each shape up to transposition."""
  (rows,) = _on_eight_devices(*_SHARED)[experiment]
  found = rows[optimizer]['collectives']
  assert set(found) == {'all-to-all', 'all-reduce'}
  assert len(found['all-to-all']) == 2 * len(('qkv', 'proj', 'fc and out'))
  # Norms of columns: scalars, or a vector for each kernel of which devices
  # have parts of all columns.
  params = steps.parameters(8, 384, 0, 0)
  longest = sum(max(x.shape) for x in jax.tree.leaves(params))
  vectors = 4 * longest if experiment == 'cost auto' else 0
  assert sum(found['all-reduce']) < vectors + 1000
  if experiment.startswith('cost'):
    # A device's eighth of every matrix leaves it once and comes back.
    eighth = 4 * 8 * 12 * 384**2 // 8
    assert sum(found['all-to-all']) == 2 * eighth


@pytest.mark.parametrize('experiment', _DRAWN)
def test_drawn_layouts_are_those_of_one_device(experiment):
  for row in _on_eight_devices(*_DRAWN)[experiment]:
    assert row['error'] < 1e-6


@pytest.mark.parametrize('experiment', _ROUNDS[:2])
def test_several_rounds_are_those_of_one_device(experiment):
  exchanged = []
  for row in _on_eight_devices(*_ROUNDS)[experiment]:
    assert row['error'] < 1e-6
    assert not row['moved']
    exchanged.append(len(row['collectives']['all-to-all']))
  # Of at most six shapes of matrices some took more than a round.
  assert max(exchanged) > 2 * 6


def test_several_rounds_exchange_no_fill_where_stacks_can_go_apart():
  (row,) = _on_eight_devices(*_ROUNDS)['thirds explicit']
  assert exchanges.total(row['collectives']) == row['bound']


@pytest.mark.parametrize('experiment', ['drawn explicit', 'drawn told'])
def test_known_layouts_meet_the_bound(experiment):
  """Of any kind: each block goes once to where its matrix is, and back."""
  for row in _on_eight_devices(*_DRAWN)[experiment]:
    assert set(row['collectives']) == {'all-to-all'}
    assert exchanges.total(row['collectives']) <= row['bound']
    assert not row['moved']


def test_supposed_layouts_are_moved_first():
  """On Auto axes, by two more hops each way; of three axes by gathers, too."""
  for row in _on_eight_devices(*_DRAWN)['drawn auto']:
    times = 3 if row['axes'] < 3 else 7
    assert exchanges.total(row['collectives']) <= times * row['bound']
    assert not row['moved']


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_what_is_recorded(kind):
  alone, sharded, spread = _on_eight_devices(*_SHARED)[f'recorded {kind}']
  np.testing.assert_allclose(sharded[0], alone[0], rtol=1e-4)
  np.testing.assert_allclose(spread[0], alone[0], rtol=1e-4)
  assert sum(spread[1]) < 1000  # No matrix, of 2,048 bytes.


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_state_and_parameters_stay_where_they_lie(kind):
  """Also where an axis divides nothing of a leaf, or the state alone."""
  *moved, compiled = _on_eight_devices(*_SHARED)[f'stays {kind}']
  assert moved == [[], []]
  assert compiled == (2 if kind == 'auto' else 1)  # One a place of the state.


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_a_step_is_compiled_once(kind):
  """Also where a record is kept: its zeros lie where its values will."""
  assert set(_on_eight_devices(*_SHARED)[f'compiled {kind}']) == {1}


def test_init_in_a_shard_map():
  (counts,) = _on_eight_devices(*_SHARED)['init_in_shard_map auto']
  assert counts == [0, 0]


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_parts_of_a_divided_leaf(kind):
  """Also such that the devices do not divide; each lies where the leaf does."""
  found = _on_eight_devices(*_SHARED)[f'parts {kind}']
  for error, as_before, _ in found:
    assert error < 1e-5
    assert as_before
  # The first has parts that they do divide. So lie their momenta.
  assert found[0][-1] == [True] * 3


@pytest.mark.parametrize('kind', ['auto', 'explicit', 'mixed'])
def test_alike_leaves_lie_each_in_its_way(kind):
  found = _on_eight_devices(*_SHARED)[f'placed {kind}']
  *moved, exchanged = found
  assert not any(moved)
  assert set(exchanged) <= {'all-to-all', 'collective-permute'}


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_bfloat16_travels_as_such(kind):
  """Where ``newton_schulz`` rounds what it gets to bfloat16 anyway."""
  (found,) = _on_eight_devices(*_SHARED)[f'few_bits {kind}']
  assert found['exchanged'] == ['bf16', 'bf16']
  assert found['error'] < 1e-6


def test_vmap_over_an_explicit_axis():
  """Without and with shard_over."""
  errors = _on_eight_devices(*_SHARED)['vmapped explicit']
  assert max(errors) < 1e-6


def test_a_mesh_of_auto_and_explicit_axes():
  (error,) = _on_eight_devices(*_SHARED)['mixed both']
  assert error < 1e-5


def test_the_last_axis_is_tensor_also_where_it_is_explicit():
  """Those before it, which are Auto, are expert and FSDP."""
  (found,) = _on_eight_devices(*_SHARED)['roles mixed']
  assert exchanges.total(found['collectives']) == found['bound']


def test_importing_changes_no_configuration():
  code = (
    'import os, jax, optax\n'
    'look = lambda: (dict(jax.config.values), dict(os.environ))\n'
    'before = look()\n'
    'import optax_namo\n'
    'assert look() == before'
  )
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, '-c', code], cwd=root, check=True)


def test_no_mesh():
  tx = optax_namo.namo(0.1, shard_over='fsdp')
  params = {'w': jnp.ones((4, 4))}
  jax.eval_shape(tx.init, params)
  state = tx.init(params)
  with pytest.raises(ValueError, match='jax.set_mesh'):
    tx.update(params, state, params)
