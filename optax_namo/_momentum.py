# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The first stage: momentum and the adaptive scale, all of the state."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from optax_namo import _dimension_numbers as dims
from optax_namo import _factored
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _norms
from optax_namo import _precision
from optax_namo import _sharding

B2_ROUNDED_TO_ONE = (
  'Under optax.inject_hyperparams with 16-bit parameters a rate near 1 rounds'
  ' to 1: pass hyperparam_dtype=jnp.float32 there.'
)


class NamoState(NamedTuple):
  """State of ``adaptive_momentum``.

  ``root_v`` is the square root of the paper's v: a root has half the exponent
  range, so gradients of 1e-30 and of 1e30 keep theirs in float32.
  """

  count: jax.Array  # shape=(), dtype=int32.
  mu: optax.Updates  # like the parameters; mu_dtype, else float32 or wider.
  root_v: optax.Updates  # the scale's shape, dtype float32 or wider.


def _matrices(numbers: dims.WeightDimensionNumbers, tree: Any) -> Any:
  """The dimension numbers of a tree all of whose leaves are matrices."""
  if numbers is None:  # One (in, out) matrix each.
    numbers = functools.partial(
      jax.tree.map,
      lambda x: MuonDimensionNumbers(0, 1) if jnp.ndim(x) == 2 else None,
    )
  numbers = dims.resolve(numbers, tree)

  def check(path, leaf, spec):
    if spec is None:
      raise ValueError(
        f'the leaf {dims.path_string(path)!r} of shape {jnp.shape(leaf)}'
        ' has no dimension numbers and is no (in, out) matrix. Give'
        ' weight_dimension_numbers for it, or send it to another optimizer'
        ' with optax.partition, as namo and namo_d do.'
      )
    return spec

  return jax.tree_util.tree_map_with_path(check, tree, numbers)


def _parts(tree: Any, numbers: Any) -> tuple[Any, Any]:
  """Both trees with a tuple for each leaf that holds several matrices."""
  return (
    jax.tree.map(dims.split, tree, numbers),
    jax.tree.map(lambda _, spec: dims.part_numbers(spec), tree, numbers),
  )


def _shared_axes(
  columns: str | None, numbers: MuonDimensionNumbers, ndim: int
) -> tuple[int, ...]:
  """The axes along which one scale is shared, the axes of the norms."""
  axes = dims.axes_of(numbers, ndim)
  return {None: axes.matrix, 'input': axes.output, 'output': axes.input}[
    columns
  ]


def _bias_correction(decay: jax.Array, count: jax.Array) -> jax.Array:
  """``1 - decay**count`` without cancellation, for count up to 2**31 - 1."""
  return -jnp.expm1(count.astype(decay.dtype) * jnp.log(decay))


def adaptive_momentum(
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  columns: str | None = None,
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

  With eps=0, gradients multiplied by a constant give the same scale, as long as
  the gradients, their norms and both times 1 - b1 and sqrt(1 - b2) are normal
  numbers: 1e-36 to 1e37 in float32 at the defaults. XLA takes what is below for
  zero. An eps shows below magnitudes of about ``1e6 eps``; where it makes the
  scale less than 1e-19, the scale may be zero.

  A gradient that is not finite makes momentum, scale and update of its own
  matrix NaN from then on and touches no other matrix, not even in the same
  leaf. ``optax.apply_if_finite`` around the optimizer skips such steps.

  Args:
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared norm, in [0, 1). b1 > b2 is allowed, but the
      bound ``a <= sqrt((1 - b1) / (1 - b2))`` needs ``b1 <= b2``.
    eps: Added to the root of v, in the gradients' unit; at least 0.
    mu_dtype: Dtype in which the momentum is kept; None means
      ``promote_types(parameter dtype, float32)``.
    nesterov: Whether to look ahead as the NAMO reference code does.
    columns: None for one scale a matrix, ``'input'`` for one for each input
      feature, ``'output'`` for one for each output feature (neuron).
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
  b2 = hyperparameters.number('b2', b2, '[0, 1)', B2_ROUNDED_TO_ONE)
  eps = hyperparameters.number('eps', eps, '[0, inf)')
  columns = hyperparameters.choice(
    'columns', columns, (None, 'input', 'output')
  )

  def init(params):
    params = _precision.widen(params)
    numbers = _matrices(weight_dimension_numbers, params)
    params, numbers = _parts(params, numbers)

    def one_for_each_scale(p, spec):  # Sharded as the norms of p are.
      shared = _shared_axes(columns, spec, p.ndim)
      return jnp.sum(_sharding.zeros_like(p), axis=shared, keepdims=True)

    return NamoState(
      count=_sharding.on_devices_of(jnp.zeros([], jnp.int32), params),
      mu=jax.tree.map(lambda p: _sharding.zeros_like(p, mu_dtype), params),
      root_v=jax.tree.map(one_for_each_scale, params, numbers),
    )

  def update(updates, state, params=None):
    del params
    numbers = _matrices(weight_dimension_numbers, updates)
    count = optax.safe_increment(state.count)
    gradients, parts = _parts(updates, numbers)
    gradients = jax.tree.map(
      lambda g, old, root: _sharding.as_sharded(
        jnp.asarray(g).astype(root.dtype), old
      ),
      gradients,
      state.mu,
      state.root_v,
    )

    def average(old, new):  # b1 old + (1 - b1) new
      decay = jnp.asarray(b1, new.dtype)
      return decay * old.astype(new.dtype) + (1 - decay) * new

    def root_of_average(g, root, spec):  # v <- b2 v + (1 - b2) ||g||^2
      decay = jnp.asarray(b2, g.dtype)
      axes = _shared_axes(columns, spec, g.ndim)
      unit = _norms.unit(jnp.maximum(_norms.largest(g, axes), root))
      squares = _norms.sum_of_squares(g / unit, axes)
      return unit * jnp.sqrt(
        decay * jnp.square(root / unit) + (1 - decay) * squares
      )

    def adaptive_scale(m, root, spec):  # ||m|| / (root + eps), bias-corrected
      first = _bias_correction(jnp.asarray(b1, m.dtype), count)
      second = _bias_correction(jnp.asarray(b2, m.dtype), count)
      below = root + jnp.asarray(eps, m.dtype)
      # No gradient so far and eps=0: the scale is zero.
      below = jnp.where(below < jnp.finfo(m.dtype).tiny, jnp.inf, below)
      # Its bound makes the scale its own unit: divide first, then square.
      axes = _shared_axes(columns, spec, m.ndim)
      return jnp.sqrt(
        _norms.sum_of_squares(m / (below * (first / jnp.sqrt(second))), axes)
      )

    mu = jax.tree.map(average, state.mu, gradients)
    root_v = jax.tree.map(root_of_average, gradients, state.root_v, parts)
    momentum = jax.tree.map(average, mu, gradients) if nesterov else mu
    scale = jax.tree.map(adaptive_scale, momentum, root_v, parts)
    factored = jax.tree.map(
      lambda g, m, a, spec, wide: _factored.Factored(
        m,
        a,
        spec,
        jnp.result_type(g),
        {'gradient': wide, 'momentum': m, 'adaptive_scale': a},
      ),
      updates,
      momentum,
      scale,
      numbers,
      gradients,
    )
    mu = jax.tree.map(lambda new, old: new.astype(old.dtype), mu, state.mu)
    return factored, NamoState(count, mu, root_v)

  return optax.GradientTransformation(init, update)
