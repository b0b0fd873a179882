# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What an optimizer state tells: scales, clamp hits, norms of each matrix."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optax_namo import _dimension_numbers as dims
from optax_namo import _momentum
from optax_namo import _record


class MatrixDiagnostics(NamedTuple):
  """What ``diagnostics`` tells of one matrix, or of a stack of them.

  Attributes:
    step: The updates so far, int32, ().
    scale_mean: Mean of the scales that were applied, those after the clamp.
    scale_min: The smallest of them.
    scale_max: The largest of them.
    clamped_low: Fraction of columns whose scale the clamp raised, in [0, 1].
    clamped_high: Fraction of columns whose scale the clamp lowered, in [0, 1].
    gradient_norm: Frobenius norm of the gradient that reached the chain.
    momentum_norm: Frobenius norm of what is orthogonalized: the momentum, with
      Nesterov's look-ahead if that is on.
    update_rms: Root mean square of the entries of ``direction * scale``, in the
      parameters' unit for each unit of learning rate.
    orthogonality_error: ``||O O^T - I||_F / sqrt(m)`` of the polar factor with
      m the smaller side, 0 where it is exact; None unless recorded.
  """

  step: jax.Array
  scale_mean: jax.Array
  scale_min: jax.Array
  scale_max: jax.Array
  clamped_low: jax.Array
  clamped_high: jax.Array
  gradient_norm: jax.Array
  momentum_norm: jax.Array
  update_rms: jax.Array
  orthogonality_error: jax.Array | None


def diagnostics(state: Any) -> dict[str, MatrixDiagnostics]:
  """What the last update did to each matrix, from any optimizer state.

  A pure function; it may be jitted, and vmapped over replicas. The state may be
  that of a chain, of ``optax.partition``, ``masked``, ``inject_hyperparams``,
  ``MultiSteps`` or ``apply_if_finite``, or anything that contains it: a Flax
  TrainState, ``nnx.Optimizer.opt_state``, a tuple with the parameters.

  Args:
    state: A pytree with the state of ``namo`` or ``namo_d`` made with
      ``record=True``, or of a chain with the stage ``record``.

  Returns:
    A dict from the paths of the matrices, as in ``routing_table``, to
    ``MatrixDiagnostics``. The values of a stack of matrices in one leaf have
    the shape of its batch axes, those of a single matrix (). The parts of a
    leaf that ``SplitMatrices`` describes are ``'path[0]', 'path[1]', ...``.
    Before the first update all are zero. Leaves without entries are left out.

  Raises:
    ValueError: There is no ``record`` stage in the state.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from optax_namo import diagnostics, namo_d
    >>> params = {'dense': {'kernel': jnp.ones((4, 6)), 'bias': jnp.ones(6)}}
    >>> tx = namo_d(0.05, record=True)
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> found = jax.jit(diagnostics)(state)
    >>> list(found), int(found['dense/kernel'].step)
    (['dense/kernel'], 1)
    >>> round(float(found['dense/kernel'].gradient_norm) ** 2)
    24
  """
  kinds = (_momentum.NamoState, _record.RecordState)
  count, found, any_record = None, {}, False
  for node in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds)):
    if isinstance(node, _momentum.NamoState):
      # It comes first in a chain; in an nnx.Optimizer it is a Variable.
      (count,) = jax.tree.leaves(node.count)
    elif isinstance(node, _record.RecordState):
      any_record = True
      fields = [jax.tree_util.tree_leaves_with_path(tree) for tree in node]
      for values in zip(*filter(None, fields)):
        if values[0][1].size:
          found[_name(values[0][0])] = _summary(
            count, *(value for _, value in values)
          )
  if not any_record:
    raise ValueError(
      'there is nothing recorded in this state: make the optimizer with'
      ' namo(..., record=True) or namo_d(..., record=True), or put the stage'
      ' record() before apply_scale() into a chain of your own.'
      ' Of an nnx.Optimizer give the opt_state.'
    )
  return found


def _name(path: tuple[Any, ...]) -> str:
  """The parameter's path; a part's number follows it in brackets."""
  part = getattr(path[-1], 'key', None) if path else None
  if isinstance(part, str) and part.startswith('['):
    return dims.path_string(path[:-1]) + part
  return dims.path_string(path)


def _summary(
  step: Any,
  unclamped: jax.Array,
  scale: jax.Array,
  gradient_norm: jax.Array,
  momentum_norm: jax.Array,
  update_rms: jax.Array,
  orthogonality_error: jax.Array | None = None,
) -> MatrixDiagnostics:
  columns = tuple(range(jnp.ndim(gradient_norm), jnp.ndim(scale)))
  return MatrixDiagnostics(
    step=step,
    scale_mean=jnp.mean(scale, columns),
    scale_min=jnp.min(scale, columns),
    scale_max=jnp.max(scale, columns),
    clamped_low=jnp.mean(scale > unclamped, columns),
    clamped_high=jnp.mean(scale < unclamped, columns),
    gradient_norm=gradient_norm,
    momentum_norm=momentum_norm,
    update_rms=update_rms,
    orthogonality_error=orthogonality_error,
  )
