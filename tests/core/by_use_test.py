# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Dimension numbers read off programs, against expectation and the oracle."""

import functools
import re

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from optax.contrib import MuonDimensionNumbers
import pytest

import optax_namo
from optax_namo._layout import trees
from tests.core import by_use_random
from tests.core.by_use_models import PROGRAMS
from tests.core.by_use_programs import UNMAPPED
from tests.helpers import run
from tests.oracles import rank_one

pytestmark = pytest.mark.filterwarnings('error::UserWarning')


def _by_path(params, numbers):
  paths = [
    trees.path_string(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(params)
  ]
  specs = jax.tree.structure(params).flatten_up_to(numbers)
  return dict(zip(paths, specs))


def _read(program, **options):
  numbers = optax_namo.dimension_numbers_by_use(
    program.function, program.params, *program.args, **options
  )
  return _by_path(program.params, numbers)


def _matrices(program, **options):
  return {
    path: tuple(spec) if isinstance(spec, MuonDimensionNumbers) else spec
    for path, spec in _read(program, **options).items()
    if spec is not None
  }


@pytest.mark.parametrize('name', PROGRAMS)
def test_matrices(name):
  program = PROGRAMS[name]()
  if name not in UNMAPPED:  # Shapes suffice.
    params, args = jax.eval_shape(lambda: (program.params, program.args))
    program = program._replace(params=params, args=args)
  assert _matrices(program) == program.matrices


@functools.cache
def _products(name):
  """What the oracle evaluates, compiled once for all that is asked of it."""
  program = PROGRAMS[name]()
  return rank_one.products(program.function, program.params, *program.args)


@pytest.mark.parametrize('name', [p for p in PROGRAMS if p not in UNMAPPED])
def test_gradients_have_rank_one(name):
  program = PROGRAMS[name]()
  products = _products(name)
  checked = set()
  for leaf, (path, spec) in enumerate(_read(program).items()):
    if spec is None or path in program.skipped:
      continue
    for product in products:
      if product.gradients[leaf].any():
        inputs = product.inputs if program.factor else np.zeros((0, 0))
        assert not rank_one.fault(spec, product.gradients[leaf], inputs), path
        checked.add(path)
  assert checked == set(program.matrices) - set(program.skipped)


@pytest.mark.parametrize('seed', range(200))
def test_random_programs(seed):
  function, params, args, expected = by_use_random.program(seed)
  found = optax_namo.dimension_numbers_by_use(function, params, *args)
  assert found == expected


_M = MuonDimensionNumbers


def _shapes(**shapes):
  return {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in shapes.items()
  }


# A wrong reading of a real one: experts, heads, kernels, rows as columns.
@pytest.mark.parametrize(
  'name, path, wrong, fault',
  [
    ('linen_scan_axis_1', 'stack/attn/query/kernel', _M((1,), (2, 3)), 'reach'),
    ('linen_scan_axis_1', 'stack/attn/query/kernel', _M((0, 2), (3,)), 'rank'),
    ('linen_scan_axis_1', 'stack/Dense_0/kernel', _M((2,), (0,)), 'input'),
    ('linen_transformer', '_Block_0/attn/out/kernel', _M((0,), (1, 2)), 'rank'),
    ('linen_transformer', '_Block_0/Dense_0/kernel', _M((1,), (0,)), 'input'),
    ('moe_ragged_dot', 'up', _M((1,), (0, 2)), 'reach'),
    ('moe_ragged_dot', 'up', _M((0, 1), (2,)), 'reach'),
    ('ensemble', 'a', _M((0, 1), (2,)), 'rank'),
    ('linen_convolutions_2d', 'plain/kernel', _M((2,), (3,)), 'input'),
    ('linen_convolutions_2d', 'grouped/kernel', _M((0, 1, 2), (3,)), 'rank'),
    ('reshaped', 'rows', _M((0,), (1,)), ''),  # Rows that are no parts.
  ],
)
def test_oracle_finds_the_wrong_matrix(name, path, wrong, fault):
  program = PROGRAMS[name]()
  products = _products(name)
  leaf = list(_by_path(program.params, program.params)).index(path)
  inputs = lambda p: p.inputs if program.factor else np.zeros((0, 0))
  found = {
    rank_one.fault(wrong, product.gradients[leaf], inputs(product))
    for product in products
    if product.gradients[leaf].any()
  }
  assert fault in found


def _qkv(p, x):
  """Two query heads for one of keys and values, rotated; a gated unit."""
  qkv = x @ p['qkv']
  q, k, v = jnp.split(qkv, (8, 12), -1)
  half = k[..., :2], k[..., 2:]
  k = jnp.concatenate([half[0] - half[1], half[1] + half[0]], -1)
  q = q.reshape(*x.shape[:2], 2, 4)
  weights = jax.nn.softmax(jnp.einsum('bthd,bsd->bhts', q, k))
  y = jnp.einsum('bhts,bsd->bthd', weights, v).reshape(*x.shape[:2], 8)
  x = x + y @ p['out']
  gate, up = jnp.moveaxis((x @ p['gate_up']).reshape(2, 7, 2, 10), 2, 0)
  x = x + (jax.nn.silu(gate) * up) @ p['down']
  y = jnp.einsum('btd,cdhk->cbthk', x, p['heads'])
  return jnp.mean((y[0] * y[1] + y[2]).reshape(2, 7, 6) @ p['last'])


_QKV = _shapes(qkv=(6, 16), out=(8, 6), gate_up=(6, 20), down=(10, 6),
               heads=(3, 6, 2, 3), last=(6, 4))  # fmt: skip


def test_split():
  x = jax.ShapeDtypeStruct((2, 7, 6), jnp.float32)
  found = optax_namo.dimension_numbers_by_use(_qkv, _QKV, x, split=True)
  plain = _M((0,), (1,))
  assert found == {
    'qkv': optax_namo.SplitMatrices(plain, 1, (8, 4, 4)),
    'out': plain,
    'gate_up': optax_namo.SplitMatrices(plain, 1, (10, 10)),
    'down': plain,
    'heads': optax_namo.SplitMatrices(_M((1,), (0, 2, 3)), 0, (1, 1, 1)),
    'last': None,
  }
  whole = optax_namo.dimension_numbers_by_use(_qkv, _QKV, x)
  assert whole['qkv'] == whole['gate_up'] == plain
  assert whole['heads'] == _M((1,), (0, 2, 3))


@pytest.mark.parametrize('turned', [True, False])
def test_parts_that_are_unstacked_or_turned(turned):
  """Every other feature is no part, and a half of each head is none."""

  def loss(p, x):
    y = x @ p['qkv']
    if turned:
      left, right = jnp.split(y.reshape(2, 3, 4), 2, -1)
      y += jnp.tile(left * jnp.tanh(right), (1, 1, 2)).reshape(2, 12)
      y = jnp.stack([y[:, ::2] - y[:, 1::2], y[:, 1::2] + y[:, ::2]], -1)
      return jnp.mean(jnp.tanh(y.reshape(2, 12)) @ p['last'])
    q, k, v = jnp.unstack(y.reshape(2, 3, 4), axis=1)
    return jnp.mean((jax.nn.softmax(q @ k.T) @ v) @ p['last'])

  shapes = _shapes(qkv=(6, 12), last=(12 if turned else 4, 3))
  x = jnp.ones((2, 6))
  numbers = optax_namo.dimension_numbers_by_use(loss, shapes, x, split=True)
  plain = _M((0,), (1,))
  split = optax_namo.SplitMatrices(plain, 1, (4, 4, 4))
  assert numbers['qkv'] == (plain if turned else split)


def test_weights_that_are_cut_are_split():
  def loss(p, x):
    q, k = jnp.split(p['w'], 2, 1)
    return jnp.mean((x @ q) * jnp.tanh(x @ k) @ p['last'])

  shapes = _shapes(w=(4, 12), last=(6, 3))
  x = jnp.ones((2, 4))
  numbers = optax_namo.dimension_numbers_by_use(loss, shapes, x, split=True)
  assert numbers['w'] == optax_namo.SplitMatrices(_M((0,), (1,)), 1, (6, 6))


_X = jax.ShapeDtypeStruct((5, 6), jnp.float32)


def _deep(p, x):
  return jnp.mean(jnp.tanh(jnp.tanh(x @ p['a']) @ p['b']) @ p['c'])


_DEEP = _shapes(a=(6, 7), b=(7, 8), c=(8, 9))


@pytest.mark.parametrize(
  'options, matrices',
  [
    ({}, 'ab'),
    ({'output_heads': 'matrix'}, 'abc'),
    ({'first_layers': 'adamw'}, 'b'),
  ],
)
def test_options(options, matrices):
  numbers = optax_namo.dimension_numbers_by_use(_deep, _DEEP, _X, **options)
  assert ''.join(k for k, spec in numbers.items() if spec) == matrices


def test_layers_above_an_embedding_are_not_first():
  def loss(p, tokens):
    return jnp.mean(jnp.tanh(p['table'][tokens] @ p['b']) @ p['c'])

  params = _shapes(table=(9, 7), b=(7, 8), c=(8, 9))
  numbers = optax_namo.dimension_numbers_by_use(
    loss, params, jnp.arange(3), first_layers='adamw'
  )
  assert numbers == {'table': None, 'b': _M((0,), (1,)), 'c': None}


def test_unknown_option():
  with pytest.raises(ValueError, match='output_heads'):
    optax_namo.dimension_numbers_by_use(_deep, _DEEP, _X, output_heads='muon')


def _actor_critic(p, x):
  h = jnp.tanh(x @ p['body'])
  policy = jax.nn.softmax(h @ p['policy'])
  return jnp.mean(policy * (h @ p['value'])) + jnp.mean(h @ p['aux']) ** 2


def _router(p, x):
  gates = jax.nn.softmax(x @ p['router'])
  balance = jnp.sum(gates.mean(0) ** 2)
  y = jnp.einsum('te,td->etd', gates, x)
  y = jnp.einsum('etd,edf->tf', y, p['experts'])
  return jnp.mean(y @ p['head']) + balance


@pytest.mark.parametrize(
  'function, params, heads',
  [
    (
      _actor_critic,
      _shapes(body=(6, 8), policy=(8, 3), value=(8, 3), aux=(8, 2)),
      {'policy', 'value', 'aux'},
    ),
    (
      _router,
      _shapes(router=(6, 3), experts=(3, 6, 8), head=(8, 4)),
      {'head'},
    ),
  ],
)
def test_heads(function, params, heads):
  table = optax_namo.routing_table(params, use=(function, _X))
  assert {r.path for r in table if r.why == 'last product'} == heads
  assert {r.path for r in table if r.group == 'adamw'} == heads


def _sampled(p, x):
  """Actions drawn from logits move what the next ones are drawn from."""

  def step(x, key):
    logits = jnp.tanh(x @ p['w']) @ p['policy']
    action = jax.random.categorical(key, logits)
    x = x.at[:, 0].add(jnp.where(action == 0, 1.0, -1.0))
    return x, jnp.take_along_axis(logits, action[:, None], 1)

  return jnp.mean(jax.lax.scan(step, x, jax.random.split(jax.random.key(0)))[1])


def _exits(p, x):
  """The most certain examples leave early."""
  h = jnp.tanh(x @ p['w'])
  logits = jax.nn.softmax(h @ p['early'])
  values, rows = jax.lax.top_k(logits.max(1), 2)
  later = jnp.tanh(h @ p['deep']) @ p['late']
  later = jnp.where(logits.max(1, keepdims=True) > 0.9, logits, later)
  return jnp.mean(later) + jnp.mean(h[rows] @ p['deep']) + jnp.mean(values)


@jax.custom_jvp
def _spike(x):
  return (x > 0).astype(x.dtype)


_spike.defjvp(lambda x, dx: (_spike(*x), jax.nn.sigmoid(*x) * dx[0]))


def _spiking(p, x):
  """No choice: a surrogate gives its gradient."""
  return jnp.mean(_spike(_spike(x @ p['a']) @ p['b']) @ p['last'])


_classes = lambda p, x: jnp.tanh(jnp.tanh(x @ p['a']) @ p['b']) @ p['last']


def _adversarial(p, x):
  loss = lambda p, x: jnp.mean(_classes(p, x) ** 2)
  return loss(p, x + 0.1 * jnp.sign(jax.grad(loss, 1)(p, x)))


def _derivatives(p, x):
  """More backward passes than forward ones."""
  y, vjp = jax.vjp(functools.partial(_classes, p), x)
  rows = [vjp(jnp.zeros_like(y).at[:, i].set(1.0))[0] for i in range(3)]
  return jnp.mean((rows[0] + rows[1] * rows[2]) ** 2)


def _delayed(p, x):
  """Through twelve places, one a step."""
  first = lambda x: jnp.tanh(x @ p['a'])
  step = lambda line, x: ((*line[1:], first(x)), jnp.tanh(line[0] @ p['b']))
  line = (jnp.zeros(8),) * 12
  return jnp.mean(jax.lax.scan(step, line, x)[1] @ p['last'])


_LAYERS = _shapes(a=(6, 8), b=(8, 7), last=(7, 3))


@pytest.mark.parametrize(
  'function, params, heads',
  [
    (_sampled, _shapes(w=(6, 8), policy=(8, 3)), {'policy'}),
    (
      _exits,
      _shapes(w=(6, 8), early=(8, 3), deep=(8, 8), late=(8, 3)),
      {'early', 'late'},
    ),
    (_spiking, _LAYERS, {'last'}),
    (_adversarial, _LAYERS, {'last'}),
    (_derivatives, _LAYERS, {'last'}),
    (
      jax.value_and_grad(lambda p, x: jnp.mean(_classes(p, x))),
      _LAYERS,
      {'last'},
    ),
    (_delayed, _LAYERS, {'last'}),
  ],
)
def test_what_passes_no_gradient_or_is_one(function, params, heads):
  numbers = optax_namo.dimension_numbers_by_use(function, params, _X)
  assert {name for name, spec in numbers.items() if spec is None} == heads
  assert set(numbers.values()) == {None, _M((0,), (1,))}


def test_choices_are_integers_of_any_size():
  def loss(p, x):
    rows = jnp.argmax(x @ p['choice'], 1)
    return jnp.mean(jnp.tanh(x[rows] @ p['w']) @ p['last'])

  params = _shapes(choice=(6, 5), w=(6, 8), last=(8, 3))
  with jax.enable_x64(True):
    numbers = optax_namo.dimension_numbers_by_use(loss, params, _X)
  assert numbers == {'choice': None, 'w': _M((0,), (1,)), 'last': None}


def _conflict(p, x):
  y = jnp.einsum('tab,abc->tc', x.reshape(-1, 2, 3), p['kernel'])
  y = jnp.tanh(y + jnp.einsum('ta,abc->tbc', x[:, :2], p['kernel']).sum(1))
  return jnp.mean(y @ p['last'])


def _callback(p, x):
  product = lambda x, w: np.asarray(x) @ np.asarray(w)
  shape = jax.ShapeDtypeStruct((5, 4), jnp.float32)
  y = jax.pure_callback(product, shape, x @ p['before'], p['kernel'])
  return jnp.mean(y @ p['last'])


def _unused(p, x):
  return jnp.mean(x[:, :4] @ p['last'])


def _middle(p, x):
  """Matrices that lie between others in the axis that holds them."""
  w = p['kernel'].reshape(6, 2, 3, 4)
  return jnp.mean(jnp.einsum('td,dhk->thk', x, w[:, :, 1]) @ p['last'])


def _end_to_end(p, x):
  flat, apart = jax.flatten_util.ravel_pytree(p)
  return jnp.mean(jnp.tanh(x @ apart(flat)['kernel']) @ p['last'])


@pytest.mark.parametrize(
  'function, shape, told',
  [
    (_end_to_end, (6, 4), 'goes into concatenate'),
    (_conflict, (2, 3, 4), 'contradict each other'),
    (_callback, (6, 4), 'goes into pure_callback'),
    (_unused, (6, 4), 'is not used'),
    (_middle, (6, 24), 'contradict each other'),
  ],
)
def test_what_the_program_does_not_tell_goes_by_names(function, shape, told):
  params, plain = _shapes(kernel=shape, last=(4, 2)), _M((0,), (1,))
  before = {}
  if function is _callback:
    params |= _shapes(before=(6, 6))
    before = {'before': plain}
  message = rf"'kernel' of shape {re.escape(str(shape))} .*{told}"
  with pytest.warns(UserWarning, match=message) as caught:
    numbers = optax_namo.dimension_numbers_by_use(function, params, _X)
  assert len(caught) == 1 and caught[0].filename == __file__
  by_name = plain if len(shape) == 2 else None
  assert numbers == {**before, 'kernel': by_name, 'last': None}
  with pytest.raises(ValueError, match=message):
    optax_namo.dimension_numbers_by_use(function, params, _X, strict=True)


def test_table():
  table = optax_namo.routing_table(_DEEP, use=(_deep, _X))
  assert [(r.path, r.group, r.view, r.why) for r in table] == [
    ('a', 'matrix', ((1, 6, 7),), 'contracts axis 0 in dot_general'),
    ('b', 'matrix', ((1, 7, 8),), 'contracts axis 0 in dot_general'),
    ('c', 'adamw', (), 'last product'),
  ]
  with pytest.raises(ValueError, match='not several at once'):
    optax_namo.routing_table(_DEEP, None, use=(_deep, _X), rules=[('a', None)])
  with pytest.raises(ValueError, match='not several at once'):
    optax_namo.routing_table(_DEEP, lambda p: p, rules=[('a', None)])


def test_keywords_of_the_function():
  def loss(params, x, *, scale):
    return _deep(params, scale * x)

  function = functools.partial(loss, scale=2.0)
  numbers = optax_namo.dimension_numbers_by_use(function, _DEEP, _X)
  assert numbers['a'] == numbers['b'] == _M((0,), (1,))


def test_optimizer_takes_them():
  params = jax.tree.map(lambda x: jnp.ones(x.shape), _DEEP)
  numbers = optax_namo.dimension_numbers_by_use(_deep, _DEEP, _X)
  tx = optax_namo.namo_d(0.05, weight_dimension_numbers=numbers)
  gradients = jax.jit(jax.grad(_deep))(params, jnp.ones(_X.shape))
  updates = run(tx, [gradients], params)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(updates))
