# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Users' programs on meshes: pipelines, loops over steps, a lone perceptron."""

import pytest

from tests import helpers


def _found(experiment):
  return helpers.on_eight_devices(
    'tests.core.programs_on_meshes',
    'pipeline auto',
    'pipeline explicit',
    'data_parallel auto',
    'loop auto',
    'perceptron auto',
    'no_context explicit',
    'replicas explicit',
    'described auto',
    'two_optimizers auto',
    'seeds auto',
    'programs auto',
  )[experiment]


@pytest.mark.parametrize('kind', ['auto', 'explicit'])
def test_a_pipeline_whose_leaves_other_axes_divide(kind):
  """Without and with shard_over, and where no type tells what differs."""
  assert max(_found(f'pipeline {kind}')) < 1e-5


def test_data_parallelism_leaves_all_in_its_place():
  """Without and with shard_over."""
  assert _found('data_parallel auto') == [[False, 1], [False, 1]]


def test_a_loop_over_steps_that_holds_its_carry():
  (found,) = _found('loop auto')
  assert found['error'] < 1e-5
  assert not found['moved']
  assert found['compiled'] == 1


def test_of_two_sides_the_shorter_is_the_width():
  """Then both layers lie as supposed, and nothing is moved first."""
  (kinds,) = _found('perceptron auto')
  assert kinds == ['all-reduce', 'all-to-all']


def test_init_without_a_mesh_in_context():
  assert _found('no_context explicit') == [['fsdp', 'tensor']]


def test_replicas_exchange_no_zeros():
  """Each has a half of every matrix, and gets the halves of four results."""
  assert _found('replicas explicit') == [4 * (4 * 16 * 32) // 2]


def test_two_optimizers_in_one_program():
  assert _found('two_optimizers auto') == [[False, 1]]


def test_models_under_vmap():
  (found,) = _found('seeds auto')
  assert found['error'] < 1e-5
  assert not found['moved']
  assert found['compiled'] == 1
  assert found['kinds'] == ['all-reduce', 'all-to-all']


def test_a_program_has_the_same_text_again_and_goes_with_others():
  """A cache of compiled programs knows it by its text."""
  assert _found('programs auto') == [[1, [['fsdp'], ['fsdp']]]]


def test_an_nnx_optimizer_on_a_layout_that_is_told():
  (found,) = _found('described auto')
  assert found['error'] < 1e-5
  assert not found['moved']
