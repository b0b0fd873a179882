# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The first stage: momentum and the adaptive scale, all of the state."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any, get_args, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_namo import _factored
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _precision
from optax_namo._layout import axes
from optax_namo._layout import sharding
from optax_namo._layout import trees
from optax_namo._polar import norms
from optax_namo._routing import dimension_numbers as dims


class NamoState(NamedTuple):
  """State of ``adaptive_momentum``.

  ``root_v`` is the square root of the paper's v. A root has half the exponent
  range, so gradients of 1e-30 and of 1e30 keep theirs in float32.
  """

  count: jax.Array  # shape=(), dtype=int32.
  mu: optax.Updates  # like the parameters; mu_dtype, else float32 or wider.
  root_v: optax.Updates  # the scale's shape, dtype float32 or wider.


def _check_state(
  state: Any,
  matrices: Sequence[_factored.Factored],
  columns: axes.Columns | None,
) -> None:
  """Raises ValueError for a state that is not of these gradients."""
  if not isinstance(state, NamoState):
    raise ValueError(
      f'adaptive_momentum got a state of type {type(state).__name__}, made by'
      ' another optimizer or another chain: make one with init.'
    )
  mend = (
    f' Here columns={columns!r}. Give the gradients, the columns and the'
    ' dimension numbers with which the state was made, or make a new one with'
    ' init.'
  )
  shapes = [u.direction.shape for u in matrices]
  scales = [
    axes.with_ones(u.direction.shape, u.axes.shared(columns)) for u in matrices
  ]
  trees.check_kept('mu', state.mu, shapes, mend)
  trees.check_kept('root_v', state.root_v, scales, mend)


class _Rates(NamedTuple):
  """Hyperparameters in the dtype of a matrix, and the bias correction."""

  b1: jax.Array
  new1: jax.Array  # 1 - b1, the gradient's weight.
  b2: jax.Array
  new2: jax.Array  # 1 - b2.
  eps: jax.Array
  correction: jax.Array  # (1 - b1^t) / sqrt(1 - b2^t), by which to divide.


def _bias_correction(decay: jax.Array, count: jax.Array) -> jax.Array:
  """``1 - decay**count`` without cancellation, for count up to 2**31 - 1."""
  log = jnp.log(jnp.maximum(decay, jnp.finfo(decay.dtype).tiny))  # Finite at 0.
  return -jnp.expm1(count.astype(decay.dtype) * log)


def _one_matrix(
  g: jax.Array,
  mu: jax.Array,
  root_v: jax.Array,
  shared: tuple[int, ...],
  rates: _Rates,
  nesterov: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """A step of Algorithm 1 or 2 on one matrix, or on a stack of them.

  Args:
    g: The gradient, in the dtype of ``root_v``.
    mu: The momentum, of ``g``'s shape.
    root_v: The root of v, of size 1 along ``shared``.
    shared: The axes of the norms.
    rates: In ``g``'s dtype.
    nesterov: Whether to look ahead.

  Returns:
    What is orthogonalized and its scale; the new ``mu`` and ``root_v``.
  """
  average = lambda old: rates.b1 * old + rates.new1 * g
  mu = average(mu.astype(g.dtype))
  m = average(mu) if nesterov else mu
  unit = norms.unit(jnp.maximum(norms.largest(g, shared), root_v))
  squares = norms.sum_of_squares(g / unit, shared)
  root_v = unit * norms.root(
    rates.b2 * jnp.square(root_v / unit) + rates.new2 * squares
  )
  # Entries of m / below are at most 1 / sqrt(1 - b2): their squares are in
  # range, whatever the gradient's magnitude. So divide first, then square; mu
  # and g and not m, which XLA would keep until its norm is asked for. With the
  # root of new1 neither quotient leaves the range. Where there was no gradient
  # and eps=0, the scale is zero, and its derivative finite.
  new = jnp.sqrt(rates.new1)
  below = (root_v + rates.eps) * (new * rates.correction)
  tiny = jnp.finfo(g.dtype).tiny
  below = jnp.where(below < tiny, tiny**-0.5, below)
  ratio = mu * ((rates.b1 if nesterov else 1) / below)
  if nesterov:
    ratio += g * (rates.new1 / below)
  squares = norms.sum_of_squares(ratio, shared)
  scale = norms.root(rates.new1 * squares)
  return m, scale, mu, root_v


def adaptive_momentum(
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  columns: axes.Columns | None = None,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
) -> optax.GradientTransformation:
  r"""Momentum, with Adam's adaptive scale for each matrix or column.

  .. math::
    M_t &= b_1 M_{t-1} + (1 - b_1) G_t \\
    v_t &= b_2 v_{t-1} + (1 - b_2) \|G_t\|^2 \\
    a_t &= \frac{\sqrt{1 - b_2^t}}{1 - b_1^t} \frac{\|M_t\|}{\sqrt{v_t} + eps}

  with Frobenius norms and one :math:`v, a` for each matrix (NAMO), or the norms
  of the columns and one for each column (NAMO-D). With ``nesterov``,
  :math:`b_1 M_t + (1 - b_1) G_t` takes the place of :math:`M_t` in the scale
  and in what leaves. A scale whose denominator is zero is zero.

  With eps=0, gradients multiplied by a constant give the same scale. The
  gradients, their norms and both times 1 - b1 and sqrt(1 - b2) must be normal
  numbers. In float32 at the defaults that is 1e-36 to 1e37. XLA takes what is
  below for zero. An eps shows below magnitudes of about ``1e6 eps``; where it
  makes the scale less than 1e-19, the scale may be zero.

  A gradient that is not finite makes the update of its own matrix NaN from then
  on; its entry of the momentum is no longer finite. It touches no other matrix,
  not even in the same leaf. ``optax.apply_if_finite`` around the optimizer
  skips such steps.

  Args:
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared norm, in [0, 1). b1 > b2 is allowed, but the
      bound ``a <= sqrt((1 - b1) / (1 - b2))`` needs ``b1 <= b2``.
    eps: Added to the root of v, in the gradients' unit; at least 0.
    mu_dtype: Dtype in which the momentum is kept; None means
      ``promote_types(parameter dtype, float32)``.
    nesterov: Whether to look ahead as the NAMO reference code does.
    columns: None: one scale for each matrix; ``'input'``: one for each input
      feature; ``'output'``: one for each output feature (neuron).
    weight_dimension_numbers: Tree, prefix or callable of
      ``optax.contrib.MuonDimensionNumbers``; None means that every leaf is one
      (in, out) matrix.

  Returns:
    A transformation from gradients to ``Factored(M, a)``, with ``NamoState``.

  Raises:
    ValueError: An argument is out of range, or a leaf is no matrix.
    TypeError: A hyperparameter is no number, or a parameter is not real
      floating.

  Examples:
    >>> import jax.numpy as jnp
    >>> from optax_namo import adaptive_momentum
    >>> stage = adaptive_momentum(nesterov=False, columns='input')
    >>> gradient = jnp.ones((4, 6))
    >>> update, state = stage.update(gradient, stage.init(gradient))
    >>> update.direction.shape, update.scale.shape
    ((4, 6), (4, 1))
    >>> [round(a, 3) for a in update.scale[:, 0].tolist()]
    [1.0, 1.0, 1.0, 1.0]

  References:
    Algorithms 1 and 2 of arXiv 2602.17080.
  """
  b1 = hyperparameters.number('b1', b1, '[0, 1)')
  b2 = hyperparameters.number(
    'b2', b2, '[0, 1)', hyperparameters.ROUNDED_TO_ONE
  )
  eps = hyperparameters.number('eps', eps, '[0, inf)')
  mu_dtype = hyperparameters.floating_dtype('mu_dtype', mu_dtype)
  hyperparameters.flag('nesterov', nesterov)
  columns = hyperparameters.choice(
    'columns', columns, (None, *get_args(axes.Columns))
  )

  def init(params):
    matrices, treedef = _factored.matrices_of(
      _precision.widen(params), weight_dimension_numbers
    )
    zeros = [sharding.zeros_like(u.direction) for u in matrices]
    mu = [x.astype(mu_dtype or x.dtype) for x in zeros]
    root_v = [  # Sharded as the norms are.
      jnp.sum(x, axis=u.axes.shared(columns), keepdims=True)
      for x, u in zip(zeros, matrices)
    ]
    return NamoState(
      count=sharding.on_devices_of(jnp.zeros([], jnp.int32), mu),
      mu=treedef.unflatten(mu),
      root_v=trees.unflattener(treedef, boxed=False)(root_v),
    )

  def update(updates, state, params=None):
    del params
    matrices, treedef = _factored.matrices_of(updates, weight_dimension_numbers)
    if any(u.scale is not None for u in matrices):
      raise TypeError('adaptive_momentum stands once in a chain, at its begin.')
    _precision.check_real('gradient', updates)
    _check_state(state, matrices, columns)
    count = optax.safe_increment(state.count)

    @functools.cache
    def rates(dtype):
      first, second, least = (jnp.asarray(x, dtype) for x in (b1, b2, eps))
      correction = _bias_correction(first, count) / jnp.sqrt(
        _bias_correction(second, count)
      )
      return _Rates(first, 1 - first, second, 1 - second, least, correction)

    def step(u, old_mu, old_root):
      g = sharding.as_sharded(u.direction.astype(old_root.dtype), old_mu)
      m, scale, mu, root_v = _one_matrix(
        g, old_mu, old_root, u.axes.shared(columns), rates(g.dtype), nesterov
      )
      return g, scale, m, mu.astype(old_mu.dtype), root_v

    # Wrappers may box the state otherwise than init did: its leaves count.
    (old_mu, old_root), boxes = zip(
      *map(jax.tree.flatten, (state.mu, state.root_v))
    )
    stepped = list(map(step, matrices, old_mu, old_root))
    gradients, scales, m, *new = zip(*stepped) if stepped else ((),) * 5
    # Else the compiler would make it, and mu with it, where orthogonalize wants
    # the matrices, and bring mu back.
    m = sharding.alike(m, old_mu)
    factored = [
      dataclasses.replace(
        u,
        direction=d,
        scale=a,
        count=state.count,
        seen=_factored.Seen(gradient=g, momentum=d, unclamped_scale=a),
      )
      for u, g, d, a in zip(matrices, gradients, m, scales)
    ]
    mu, root_v = (box.unflatten(x) for box, x in zip(boxes, new))
    return treedef.unflatten(factored), NamoState(count, mu, root_v)

  return optax.GradientTransformation(init, update)
