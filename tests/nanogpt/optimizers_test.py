# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The knobs of the optimizers reach them; what Muon is beside the others."""

import jax
import numpy as np
import optax
import pytest

from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import train
from optax_namo.nanogpt.optimizers import make_optimizer
from tests import helpers as shared
from tests.nanogpt import helpers

_ALL = ('namo_d', 'namo', 'muon', 'optax_muon')
_OURS = ('namo_d', 'namo', 'muon')
_PARAMS = {'kernel': shared.normal(0, 8, 4)}
_GRADIENTS = [{'kernel': k * shared.normal(k, 8, 4)} for k in (1, 3)]


def _update(**knobs):
  fixed = {'warmup_steps': 0, 'decay_steps': 0, 'clip': 0.0}
  tx = make_optimizer(helpers.config(**(fixed | knobs)))
  state = tx.init(_PARAMS)
  # No jit: single operations are compiled once for all knobs.
  for gradient in _GRADIENTS:
    updates, state = tx.update(gradient, state, _PARAMS)
  return np.asarray(updates['kernel'])


@pytest.fixture(scope='module')
def plain():
  return {name: _update(optimizer=name) for name in _ALL}


@pytest.mark.parametrize(
  ('knob', 'optimizers'),
  [
    ({'weight_decay': 0.1}, _ALL),
    ({'decay': 'decoupled'}, ('namo_d', 'namo')),
    ({'nesterov': False}, _ALL),
    ({'shape_scale': 'none'}, _OURS),
    ({'b1': 0.9}, _ALL),
    ({'b2': 0.9}, ('namo_d', 'namo')),
    ({'ns_coefficients': 'polar_express'}, _OURS),
    ({'preconditioning': 'schatten'}, _OURS),
    ({'ns_steps': 3}, _ALL),
    ({'clamp': 1.0}, ('namo_d',)),
    ({'columns': 'output'}, ('namo_d',)),
    ({'clip': 1.0}, _ALL),
  ],
)
def test_a_knob_turns_what_its_help_says(knob, optimizers, plain):
  for name, before in plain.items():
    after = _update(optimizer=name, **knob)
    changed = not np.allclose(before, after, rtol=1e-4, atol=1e-7)
    assert changed == (name in optimizers), name


@pytest.mark.parametrize('nesterov', [True, False])
def test_muon_is_namo_with_a_scale_of_one(nesterov):
  """Also in its decay, which NAMO's scale multiplies too."""
  updates, scales = {}, {}
  for name in ('namo', 'muon'):
    config = helpers.config(
      optimizer=name, nesterov=nesterov, weight_decay=0.3, learning_rate=0.1
    )
    tx = make_optimizer(config)
    state = tx.init(_PARAMS)
    for gradient in _GRADIENTS:
      updates[name], state = tx.update(gradient, state, _PARAMS)
    scales[name] = metrics.diagnostics(state)['kernel']['scale_mean']
  assert scales['muon'] == 1.0
  assert abs(scales['namo'] - 1) > 0.05
  np.testing.assert_allclose(
    updates['namo']['kernel'] / scales['namo'],
    updates['muon']['kernel'],
    rtol=1e-4,  # The scale in diagnostics has five digits.
    atol=1e-7,
  )


def test_muon_is_optax_muon(corpus):
  """To rounding; and with Nesterov's look-ahead but for its first steps.

  There optax divides the momentum by 1 - b1^(t+1) and the gradient by 1 - b1^t
  before it adds them, which weights them otherwise than ours until both are
  one. Without look-ahead the correction is a factor, and no direction changes.
  """
  params, loss_and_gradient = helpers.task(corpus)

  def losses(**knobs):
    config = helpers.config(weight_decay=0.1, steps=40, **knobs)
    tx = make_optimizer(config)

    @jax.jit
    def step(params, state, gradients):
      updates, state = tx.update(gradients, state, params)
      return optax.apply_updates(params, updates), state

    now, state, told = params, jax.jit(tx.init)(params), []
    for i in range(config.steps):
      loss, gradients = loss_and_gradient(now, i)
      now, state = step(now, state, gradients)
      told.append(float(loss))
    return np.array(told)

  gaps = {}
  for nesterov in (False, True):
    ours, optaxs = (
      losses(optimizer=name, nesterov=nesterov)
      for name in ('muon', 'optax_muon')
    )
    assert ours[0] - ours[-1] > 0.5  # It does train.
    gaps[nesterov] = np.max(np.abs(ours - optaxs))
  assert gaps[False] < 1e-5
  assert 1e-5 < gaps[True] < 1e-3


def test_width_of_the_model():
  config = helpers.config(embed_dim=24)
  model = train.model_config(config, 28)
  assert model.embed_dim == 24
  routes = {route.path: route for route in train.routing(config, model)}
  assert routes['blocks/0/mlp/c_fc/kernel'].view == ((1, 24, 96),)
  assert config.sizes.embed_dim == helpers.TINY.embed_dim
