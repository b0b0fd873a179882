# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The bare rules as literal chains: Algorithms 1 and 2, line by line.

Between the first stage and the last, a matrix update travels in factored form,
a ``Factored(direction, scale)`` whose product is the update. Only the first
stage keeps state.
"""

from typing import Any

import jax
import optax

from optax_namo import _dimension_numbers as dims
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _momentum
from optax_namo import _stacking
from optax_namo import _stages


def scale_by_namo(
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  orthogonalizer: _stacking.Orthogonalizer | None = None,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
  shard_over: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformation:
  r"""NAMO's rule alone: gradient in, :math:`a_t O_t` out.

  .. math:: a_t O_t, \quad O_t = Orth(M_t)

  No learning rate, decay, shape scale or routing; see ``namo`` for all of them
  and ``adaptive_momentum`` for :math:`a_t`.

  Args:
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared gradient norm, in [0, 1).
    eps: Added to the root of v, in the gradients' unit; at least 0.
    mu_dtype: Dtype of the momentum; None: float32 or the parameter's if wider.
    nesterov: Whether to look ahead as the NAMO reference code does.
    orthogonalizer: See ``orthogonalize``.
    weight_dimension_numbers: See ``adaptive_momentum``; None means that every
      leaf is one (in, out) matrix.
    shard_over: See ``orthogonalize``.

  Returns:
    A transformation whose updates have the gradients' shapes and dtypes.

  Raises:
    ValueError: An argument is out of range, or a leaf is no matrix.
    TypeError: A hyperparameter is no number, or a parameter is not real
      floating.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import scale_by_namo
    >>> tx = optax.chain(scale_by_namo(), optax.scale_by_learning_rate(0.02))
    >>> params = {'w': jnp.ones((4, 6))}
    >>> updates, state = tx.update(params, tx.init(params))
    >>> updates['w'].shape
    (4, 6)

  References:
    Algorithm 1 of arXiv 2602.17080.
  """
  return optax.chain(
    _momentum.adaptive_momentum(
      b1,
      b2,
      eps,
      mu_dtype,
      nesterov=nesterov,
      weight_dimension_numbers=weight_dimension_numbers,
    ),
    _stages.orthogonalize(orthogonalizer, shard_over=shard_over),
    _stages.apply_scale(),
  )


def scale_by_namo_d(
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  clamp: jax.typing.ArrayLike | None = 0.75,
  columns: str = 'input',
  orthogonalizer: _stacking.Orthogonalizer | None = None,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
  shard_over: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformation:
  r"""NAMO-D's rule alone: gradient in, :math:`O_t\,diag(d_t)` out.

  .. math:: O_t\, diag(d_t), \quad d_t = clip(a_t, c \bar a_t, \bar a_t / c)

  No learning rate, decay, shape scale or routing; see ``namo_d`` for all of
  them and ``adaptive_momentum`` for :math:`a_t`.

  Args:
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared column norms, in [0, 1).
    eps: Added to the root of v, in the gradients' unit; at least 0.
    mu_dtype: Dtype of the momentum; None: float32 or the parameter's if wider.
    nesterov: Whether to look ahead as the NAMO reference code does.
    clamp: c, in (0, 1], or None for no clamp.
    columns: ``'input'`` for one scale for each input feature (the reference
      code), ``'output'`` for one for each output feature (neuron).
    orthogonalizer: See ``orthogonalize``.
    weight_dimension_numbers: See ``adaptive_momentum``; None means that every
      leaf is one (in, out) matrix.
    shard_over: See ``orthogonalize``.

  Returns:
    A transformation whose updates have the gradients' shapes and dtypes.

  Raises:
    ValueError: An argument is out of range, or a leaf is no matrix.
    TypeError: A hyperparameter is no number, or a parameter is not real
      floating.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> from optax_namo import scale_by_namo_d
    >>> tx = optax.chain(scale_by_namo_d(), optax.scale_by_learning_rate(0.02))
    >>> params = {'w': jnp.ones((4, 6))}
    >>> updates, state = tx.update(params, tx.init(params))
    >>> updates['w'].shape
    (4, 6)

  References:
    Algorithm 2 of arXiv 2602.17080.
  """
  hyperparameters.choice('columns', columns, ('input', 'output'))
  return optax.chain(
    _momentum.adaptive_momentum(
      b1,
      b2,
      eps,
      mu_dtype,
      nesterov=nesterov,
      columns=columns,
      weight_dimension_numbers=weight_dimension_numbers,
    ),
    _stages.orthogonalize(orthogonalizer, shard_over=shard_over),
    _stages.clamp_scale(clamp),
    _stages.apply_scale(),
  )
