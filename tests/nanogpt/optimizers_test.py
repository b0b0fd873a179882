# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The knobs of the optimizers reach them."""

import jax
import numpy as np
import pytest

from optax_namo.nanogpt import train
from optax_namo.nanogpt.optimizers import make_optimizer
from tests import helpers as shared
from tests.nanogpt import helpers

_PARAMS = {'kernel': shared.normal(0, 8, 4)}
_GRADIENTS = [{'kernel': k * shared.normal(k, 8, 4)} for k in (1, 3)]


def _update(**knobs):
  fixed = {'warmup_steps': 0, 'decay_steps': 0, 'clip': 0.0}
  tx = make_optimizer(helpers.config(**(fixed | knobs)))
  updates = jax.jit(lambda: shared.run(tx, _GRADIENTS, _PARAMS))()
  return np.asarray(updates['kernel'])


@pytest.fixture(scope='module')
def plain():
  return {name: _update(optimizer=name) for name in ('namo_d', 'namo', 'muon')}


@pytest.mark.parametrize(
  ('knob', 'optimizers'),
  [
    ({'weight_decay': 0.1}, ('namo_d', 'namo', 'muon')),
    ({'decay': 'decoupled'}, ('namo_d', 'namo')),
    ({'nesterov': False}, ('namo_d', 'namo', 'muon')),
    ({'shape_scale': 'none'}, ('namo_d', 'namo')),
    ({'b1': 0.9}, ('namo_d', 'namo', 'muon')),
    ({'b2': 0.9}, ('namo_d', 'namo')),
    ({'ns_coefficients': 'polar_express'}, ('namo_d', 'namo')),
    ({'preconditioning': 'schatten'}, ('namo_d', 'namo')),
    ({'ns_steps': 3}, ('namo_d', 'namo', 'muon')),
    ({'clamp': 1.0}, ('namo_d',)),
    ({'columns': 'output'}, ('namo_d',)),
    ({'clip': 1.0}, ('namo_d', 'namo', 'muon')),
  ],
)
def test_a_knob_turns_what_its_help_says(knob, optimizers, plain):
  for name, before in plain.items():
    after = _update(optimizer=name, **knob)
    changed = not np.allclose(before, after, rtol=1e-4, atol=1e-7)
    assert changed == (name in optimizers), name


def test_width_of_the_model():
  config = helpers.config(embed_dim=24)
  model = train.model_config(config, 28)
  assert model.embed_dim == 24
  routes = {route.path: route for route in train.routing(config, model)}
  assert routes['blocks/0/mlp/c_fc/kernel'].view == ((1, 24, 96),)
  assert config.sizes.embed_dim == helpers.TINY.embed_dim
