# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The first stage: momentum and the adaptive scale, all of the state."""

from __future__ import annotations  # help() shows names, not unions.

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from optax_namo import _factored
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _precision
from optax_namo._layout import boxes
from optax_namo._layout import sharding
from optax_namo._polar import norms
from optax_namo._routing import dimension_numbers as dims


class NamoState(NamedTuple):
  """State of ``adaptive_momentum``.

  ``root_v`` is the square root of the paper's v: a root has half the exponent
  range, so gradients of 1e-30 and of 1e30 keep theirs in float32.
  """

  count: jax.Array  # shape=(), dtype=int32.
  mu: optax.Updates  # like the parameters; mu_dtype, else float32 or wider.
  root_v: optax.Updates  # the scale's shape, dtype float32 or wider.


def _specs(specs: dims.WeightDimensionNumbers, tree: Any) -> Any:
  """The specs of a tree all of whose leaves are matrices."""
  if specs is None:  # One (in, out) matrix each.
    specs = functools.partial(
      jax.tree.map,
      lambda x: MuonDimensionNumbers(0, 1) if jnp.ndim(x) == 2 else None,
    )
  specs = dims.resolve(specs, tree)

  def check(path, leaf, spec):
    if spec is None:
      raise ValueError(
        f'the {_precision.named("leaf", path)} of shape {jnp.shape(leaf)}'
        ' has no dimension numbers and is no (in, out) matrix. Give'
        ' weight_dimension_numbers for it, the same to adaptive_momentum and'
        ' to record, or send it to another optimizer with optax.partition, as'
        ' namo and namo_d do.'
      )
    return spec

  return jax.tree_util.tree_map_with_path(check, tree, specs)


def _split(leaves: list[Any], specs: list[Any]) -> tuple[list, list, Any]:
  """The matrices of all leaves in one list, their numbers, and the way back."""
  split = [dims.split(x, spec) for x, spec in zip(leaves, specs)]
  parts: Any
  matrices, parts = jax.tree.flatten(split)
  numbers = parts.flatten_up_to([dims.part_numbers(spec) for spec in specs])
  return matrices, numbers, parts.unflatten


def _shared_axes(
  columns: str | None, numbers: MuonDimensionNumbers, ndim: int
) -> tuple[int, ...]:
  """The axes along which one scale is shared, the axes of the norms."""
  axes = dims.axes_of(numbers, ndim)
  return {None: axes.matrix, 'input': axes.output, 'output': axes.input}[
    columns
  ]


def _with_ones(
  shape: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[int, ...]:
  """The shape of a sum over ``axes`` that are kept with size 1."""
  return tuple(1 if i in axes else size for i, size in enumerate(shape))


def _check_shapes(
  state: NamoState,
  gradients: list[jax.Array],
  scales: list[tuple[int, ...]],
  columns: str | None,
) -> None:
  """Raises ValueError for a state that is not of these gradients.

  Shapes that differ would broadcast, and train something else.
  """
  kept = [
    [jnp.shape(x) for x in jax.tree.leaves(tree)]
    for tree in (state.mu, state.root_v)
  ]
  needed = [[g.shape for g in gradients], scales]
  if kept == needed:
    return
  made_with = (
    f' Here columns={columns!r}. Give the gradients, the columns and the'
    ' dimension numbers with which the state was made, or make a new one with'
    ' init.'
  )
  if len(kept[0]) != len(gradients):
    raise ValueError(
      f'the state holds {len(kept[0])} matrices and the gradients'
      f' {len(gradients)}.{made_with}'
    )
  names = [
    dims.path_string(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(state.mu)
  ]
  for kind, have, need in zip(('mu', 'root_v'), kept, needed):
    for name, old, new in zip(names, have, need):
      if old != new:
        raise ValueError(
          f'the state keeps {kind} of shape {old} at {name!r}, but the'
          f' gradients need {new}.{made_with}'
        )


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
  columns: dims.Columns | None = None,
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
  b2 = hyperparameters.number(
    'b2', b2, '[0, 1)', hyperparameters.ROUNDED_TO_ONE
  )
  eps = hyperparameters.number('eps', eps, '[0, inf)')
  mu_dtype = hyperparameters.floating_dtype('mu_dtype', mu_dtype)
  columns = hyperparameters.choice(
    'columns', columns, (None, 'input', 'output')
  )

  def init(params):
    params = _precision.widen(params)
    leaves, treedef = jax.tree.flatten(params)
    specs = treedef.flatten_up_to(_specs(weight_dimension_numbers, params))
    matrices, numbers, merge = _split(leaves, specs)
    mu = [sharding.zeros_like(p, mu_dtype) for p in matrices]
    root_v = [  # Sharded as the norms are.
      jnp.sum(
        sharding.zeros_like(p),
        axis=_shared_axes(columns, n, p.ndim),
        keepdims=True,
      )
      for p, n in zip(matrices, numbers)
    ]
    return NamoState(
      count=sharding.on_devices_of(jnp.zeros([], jnp.int32), params),
      mu=boxes.unflatten(treedef, merge(mu), boxed=True),
      root_v=boxes.unflatten(treedef, merge(root_v), boxed=False),
    )

  def update(updates, state, params=None):
    del params
    _precision.check_real('gradient', updates)
    leaves, treedef = jax.tree.flatten(updates)
    specs = treedef.flatten_up_to(_specs(weight_dimension_numbers, updates))
    gradients, numbers, merge = _split(leaves, specs)
    axes = [
      _shared_axes(columns, n, g.ndim) for g, n in zip(gradients, numbers)
    ]
    scales = [_with_ones(g.shape, shared) for g, shared in zip(gradients, axes)]
    _check_shapes(state, gradients, scales, columns)
    # Wrappers may box the state otherwise than init did: its leaves count.
    mu, boxes_of_mu = jax.tree.flatten(state.mu)
    root_v, boxes_of_root_v = jax.tree.flatten(state.root_v)
    count = optax.safe_increment(state.count)

    def average(old, new):  # b1 old + (1 - b1) new
      decay = jnp.asarray(b1, new.dtype)
      return decay * old.astype(new.dtype) + (1 - decay) * new

    def root_of_average(g, root, axes):  # v <- b2 v + (1 - b2) ||g||^2
      decay = jnp.asarray(b2, g.dtype)
      unit = norms.unit(jnp.maximum(norms.largest(g, axes), root))
      squares = norms.sum_of_squares(g / unit, axes)
      return unit * norms.root(
        decay * jnp.square(root / unit) + (1 - decay) * squares
      )

    def adaptive_scale(m, root, axes):  # ||m|| / (root + eps), bias-corrected
      first = _bias_correction(jnp.asarray(b1, m.dtype), count)
      second = _bias_correction(jnp.asarray(b2, m.dtype), count)
      below = root + jnp.asarray(eps, m.dtype)
      # No gradient so far and eps=0: the scale is zero.
      below = jnp.where(below < jnp.finfo(m.dtype).tiny, jnp.inf, below)
      # Its bound makes the scale its own unit: divide first, then square.
      return norms.root(
        norms.sum_of_squares(m / (below * (first / jnp.sqrt(second))), axes)
      )

    gradients = [
      sharding.as_sharded(g.astype(root.dtype), old)
      for g, root, old in zip(gradients, root_v, mu)
    ]
    dtypes = [m.dtype for m in mu]
    mu = list(map(average, mu, gradients))
    root_v = list(map(root_of_average, gradients, root_v, axes))
    momentum = list(map(average, mu, gradients)) if nesterov else mu
    scale = list(map(adaptive_scale, momentum, root_v, axes))
    factored = [
      _factored.Factored(
        direction=m,
        scale=a,
        dimension_numbers=spec,
        dtype=jnp.result_type(leaf),
        count=state.count,
        seen=_factored.Seen(gradient=g, momentum=m, unclamped_scale=a),
      )
      for leaf, spec, g, m, a in zip(
        leaves, specs, merge(gradients), merge(momentum), merge(scale)
      )
    ]
    mu = [new.astype(dtype) for new, dtype in zip(mu, dtypes)]
    return treedef.unflatten(factored), NamoState(
      count, boxes_of_mu.unflatten(mu), boxes_of_root_v.unflatten(root_v)
    )

  return optax.GradientTransformation(init, update)
