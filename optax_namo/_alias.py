# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""namo and namo_d: routing, the chain for the matrices, AdamW for the rest."""

from typing import Any

import jax
import optax

from optax_namo import _dimension_numbers as dims
from optax_namo import _groups
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _momentum
from optax_namo import _record
from optax_namo import _stacking
from optax_namo import _stages


def namo(
  learning_rate: optax.ScalarOrSchedule,
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  weight_decay: jax.typing.ArrayLike = 0.01,
  weight_decay_mask: Any = None,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  decay: str = 'adaptive',
  shape_scale: str = 'rms',
  rms: jax.typing.ArrayLike = 0.2,
  orthogonalizer: _stacking.Orthogonalizer | None = None,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
  adam_learning_rate: optax.ScalarOrSchedule | None = None,
  adam_b1: jax.typing.ArrayLike = 0.9,
  adam_b2: jax.typing.ArrayLike = 0.95,
  adam_eps: jax.typing.ArrayLike = 1e-8,
  adam_weight_decay: jax.typing.ArrayLike = 0.0,
  shard_over: str | tuple[str, ...] | None = None,
  record: bool | str = False,
) -> optax.GradientTransformationExtraArgs:
  r"""NAMO: orthogonalized momentum with one adaptive scale for each matrix.

  Matrices take the rule below; embeddings, output heads, vectors and scalars
  take AdamW.

  .. math::
    M_t &= b_1 M_{t-1} + (1 - b_1) G_t \\
    v_t &= b_2 v_{t-1} + (1 - b_2) \|G_t\|_F^2 \\
    a_t &= \frac{\sqrt{1 - b_2^t}}{1 - b_1^t}
           \frac{\|M_t\|_F}{\sqrt{v_t} + eps} \\
    \Theta_t &= \Theta_{t-1}
               - \eta\, a_t (s\, Orth(M_t) + \lambda \Theta_{t-1})

  where s is the factor of ``scale_by_shape``. The defaults are those of the
  NAMO reference code, from which the published numbers come.

  Args:
    learning_rate: :math:`\eta` of the matrices, a number or a schedule.
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared gradient norm, in [0, 1). The scale is at most
      ``sqrt((1 - b1) / (1 - b2))`` where ``b1 <= b2`` and ``nesterov=False``.
    eps: Added to the root of v, in the gradients' unit; at least 0.
    weight_decay: :math:`\lambda` of the matrices, at least 0.
    weight_decay_mask: Tree or prefix of booleans, or a callable from the
      parameters to one: which matrices decay. None means all.
    mu_dtype: Dtype of the first moments of both groups; None means
      ``promote_types(parameter dtype, float32)``.
    nesterov: Whether to look ahead as the NAMO reference code does; the paper's
      algorithm does not.
    decay: ``'adaptive'``: the decay is multiplied by the adaptive scale (the
      paper); ``'decoupled'``: it is not (AdamW's).
    shape_scale: ``'rms'``: rms * sqrt(max(in, out)); ``'width'``:
      sqrt(max(1, out / in)); ``'none'``: 1, the paper's algorithm.
    rms: The root mean square of the update's entries at a scale of one.
    orthogonalizer: A function on stacks ``(batch, m, n)`` with ``m <= n``, that
      commutes with transposition; None means ``newton_schulz``. Under
      ``optax.inject_hyperparams`` it belongs into ``static_args``.
    weight_dimension_numbers: Tree or prefix of
      ``optax.contrib.MuonDimensionNumbers`` or None (AdamW), or a callable from
      the parameters to one. None means ``matrix_dimension_numbers``.
    adam_learning_rate: Learning rate of the AdamW group, a number or a
      schedule; None means ``learning_rate``.
    adam_b1: Decay rate of AdamW's first moment, in [0, 1).
    adam_b2: Decay rate of AdamW's second moment, in [0, 1).
    adam_eps: Added to the root of AdamW's second moment; at least 0.
    adam_weight_decay: Decay of the AdamW group, at least 0.
    shard_over: Mesh axes to spread the stacks over; see ``orthogonalize``.
    record: Whether the state keeps what ``diagnostics`` reads; with
      ``'orthogonality'`` the orthogonality error too (see ``record``).

  Returns:
    A transformation whose updates have the gradients' shapes and dtypes. It
    computes in ``promote_types(parameter dtype, float32)``.

  Raises:
    ValueError: An argument is out of range or unknown, dimension numbers do not
      fit a leaf, or ``update`` gets no parameters where a decay needs them.
    TypeError: A hyperparameter is no number, or a parameter is not real
      floating.

  Examples:
    >>> import jax, jax.numpy as jnp, optax
    >>> from optax_namo import namo
    >>> loss = lambda p: jnp.mean((p['w'] - 1) ** 2) + p['b'] ** 2
    >>> params = {'w': jnp.zeros((4, 6)), 'b': jnp.ones(())}
    >>> tx = optax.chain(optax.clip_by_global_norm(1.0), namo(0.05))
    >>> state = tx.init(params)
    >>> start = loss(params)
    >>> for _ in range(20):
    ...   updates, state = tx.update(jax.grad(loss)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    >>> bool(loss(params) < start)
    True

  References:
    Algorithm 1 of `Adam Improves Muon <https://arxiv.org/abs/2602.17080>`_.
  """
  learning_rate, adam_learning_rate = _groups.learning_rates(
    learning_rate, adam_learning_rate
  )
  adaptive_decay, decoupled_decay = _groups.decays(
    decay, weight_decay, weight_decay_mask
  )

  def matrix_chain(numbers):
    return optax.chain(
      _momentum.adaptive_momentum(
        b1,
        b2,
        eps,
        mu_dtype,
        nesterov=nesterov,
        weight_dimension_numbers=numbers,
      ),
      _stages.orthogonalize(orthogonalizer, shard_over=shard_over),
      _stages.scale_by_shape(shape_scale, rms),
      adaptive_decay,
      _record.recording(record, None, numbers),
      _stages.apply_scale(),
      decoupled_decay,
      optax.scale_by_learning_rate(learning_rate),
    )

  adamw = _groups.adamw(
    adam_learning_rate,
    adam_b1,
    adam_b2,
    adam_eps,
    adam_weight_decay,
    mu_dtype,
  )
  return _groups.routed(matrix_chain, adamw, weight_dimension_numbers)


def namo_d(
  learning_rate: optax.ScalarOrSchedule,
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  weight_decay: jax.typing.ArrayLike = 0.01,
  weight_decay_mask: Any = None,
  mu_dtype: Any = None,
  *,
  clamp: jax.typing.ArrayLike | None = 0.75,
  columns: str = 'input',
  nesterov: bool = True,
  decay: str = 'adaptive',
  shape_scale: str = 'rms',
  rms: jax.typing.ArrayLike = 0.2,
  orthogonalizer: _stacking.Orthogonalizer | None = None,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
  adam_learning_rate: optax.ScalarOrSchedule | None = None,
  adam_b1: jax.typing.ArrayLike = 0.9,
  adam_b2: jax.typing.ArrayLike = 0.95,
  adam_eps: jax.typing.ArrayLike = 1e-8,
  adam_weight_decay: jax.typing.ArrayLike = 0.0,
  shard_over: str | tuple[str, ...] | None = None,
  record: bool | str = False,
) -> optax.GradientTransformationExtraArgs:
  r"""NAMO-D: orthogonalized momentum with an adaptive scale for each column.

  Matrices take the rule below; embeddings, output heads, vectors and scalars
  take AdamW.

  .. math::
    M_t &= b_1 M_{t-1} + (1 - b_1) G_t \\
    v_{t,j} &= b_2 v_{t-1,j} + (1 - b_2) \|G_{t,j}\|^2 \\
    a_{t,j} &= \frac{\sqrt{1 - b_2^t}}{1 - b_1^t}
               \frac{\|M_{t,j}\|}{\sqrt{v_{t,j}} + eps} \\
    d_t &= clip(a_t, c\, \bar a_t, \bar a_t / c) \\
    \Theta_t &= \Theta_{t-1}
               - \eta (s\, Orth(M_t) + \lambda \Theta_{t-1})\, diag(d_t)

  where s is the factor of ``scale_by_shape``. The defaults are those of the
  NAMO reference code, from which the published numbers come.

  Args:
    learning_rate: :math:`\eta` of the matrices, a number or a schedule.
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared gradient norm, in [0, 1). The scale is at most
      ``sqrt((1 - b1) / (1 - b2))`` where ``b1 <= b2`` and ``nesterov=False``.
    eps: Added to the root of v, in the gradients' unit; at least 0.
    weight_decay: :math:`\lambda` of the matrices, at least 0.
    weight_decay_mask: Tree or prefix of booleans, or a callable from the
      parameters to one: which matrices decay. None means all.
    mu_dtype: Dtype of the first moments of both groups; None means
      ``promote_types(parameter dtype, float32)``.
    clamp: c, in (0, 1]: the scales of one matrix stay within ``[c, 1 / c]``
      times their mean; None leaves them unclamped.
    columns: ``'input'``: one scale for each input feature (the reference code);
      ``'output'``: one for each output feature (neuron).
    nesterov: Whether to look ahead as the NAMO reference code does; the paper's
      algorithm does not.
    decay: ``'adaptive'``: the decay is multiplied by the adaptive scale (the
      paper); ``'decoupled'``: it is not (AdamW's).
    shape_scale: ``'rms'``: rms * sqrt(max(in, out)); ``'width'``:
      sqrt(max(1, out / in)); ``'none'``: 1, the paper's algorithm.
    rms: The root mean square of the update's entries at a scale of one.
    orthogonalizer: A function on stacks ``(batch, m, n)`` with ``m <= n``, that
      commutes with transposition; None means ``newton_schulz``. Under
      ``optax.inject_hyperparams`` it belongs into ``static_args``.
    weight_dimension_numbers: Tree or prefix of
      ``optax.contrib.MuonDimensionNumbers`` or None (AdamW), or a callable from
      the parameters to one. None means ``matrix_dimension_numbers``.
    adam_learning_rate: Learning rate of the AdamW group, a number or a
      schedule; None means ``learning_rate``.
    adam_b1: Decay rate of AdamW's first moment, in [0, 1).
    adam_b2: Decay rate of AdamW's second moment, in [0, 1).
    adam_eps: Added to the root of AdamW's second moment; at least 0.
    adam_weight_decay: Decay of the AdamW group, at least 0.
    shard_over: Mesh axes to spread the stacks over; see ``orthogonalize``.
    record: Whether the state keeps what ``diagnostics`` reads; with
      ``'orthogonality'`` the orthogonality error too (see ``record``).

  Returns:
    A transformation whose updates have the gradients' shapes and dtypes. It
    computes in ``promote_types(parameter dtype, float32)``.

  Raises:
    ValueError: An argument is out of range or unknown, dimension numbers do not
      fit a leaf, or ``update`` gets no parameters where a decay needs them.
    TypeError: A hyperparameter is no number, or a parameter is not real
      floating.

  Examples:
    >>> import jax, jax.numpy as jnp, optax
    >>> from optax_namo import namo_d
    >>> loss = lambda p: jnp.mean((p['w'] - 1) ** 2) + p['b'] ** 2
    >>> params = {'w': jnp.zeros((4, 6)), 'b': jnp.ones(())}
    >>> tx = optax.chain(optax.clip_by_global_norm(1.0), namo_d(0.05))
    >>> state = tx.init(params)
    >>> start = loss(params)
    >>> for _ in range(20):
    ...   updates, state = tx.update(jax.grad(loss)(params), state, params)
    ...   params = optax.apply_updates(params, updates)
    >>> bool(loss(params) < start)
    True

  References:
    Algorithm 2 of `Adam Improves Muon <https://arxiv.org/abs/2602.17080>`_.
  """
  hyperparameters.choice('columns', columns, ('input', 'output'))
  learning_rate, adam_learning_rate = _groups.learning_rates(
    learning_rate, adam_learning_rate
  )
  adaptive_decay, decoupled_decay = _groups.decays(
    decay, weight_decay, weight_decay_mask
  )

  def matrix_chain(numbers):
    return optax.chain(
      _momentum.adaptive_momentum(
        b1,
        b2,
        eps,
        mu_dtype,
        nesterov=nesterov,
        columns=columns,
        weight_dimension_numbers=numbers,
      ),
      _stages.orthogonalize(orthogonalizer, shard_over=shard_over),
      _stages.scale_by_shape(shape_scale, rms),
      adaptive_decay,
      _stages.clamp_scale(clamp),
      _record.recording(record, columns, numbers),
      _stages.apply_scale(),
      decoupled_decay,
      optax.scale_by_learning_rate(learning_rate),
    )

  adamw = _groups.adamw(
    adam_learning_rate,
    adam_b1,
    adam_b2,
    adam_eps,
    adam_weight_decay,
    mu_dtype,
  )
  return _groups.routed(matrix_chain, adamw, weight_dimension_numbers)
