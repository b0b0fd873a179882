# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Hyperparameters: checked while they are concrete, widened on entry."""

from collections.abc import Callable, Sequence
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_INTERVALS: dict[str, Callable[[float], bool]] = {
  '[0, 1)': lambda x: 0 <= x < 1,
  '(0, 1]': lambda x: 0 < x <= 1,
  '[0, inf)': lambda x: 0 <= x < float('inf'),
  '(0, inf)': lambda x: 0 < x < float('inf'),
  '(-inf, inf)': lambda x: -float('inf') < x < float('inf'),
}

ROUNDED_TO_ONE = (
  'Under optax.inject_hyperparams with 16-bit parameters a rate near 1 rounds'
  ' to 1: pass hyperparam_dtype=jnp.float32 there.'
)


def number(name: str, value: Any, interval: str, mend: str = '') -> Any:
  """Checks a hyperparameter and widens it to at least float32.

  ``optax.inject_hyperparams`` hands hyperparameters over as arrays of the
  parameters' dtype; bfloat16 arithmetic on them would turn ``1 - b2`` into
  zero, so arrays are widened before anything is computed from them. Tracers
  have no value to check and are only widened.

  Args:
    name: The argument's name, for the error.
    value: A Python or NumPy number, a JAX scalar, or a tracer.
    interval: The interval the value must lie in, also when it is rounded to
      float32; a key of ``_INTERVALS``.
    mend: What to do about a value outside it, for the error.

  Returns:
    A Python float, or a scalar array of float32 or wider.
  """
  scalar = (
    isinstance(value, (int, float, np.number, np.ndarray, jax.Array))
    and not isinstance(value, bool)
    and np.ndim(value) == 0
    and not jnp.issubdtype(jnp.result_type(value), jnp.complexfloating)
  )
  if not scalar:
    raise TypeError(
      f'{name} must be a real scalar, got {value!r}. {mend}'.rstrip()
    )
  if not isinstance(value, jax.core.Tracer):
    rounded = _in_float32(float(value))
    if not all(map(_INTERVALS[interval], (float(value), rounded))):
      if rounded != float(value) and not math.isnan(float(value)):
        value = f'{value}, which is {rounded} in float32'
      raise ValueError(
        f'{name} must be in {interval}, got {value}. {mend}'.rstrip()
      )
    if not isinstance(value, jax.Array):
      return float(value)
  return jnp.asarray(value, jnp.promote_types(value.dtype, jnp.float32))


def _in_float32(value: float) -> float:
  """The number that XLA computes with, which takes subnormal ones for zero."""
  info = np.finfo(np.float32)
  if abs(value) > info.max:
    return math.copysign(math.inf, value)
  return float(np.float32(value)) if abs(value) >= info.tiny else 0.0


def number_or_schedule(name: str, value: Any, interval: str) -> Any:
  """Like ``number``; a schedule passes through, its values are not judged."""
  if callable(value):
    return value
  return number(
    name, value, interval, f'{name} is a number or an optax schedule.'
  )


def floating_dtype(name: str, value: Any) -> Any:
  """Returns a real floating dtype, or None; raises TypeError for another."""
  try:
    if isinstance(value, jax.Array):  # optax.inject_hyperparams makes one.
      raise TypeError
    dtype = jnp.dtype(jnp.float32 if value is None else value)
    # With 8 bits neither a momentum nor JAX's promotion works.
    known = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize > 1
  except TypeError:  # No dtype at all.
    known = False
  if not known:
    raise TypeError(
      f'{name} must be a real floating dtype of 16 bits or more, got {value!r}.'
      ' Under optax.inject_hyperparams name it as a string, as in "bfloat16".'
    )
  return value


def choice(name: str, value: Any, choices: Sequence[str | bool | None]) -> Any:
  """Returns ``value`` if it is one of ``choices``, else raises ValueError."""
  if not isinstance(value, str | bool | None) or value not in choices:
    raise ValueError(
      f'{name} must be one of {", ".join(map(repr, choices))}, got {value!r}.'
    )
  return value


def flag(name: str, value: Any) -> bool:
  """Returns a boolean; the string 'False', say, would be true."""
  if not isinstance(value, (bool, np.bool_)):
    raise TypeError(f'{name} must be True or False, got {value!r}.')
  return bool(value)


def is_zero(value: Any) -> bool:
  """Whether a hyperparameter is concretely zero, so that its stage is idle."""
  return isinstance(value, (int, float)) and value == 0
