# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The four rules, literal chains: Algorithms 1 and 2 of the paper.

Between the first stage and ``apply_scale``, a matrix update travels in factored
form, a ``Factored(direction, scale)`` whose product is the update. Only the
first stage keeps state. NAMO is NAMO-D with one scale for each matrix, and so
without a clamp.
"""

from __future__ import annotations  # help() shows names, not unions.

from typing import Any, get_args, Literal

import jax
import optax

from optax_namo import _adamw
from optax_namo import _door
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _keywords
from optax_namo import _momentum
from optax_namo import _record
from optax_namo import _stages
from optax_namo._layout.axes import Columns
from optax_namo._layout.stacking import Orthogonalizer
from optax_namo._routing.dimension_numbers import WeightDimensionNumbers
from optax_namo._stages import ShapeScale

Decay = Literal['adaptive', 'decoupled']


@_keywords.named
def scale_by_namo_d(
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  clamp: jax.typing.ArrayLike | None = 0.75,
  columns: Columns | None = 'input',
  orthogonalizer: Orthogonalizer | None = None,
  weight_dimension_numbers: WeightDimensionNumbers = None,
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
    columns: ``'input'``: one scale for each input feature (the reference code).
      ``'output'``: one for each output feature (neuron). None: one for each
      matrix and no clamp, which is ``scale_by_namo``.
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
  chain = optax.chain(
    _momentum.adaptive_momentum(
      b1, b2, eps, mu_dtype, nesterov=nesterov, columns=columns
    ),
    _stages.orthogonalize(orthogonalizer, shard_over=shard_over),
    *_clamp(clamp, columns),
    _stages.apply_scale(),
  )
  return _door.alone(chain, weight_dimension_numbers)


@_keywords.named
def scale_by_namo(
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  orthogonalizer: Orthogonalizer | None = None,
  weight_dimension_numbers: WeightDimensionNumbers = None,
  shard_over: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformation:
  r"""NAMO's rule alone: gradient in, :math:`a_t O_t` out.

  .. math:: a_t O_t, \quad O_t = Orth(M_t)

  No learning rate, decay, shape scale or routing; see ``namo`` for all of them
  and ``adaptive_momentum`` for :math:`a_t`.

  Args:
    b1: This and all other arguments are those of ``scale_by_namo_d``, which
      describes them. There is no ``clamp`` and there are no ``columns``.

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
  return scale_by_namo_d(
    b1,
    b2,
    eps,
    mu_dtype,
    nesterov=nesterov,
    columns=None,
    orthogonalizer=orthogonalizer,
    weight_dimension_numbers=weight_dimension_numbers,
    shard_over=shard_over,
  )


@_keywords.named
def namo_d(
  learning_rate: optax.ScalarOrSchedule,
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  weight_decay: optax.ScalarOrSchedule = 0.01,
  weight_decay_mask: Any = None,
  mu_dtype: Any = None,
  *,
  clamp: jax.typing.ArrayLike | None = 0.75,
  columns: Columns | None = 'input',
  nesterov: bool = True,
  decay: Decay = 'adaptive',
  shape_scale: ShapeScale = 'rms',
  rms: jax.typing.ArrayLike = 0.2,
  orthogonalizer: Orthogonalizer | None = None,
  weight_dimension_numbers: WeightDimensionNumbers = None,
  adam_learning_rate: optax.ScalarOrSchedule | None = None,
  adam_b1: jax.typing.ArrayLike = 0.9,
  adam_b2: jax.typing.ArrayLike = 0.95,
  adam_eps: jax.typing.ArrayLike = 1e-8,
  adam_weight_decay: optax.ScalarOrSchedule = 0.0,
  shard_over: str | tuple[str, ...] | None = None,
  record: bool | Literal['orthogonality'] = False,
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
    learning_rate: :math:`\eta` of the matrices, a number or a schedule. Warm
      up; start at 0.035, at 8 times AdamW's rate, or at 6 times that of Muon
      with ``consistent_rms=0.2``.
    b1: Decay rate of the momentum, in [0, 1).
    b2: Decay rate of the squared gradient norm, in [0, 1). The scale is at most
      ``sqrt((1 - b1) / (1 - b2))`` where ``b1 <= b2`` and ``nesterov=False``.
    eps: Added to the root of v, in the gradients' unit; at least 0.
    weight_decay: :math:`\lambda` of the matrices, at least 0, or a schedule.
    weight_decay_mask: Tree or prefix of booleans, or a callable from the
      parameters to one: which parameters decay, in both groups. None means all.
    mu_dtype: Dtype of the first moments of both groups, of 16 bits or more;
      None means ``promote_types(parameter dtype, float32)``.
    clamp: c, in (0, 1]: the scales of one matrix stay within ``[c, 1 / c]``
      times their mean; None leaves them unclamped. Any value from 0.1 to 1 gave
      the same loss in this project's study; keep 0.75.
    columns: ``'input'``: one scale for each input feature (the reference code).
      ``'output'``: one for each output feature (neuron), which was as good.
      None: one for each matrix and no clamp, which is ``namo``.
    nesterov: Whether to look ahead as the NAMO reference code does; the paper's
      algorithm does not. Without it losses were higher.
    decay: ``'adaptive'``: the decay is multiplied by the adaptive scale (the
      paper); ``'decoupled'``: it is not (AdamW's). Each tuned, no difference
      was seen.
    shape_scale: ``'rms'``: rms * sqrt(max(in, out)); ``'width'``:
      sqrt(max(1, out / in)); ``'spectral'``: sqrt(out / in); ``'none'``: 1,
      the paper's algorithm.
    rms: The root mean square of the update's entries at a scale of one.
    orthogonalizer: A function on stacks ``(batch, m, n)`` with ``m <= n``, that
      commutes with transposition. None means ``newton_schulz``; closer ones
      trained no better. Under ``optax.inject_hyperparams`` it belongs into
      ``static_args``. So does a callable mask, or a callable for the dimension
      numbers.
    weight_dimension_numbers: Tree or prefix of
      ``optax.contrib.MuonDimensionNumbers`` or None (AdamW), or a callable from
      the parameters to one. None means ``matrix_dimension_numbers``.
    adam_learning_rate: Learning rate of the AdamW group, a number or a
      schedule. None means ``learning_rate``. With 16 sequences a batch that was
      as good as a tuned one; with one sequence a hundredth of it was best.
    adam_b1: Decay rate of AdamW's first moment, in [0, 1).
    adam_b2: Decay rate of AdamW's second moment, in [0, 1).
    adam_eps: Added to the root of AdamW's second moment; at least 0. At 0 a
      gradient that was always zero gives NaN, as in ``optax.adamw``.
    adam_weight_decay: Decay of the AdamW group, at least 0, or a schedule.
    shard_over: Mesh axes over which the matrices are spread, so that each
      device orthogonalizes its share; see ``orthogonalize``.
    record: Whether the state keeps what ``diagnostics`` reads; with
      ``'orthogonality'`` the orthogonality error too (see ``record``).

  Returns:
    A transformation whose updates have the gradients' shapes and dtypes. It
    computes in ``promote_types(parameter dtype, float32)``.

  Raises:
    ValueError: An argument is out of range or unknown. Or dimension numbers do
      not fit a leaf, or a gradient or the state has other shapes than the
      parameters. Or ``update`` gets no parameters where a decay needs them.
    TypeError: A hyperparameter is no number, or a parameter, a gradient or
      ``mu_dtype`` is not real floating.

  Examples:
    >>> import jax, jax.numpy as jnp, optax
    >>> from optax_namo import namo_d
    >>> loss = lambda p: jnp.mean((p['w'] - 1) ** 2) + jnp.mean(p['b'] ** 2)
    >>> params = {'w': jnp.zeros((4, 6)), 'b': jnp.ones(6)}
    >>> schedule = optax.warmup_cosine_decay_schedule(0.0, 0.035, 5, 20)
    >>> tx = optax.chain(optax.clip_by_global_norm(1.0), namo_d(schedule))
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
  # Made before the AdamW group's takes its value: a bad rate is named so.
  by_learning_rate = _adamw.by_learning_rate('learning_rate', learning_rate)
  if adam_learning_rate is None:
    adam_learning_rate = learning_rate
  adaptive_decay, decoupled_decay = _decays(
    decay, weight_decay, weight_decay_mask
  )
  matrix_chain = optax.chain(
    _momentum.adaptive_momentum(
      b1, b2, eps, mu_dtype, nesterov=nesterov, columns=columns
    ),
    _stages.orthogonalize(orthogonalizer, shard_over=shard_over),
    _stages.scale_by_shape(shape_scale, rms),
    adaptive_decay,
    *_clamp(clamp, columns),
    _recording(record, columns, shard_over),
    _stages.apply_scale(),
    decoupled_decay,
    by_learning_rate,
  )
  adamw = _adamw.adamw(
    adam_learning_rate,
    adam_b1,
    adam_b2,
    adam_eps,
    adam_weight_decay,
    weight_decay_mask,
    mu_dtype,
  )
  return _door.routed(matrix_chain, adamw, weight_dimension_numbers)


@_keywords.named
def namo(
  learning_rate: optax.ScalarOrSchedule,
  b1: jax.typing.ArrayLike = 0.95,
  b2: jax.typing.ArrayLike = 0.99,
  eps: jax.typing.ArrayLike = 1e-8,
  weight_decay: optax.ScalarOrSchedule = 0.01,
  weight_decay_mask: Any = None,
  mu_dtype: Any = None,
  *,
  nesterov: bool = True,
  decay: Decay = 'adaptive',
  shape_scale: ShapeScale = 'rms',
  rms: jax.typing.ArrayLike = 0.2,
  orthogonalizer: Orthogonalizer | None = None,
  weight_dimension_numbers: WeightDimensionNumbers = None,
  adam_learning_rate: optax.ScalarOrSchedule | None = None,
  adam_b1: jax.typing.ArrayLike = 0.9,
  adam_b2: jax.typing.ArrayLike = 0.95,
  adam_eps: jax.typing.ArrayLike = 1e-8,
  adam_weight_decay: optax.ScalarOrSchedule = 0.0,
  shard_over: str | tuple[str, ...] | None = None,
  record: bool | Literal['orthogonality'] = False,
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
    learning_rate: This and all other arguments are those of ``namo_d``, which
      describes them. There is no ``clamp`` and there are no ``columns``.

  Returns:
    A transformation, as that of ``namo_d``.

  Raises:
    ValueError: As ``namo_d``.
    TypeError: As ``namo_d``.

  Examples:
    >>> import jax, jax.numpy as jnp, optax
    >>> from optax_namo import namo
    >>> loss = lambda p: jnp.mean((p['w'] - 1) ** 2) + jnp.mean(p['b'] ** 2)
    >>> params = {'w': jnp.zeros((4, 6)), 'b': jnp.ones(6)}
    >>> schedule = optax.warmup_cosine_decay_schedule(0.0, 0.035, 5, 20)
    >>> tx = optax.chain(optax.clip_by_global_norm(1.0), namo(schedule))
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
  return namo_d(
    learning_rate,
    b1,
    b2,
    eps,
    weight_decay,
    weight_decay_mask,
    mu_dtype,
    columns=None,
    nesterov=nesterov,
    decay=decay,
    shape_scale=shape_scale,
    rms=rms,
    orthogonalizer=orthogonalizer,
    weight_dimension_numbers=weight_dimension_numbers,
    adam_learning_rate=adam_learning_rate,
    adam_b1=adam_b1,
    adam_b2=adam_b2,
    adam_eps=adam_eps,
    adam_weight_decay=adam_weight_decay,
    shard_over=shard_over,
    record=record,
  )


def _clamp(
  clamp: jax.typing.ArrayLike | None, columns: Columns | None
) -> list[optax.GradientTransformation]:
  """The clamp; absent where there is one scale, which is its own mean."""
  stage = _stages.clamp_scale(clamp)
  return [] if columns is None else [stage]


def _decays(
  decay: str, weight_decay: Any, mask: Any
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
  """The stage before ``apply_scale`` and the one after; one of them idles."""
  hyperparameters.choice('decay', decay, get_args(Decay))
  if isinstance(mask, bool):  # As optax.inject_hyperparams makes of a function.
    raise TypeError(
      f'weight_decay_mask={mask} is no tree: None decays all, weight_decay=0'
      ' nothing. Under optax.inject_hyperparams name a function for the mask in'
      ' static_args.'
    )
  if decay == 'adaptive':
    return _stages.add_adaptive_decay(weight_decay, mask), optax.identity()
  decoupled = _adamw.decoupled_decay('weight_decay', weight_decay, mask)
  if mask is not None:  # In checkpoints it is the state of optax.masked.
    decoupled = optax.masked(decoupled, True)
  return optax.identity(), decoupled


def _recording(
  record: bool | str,
  columns: Columns | None,
  shard_over: str | tuple[str, ...] | None,
) -> optax.GradientTransformation:
  hyperparameters.choice('record', record, (False, True, 'orthogonality'))
  if not record:
    return optax.identity()
  return _record.record(
    columns, orthogonality=record == 'orthogonality', shard_over=shard_over
  )
