# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The door: a chain for the matrices, any transformation for the rest.

On the way in, arrays are widened, dimension numbers resolved once on the whole
tree, split leaves cut, and every matrix wrapped as a ``Factored``. On the way
out, groups are merged and updates narrowed to the gradients' dtypes.
"""

from __future__ import annotations  # help() shows names, not unions.

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from optax_namo import _factored
from optax_namo import _precision
from optax_namo._layout import sharding
from optax_namo._layout import trees
from optax_namo._routing import by_name
from optax_namo._routing import dimension_numbers as dims


def routed(
  matrix_chain: optax.GradientTransformation,
  rest: optax.GradientTransformation,
  weight_dimension_numbers: dims.WeightDimensionNumbers = None,
) -> optax.GradientTransformationExtraArgs:
  r"""A chain for the matrices of a model, any transformation for the rest.

  .. math::
    \Theta \mapsto \begin{cases}
      \text{the matrix chain} &
        \text{where } \Theta \text{ has dimension numbers} \\
      \text{the rest} & \text{elsewhere}
    \end{cases}

  It is what ``namo_d`` is made with. The dimension numbers are resolved once a
  call on the whole tree, and reach every stage of the chain with its matrices.
  So ``adaptive_momentum`` and ``record`` take no dimension numbers in it. The
  mask of ``add_adaptive_decay`` is one of the whole tree. Both transformations
  compute in ``promote_types(parameter dtype, float32)``.

  Args:
    matrix_chain: From ``adaptive_momentum`` to ``apply_scale``, and what comes
      after. It sees ``optax.MaskedNode()`` in place of the other leaves.
    rest: The transformation of the other leaves, which sees
      ``optax.MaskedNode()`` in place of the matrices.
    weight_dimension_numbers: As in ``namo_d``; None means
      ``matrix_dimension_numbers``.

  Returns:
    A transformation whose updates have the gradients' shapes and dtypes. Its
    state is that of ``optax.partition`` with the groups ``'namo'`` and
    ``'adamw'``.

  Raises:
    ValueError: Dimension numbers do not fit a leaf, or a gradient has another
      shape than its parameter.
    TypeError: A parameter or a gradient is not real floating, an argument is no
      transformation, or the chain does not end with arrays.

  Examples:
    >>> import jax.numpy as jnp, optax
    >>> import optax_namo
    >>> tx = optax_namo.routed(
    ...   optax.chain(
    ...     optax_namo.adaptive_momentum(),
    ...     optax_namo.orthogonalize(),
    ...     optax_namo.apply_scale(),
    ...     optax.scale_by_learning_rate(0.035),
    ...   ),
    ...   optax.adam(1e-3),
    ... )
    >>> params = {'w': jnp.ones((4, 6)), 'b': jnp.ones(6)}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> updates['w'].shape, updates['b'].shape
    ((4, 6), (6,))

  References:
    Section 4 of arXiv 2602.17080: embeddings, output heads and vectors are
    AdamW's.
  """
  for name, tx in (('matrix_chain', matrix_chain), ('rest', rest)):
    if not (hasattr(tx, 'init') and hasattr(tx, 'update')):
      raise TypeError(
        f'{name} must be an optax transformation, such as optax.adamw(1e-3),'
        f' got {tx!r}.'
      )
  chain = optax.with_extra_args_support(matrix_chain)
  rest = optax.with_extra_args_support(rest)
  if weight_dimension_numbers is None:
    specs_of = by_name.specs_of
  else:
    specs_of = functools.partial(dims.resolve, weight_dimension_numbers)

  def init(params):
    params = _precision.widen(params)
    specs = specs_of(params)
    group = _grouping(params, specs)
    matrices = group(_wrapped, params)
    trees.check_containers(params)
    state = _state(
      _factored.unwrap(chain.init(matrices)), rest.init(group(_other, params))
    )
    return sharding.on_devices_of(state, params)

  def update(updates, state, params=None, **extra_args):
    if set(getattr(state, 'inner_states', ())) != {'namo', 'adamw'}:
      raise ValueError(
        f'this state, a {type(state).__name__}, was not made by routed, namo or'
        ' namo_d. Of another optimizer, such as optax.contrib.muon, keep the'
        ' parameters alone, and make a state with init.'
      )
    params = None if params is None else _precision.widen(params)
    gradients = _precision.widen_gradients(updates, params)
    specs = specs_of(gradients)
    group = _grouping(gradients, specs)
    # A mask of the whole tree, as a group's stage needs it. Around this there
    # may be another routed, whose tree is the whole one.
    whole = extra_args.pop('resolve_mask', None) or functools.partial(
      trees.decay_mask, params=params
    )
    masks = lambda entry: lambda mask: group(entry, whole(mask))

    try:
      matrices, of_matrices = chain.update(
        group(_wrapped, gradients),
        state.inner_states['namo'].inner_state,
        group(_matrix, params),
        resolve_mask=masks(_each_part),
        **extra_args,
      )
    except (AttributeError, ValueError) as error:
      if 'Factored' in str(error) and 'type' in str(error):  # Of a node.
        raise TypeError(_factored.MISPLACED) from error
      # A chain of another length; no mask, or one, of a decoupled decay.
      if 'same in chain' in str(error) or "'inner_state'" in str(error):
        raise ValueError(
          'this state was made by a chain of other stages, as namo and namo_d'
          ' have them: make one with init. Only the ScaleByAdamState goes over.'
        ) from error
      raise
    others, of_others = rest.update(
      group(_other, gradients),
      state.inner_states['adamw'].inner_state,
      group(_other, params),
      resolve_mask=masks(_other),
      **extra_args,
    )
    new_state = _kept(_state(of_matrices, of_others), state)
    return _merged(updates, params, specs, matrices, others), new_state

  return optax.GradientTransformationExtraArgs(init, update)


def alone(
  chain: optax.GradientTransformation,
  weight_dimension_numbers: dims.WeightDimensionNumbers,
) -> optax.GradientTransformation:
  """The door of a chain for trees whose leaves are all matrices.

  The state is the chain's own.
  """

  def init(params):
    params = _precision.widen(params)
    specs = dims.of_matrices(weight_dimension_numbers, params)
    group = _grouping(params, specs)
    return _factored.unwrap(chain.init(group(_wrapped, params)))

  def update(updates, state, params=None):
    _precision.check_real('gradient', updates)
    specs = dims.of_matrices(weight_dimension_numbers, updates)
    group = _grouping(updates, specs)
    matrices, new_state = chain.update(
      group(_wrapped, updates), state, group(_matrix, params)
    )
    new_state = _kept(new_state, state)
    return _merged(updates, params, specs, matrices), new_state

  return optax.GradientTransformation(init, update)


_MASKED = optax.MaskedNode()


def _matrix(x, spec):
  return _MASKED if spec is None else dims.split(x, spec)


def _wrapped(x, spec):
  return _MASKED if spec is None else _factored.wrap(jnp.asarray(x), spec)


def _each_part(x, spec):
  parts = isinstance(spec, dims.SplitMatrices)
  return _MASKED if spec is None else (x,) * len(spec.sizes) if parts else x


def _other(x, spec):
  return x if spec is None else _MASKED


def _grouping(
  tree: Any, specs: Sequence[dims.Spec]
) -> Callable[[Callable[[Any, dims.Spec], Any], Any], Any]:
  """From an entry for each leaf of a tree like this one to a group's tree."""
  unflatten = trees.unflattener(jax.tree.structure(tree), boxed=True)

  def group(entry, tree):
    if tree is None:
      return None
    return unflatten(map(entry, jax.tree.leaves(tree), specs))

  return group


def _merged(
  updates: Any,
  params: Any,
  specs: Sequence[dims.Spec],
  matrices: Any,
  others: Any = (),
) -> Any:
  """Both groups in one tree, in the gradients' dtypes, where parameters lie."""
  new = iter(jax.tree.leaves(matrices, is_leaf=_factored.is_factored))
  rest = iter(jax.tree.leaves(others))

  def merged(leaf, spec):
    if isinstance(spec, dims.SplitMatrices):
      x = jnp.concatenate([next(new) for _ in spec.sizes], axis=spec.axis)
      x = sharding.as_sharded(x, leaf)
    else:
      x = next(rest if spec is None else new)
    if _factored.is_factored(x):
      raise TypeError(_factored.NOT_APPLIED)
    return x.astype(jnp.result_type(leaf))

  treedef: Any
  leaves, treedef = jax.tree.flatten(updates)
  found = list(map(merged, leaves, specs))
  if params is not None:
    found = sharding.alike(found, jax.tree.leaves(params))
  return treedef.unflatten(found)


def _kept(state: Any, old: Any) -> Any:
  """A new state in the dtypes of the old one, and where that lies.

  A hyperparameter of float64 would widen Adam's moments.
  """
  treedef: Any
  leaves, treedef = jax.tree.flatten(state)
  before = treedef.flatten_up_to(old)
  new = [x.astype(y.dtype) for x, y in zip(leaves, before)]
  return treedef.unflatten(sharding.alike(new, before))


def _state(matrices: Any, others: Any) -> Any:
  """The state of ``optax.partition``, as checkpoints have it."""
  groups = {'namo': matrices, 'adamw': others}
  return optax.transforms.PartitionState(
    {name: optax.MaskedState(state) for name, state in groups.items()}
  )
