# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Dimension numbers read off programs, against expectation and the oracle."""

import jax
import numpy as np
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from optax_namo._routing import dimension_numbers as dims
from tests.core import by_use_random
from tests.core.by_use_models import PROGRAMS
from tests.core.by_use_models import UNMAPPED
from tests.oracles import rank_one

pytestmark = pytest.mark.filterwarnings('error::UserWarning')


def _by_path(params, numbers):
  paths = [
    dims.path_string(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
  specs = jax.tree.structure(params).flatten_up_to(numbers)
  return dict(zip(paths, specs))


def _read(program, **options):
  numbers = optax_namo.dimension_numbers_by_use(
    program.function, program.params, *program.args, **options
  )
  return _by_path(program.params, numbers)


def _matrices(program, **options):
  return {
    path: tuple(spec) if isinstance(spec, MuonDimensionNumbers) else spec
    for path, spec in _read(program, **options).items()
    if spec is not None
  }


@pytest.mark.parametrize('name', PROGRAMS)
def test_matrices(name):
  program = PROGRAMS[name]()
  assert _matrices(program) == program.matrices


@pytest.mark.parametrize('name', [p for p in PROGRAMS if p not in UNMAPPED])
def test_gradients_have_rank_one(name):
  program = PROGRAMS[name]()
  products = rank_one.products(program.function, program.params, *program.args)
  checked = set()
  for leaf, (path, spec) in enumerate(_read(program).items()):
    if spec is None or path in program.skipped:
      continue
    for product in products:
      if product.gradients[leaf].any():
        inputs = product.inputs if program.factor else np.zeros((0, 0))
        assert not rank_one.fault(spec, product.gradients[leaf], inputs), path
        checked.add(path)
  assert checked == set(program.matrices) - set(program.skipped)


@pytest.mark.parametrize('seed', range(300))
def test_random_programs(seed):
  function, params, args, expected = by_use_random.program(seed)
  found = optax_namo.dimension_numbers_by_use(function, params, *args)
  assert found == expected
