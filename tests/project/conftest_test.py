# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What tests/conftest.py says of the compiler is so."""

import jax
import jax.numpy as jnp
import pytest

pytestmark = pytest.mark.skipif(
  jax.__version_info__ >= (0, 11), reason='jax 0.11 has one kind of emitters.'
)


def _compiled():
  program = jax.jit(lambda x: jnp.cumsum(x[::-1])).lower(jnp.ones(8)).compile()
  return program.as_text()


def test_most_tests_have_the_older_emitters():
  assert 'wrapped_' not in _compiled()


@pytest.mark.full_compile
def test_full_compile_has_the_default_ones():
  """They wrap lone operations in a fusion each."""
  assert 'wrapped_' in _compiled()
