# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the state keeps for a look, and how to read it: record, diagnostics."""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Sequence
import math
import re
from typing import Any, get_args, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optax_namo import _factored
from optax_namo import _hyperparameters as hyperparameters
from optax_namo import _momentum
from optax_namo import _precision
from optax_namo._layout import axes
from optax_namo._layout import sharding
from optax_namo._layout import spread
from optax_namo._layout import trees
from optax_namo._polar import norms
from optax_namo._routing import dimension_numbers as dims


class RecordState(NamedTuple):
  """State of ``record``: trees like the parameters, float32 or wider.

  Flax's boxes around parameters are left out: they name the axes of another
  shape.

  Norms and errors have the shape ``batch`` of a leaf's matrices, () for one
  matrix. Scales have ``batch`` and then the matrix's axes, of size 1 where they
  share a scale. In the place of a leaf that ``SplitMatrices`` describes there
  is a dict of its parts, ``'[0]', '[1]', ...``.
  """

  unclamped_scale: optax.Updates  # as adaptive_momentum made it.
  scale: optax.Updates  # as the stages before record left it.
  gradient_norm: optax.Updates
  momentum_norm: optax.Updates
  update_rms: optax.Updates
  orthogonality_error: optax.Updates | None = None  # Unless asked for.


def record(
  columns: axes.Columns | None = None,
  *,
  orthogonality: bool = False,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
  shard_over: sharding.MeshAxes | None = None,
) -> optax.GradientTransformation:
  r"""Keeps what ``diagnostics`` reads; changes nothing.

  It belongs right before ``apply_scale``, once in a chain. There it sees the
  update that leaves, with the shape scale and the adaptive decay but without
  what comes later (decoupled decay, learning rate):

  .. math:: rms = \|D\, diag(d)\|_F / \sqrt{m n}

  It costs a pass over gradients, momentum and directions a step, and keeps two
  scales and three numbers for each matrix. ``orthogonality`` costs a product
  :math:`O O^T` for each matrix, and keeps a fourth number.

  Args:
    columns: As in the chain's ``adaptive_momentum``.
    orthogonality: Whether to measure how far the polar factors are from
      orthogonal.
    weight_dimension_numbers: As in the chain's ``adaptive_momentum``.
    shard_over: As in the chain's ``orthogonalize``; with ``orthogonality`` the
      factors travel once more.

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
    ...   optax.scale_by_learning_rate(0.035),
    ... )
    >>> params = {'w': jnp.ones((4, 6))}
    >>> _, state = tx.update(params, tx.init(params))
    >>> float(optax_namo.diagnostics(state)['w'].clamped_low)
    0.0

  References:
    Algorithms 1 and 2 of arXiv 2602.17080, whose quantities these are.
  """
  hyperparameters.choice('columns', columns, (None, *get_args(axes.Columns)))
  hyperparameters.flag('orthogonality', orthogonality)
  sharding.check_names(shard_over)

  def init(params):
    matrices, treedef = _factored.matrices_of(
      _precision.widen(params), weight_dimension_numbers
    )

    # Made of the parameters, a record lies where the values of a step will.
    def zeros(zero):
      values = [zero(u, sharding.zeros_like(u.direction)) for u in matrices]
      return _like_parameters(matrices, treedef, values)

    def scales(u, x):
      shared = u.axes.shared(columns)
      return _batch_first(u, jnp.sum(x, shared, keepdims=True))

    norm = lambda u, x: jnp.sum(x, u.axes.matrix)
    return RecordState(
      unclamped_scale=zeros(scales),
      scale=zeros(scales),
      gradient_norm=zeros(norm),
      momentum_norm=zeros(norm),
      update_rms=zeros(norm),
      orthogonality_error=zeros(norm) if orthogonality else None,
    )

  def look(updates):
    matrices, treedef = _factored.flatten(updates)

    def kept(values):
      return _like_parameters(matrices, treedef, values)

    def measured(function, *names):
      return kept([function(u, *_seen(u, names)) for u in matrices])

    return RecordState(
      unclamped_scale=measured(_batch_first, 'unclamped_scale'),
      scale=measured(_batch_first, 'scale'),
      gradient_norm=measured(_norm, 'gradient'),
      momentum_norm=measured(_norm, 'momentum'),
      update_rms=measured(_rms, 'direction', 'scale'),
      orthogonality_error=kept(_orthogonality_errors(matrices, shard_over))
      if orthogonality
      else None,
    )

  def update(updates, state, params=None):
    del params
    if not isinstance(state, RecordState) or orthogonality == (
      state.orthogonality_error is None
    ):
      raise ValueError(
        'record got a state that was made without it. Make one with init, and'
        ' carry moments and counts over: optax.tree.set(tx.init(params),'
        ' count=optax.tree.get(state, "NamoState").count, **{name:'
        ' optax.tree.get(state, name) for name in ("NamoState",'
        ' "ScaleByAdamState")}).'
      )
    treedef: Any
    old, treedef = jax.tree.flatten(state)
    new = jax.tree.leaves(look(updates))
    shapes = [[x.shape for x in leaves] for leaves in (old, new)]
    if shapes[0] != shapes[1]:
      raise ValueError(
        f'record(columns={columns!r}) keeps scales and norms of the shapes'
        f' {shapes[0]}, but those of the chain are {shapes[1]}. Give record the'
        ' columns and the dimension numbers of adaptive_momentum.'
      )
    # Wrappers may box the state otherwise than init did: its leaves count.
    return updates, treedef.unflatten(new)

  return optax.GradientTransformation(init, update)


def _like_parameters(
  matrices: Sequence[_factored.Factored], treedef: Any, values: Sequence[Any]
) -> Any:
  """State in the parameters' structure; parts of a split leaf by number."""
  is_factored = _factored.is_factored
  is_split = lambda x: (
    isinstance(x, tuple)
    and any(is_factored(u) and u.part is not None for u in x)
  )
  leaves, treedef = jax.tree.flatten(
    treedef.unflatten(matrices), is_leaf=lambda x: is_factored(x) or is_split(x)
  )
  ahead = iter(values)
  entries = [
    next(ahead) if is_factored(u) else {f'[{m.part}]': next(ahead) for m in u}
    for u in leaves
  ]
  return trees.unflattener(treedef, boxed=False)(entries)


def _seen(u: _factored.Factored, names: Sequence[str]) -> list[jax.Array]:
  """Fields of an update, or of what earlier stages saw of it."""
  values = []
  for name in names:
    values.append(getattr(u.seen if name in u.seen._fields else u, name))
    if values[-1] is None:
      raise ValueError(
        f'record found no {name}: adaptive_momentum(), and for the polar_factor'
        ' orthogonalize(), belong before it in the chain.'
      )
  return values


def _batch_first(u: _factored.Factored, scale: jax.Array) -> jax.Array:
  return scale.transpose(u.axes.batch + u.axes.matrix)


def _norm(u: _factored.Factored, x: jax.Array) -> jax.Array:
  return jnp.squeeze(norms.norm(x, u.axes.matrix), u.axes.matrix)


def _rms(
  u: _factored.Factored, direction: jax.Array, scale: jax.Array
) -> jax.Array:
  return jnp.sqrt(jnp.mean(jnp.square(direction * scale), u.axes.matrix))


def _orthogonality_errors(
  matrices: Sequence[_factored.Factored], shard_over: sharding.MeshAxes | None
) -> list[jax.Array]:
  """``||O O^T - I||_F / sqrt(m)`` over the smaller side, (batch) of each.

  Whole matrices are needed, as by ``orthogonalize``, and come as they do there.
  """
  factors = [_seen(u, ['polar_factor'])[0] for u in matrices]
  numbers = [u.dimension_numbers for u in matrices]
  errors = spread.map_stacks(_error_of_stack, factors, numbers, shard_over)
  return [jnp.sum(x, u.axes.matrix) for u, x in zip(matrices, errors)]


def _error_of_stack(stack: jax.Array) -> jax.Array:
  """The error of each (m, n) in its first entry: stacks keep their shape."""
  gram = jnp.matmul(stack, stack.mT, precision=jax.lax.Precision.HIGHEST)
  identity = jnp.eye(stack.shape[1], dtype=stack.dtype)[None]
  error = norms.norm(gram - identity, (1, 2)) / math.sqrt(stack.shape[1])
  _, m, n = stack.shape
  return jnp.pad(error, ((0, 0), (0, m - 1), (0, n - 1)))


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

  It is a pure function; it may be jitted, and vmapped over replicas. The state
  may be that of a chain, of ``optax.partition``, ``masked``,
  ``inject_hyperparams``, ``MultiSteps`` or ``apply_if_finite``. It may also be
  anything that contains one: a Flax TrainState, ``nnx.Optimizer.opt_state``, a
  tuple with the parameters.

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
    >>> tx = namo_d(0.035, record=True)
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> told = jax.jit(diagnostics)(state)
    >>> list(told), int(told['dense/kernel'].step)
    (['dense/kernel'], 1)
    >>> round(float(told['dense/kernel'].gradient_norm) ** 2)
    24

  References:
    Algorithms 1 and 2 of arXiv 2602.17080, whose quantities these are.
  """
  kinds = (_momentum.NamoState, RecordState)
  count, told, any_record = None, {}, False
  for node in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds)):
    if isinstance(node, _momentum.NamoState):
      # It comes first in a chain; in an nnx.Optimizer it is a Variable.
      (count,) = jax.tree.leaves(node.count)
    elif isinstance(node, RecordState):
      any_record = True
      fields = [jax.tree_util.tree_leaves_with_path(tree) for tree in node]
      for values in zip(*filter(None, fields)):
        if values[0][1].size:
          name = _name(values[0][0])
          while name in told:  # Two paths may read alike.
            name = f'#{name}'
          kept = RecordState(*(value for _, value in values))
          told[name] = _summary(count, kept)
  if not any_record:
    raise ValueError(
      'there is nothing recorded in this state: make the optimizer with'
      ' namo(..., record=True) or namo_d(..., record=True), or put the stage'
      ' record() before apply_scale() into a chain of your own.'
      ' Of an nnx.Optimizer give the opt_state.'
    )
  return told


def _name(path: tuple[Any, ...]) -> str:
  """The parameter's path; a part's number follows it in brackets."""
  return re.sub(r'/(\[\d+\])$', r'\1', trees.path_string(path))


def _summary(step: Any, kept: RecordState) -> MatrixDiagnostics:
  unclamped, scale = kept.unclamped_scale, kept.scale
  columns = tuple(range(jnp.ndim(kept.gradient_norm), jnp.ndim(scale)))
  return MatrixDiagnostics(
    step=step,
    scale_mean=jnp.mean(scale, columns),
    scale_min=jnp.min(scale, columns),
    scale_max=jnp.max(scale, columns),
    clamped_low=jnp.mean(scale > unclamped, columns),
    clamped_high=jnp.mean(scale < unclamped, columns),
    gradient_norm=kept.gradient_norm,
    momentum_norm=kept.momentum_norm,
    update_rms=kept.update_rms,
    orthogonality_error=kept.orthogonality_error,
  )
