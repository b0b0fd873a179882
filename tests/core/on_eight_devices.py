# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What sharding_test.py looks at, in a process of eight host devices.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
      python -m tests.core.on_eight_devices 'layouts auto' 'recorded explicit'

prints a line of JSON for each finding: what it is of, and the finding.
"""

import functools
import itertools
import json
import re
import sys
from unittest import mock

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

from benchmarks import exchanges
from benchmarks import steps
import optax_namo
from optax_namo._layout import axes
from optax_namo._layout import sharding
from optax_namo._layout import spread
from optax_namo._layout import stacking

_TYPES = {'auto': AxisType.Auto, 'explicit': AxisType.Explicit}
_SHAPES = {
  # Matrices of one shape up to transposition, which do not divide; stacked
  # layers, a kernel of a convolution, and leaves for AdamW.
  'layer_0': (16, 32),
  'tall': (32, 16),
  'square': (16, 16),
  'stacked': (8, 16, 32),
  'conv': (2, 2, 8, 16),
  'wte': (8, 16),
  'bias': (16,),
}
_NUMBERS = {
  name: MuonDimensionNumbers(0, 1) if len(shape) == 2 else None
  for name, shape in _SHAPES.items()
} | {
  'stacked': MuonDimensionNumbers(1, 2),
  'conv': MuonDimensionNumbers((0, 1, 2), 3),
  'wte': None,
}


def _on(axes, position):
  """Shards an axis of every leaf that has it and can be divided."""

  def spec(shape):
    names = [None] * len(shape)
    if len(shape) > 1 and shape[position] % 8 == 0:
      names[position] = axes
    return P(*names)

  return spec


def _both(shape):
  """Two axes of every matrix over two mesh axes."""
  rest = [None] * (len(shape) - 2)
  return P(*rest, 'data', 'fsdp') if len(shape) > 1 else P(None)


# Name: mesh, shard_over, the parameters' layout, the gradients'.
LAYOUTS = {
  'replicated': ((8,), 'fsdp', lambda s: P(*[None] * len(s)), None),
  'first axis': ((8,), 'fsdp', _on('fsdp', 0), None),
  'last axis': ((8,), 'fsdp', _on('fsdp', -1), None),
  'gradients otherwise': ((8,), 'fsdp', _on('fsdp', 0), _on('fsdp', -1)),
  'two axes': ((4, 2), 'fsdp', _both, None),
  'two axes, over both': ((4, 2), ('data', 'fsdp'), _both, None),
  'replicas share': ((4, 2), ('data', 'fsdp'), _on('fsdp', -1), None),
  'not spread': ((4, 2), None, _both, None),
}


def _mesh(kind, shape):
  names = ('data', 'fsdp')[-len(shape) :]
  return jax.make_mesh(shape, names, axis_types=(_TYPES[kind],) * len(shape))


def _spelled(kind, spec):
  """As a step's results spell it, else JAX takes it for another layout."""
  names = list(spec)
  while kind == 'auto' and names and names[-1] is None:
    names.pop()
  return P(*names)


def _draw(seed):
  rng = np.random.default_rng(seed)
  draw = lambda shape: rng.normal(size=shape).astype(np.float32)
  return {name: draw(shape) for name, shape in _SHAPES.items()}


def _ten_steps(tx, place, place_gradients):
  """The parameters, the state before and after, and how often it compiled."""
  params = place(_draw(0))
  state = first = jax.jit(tx.init)(params)

  @jax.jit
  def step(params, state, gradients):
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, updates

  for i in range(10):
    params, state, updates = step(params, state, place_gradients(_draw(i + 1)))
  return params, first, state, updates, step._cache_size()


@functools.partial(jax.jit, static_argnums=0)
def _first_update(tx, gradients):
  updates, _ = tx.update(gradients, tx.init(gradients), gradients)
  return updates


def layouts(kind):
  """Ten steps in every layout beside ten on one device."""
  for optimizer in (optax_namo.namo, optax_namo.namo_d):
    make = functools.partial(optimizer, 0.1, weight_dimension_numbers=_NUMBERS)
    expected, *_ = _ten_steps(make(), jax.device_put, jax.device_put)
    for name, (shape, over, layout, of_gradients) in LAYOUTS.items():
      mesh = _mesh(kind, shape)

      def place(tree, layout=layout, mesh=mesh):
        return {
          k: jax.device_put(
            x, NamedSharding(mesh, _spelled(kind, layout(x.shape)))
          )
          for k, x in tree.items()
        }

      with jax.set_mesh(mesh):
        params, first, last, updates, compiled = _ten_steps(
          make(shard_over=over),
          place,
          functools.partial(place, layout=of_gradients or layout),
        )
      same = lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim)
      error = lambda a, b: np.linalg.norm(a - b) / np.linalg.norm(b)
      began = place(_draw(0))
      yield {
        'name': f'{optimizer.__name__}, {name}',
        'error': max(
          float(error(np.asarray(x), np.asarray(y)))
          for x, y in zip(params.values(), expected.values())
        ),
        'moved state': [
          jax.tree_util.keystr(path)
          for (path, x), y in zip(
            jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(last)
          )
          if not same(x, y)
        ],
        'moved updates': [
          k for k, x in updates.items() if not same(x, began[k])
        ],
        'compiled': compiled,
      }


def shard_map(kind):
  """The errors inside a shard_map that is manual over another axis."""
  mesh = _mesh(kind, (2, 4))
  params = {k: _draw(0)[k] for k in ('layer_0', 'tall')}
  tx = optax_namo.namo_d(0.1)
  expected = _first_update(tx, params)
  for over in (None, 'fsdp', 'data'):
    tx = optax_namo.namo_d(0.1, shard_over=over)
    with jax.set_mesh(mesh):
      placed = jax.device_put(params, NamedSharding(mesh, P('fsdp', None)))
      step = jax.shard_map(
        lambda p, s, tx=tx: tx.update(p, s, p)[0],
        in_specs=P(),
        out_specs=P(),
        axis_names={'data'},
      )
      try:
        found = jax.jit(step)(placed, jax.jit(tx.init)(placed))
        line = max(float(abs(found[k] - expected[k]).max()) for k in params)
      except ValueError as error:
        line = str(error)
    yield line


def _figures(kind, layers):
  """FLOPs and collectives of a step on eight devices, by optimizer.

  The devices divide the inputs; on Auto axes the model's width.
  """
  mesh = jax.make_mesh((8,), ('fsdp',), axis_types=(_TYPES[kind],))

  def place(x):
    inputs = kind == 'explicit' or x.shape[0] == 384
    spec = P('fsdp', None) if inputs else P(None, 'fsdp')
    sharding = NamedSharding(mesh, spec)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  params = jax.tree.map(place, steps.parameters(layers, 384, 0, 0))
  optimizers = {
    'namo_d': optax_namo.namo_d(0.01, shard_over='fsdp'),
    'namo': optax_namo.namo(0.01, shard_over='fsdp'),
  }
  if kind == 'auto':  # On Explicit axes it raises ShardingTypeError.
    optimizers['optax.contrib.muon'] = optax.contrib.muon(0.01)
  rows = {}
  for name, tx in optimizers.items():
    with steps.unrolled(), jax.set_mesh(mesh):
      shardings = jax.jit(tx.init).lower(params).compile().output_shardings
      state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        shardings,
      )
      step = jax.jit(functools.partial(steps.step, tx))
      program = step.lower(params, state, params).compile()
    rows[name] = {
      'flops': program.cost_analysis()['flops'],
      'collectives': exchanges.collectives(program.as_text()),
    }
  return rows


def cost(kind):
  """FLOPs and collectives of eight layers."""
  yield _figures(kind, 8)


def uneven(kind):
  """The same of five layers, which eight devices do not divide."""
  yield _figures(kind, 5)


def _there_and_back(function, leaves, numbers, over):
  """A function of stacks, with its results where the leaves lie."""
  results = spread.map_stacks(function, leaves, numbers, over)
  return sharding.alike(results, leaves)


_SIDES = ((16, 32), (32, 16), (16, 16), (2, 8, 32))


def _drawn_leaf(rng, mesh):
  """A leaf; each axis of the mesh divides an axis of its matrices."""
  batch = ((), (8,), (3,), (5, 2))[rng.integers(4)]
  sides = _SIDES[rng.integers(len(_SIDES))]
  n, shape = len(batch), batch + sides
  *inputs, output = range(n, len(shape))
  left, spec = list(shape), [() for _ in shape]
  for name in rng.permutation(mesh.axis_names):
    can = [i for i in (*inputs, output) if left[i] % mesh.shape[name] == 0]
    axis = can[rng.integers(len(can))]
    left[axis] //= mesh.shape[name]
    spec[axis] += (str(name),)
  x = rng.normal(size=shape).astype(np.float32)
  where = NamedSharding(mesh, P(*(names or None for names in spec)))
  numbers = MuonDimensionNumbers(tuple(inputs), (output,))
  return jax.device_put(x, where), numbers


def drawn(kind):
  """Trees, layouts and meshes that are drawn: results, what is exchanged.

  On Auto axes nobody knows a layout, or is told it by ``explicit_axes``.
  """
  rng = np.random.default_rng(0)
  cubed = lambda x: x @ x.mT @ x
  for shape in ((8,), (2, 4), (4, 2), (2, 2, 2)) * 2:
    names = ('expert', 'fsdp', 'tensor')[-len(shape) :]
    types = [_TYPES.get(kind, AxisType.Auto)]
    if kind == 'mixed':
      types = list(_TYPES.values())
    types = tuple(itertools.islice(itertools.cycle(types), len(shape)))
    mesh = jax.make_mesh(shape, names, axis_types=types)
    leaves, numbers = zip(*(_drawn_leaf(rng, mesh) for _ in range(6)))
    expected = stacking.map_stacks(
      cubed, list(map(np.asarray, leaves)), numbers
    )
    over = names if len(names) > 1 else names[0]
    spread_over = functools.partial(
      _there_and_back, cubed, numbers=numbers, over=over
    )
    if kind == 'told':
      spread_over = jax.sharding.explicit_axes(
        spread_over, in_sharding=([x.sharding.spec for x in leaves],)
      )
      leaves = list(leaves)
    with jax.set_mesh(mesh):
      program = jax.jit(spread_over).lower(leaves).compile()
      found = program(leaves)
    counts = {}
    for x, n in zip(leaves, numbers):
      batch, *sides = axes.matrix_shape(n, x.shape)
      key = tuple(sorted(sides))
      counts[key] = counts.get(key, 0) + batch
    error = lambda x, y: float(
      np.abs(np.asarray(x) - y).max() / np.abs(y).max()
    )
    yield {
      'axes': len(shape),
      'error': max(map(error, found, expected)),
      'moved': [
        str(x.sharding.spec)
        for x, y in zip(leaves, found)
        if not x.sharding.is_equivalent_to(y.sharding, x.ndim)
      ],
      'collectives': exchanges.collectives(program.as_text()),
      'bound': sum(2 * 4 * m * n * -(-k // 8) for (m, n), k in counts.items()),
    }


def in_rounds(kind):
  """The same where a device has one matrix at a time."""
  with mock.patch.object(stacking, 'most_matrices', lambda entries: 1):
    yield from drawn(kind)


def thirds(kind):
  """What is exchanged of three kernels of 32 layers, and the least."""
  cubed = lambda x: x @ x.mT @ x
  numbers = [MuonDimensionNumbers((1,), (2,))] * 3
  travel = lambda x: _there_and_back(cubed, x, numbers, 'fsdp')
  mesh = _mesh(kind, (8,))
  sharding = NamedSharding(mesh, P(None, 'fsdp'))
  leaves = [
    jax.ShapeDtypeStruct((32, 16, 24), 'float32', sharding=sharding)
  ] * 3
  with (
    mock.patch.object(stacking, 'most_matrices', lambda entries: 1),
    jax.set_mesh(mesh),
  ):
    program = jax.jit(travel).lower(leaves).compile()
  yield {
    'collectives': exchanges.collectives(program.as_text()),
    'bound': 2 * 4 * 3 * 32 * 16 * 24 // 8,
  }


def few_bits(kind):
  """With products in bfloat16: the error, and the dtypes of the exchanges."""
  function = functools.partial(optax_namo.newton_schulz, dtype=jnp.bfloat16)
  x, numbers = _draw(0)['stacked'], MuonDimensionNumbers((1,), (2,))
  travel = lambda x: _there_and_back(function, [x], [numbers], 'fsdp')[0]
  mesh = _mesh(kind, (8,))
  with jax.set_mesh(mesh):
    placed = jax.device_put(x, NamedSharding(mesh, P(None, 'fsdp')))
    found = np.asarray(jax.jit(travel)(placed))
    program = str(jax.make_jaxpr(travel)(placed))
  yield {
    'error': float(np.abs(found - function(x)).max()),
    'exchanged': re.findall(r':(\w+)\[[^\]]*\] = all_to_all', program),
  }


def placed(kind):
  """Leaves of one shape, each with a layout of its own: what left its place."""
  names = ('fsdp', 'tensor')
  types = list(_TYPES.values()) if kind == 'mixed' else [_TYPES[kind]] * 2
  mesh = jax.make_mesh((4, 2), names, axis_types=tuple(types))
  specs = (P(None, *names), P(None, names), P(None, None, names))
  # The type of a dimension over both kinds of axes closes it to the Auto one.
  specs = specs[:1] if kind == 'mixed' else specs
  w = np.random.default_rng(0).normal(size=(4, 16, 16)).astype(np.float32)
  params = [jax.device_put(w, NamedSharding(mesh, spec)) for spec in specs]
  tx = optax_namo.scale_by_namo_d(
    shard_over=names,
    weight_dimension_numbers=MuonDimensionNumbers((1,), (2,)),
  )
  with jax.set_mesh(mesh):
    state = jax.jit(tx.init)(params)
    program = jax.jit(tx.update).lower(params, state, params).compile()
    updates, after = program(params, state, params)
  mu = lambda state: optax.tree.get(state, 'NamoState').mu
  for what in (mu(state), mu(after), updates):
    yield [
      str(p.sharding.spec)
      for x, p in zip(jax.tree.leaves(what), params)
      if not x.sharding.is_equivalent_to(p.sharding, 3)
    ]
  yield sorted(set(exchanges.collectives(program.as_text())) - {'all-reduce'})


def roles(kind):
  """What experts exchange where the last axis is Explicit, and the least."""
  del kind
  names = ('expert', 'fsdp', 'tensor')
  types = (AxisType.Auto, AxisType.Auto, AxisType.Explicit)
  mesh = jax.make_mesh((2, 2, 2), names, axis_types=types)
  x = jax.ShapeDtypeStruct(
    (8, 16, 32), 'float32', sharding=NamedSharding(mesh, P(*names))
  )
  cubed = lambda x: x @ x.mT @ x
  numbers = [MuonDimensionNumbers((1,), (2,))]
  travel = lambda x: _there_and_back(cubed, [x], numbers, names)
  with jax.set_mesh(mesh):
    program = jax.jit(travel).lower(x).compile()
  yield {
    'collectives': exchanges.collectives(program.as_text()),
    'bound': 2 * x.size * 4 // mesh.size,
  }


def stays(kind):
  """What leaves its place in three steps of a mixture of experts.

  First the momentum lies where init leaves it. On Auto axes it then lies over
  the experts' devices too, which have the same other parameters.
  """
  names = ('expert', 'fsdp', 'tensor')
  mesh = jax.make_mesh((2, 2, 2), names, axis_types=(_TYPES[kind],) * 3)
  shared, apart = P(None, 'fsdp', 'tensor'), P('expert', 'fsdp', 'tensor')
  specs = {
    'query': ((4, 16, 16), shared),
    'out': ((4, 16, 16), P(None, 'tensor', 'fsdp')),
    'up': ((4, 2, 16, 32), P(None, *apart)),
  }
  rng = np.random.default_rng(0)
  params = {
    k: jax.device_put(
      rng.normal(size=shape).astype(np.float32), NamedSharding(mesh, spec)
    )
    for k, (shape, spec) in specs.items()
  }
  numbers = {
    k: MuonDimensionNumbers((x.ndim - 2,), (x.ndim - 1,))
    for k, x in params.items()
  }
  tx = optax_namo.namo_d(
    0.1, shard_over=names, weight_dimension_numbers=numbers
  )

  @jax.jit
  def step(params, state):
    updates, state = tx.update(params, state, params)
    return optax.apply_updates(params, updates), state

  def elsewhere(x):
    over_all = kind == 'auto' and x.shape == (4, 16, 16)
    return jax.device_put(x, NamedSharding(mesh, apart)) if over_all else x

  with jax.set_mesh(mesh):
    state = jax.jit(tx.init)(params)
    for began in (state, jax.tree.map(elsewhere, state)):
      carry = params, began
      for _ in range(3):
        carry = step(*carry)
      yield [
        jax.tree_util.keystr(path)
        for (path, x), y in zip(
          jax.tree_util.tree_leaves_with_path((params, began)),
          jax.tree.leaves(carry),
        )
        if not x.sharding.is_equivalent_to(y.sharding, x.ndim)
      ]
  yield step._cache_size()


def vmapped(kind):
  """The error of updates of several models, which lie over an axis."""
  mesh = jax.make_mesh(
    (2, 4), ('models', 'fsdp'), axis_types=(_TYPES[kind],) * 2
  )
  w = np.random.default_rng(0).normal(size=(4, 16, 24)).astype(np.float32)
  for over in (None, 'fsdp'):
    tx = optax_namo.namo_d(0.1, shard_over=over)
    update = functools.partial(_first_update, tx)
    expected = np.stack([_first_update(optax_namo.namo_d(0.1), g) for g in w])
    with jax.set_mesh(mesh):
      placed = jax.device_put(w, NamedSharding(mesh, P('models', None, 'fsdp')))
      found = jax.jit(jax.vmap(update))(placed)
    yield float(np.abs(np.asarray(found) - expected).max())


def recorded(kind):
  """What record() keeps on one device, sharded, and spread.

  And what the last gathers: no matrix, also for the orthogonality error.
  """
  mesh = _mesh(kind, (8,))
  sharding = NamedSharding(mesh, P(None, 'fsdp'))
  params = {k: _draw(0)[k] for k in ('layer_0', 'tall')}
  optimizer = functools.partial(
    optax_namo.namo_d,
    0.1,
    record='orthogonality',
    weight_dimension_numbers={k: _NUMBERS[k] for k in params},
  )

  def look(params, tx):
    @jax.jit
    def step(params, state):
      _, state = tx.update(params, state, params)
      return optax_namo.diagnostics(state)

    program = step.lower(params, state := tx.init(params)).compile()
    told = jax.tree.leaves(program(params, state))
    exchanged = exchanges.collectives(program.as_text())
    return [float(x) for x in told], exchanged.get('all-gather', [])

  yield look(params, optimizer())
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, sharding)
    yield look(placed, optimizer())
    yield look(placed, optimizer(shard_over='fsdp'))


def compiled(kind):
  """How often a step that keeps a record is compiled, by where init ran."""
  mesh = _mesh(kind, (8,))
  with jax.set_mesh(mesh):
    names = ('layer_0', 'tall', 'stacked', 'bias')
    params = {k: _draw(0)[k] for k in names}
    numbers = {k: _NUMBERS[k] for k in names}
    first = lambda x: _spelled(kind, P('fsdp', *(None,) * (x.ndim - 1)))
    params = jax.tree.map(
      lambda x: jax.device_put(x, NamedSharding(mesh, first(x))), params
    )
    tx = optax_namo.namo_d(
      0.1, record='orthogonality', weight_dimension_numbers=numbers
    )
    for init in (tx.init, jax.jit(tx.init)):
      state = init(params)
      step = jax.jit(lambda g, s, p: tx.update(g, s, p))
      for _ in range(3):
        _, state = step(params, state, params)
      yield step._cache_size()
    # Nor is an update without jit compiled anew: 1 and what the second added.
    params = params['layer_0']
    tx = optax_namo.namo_d(
      0.1, shard_over='fsdp', weight_dimension_numbers=_NUMBERS['layer_0']
    )
    _, state = tx.update(params, tx.init(params), params)
    before = spread._spread._cache_size()
    tx.update(params, state, params)
    yield 1 + spread._spread._cache_size() - before


def init_in_shard_map(kind):
  """Counts, where the smallest leaf is divided: they must not vary."""
  mesh = _mesh(kind, (8,))
  params = {k: _draw(0)[k] for k in ('layer_0', 'bias')}
  tx = optax_namo.namo_d(0.1)

  def counts(params):
    state = tx.init(params)
    return [optax.tree.get(state, name).count for name in _STATES]

  yield [
    int(x)
    for x in jax.jit(
      jax.shard_map(
        counts,
        mesh=mesh,
        in_specs=({'layer_0': P(), 'bias': P('fsdp')},),
        out_specs=P(),
      )
    )(params)
  ]


_STATES = ('NamoState', 'ScaleByAdamState')


def parts(kind):
  """Parts of a divided leaf that the mesh does and does not divide."""
  mesh = _mesh(kind, (8,))
  w = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
  for sizes in ((8, 8, 8), (16, 4, 4), (5, 19)):
    tx = optax_namo.namo_d(
      0.1,
      weight_dimension_numbers=optax_namo.SplitMatrices(
        MuonDimensionNumbers(0, 1), 1, sizes
      ),
    )
    alone = _first_update(tx, w)
    with jax.set_mesh(mesh):
      placed = jax.device_put(w, NamedSharding(mesh, P(None, 'fsdp')))
      state = jax.jit(tx.init)(placed)
      updates, _ = jax.jit(tx.update)(placed, state, placed)
    error = float(np.abs(np.asarray(updates) - np.asarray(alone)).max())
    momenta = jax.tree.leaves(optax.tree.get(state, 'NamoState').mu)
    yield (
      error,
      updates.sharding.is_equivalent_to(placed.sharding, 2),
      [x.sharding.is_equivalent_to(placed.sharding, 2) for x in momenta],
    )


def mixed(kind):
  """A dimension over an Auto and an Explicit axis, ``init`` outside of jit."""
  del kind
  mesh = jax.make_mesh((4, 2), ('a', 'e'), axis_types=tuple(_TYPES.values()))
  w = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
  tx = optax_namo.namo_d(0.1)
  alone = _first_update(tx, w)
  with jax.set_mesh(mesh):
    placed = jax.device_put(w, NamedSharding(mesh, P(('a', 'e'), None)))
    updates, _ = jax.jit(tx.update)(placed, tx.init(placed), placed)
  yield float(np.abs(np.asarray(updates) - np.asarray(alone)).max())


if __name__ == '__main__':
  for experiment in sys.argv[1:]:
    name, kind = experiment.split()
    for finding in globals()[name](kind):
      print(json.dumps([experiment, finding]), flush=True)
