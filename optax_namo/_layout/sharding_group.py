# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""An operation that has the compiler lay one array as another.

It was ``jax.experimental.shard_alike``, which jax 0.12 has no more.
"""

import hashlib
from typing import Any

import jax
from jax.extend import core
from jax.extend.mlir.dialects import sdy
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir
import jax.numpy as jnp

_group = core.Primitive('sharding_group')


def lie_as(x: jax.Array, like: jax.Array) -> jax.Array:
  """``x``, which lies as ``like`` of its shape does, on Auto axes of a mesh."""
  return _group.bind(x, like)


def _eager(x, like):
  there = getattr(like, 'sharding', x.sharding)
  # What is put somewhere is bound to it, as a lone scalar must not be.
  return x if x.sharding == there else jax.device_put(x, there)


def _lowered(context, x, like):
  # XLA's older partitioner has no such groups, and decides by itself.
  if getattr(jax.config, 'jax_use_shardy_partitioner', True):
    identity = _identity(context.module_context, x.type)
    for value in (x, like):
      sdy.sharding_group(value, identity)
  return [x]


def _identity(module: Any, kind: Any) -> int:
  """A group's number, the same whenever a program is lowered.

  Else a cache of compiled programs would not know it again. Programs of other
  names or shapes, which are exported and then called by one, have others.
  """
  name = module.module.operation.attributes['sym_name']
  text = f'{name} {kind} {module.new_channel()}'
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


def _batched(arrays, axes):
  (size,) = {x.shape[i] for x, i in zip(arrays, axes) if i is not None}
  x, like = (
    jnp.broadcast_to(x, (size, *x.shape))
    if i is None
    else jnp.moveaxis(x, i, 0)
    for x, i in zip(arrays, axes)
  )
  return lie_as(x, like), 0


def _differentiated(arrays, tangents):
  x, like = arrays
  return lie_as(x, like), tangents[0]


_group.def_impl(_eager)
_group.def_abstract_eval(lambda x, like: x)
# Else jax lowers what is alike once, and all pairs of a shape are one group.
mlir.register_lowering(_group, _lowered, cacheable=False)
batching.primitive_batchers[_group] = _batched
ad.primitive_jvps[_group] = _differentiated
