# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What users take instead of NAMO, as stages between those of this package.

Each stage takes the place of the adaptive scale: it makes every scale one. As
arms of a comparison, beside those of the example:

  python -m optax_namo.nanogpt.compare --arms=examples/siblings.py \
    --optimizers=namo_d,normuon,adamuon,muonh,cautious_muon
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

import optax_namo
from optax_namo.nanogpt.optimizers import Optimizer

_map = lambda function, *trees: jax.tree.map(
  function, *trees, is_leaf=lambda x: isinstance(x, optax_namo.Factored)
)


def _replaced(u, direction):
  return dataclasses.replace(
    u, direction=direction, scale=jnp.ones_like(u.scale)
  )


def _norm(u, x):
  return jnp.sqrt(jnp.sum(x * x, axis=u.axes.matrix, keepdims=True))


def scale_by_second_moment(b2=0.95, eps=1e-8, neurons=True, rms=0.2):
  r"""Divides the polar factor by its own root mean square over steps.

  .. math::
    v_t = b_2 v_{t-1} + (1 - b_2) O_t^2, \quad
    \hat O_t = O_t / (\sqrt{v_t} + eps), \quad
    rms \sqrt{mn}\, \hat O_t / \|\hat O_t\|

  with the mean of O² over a neuron's inputs (NorMuon, arXiv 2510.05491), or
  each entry's own (AdaMuon, arXiv 2507.11005).
  """

  def square(u):
    squares = jnp.square(u.direction)
    if not neurons:
      return squares
    return jnp.mean(squares, axis=u.axes.input, keepdims=True)

  def update(updates, v, params=None):
    del params
    v = _map(lambda u, v: b2 * v + (1 - b2) * square(u), updates, v)

    def normalized(u, v):
      o = u.direction / (jnp.sqrt(v) + eps)
      entries = o.size / _norm(u, o).size
      return _replaced(u, rms * entries**0.5 * o / _norm(u, o))

    return _map(normalized, updates, v), v

  init = lambda params: _map(lambda u: jnp.zeros_like(square(u)), params)
  return optax.GradientTransformation(init, update)


def sign_of_momentum():
  """AdaMuon orthogonalizes signs."""
  return optax_namo.stage(lambda u, _: _replaced(u, jnp.sign(u.direction)))


def hold_norm(learning_rate):
  r"""MuonH: the weights stay on the sphere on which they began.

  .. math::
    \Theta_t = R \frac{\Theta'}{\|\Theta'\|}, \qquad
    \Theta' = \Theta_{t-1} - \eta R \frac{O_t}{\|O_t\|}, \qquad
    R = \|\Theta_{t-1}\| = \|\Theta_0\|

  The last stage: it has the rate in it. Wen et al., `Hyperball Optimization
  <https://whenwen.github.io/blog/2025/weight-decay-hyperball-part-1/>`_.
  """

  def held(u, p):
    rate = learning_rate(u.count) if callable(learning_rate) else learning_rate
    size = _norm(u, p)
    moved = p - rate * size * u.direction / _norm(u, u.direction)
    # At a rate of 0 the factor is 1, and nothing moves.
    return _replaced(u, size / _norm(u, moved) * moved - p)

  return optax_namo.stage(held)


def add_cautious_decay(weight_decay):
  """Decays only what the update moves towards zero: arXiv 2510.12402."""

  def decayed(u, p):
    shrinks = u.direction * p >= 0  # The step is minus rate times direction.
    decay = weight_decay * jnp.where(shrinks, p, 0)
    return _replaced(u, u.direction + decay)

  return optax_namo.stage(decayed)


def _arm(*stages_of):
  """A rule's place in ``compare``, of stages that a config makes."""

  def build(config, shared):
    momentum = optax_namo.adaptive_momentum(config.b1, nesterov=config.nesterov)
    chain = [stage(config, shared) for stage in stages_of]
    return optax_namo.routed(
      optax.chain(momentum, *chain), shared.adamw, shared.numbers
    )

  return build


_orthogonalize = lambda _, shared: optax_namo.orthogonalize(
  shared.orthogonalizer, shard_over=shared.shard_over
)
_shape = lambda config, _: optax_namo.scale_by_shape(config.shape_scale)
_decay = lambda config, _: optax_namo.add_adaptive_decay(config.weight_decay)
_apply = lambda *_: optax_namo.apply_scale()
_rate = lambda _, shared: optax.scale_by_learning_rate(shared.rate)

OPTIMIZERS = {
  'normuon': Optimizer(
    'NorMuon', 0.006,
    _arm(_orthogonalize, lambda *_: scale_by_second_moment(), _decay, _apply,
         _rate),
  ),
  'adamuon': Optimizer(
    'AdaMuon', 0.006,
    _arm(lambda *_: sign_of_momentum(), _orthogonalize,
         lambda *_: scale_by_second_moment(neurons=False), _decay, _apply,
         _rate),
  ),
  'muonh': Optimizer(
    'MuonH', 0.02,
    _arm(_orthogonalize, lambda _, shared: hold_norm(shared.rate), _apply),
  ),
  'cautious_muon': Optimizer(
    'Muon, cautious decay', 0.006,
    _arm(_orthogonalize, _shape,
         lambda config, _: add_cautious_decay(config.weight_decay), _apply,
         _rate),
  ),
}  # fmt: skip
