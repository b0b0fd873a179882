# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The steps that the benchmarks and their tests compile."""

import contextlib
import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers

from benchmarks import harness
from benchmarks.contenders import BASELINE
from benchmarks.contenders import contenders
from benchmarks.contenders import MAIN
import optax_namo
from optax_namo._polar import coefficients as polynomials
from optax_namo._polar import newton_schulz as ns
from optax_namo._polar import norms

# Layers, width, vocabulary, context.
SHAPES = {
  'tiny': (1, 8, 0, 0),
  'char': (4, 128, 96, 128),
  '6x384': (6, 384, 0, 0),  # The matrices alone.
  'gpt2': (12, 768, 50304, 1024),
  'gpt2-medium': (24, 1024, 50304, 1024),
}


def parameters(layers, width, vocabulary, context):
  """Shapes of a GPT's parameters, float32, kernels (in, out)."""
  block = {
    'qkv': (width, 3 * width),
    'proj': (width, width),
    'fc': (width, 4 * width),
    'out': (4 * width, width),
  }
  rest = {'wte': (vocabulary, width), 'wpe': (context, width), 'norm': (width,)}
  if vocabulary:
    block |= {'norm1': (width,), 'norm2': (width,)}
  shapes = {f'h{i}': block for i in range(layers)}
  if vocabulary:
    shapes |= rest
  return jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def plain_muon():
  """Our chain without norms, adaptive scale, clamp and decay."""
  is_factored = lambda x: isinstance(x, optax_namo.Factored)

  def momentum(updates, state, params=None):
    del params
    mu = jax.tree.map(
      lambda u, m: 0.95 * m + 0.05 * u.direction,
      updates,
      state,
      is_leaf=is_factored,
    )
    ahead = lambda u, m: dataclasses.replace(
      u, direction=0.95 * m + 0.05 * u.direction, scale=jnp.ones((1, 1))
    )
    return jax.tree.map(ahead, updates, mu, is_leaf=is_factored), mu

  return optax.chain(
    optax.GradientTransformation(optax.tree.zeros_like, momentum),
    optax_namo.orthogonalize(),
    optax_namo.scale_by_shape(),
    optax_namo.apply_scale(),
    optax.scale_by_learning_rate(0.01),
  )


def standard_form(x):
  """newton_schulz without its Gram form, for stacks with m <= n."""
  rows, _ = polynomials.schedule('muon', 5, 23)
  runs = tuple((row,) for row in rows)
  return ns.iterate(norms.scaled(x), runs, 'frobenius', 23)


def optimizers(params):
  """What is compared, by name; the same leaves are matrices for all."""
  found = contenders(params)
  named = lambda *names: {name: found[name] for name in names}
  return {
    **named('namo_d', 'namo_d, minimax', 'namo'),
    'namo_d, standard form': optax_namo.namo_d(
      0.01, adam_learning_rate=0.001, orthogonalizer=standard_form
    ),
    'without norms, scale, clamp, decay': optax_namo.routed(
      plain_muon(), optax.adamw(0.001)
    ),
    **named(BASELINE, 'optax.adamw', MAIN),
  }


def step(tx, params, state, grads):
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


def pieces(params, chosen):
  """The step of each optimizer, as the harness runs it."""
  rng = np.random.default_rng(0)
  normal = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype) * 0.02
  gradients = jax.tree.map(normal, params)

  def piece(tx):
    start = jax.tree.map(jnp.zeros_like, params)
    function = lambda carry, gradients: (step(tx, *carry, gradients), ())
    return function, (start, jax.jit(tx.init)(start)), (gradients,)

  return {name: piece(tx) for name, tx in chosen.items()}


@contextlib.contextmanager
def unrolled():
  """``jax.lax.fori_loop`` as a Python loop: XLA counts a body's FLOPs once."""

  def loop(lower, upper, body, carry, **_):
    for i in range(lower, upper):
      carry = body(i, carry)
    return carry

  with mock.patch.object(jax.lax, 'fori_loop', loop):
    jax.clear_caches()  # Of what was traced with loops.
    yield
  jax.clear_caches()


def compiled(tx, params):
  """The step, compiled for shapes; parameters and state are donated."""
  state = jax.eval_shape(tx.init, params)
  jitted = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1))
  return jitted.lower(params, state, params).compile()


def matrices(params):
  """The leaves that are matrices."""
  numbers = jax.tree.leaves(
    optax_namo.matrix_dimension_numbers(params),
    is_leaf=lambda x: x is None or isinstance(x, MuonDimensionNumbers),
  )
  return [
    x for x, spec in zip(jax.tree.leaves(params), numbers) if spec is not None
  ]


def product_flops(params, coefficients, count, bits):
  """FLOPs of the products with operands of so many bits, over all matrices.

  Accelerators round operands (TF32 to 10 bits, TPUs to 7), hence the R of the
  Gram form is computed afresh more often there. Counted from the formula.
  """
  schedule = polynomials.schedule(coefficients, count, bits)
  shapes = [sorted(x.shape) for x in matrices(params)]
  return sum(ns.flops(ns.cheapest(*schedule, m, n), m, n) for m, n in shapes)


def product_rate(rule, schedule, shape, side, dtype, times=1):
  """TFLOP/s of a rule's products on a stack, and over a large product's."""
  normal = lambda i, shape: jax.random.normal(jax.random.key(i), shape)
  large = normal(1, (side, side)).astype(dtype)
  pieces = {
    'rule': (lambda x: (x, rule(x)), normal(0, shape), ()),
    'product': (lambda x: (x, x @ x), large, ()),
  }
  rounds = harness.rounds(harness.Pieces(pieces, times).turn)
  flops = shape[0] * ns.flops(ns.cheapest(*schedule, *shape[1:]), *shape[1:])
  return {
    'tflops': 1e-12 * times * flops / rounds.median('rule'),
    'of_large_product': flops / 2 / side**3 * rounds.ratio('product', 'rule'),
  }


def size(tree):
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def deterministic(tx, params):
  """FLOPs, HLO lines and bytes of one step.

  The tables of positions in the source, which JAX 0.10 prints with a program,
  are no lines of it; each of theirs begins with a number.
  """
  program = compiled(tx, params)
  lines = program.as_text().splitlines()
  with unrolled():
    flops = compiled(tx, params).cost_analysis()['flops']
  return {
    'flops': flops,
    'hlo_lines': sum(not line[:1].isdigit() for line in lines),
    'temporary_memory': program.memory_analysis().temp_size_in_bytes,
    'state': size(jax.eval_shape(tx.init, params)),
  }
