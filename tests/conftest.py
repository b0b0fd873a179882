# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strict settings for every test."""

import hypothesis
import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
hypothesis.settings.register_profile(
  'default', derandomize=True, deadline=None, print_blob=True
)
hypothesis.settings.load_profile('default')


@pytest.fixture(autouse=True)
def fast_compile(request):
  """Half the compile time, but for tests marked ``full_compile``.

  What XLA's optimizations do to the numbers is checked where numbers are
  compared with the reference, the oracle and the theory.
  """
  fast = request.node.get_closest_marker('full_compile') is None
  jax.config.update('jax_disable_most_optimizations', fast)
  yield
  jax.config.update('jax_disable_most_optimizations', False)
