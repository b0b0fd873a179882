# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""An array that lies as another: the identity, whatever transforms it."""

import chex
import jax
import jax.numpy as jnp
import pytest

from optax_namo._layout import sharding_group

_X = jnp.arange(64.0).reshape(4, 4, 4)


def _sum_of_squares(x, like):
  return jnp.sum(jnp.square(sharding_group.lie_as(x, like)))


def _identity(x, like):
  del like
  return jnp.sum(jnp.square(x))


@pytest.mark.parametrize(
  'transform',
  [
    jax.grad,
    jax.hessian,
    lambda f: jax.vmap(f, (0, None)),
    lambda f: jax.vmap(f, (None, 1)),
    lambda f: jax.vmap(jax.grad(f), (1, 0)),
    lambda f: jax.export.export(jax.jit(f))(_X, _X).call,
  ],
)
def test_it_is_the_identity(transform):
  for jit in (lambda f: f, jax.jit):
    chex.assert_trees_all_equal(
      jit(transform(_sum_of_squares))(_X, _X),
      jit(transform(_identity))(_X, _X),
    )


def test_what_is_there_already_is_not_bound_to_a_device():
  assert not sharding_group.lie_as(_X, _X + 1).committed


def test_the_older_partitioner_knows_no_groups():
  lowered = lambda: jax.jit(_sum_of_squares).lower(_X, _X).as_text()
  assert 'sharding_group' in lowered()
  before = jax.config.jax_use_shardy_partitioner
  jax.config.update('jax_use_shardy_partitioner', False)
  try:
    jax.clear_caches()
    assert 'sharding_group' not in lowered()
  finally:
    jax.config.update('jax_use_shardy_partitioner', before)
    jax.clear_caches()
