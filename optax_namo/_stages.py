# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The stages after the first, pure functions of a few lines each."""

from __future__ import annotations  # help() shows names, not unions.

import dataclasses
import functools
import math
from typing import Any, get_args, Literal

import jax
import jax.numpy as jnp
import optax

from optax_namo import _factored
from optax_namo import _hyperparameters as hyperparameters
from optax_namo._layout import sharding
from optax_namo._layout import spread
from optax_namo._layout import stacking
from optax_namo._layout import trees
from optax_namo._layout.axes import matrix_shape
from optax_namo._polar import newton_schulz as ns

ShapeScale = Literal['rms', 'width', 'spectral', 'none']


def orthogonalize(
  orthogonalizer: stacking.Orthogonalizer | None = None,
  *,
  shard_over: sharding.MeshAxes | None = None,
) -> optax.GradientTransformation:
  r"""Replaces the direction by its polar factor, ``Orth(M) = U V^T``.

  Matrices of the same shape (up to transposition) go through the orthogonalizer
  in stacks, large ones one at a time.

  Args:
    orthogonalizer: A function on stacks ``(batch, m, n)`` with ``m <= n``, that
      commutes with transposition; None means ``newton_schulz``.
    shard_over: Name or names of the mesh axes to spread the stacks over, so
      that each device orthogonalizes whole matrices of its own. The mesh is
      that of the arrays or of ``jax.set_mesh``, its axes Auto or Explicit.

  Returns:
    A stateless transformation from ``Factored(M, a)`` to ``Factored(O, a)``.

  Raises:
    ValueError: The orthogonalizer changes a shape, or there is no mesh with the
      axes of ``shard_over``.
    TypeError: The updates are not ``Factored``.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import adaptive_momentum, orthogonalize, polar_svd
    >>> tx = optax.chain(adaptive_momentum(), orthogonalize(polar_svd))
    >>> gradient = jnp.diag(jnp.array([3.0, 2.0]))
    >>> update, _ = tx.update(gradient, tx.init(gradient))
    >>> bool(jnp.allclose(update.direction, jnp.eye(2), atol=1e-6))
    True

  References:
    Algorithms 1 and 2 of arXiv 2602.17080, ``Orth``.
  """
  function = orthogonalizer or ns.newton_schulz
  if not callable(function):
    raise TypeError(
      'orthogonalizer must be a function of stacks (batch, m, n), or None,'
      f' got {orthogonalizer!r}.'
    )

  sharding.check_names(shard_over)

  def update(updates, params):
    del params
    matrices, treedef = _factored.flatten(updates)
    directions = [u.direction for u in matrices]
    numbers = [u.dimension_numbers for u in matrices]
    factors = spread.map_stacks(function, directions, numbers, shard_over)
    return treedef.unflatten(
      dataclasses.replace(u, direction=o, seen=u.seen._replace(polar_factor=o))
      for u, o in zip(matrices, factors)
    )

  return optax.stateless(update)


def scale_by_shape(
  shape_scale: ShapeScale = 'rms', rms: jax.typing.ArrayLike = 0.2
) -> optax.GradientTransformation:
  r"""Scales the direction by a factor of the matrix's shape.

  .. math::
    \text{rms}: rms \sqrt{\max(in, out)}, \quad
    \text{width}: \sqrt{\max(1, out / in)}, \quad
    \text{spectral}: \sqrt{out / in}, \quad \text{none}: 1

  Args:
    shape_scale: ``'rms'`` gives the entries a root mean square of about ``rms``
      whatever the shape, as AdamW's have (the NAMO reference code, after
      Moonlight). ``'width'`` is Muon's first rule. ``'spectral'`` changes a
      layer's outputs as much at every width. Under that condition a rate that
      is tuned at one width may serve at another. ``'none'`` is the paper's.
    rms: The root mean square for ``'rms'``; greater than 0.

  Returns:
    A stateless transformation of ``Factored`` updates.

  Raises:
    ValueError: ``shape_scale`` is unknown or ``rms`` out of range.
    TypeError: The updates are not ``Factored``.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import adaptive_momentum, scale_by_shape
    >>> tx = optax.chain(adaptive_momentum(b1=0.0), scale_by_shape('width'))
    >>> wide = jnp.ones((4, 16))
    >>> update, _ = tx.update(wide, tx.init(wide))
    >>> float(update.direction[0, 0])  # sqrt(16 / 4)
    2.0

  References:
    Liu et al., `Muon is Scalable for LLM Training
    <https://arxiv.org/abs/2502.16982>`_, section 2.2, for ``'rms'``.

    Yang, Simon and Bernstein, `A Spectral Condition for Feature Learning
    <https://arxiv.org/abs/2310.17813>`_, for ``'spectral'``.
  """
  hyperparameters.choice('shape_scale', shape_scale, get_args(ShapeScale))
  rms = hyperparameters.number('rms', rms, '(0, inf)')

  def scaled(u, _):
    o = u.direction
    if shape_scale == 'none' or not o.size:
      return u
    _, fan_in, fan_out = matrix_shape(u.dimension_numbers, o.shape)
    factor = {
      'rms': jnp.asarray(rms, o.dtype) * math.sqrt(max(fan_in, fan_out)),
      'width': math.sqrt(max(1, fan_out / fan_in)),
      'spectral': math.sqrt(fan_out / fan_in),
    }
    return dataclasses.replace(u, direction=factor[shape_scale] * o)

  return _factored.stage(scaled)


def add_adaptive_decay(
  weight_decay: optax.ScalarOrSchedule = 0.01, mask: Any = None
) -> optax.GradientTransformation:
  r"""Adds ``weight_decay * params`` to the direction.

  .. math:: O_t + \lambda \Theta_{t-1}

  Because it stands before ``apply_scale``, the adaptive scale multiplies the
  decay as well, which is the paper's adaptive decay. After ``apply_scale``,
  ``optax.add_decayed_weights`` is AdamW's.

  Args:
    weight_decay: :math:`\lambda`, at least 0, or a schedule of the updates so
      far, which ``adaptive_momentum`` counts.
    mask: Tree or prefix of booleans, or a callable from the parameters to one:
      which leaves decay. None means all.

  Returns:
    A stateless transformation of ``Factored`` updates; it needs the parameters
    unless ``weight_decay`` is 0.

  Raises:
    ValueError: ``weight_decay`` is negative, there are no parameters, or the
      mask does not have their structure.
    TypeError: The updates are not ``Factored``.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import adaptive_momentum, add_adaptive_decay
    >>> tx = optax.chain(adaptive_momentum(), add_adaptive_decay(0.5))
    >>> params, still = jnp.ones((2, 3)), jnp.zeros((2, 3))
    >>> update, _ = tx.update(still, tx.init(params), params)
    >>> float(update.direction[0, 0])
    0.5

  References:
    Algorithms 1 and 2 of arXiv 2602.17080, last line.
  """
  weight_decay = hyperparameters.number_or_schedule(
    'weight_decay', weight_decay, '[0, inf)'
  )
  trees.check_mask(mask)

  def decayed(u, p):
    o = u.direction
    strength = weight_decay(u.count) if callable(weight_decay) else weight_decay
    return dataclasses.replace(
      u, direction=o + jnp.asarray(strength, o.dtype) * p.astype(o.dtype)
    )

  def update(updates, state, params=None, *, resolve_mask=None, **extra):
    del extra
    if hyperparameters.is_zero(weight_decay):
      return updates, state
    require_params(params, updates, 'weight_decay', weight_decay)
    new = _factored.tree_map(decayed, updates, params)
    if mask is None:
      return new, state
    resolve = resolve_mask or functools.partial(trees.decay_mask, params=params)
    return trees.where(resolve(mask), new, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def require_params(
  params: Any, updates: Any, name: str, weight_decay: Any
) -> None:
  """Raises ValueError where a decay has no parameters to work on."""
  if params is None and jax.tree.leaves(updates):
    raise ValueError(
      f'params=None, but {name}={weight_decay} needs the parameters: call'
      f' update(gradients, state, params), or set {name}=0, a Python number.'
    )


def clamp_scale(
  clamp: jax.typing.ArrayLike | None = 0.75,
) -> optax.GradientTransformation:
  r"""Clamps the scales of a matrix's columns towards their mean.

  .. math:: d = clip(a, c \bar a, \bar a / c)

  so that the scales of one matrix differ by at most :math:`1 / c^2`.

  Args:
    clamp: c, in (0, 1]; 1 makes all scales of a matrix equal, None leaves them
      as they are.

  Returns:
    A stateless transformation of ``Factored`` updates.

  Raises:
    ValueError: ``clamp`` is out of range.
    TypeError: The updates are not ``Factored``.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import adaptive_momentum, clamp_scale
    >>> first = adaptive_momentum(nesterov=False, columns='output')
    >>> tx = optax.chain(first, clamp_scale(0.5))
    >>> gradient = jnp.array([[0.0, 1.0, 1.0, 1.0]])  # Scales 0, 1, 1, 1.
    >>> update, _ = tx.update(gradient, tx.init(gradient))
    >>> [round(d, 3) for d in update.scale[0].tolist()]
    [0.375, 1.0, 1.0, 1.0]

  References:
    Algorithm 2 of arXiv 2602.17080.
  """
  if clamp is not None:
    clamp = hyperparameters.number(
      'clamp', clamp, '(0, 1]', 'clamp=None turns the clamp off.'
    )

  def clamped(u, _):
    a = u.scale
    if clamp is None or not a.size:
      return u
    c = jnp.asarray(clamp, a.dtype)
    mean = jnp.mean(a, axis=u.axes.matrix, keepdims=True)
    return dataclasses.replace(u, scale=jnp.clip(a, c * mean, mean / c))

  return _factored.stage(clamped)


def apply_scale() -> optax.GradientTransformation:
  """Multiplies direction and scale: a plain update in the gradients' dtype.

  Returns:
    A stateless transformation from ``Factored`` updates to arrays.

  Raises:
    TypeError: The updates are not ``Factored``.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import adaptive_momentum, apply_scale
    >>> tx = optax.chain(adaptive_momentum(), apply_scale())
    >>> gradient = jnp.ones((4, 6), jnp.bfloat16)
    >>> update, _ = tx.update(gradient, tx.init(gradient))
    >>> update.shape, update.dtype.name
    ((4, 6), 'bfloat16')

  References:
    Algorithms 1 and 2 of arXiv 2602.17080: the scale times the polar factor.
  """

  def product(u, _):
    return (u.direction * u.scale).astype(u.dtype)

  return optax.stateless(
    lambda updates, _: _factored.tree_map(product, updates, None)
  )
