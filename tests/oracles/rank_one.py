# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which axes of a parameter are inputs and outputs, seen in its gradients.

At one position of one example, a product with data is y = W'x for every matrix
W that it uses, and the gradient of any <c, y> is the outer product of x and c.
Along the right axes the gradient of a parameter has rank one, with x as the
factor of its inputs; along others it generally has not. The program is only
evaluated here, with its loops unrolled. Names and rules play no part.
"""

from typing import Any, NamedTuple

import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers

from optax_namo import SplitMatrices
from optax_namo._routing import primitives


class Product(NamedTuple):
  """A product of parameters with data.

  Attributes:
    gradients: Of its output at one position, along random directions, for each
      leaf of the parameters.
    inputs: ``(batch, n)``, what it contracts there.
  """

  gradients: list[np.ndarray]
  inputs: np.ndarray


class _Value(NamedTuple):
  array: jax.Array
  learned: bool = False
  data: bool = False


class _Evaluation:
  """Evaluates a jaxpr, and keeps <c, y> of its products with data."""

  def __init__(self):
    self.outputs, self.inputs = [], []

  def run(self, jaxpr, consts, values):
    known = dict(zip(jaxpr.invars, values))
    for var, const in zip(jaxpr.constvars, consts):
      known[var] = _Value(const, data=jnp.size(const) > 1)

    def read(atom):
      if isinstance(atom, core.Literal):
        return _Value(jnp.asarray(atom.val, jnp.result_type(atom.val)))
      return known[atom]

    for eqn in jaxpr.eqns:
      known.update(
        zip(eqn.outvars, self.step(eqn, list(map(read, eqn.invars))))
      )
    return [read(atom) for atom in jaxpr.outvars]

  def step(self, eqn, values):
    name, params = eqn.primitive.name, eqn.params
    if name == 'scan':
      return self.scan(params, values)
    for inner in params.values():
      consts, jaxpr = (
        getattr(inner, 'consts', ()),
        getattr(inner, 'jaxpr', inner),
      )
      if isinstance(jaxpr, core.Jaxpr) and (
        (len(jaxpr.invars), len(jaxpr.outvars))
        == (len(values), len(eqn.outvars))
      ):
        return self.run(jaxpr, consts, values)
    if name in _PRODUCTS:
      weight = [value.learned and not value.data for value in values]
      for side in (0, 1):
        if weight[side] and values[1 - side].data:
          self.product(eqn, values, side)
    out = eqn.primitive.bind(*(value.array for value in values), **params)
    learned = any(value.learned for value in values)
    data = any(value.data for value in values)
    outs = out if eqn.primitive.multiple_results else [out]
    return [_Value(array, learned, data) for array in outs]

  def scan(self, params, values):
    consts, carried = primitives.constants_and_carry(params)
    consts, rest = values[:consts], values[consts:]
    carry, xs = rest[:carried], rest[carried:]
    body, steps = params['jaxpr'], range(params['length'])
    rows = []
    for i in reversed(steps) if params['reverse'] else steps:
      slices = [x._replace(array=x.array[i]) for x in xs]
      outs = self.run(body.jaxpr, body.consts, [*consts, *carry, *slices])
      carry, ys = outs[:carried], outs[carried:]
      rows.append(ys)
    rows = rows[::-1] if params['reverse'] else rows
    stacked = [
      _Value(
        jnp.stack([y.array for y in ys]),
        any(y.learned for y in ys),
        any(y.data for y in ys),
      )
      for ys in zip(*rows)
    ]
    return [*carry, *stacked]

  def product(self, eqn, values, side):
    """At one position: all outputs that are the parameter's, at random."""
    operands = [jax.lax.stop_gradient(value.array) for value in values]
    one_position, inputs = _PRODUCTS[eqn.primitive.name](eqn, side, operands)
    self.inputs.append(inputs)

    def output(weight):
      arrays = [*operands[:side], weight, *operands[side + 1 :]]
      return eqn.primitive.bind(*arrays, **eqn.params)

    y = output(values[side].array)
    rng = np.random.default_rng(len(self.inputs))
    c = np.zeros(y.shape, y.dtype)
    c[one_position] = rng.normal(size=y.shape)[one_position]
    self.outputs.append(jnp.sum(c * y))


def _dot(eqn, side, operands):
  """One position, and the rows that are contracted there."""
  dot = eqn.params.get('ragged_dot_dimension_numbers')
  contract, batch = (
    dot.dot_dimension_numbers if dot else eqn.params['dimension_numbers']
  )
  x = eqn.invars[1 - side].aval
  free = [
    axis
    for axis in range(x.ndim)
    if axis not in contract[1 - side] and axis not in batch[1 - side]
  ]
  at = [x.shape[axis] // 2 for axis in free]
  w_free = eqn.outvars[0].aval.ndim - len(batch[0]) - len(free)
  skipped = (slice(None),) * (w_free if side == 0 else 0)
  everywhere = (slice(None),) * len(batch[0])
  order = (*batch[1 - side], *free, *contract[1 - side])
  rows = jnp.moveaxis(operands[1 - side], order, range(x.ndim))
  rows = rows[everywhere + tuple(at)]
  width = [x.shape[axis] for axis in contract[1 - side]]
  position = everywhere + skipped + tuple(at)
  return position, rows.reshape(-1, int(np.prod(width)))


def _conv(eqn, side, operands):
  """One position, and the patch that is convolved there, for each group."""
  assert side == 1
  params, kernel = eqn.params, eqn.invars[1].aval
  numbers, out = params['dimension_numbers'], eqn.outvars[0].aval
  groups = params['feature_group_count'] * params['batch_group_count']
  position: list[Any] = [slice(None)] * out.ndim
  position[numbers.out_spec[0]] = 0
  for axis in numbers.out_spec[2:]:
    position[axis] = out.shape[axis] // 2
  per_group = kernel.shape[numbers.rhs_spec[0]] // groups

  image, weight = operands
  _, pull = jax.vjp(lambda w: eqn.primitive.bind(image, w, **params), weight)
  rows = []
  for channel in range(0, groups * per_group, per_group):
    where = list(position)
    where[numbers.out_spec[1]] = channel
    one = np.zeros(out.shape, out.dtype)
    one[tuple(where)] = 1
    (patch,) = pull(jnp.asarray(one))
    rows.append(jnp.take(patch, channel, numbers.rhs_spec[0]).ravel())
  return tuple(position), jnp.stack(rows)


_PRODUCTS = {
  'dot_general': _dot,
  'ragged_dot_general': _dot,
  'conv_general_dilated': _conv,
}


def products(function: Any, params: Any, *args: Any) -> list[Product]:
  """The products of a program, in its order, loops unrolled."""
  closed = jax.make_jaxpr(function)(params, *args)
  leaves = jax.tree.leaves(params)
  data = [_Value(x, data=True) for x in jax.tree.leaves(args)]

  @jax.jit
  def all_of_them(leaves):
    def evaluated(leaves):
      evaluation = _Evaluation()
      values = [_Value(leaf, learned=True) for leaf in leaves] + data
      evaluation.run(closed.jaxpr, closed.consts, values)
      return jnp.stack(evaluation.outputs), evaluation.inputs

    outputs, pull, inputs = jax.vjp(evaluated, leaves, has_aux=True)
    (gradients,) = jax.lax.map(pull, jnp.eye(len(outputs)))
    return gradients, inputs

  gradients, inputs = all_of_them(leaves)
  return [
    Product([np.asarray(g[i]) for g in gradients], np.asarray(inputs[i]))
    for i in range(len(inputs))
  ]


def fault(spec: Any, gradient: np.ndarray, inputs: np.ndarray) -> str:
  """How dimension numbers contradict a gradient; empty if they do not.

  Args:
    spec: The dimension numbers of a leaf.
    gradient: The leaf's, of one product.
    inputs: What that contracts; empty if the leaf is not all of its operand.

  Returns:
    'rank', 'reach' (of an axis that selects, which is a batch) or 'input'.
  """
  parts = [gradient]
  if isinstance(spec, SplitMatrices):
    ends = np.cumsum(spec.sizes)[:-1]
    parts = np.split(gradient, ends, spec.axis)
    spec = spec.dimension_numbers
  assert isinstance(spec, MuonDimensionNumbers)
  named = (*spec.reduction_axis, *spec.output_axis)
  largest = np.abs(gradient).max()
  unit = np.linalg.norm(inputs, axis=-1, keepdims=True)
  rows = np.sort(np.abs(inputs / np.where(unit, unit, 1)), axis=-1)
  for part in parts:
    rest = [axis for axis in range(part.ndim) if axis not in named]
    matrices = np.transpose(part, (*rest, *named)).reshape(
      -1, int(np.prod([part.shape[axis] for axis in spec.reduction_axis])),
      int(np.prod([part.shape[axis] for axis in spec.output_axis])),
    )  # fmt: skip
    for axis in named:
      others = tuple(i for i in range(part.ndim) if i != axis)
      reached = np.count_nonzero(np.abs(part).max(others) > 1e-6 * largest)
      if reached == 1 < part.shape[axis]:
        return 'reach'
    for matrix in matrices:
      u, s, _ = np.linalg.svd(matrix)
      if s[0] <= 1e-6 * largest:
        continue  # A member of the batch that is not reached.
      if len(s) > 1 and s[1] > 1e-4 * s[0]:
        return 'rank'
      factor = np.sort(np.abs(u[:, 0]))
      if inputs.size and not (
        rows.shape[1] == len(factor)
        and np.isclose(rows, factor, atol=1e-3).all(1).any()
      ):
        return 'input'
  return ''
