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


@pytest.fixture
def fast_compile():
  """Half the compile time, for tests of behaviour that compile a lot."""
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)
