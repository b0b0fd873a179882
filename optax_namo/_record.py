# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The stage before the last, which keeps what passes for a look."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import optax
from optax.contrib import MuonDimensionNumbers

from optax_namo import _dimension_numbers as dims
from optax_namo import _factored
from optax_namo import _momentum
from optax_namo import _norms
from optax_namo import _stages


class RecordState(NamedTuple):
  """State of ``record``: trees like the parameters, float32 or wider.

  Norms and errors have the shape ``batch`` of a leaf's matrices, () for one
  matrix; scales have ``batch`` and then the matrix's axes, of size 1 where they
  share a scale. In the place of a leaf that ``SplitMatrices`` describes there
  is a dict of its parts, ``'[0]', '[1]', ...``.
  """

  unclamped_scale: optax.Updates  # as adaptive_momentum made it.
  scale: optax.Updates  # as the stages before record left it.
  gradient_norm: optax.Updates
  momentum_norm: optax.Updates
  update_rms: optax.Updates
  orthogonality_error: optax.Updates | None  # None unless asked for.


def record(
  columns: str | None = None,
  *,
  orthogonality: bool = False,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
) -> optax.GradientTransformation:
  r"""Keeps what ``diagnostics`` reads; changes nothing.

  It belongs right before ``apply_scale``, once in a chain. There it sees the
  update that leaves, with the shape scale and the adaptive decay but without
  what comes later (decoupled decay, learning rate):

  .. math:: rms = \|D\, diag(d)\|_F / \sqrt{m n}

  It costs a pass over gradients, momentum and directions a step, and keeps two
  scales and three numbers for each matrix; ``orthogonality`` costs a product
  :math:`O O^T` for each matrix and a fourth number.

  Args:
    columns: As in the chain's ``adaptive_momentum``.
    orthogonality: Whether to measure how far the polar factors are from
      orthogonal.
    weight_dimension_numbers: As in the chain's ``adaptive_momentum``.

  Returns:
    An identity on ``Factored`` updates, with ``RecordState``.

  Raises:
    ValueError: ``columns`` is unknown or not the chain's, a leaf is no matrix,
      or there is no ``orthogonalize`` whose factors could be measured.
    TypeError: The updates are not ``Factored``.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> import optax_namo
    >>> tx = optax.chain(
    ...   optax_namo.adaptive_momentum(columns='output'),
    ...   optax_namo.orthogonalize(),
    ...   optax_namo.clamp_scale(0.75),
    ...   optax_namo.record('output'),
    ...   optax_namo.apply_scale(),
    ...   optax.scale_by_learning_rate(0.05),
    ... )
    >>> params = {'w': jnp.ones((4, 6))}
    >>> _, state = tx.update(params, tx.init(params))
    >>> float(optax_namo.diagnostics(state)['w'].clamped_low)
    0.0
  """
  # What a record of this chain is like, found without computing anything.
  before = optax.chain(
    _momentum.adaptive_momentum(
      columns=columns, weight_dimension_numbers=weight_dimension_numbers
    ),
    _stages.orthogonalize(lambda stack: stack),
  )

  def init(params):
    def first(params):
      return look(before.update(params, before.init(params))[0])

    return jax.tree.map(jnp.zeros_like, jax.eval_shape(first, params))

  def look(updates):
    measured = lambda function, *names: _factored.tree_map(
      lambda u: _measured(function, u, names), updates
    )
    return RecordState(
      unclamped_scale=measured(_batch_first, 'adaptive_scale'),
      scale=measured(_batch_first, 'scale'),
      gradient_norm=measured(_norm, 'gradient'),
      momentum_norm=measured(_norm, 'momentum'),
      update_rms=measured(_rms, 'direction', 'scale'),
      orthogonality_error=measured(_orthogonality_error, 'polar_factor')
      if orthogonality
      else None,
    )

  def update(updates, state, params=None):
    del params
    new = look(updates)
    kept, found = (
      [x.shape for x in jax.tree.leaves(s.scale)] for s in (state, new)
    )
    if kept != found:
      raise ValueError(
        f'record(columns={columns!r}) keeps scales of the shapes {kept}, but'
        f' those of the chain are {found}. Give record the columns and the'
        ' dimension numbers of adaptive_momentum.'
      )
    return updates, new

  return optax.GradientTransformation(init, update)


def recording(
  record_: bool | str, columns: str | None, numbers: Any
) -> optax.GradientTransformation:
  """The stage for the argument ``record`` of ``namo`` and ``namo_d``."""
  if record_ not in (False, True, 'orthogonality'):
    raise ValueError(
      f"record must be False, True or 'orthogonality', got {record_!r}."
    )
  if not record_:
    return optax.identity()
  return record(
    columns,
    orthogonality=record_ == 'orthogonality',
    weight_dimension_numbers=numbers,
  )


def _measured(
  function: Callable[..., jax.Array], u: _factored.Factored, names: Any
) -> Any:
  """``function`` of each matrix; the parts of a split leaf by number."""
  values = {'direction': u.direction, 'scale': u.scale} | u.observed
  for name in names:
    if name not in values:
      raise ValueError(
        f'record found no {name}: adaptive_momentum(), and for the polar_factor'
        ' orthogonalize(), belong before it in the chain.'
      )
  result = jax.tree.map(function, *(values[name] for name in names), u.numbers)
  if isinstance(result, tuple):
    return {f'[{i}]': part for i, part in enumerate(result)}
  return result


def _batch_first(scale: jax.Array, numbers: MuonDimensionNumbers) -> jax.Array:
  axes = dims.axes_of(numbers, scale.ndim)
  return scale.transpose(axes.batch + axes.matrix)


def _norm(x: jax.Array, numbers: MuonDimensionNumbers) -> jax.Array:
  axes = dims.axes_of(numbers, x.ndim).matrix
  return jnp.squeeze(_norms.norm(x, axes), axes)


def _rms(
  direction: jax.Array, scale: jax.Array, numbers: MuonDimensionNumbers
) -> jax.Array:
  axes = dims.axes_of(numbers, direction.ndim).matrix
  return jnp.sqrt(jnp.mean(jnp.square(direction * scale), axes))


def _orthogonality_error(
  o: jax.Array, numbers: MuonDimensionNumbers
) -> jax.Array:
  """``||O O^T - I||_F / sqrt(m)`` over the smaller side, (batch)."""
  axes = dims.axes_of(numbers, o.ndim)
  _, fan_in, fan_out = dims.matrix_shape(numbers, o.shape)
  long, short = axes.input, axes.output
  if fan_in < fan_out:
    long, short = short, long
  m = min(fan_in, fan_out)
  mesh = jax.typeof(o).sharding.mesh
  if AxisType.Explicit in mesh.axis_types:
    # The product of a factor with itself has no sharding that follows.
    o = jax.sharding.reshard(o, NamedSharding(mesh, P()))
  gram = jax.lax.dot_general(  # batch + short + short, no leaf is reshaped.
    o,
    o,
    ((long, long), (axes.batch, axes.batch)),
    precision=jax.lax.Precision.HIGHEST,
  )
  side = [o.shape[i] for i in short]
  identity = jnp.eye(m, dtype=o.dtype).reshape(
    [1] * len(axes.batch) + side + side
  )
  rest = tuple(range(len(axes.batch), gram.ndim))
  return jnp.sqrt(jnp.sum(jnp.square(gram - identity), rest) / max(m, 1))
