# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A user's script with types: .ci/run checks it with mypy and pyright."""

from collections.abc import Callable
import functools

import jax
import optax

import optax_namo
from optax_namo import Columns
from optax_namo import Orthogonalizer
from optax_namo import ShapeScale


def make(
  columns: Columns, shape_scale: ShapeScale
) -> Callable[[float], object]:
  orthogonalizer: Orthogonalizer = functools.partial(
    optax_namo.newton_schulz, steps=4, coefficients='cans'
  )
  return lambda rate: optax_namo.namo_d(
    optax.constant_schedule(rate),
    columns=columns,
    shape_scale=shape_scale,
    orthogonalizer=orthogonalizer,
    record='orthogonality',
  )


def halved(u: optax_namo.Factored, p: jax.Array) -> optax_namo.Factored:
  return u


make('input', 'rms')
optax_namo.stage(halved)
table: optax_namo.RoutingTable = optax_namo.routing_table({})
paths: list[str] = [route.path for route in table]


def wrong() -> None:
  """What is wrong is told: mypy errs where an ignore is not needed."""
  optax_namo.namo_d(0.1, columns='rows')  # type: ignore[arg-type]
  optax_namo.namo(0.1, beta=0.9)  # type: ignore[call-arg]
  optax_namo.namo(0.1, clamp=0.5)  # type: ignore[call-arg]
