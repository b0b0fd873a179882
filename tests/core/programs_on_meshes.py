# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Users' programs on meshes, for programs_on_meshes_test.py; eight devices.

A line of JSON for each finding: what it is of, and the finding.
"""

import functools
import json
import sys

from flax import nnx
import jax
import jax.export
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

from benchmarks import exchanges
import optax_namo

_pure = getattr(nnx, 'as_pure', None) or nnx.pure  # In older Flax.
_TYPES = {'auto': AxisType.Auto, 'explicit': AxisType.Explicit}
_BLOCK = {'up': (16, 32), 'down': (32, 16), 'out': (16, 16)}
_SPECS = {
  'up': P('fsdp', 'tensor'),
  'down': P('tensor', 'fsdp'),
  'out': P('tensor', 'fsdp'),
}


def _mesh(kind, **axes):
  return jax.make_mesh(
    tuple(axes.values()), tuple(axes), axis_types=(_TYPES[kind],) * len(axes)
  )


def _draw(shapes):
  rng = np.random.default_rng(0)
  return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def _placed(mesh, tree, specs):
  return {
    k: jax.device_put(x, NamedSharding(mesh, specs[k])) for k, x in tree.items()
  }


def _error(found, expected):
  error = lambda x, y: float(np.abs(np.asarray(x) - np.asarray(y)).max())
  return max(jax.tree.leaves(jax.tree.map(error, found, expected)))


def _moved(before, after):
  same = lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim)
  return not all(jax.tree.leaves(jax.tree.map(same, before, after)))


def pipeline(kind):
  """Errors in a shard_map over stages, whose leaves other axes divide too."""
  mesh = _mesh(kind, stage=2, fsdp=2, tensor=2)
  params = _draw({'layers': (4, 16, 32), 'bias': (4, 32)})
  specs = {'layers': P('stage', 'fsdp', 'tensor'), 'bias': P('stage', 'tensor')}
  numbers = {'layers': MuonDimensionNumbers(1, 2), 'bias': None}
  over_both = 'fsdp', 'tensor'
  for over, check in ((None, True), (over_both, True), (over_both, False)):
    make = lambda over: optax_namo.namo_d(
      0.1, weight_dimension_numbers=numbers, shard_over=over
    )
    alone, tx = make(None), make(over)
    expected, _ = alone.update(params, alone.init(params), params)
    stages = jax.tree.map(
      lambda x: P('stage') if jnp.ndim(x) else P(),
      jax.eval_shape(tx.init, params),
    )
    with jax.set_mesh(mesh):
      placed = _placed(mesh, params, specs)
      each = {k: P('stage') for k in params}
      step = jax.shard_map(
        lambda p, s, tx=tx: tx.update(p, s, p)[0],
        in_specs=(each, stages),
        out_specs=each,
        axis_names={'stage'},
        check_vma=check,
      )
      yield _error(jax.jit(step)(placed, jax.jit(tx.init)(placed)), expected)


def data_parallel(kind):
  """A step in a shard_map over data: what moved, and how often it compiled."""
  mesh = _mesh(kind, data=2, fsdp=2, tensor=2)
  params = _draw(_BLOCK)
  for over in (None, ('fsdp', 'tensor')):
    tx = optax_namo.namo_d(0.1, shard_over=over)

    def step(carry, tx=tx):
      params, state = carry
      updates, state = tx.update(params, state, params)
      return optax.apply_updates(params, updates), state

    with jax.set_mesh(mesh):
      placed = _placed(mesh, params, _SPECS)
      began = placed, jax.jit(tx.init)(placed)
      jitted = jax.jit(
        jax.shard_map(step, in_specs=P(), out_specs=P(), axis_names={'data'})
      )
      ended = jitted(began)
      jitted(ended)
    yield _moved(began, ended), jitted._cache_size()


def loop(kind):
  """A scan over steps, its carry held in place as docs/devices.md has it."""
  mesh = _mesh(kind, fsdp=4, tensor=2)
  params = _draw(_BLOCK)
  alone = optax_namo.namo_d(0.1)
  tx = optax_namo.namo_d(0.1, shard_over=('fsdp', 'tensor'))

  def run(tx, carry, held=lambda carry: carry):
    def body(carry, _):
      params, state = held(carry)
      updates, state = tx.update(params, state, params)
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(body, carry, length=2)[0]

  expected, _ = run(alone, (params, alone.init(params)))
  with jax.set_mesh(mesh):
    placed = _placed(mesh, params, _SPECS)
    began = placed, jax.jit(tx.init)(placed)
    where = jax.tree.map(lambda x: x.sharding, began)
    held = lambda x: jax.lax.with_sharding_constraint(x, where)
    jitted = jax.jit(lambda carry: run(tx, carry, held))
    ended = jitted(began)
    jitted(ended)
  yield {
    'error': _error(ended[0], expected),
    'moved': _moved(began, ended),
    'compiled': jitted._cache_size(),
  }


def perceptron(kind):
  """What two layers exchange, neither of whose sides is in most leaves."""
  mesh = _mesh(kind, fsdp=4, tensor=2)
  params = _draw({k: _BLOCK[k] for k in ('up', 'down')})
  tx = optax_namo.namo_d(0.1, shard_over=('fsdp', 'tensor'))
  with jax.set_mesh(mesh):
    placed = _placed(mesh, params, _SPECS)
    state = jax.jit(tx.init)(placed)
    program = jax.jit(tx.update).lower(placed, state, placed).compile()
  yield sorted(exchanges.collectives(program.as_text()))


def replicas(kind):
  """Bytes of the results that replicas exchange, fewer than devices."""
  mesh = _mesh(kind, data=4, fsdp=2)
  params = _draw({'layers': (4, 16, 32)})
  tx = optax_namo.namo_d(
    0.1,
    shard_over=('data', 'fsdp'),
    weight_dimension_numbers=MuonDimensionNumbers(1, 2),
  )
  with jax.set_mesh(mesh):
    placed = _placed(mesh, params, {'layers': P(None, None, 'fsdp')})
    state = jax.jit(tx.init)(placed)
    program = jax.jit(tx.update).lower(placed, state, placed).compile()
  yield sum(exchanges.collectives(program.as_text())['all-gather'])


def seeds(kind):
  """Models under vmap, as docs/devices.md has them."""
  mesh = _mesh(kind, seed=2, fsdp=2, tensor=2)
  numbers = {
    'w': MuonDimensionNumbers(0, 1),
    'layers': MuonDimensionNumbers(1, 2),
  }
  make = functools.partial(
    optax_namo.namo_d, 0.1, weight_dimension_numbers=numbers
  )
  alone, tx = make(), make(shard_over=('fsdp', 'tensor'))
  params = _draw({'w': (4, 16, 32), 'layers': (4, 2, 16, 32)})
  specs = {
    'w': P('seed', 'fsdp', 'tensor'),
    'layers': P('seed', None, 'fsdp', 'tensor'),
  }

  def step(params, state, tx=tx):
    updates, state = tx.update(params, state, params)
    return optax.apply_updates(params, updates), state

  each = [jax.tree.map(lambda x, i=i: x[i], params) for i in range(4)]
  expected = [step(p, alone.init(p), alone)[0] for p in each]
  with jax.set_mesh(mesh):
    placed = _placed(mesh, params, specs)
    began = placed, jax.jit(jax.vmap(tx.init))(placed)
    jitted = jax.jit(jax.vmap(step, spmd_axis_name='seed'))
    program = jitted.lower(*began).compile()
    ended = jitted(*began)
    jitted(*ended)
  yield {
    'error': _error(ended[0], jax.tree.map(lambda *x: jnp.stack(x), *expected)),
    'moved': _moved(began, ended),
    'compiled': jitted._cache_size(),
    'kinds': sorted(exchanges.collectives(program.as_text())),
  }


def programs(kind):
  """The texts of one update, made twice; and where two leaves lie after both.

  Both are exported, with leaves of different shapes, and called by a third.
  """
  mesh = _mesh(kind, fsdp=8)
  tx = optax_namo.namo_d(0.1, shard_over='fsdp')
  texts, placed, exported = set(), [], []
  with jax.set_mesh(mesh):
    for shape in ((16, 32), (32, 64)):
      params = _placed(mesh, _draw({'w': shape}), {'w': P('fsdp')})
      placed.append((params, jax.jit(tx.init)(params), params))
    for args in (placed[0], *placed):
      update = jax.jit(lambda *args: tx.update(*args))
      texts.add(update.lower(*placed[0]).as_text())
      exported.append(jax.export.export(update)(*args))
    both = lambda *args: [e.call(*x)[0] for e, x in zip(exported[1:], args)]
    updates = jax.jit(both)(*placed)
  yield len(texts), [list(x['w'].sharding.spec) for x in updates]


def no_context(kind):
  """Where the state lies that ``init`` makes without jit and set_mesh."""
  mesh = _mesh(kind, fsdp=4, tensor=2)
  placed = _placed(mesh, _draw({'w': (16, 32)}), {'w': P('fsdp', 'tensor')})
  state = optax_namo.namo_d(0.1).init(placed)
  yield list(optax.tree.get(state, 'NamoState').mu['w'].sharding.spec)


def two_optimizers(kind):
  """What moves where two of one program have leaves of one shape."""
  mesh = _mesh(kind, fsdp=8)
  tx = optax_namo.namo_d(0.1, shard_over='fsdp')

  def step(models):
    updated = []
    for params, state in models:
      updates, state = tx.update(params, state, params)
      updated.append((optax.apply_updates(params, updates), state))
    return updated

  with jax.set_mesh(mesh):
    placed = [
      _placed(mesh, _draw({'w': (16, 32)}), {'w': spec})
      for spec in (P('fsdp', None), P(None, 'fsdp'))
    ]
    began = [(params, jax.jit(tx.init)(params)) for params in placed]
    jitted = jax.jit(step)
    ended = jitted(began)
    jitted(ended)
  yield _moved(began, ended), jitted._cache_size()


def described(kind):
  """An nnx.Optimizer on a layout that is told, as docs/devices.md has it."""
  mesh = _mesh(kind, fsdp=4, tensor=2)

  class Perceptron(nnx.Module):
    def __init__(self):
      self.up = nnx.Linear(16, 32, rngs=nnx.Rngs(0))
      self.down = nnx.Linear(32, 16, rngs=nnx.Rngs(1))

    def __call__(self, x):
      return x + self.down(jnp.tanh(self.up(x)))

  @nnx.jit
  def step(model, optimizer, x):
    loss = lambda model: jnp.mean(jnp.square(model(x)))
    optimizer.update(model, nnx.grad(loss)(model))

  def trained(model, tx):
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    for _ in range(3):
      step(model, optimizer, np.ones((8, 16), np.float32))
    return _pure(nnx.state(model, nnx.Param))

  expected = trained(Perceptron(), optax_namo.namo_d(0.01))
  model = Perceptron()
  place = lambda x: jax.device_put(
    x, NamedSharding(mesh, P('tensor', 'fsdp') if x.ndim == 2 else P())
  )
  began = jax.tree.map(place, _pure(nnx.state(model, nnx.Param)))
  nnx.update(model, began)
  tx = optax_namo.namo_d(0.01, shard_over=('fsdp', 'tensor'))
  with jax.set_mesh(mesh):
    where = jax.tree.map(
      lambda x: x.sharding.spec, (began, jax.jit(tx.init)(began), began)
    )
    update = jax.sharding.explicit_axes(tx.update, in_sharding=where)
    ended = trained(model, optax.GradientTransformation(tx.init, update))
  yield {'error': _error(ended, expected), 'moved': _moved(began, ended)}


if __name__ == '__main__':
  for experiment in sys.argv[1:]:
    name, kind = experiment.split()
    for finding in globals()[name](kind):
      print(json.dumps([experiment, finding]), flush=True)
