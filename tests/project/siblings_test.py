# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The siblings of NAMO against their published equations, in float64."""

import pathlib
from unittest import mock

from absl.testing import flagsaver
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples import siblings
import optax_namo
from optax_namo.nanogpt.compare import __main__ as compare
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.optimizers import make_optimizer

_B1, _B2, _EPS, _RATE = 0.9, 0.8, 1e-3, 0.05


def _steps(chain, params, gradients):
  """Parameters after each step of stages behind the momentum."""
  first = optax_namo.adaptive_momentum(_B1, nesterov=False)
  tx = optax_namo.routed(optax.chain(first, *chain), optax.sgd(0.0))
  params = {'kernel': params}
  state, found = tx.init(params), []
  for gradient in gradients:
    update, state = tx.update({'kernel': gradient}, state, params)
    params = optax.apply_updates(params, update)
    found.append(params['kernel'])
  return found


def _problem():
  rng = np.random.default_rng(1)  # No matrix of signs is singular.
  return rng.normal(size=(5, 3)), rng.normal(size=(4, 5, 3))  # (in, out).


def _polar(m):
  u, _, v = np.linalg.svd(m, full_matrices=False)
  return u @ v


def _momenta(gradients):
  m = 0.0
  for gradient in gradients:
    m = _B1 * m + (1 - _B1) * gradient
    yield m


def _sizes(o):
  return 0.2 * np.sqrt(o.size) * o / np.linalg.norm(o)


@pytest.mark.parametrize('neurons', [True, False])
def test_normuon_and_adamuon(neurons):
  params, gradients = _problem()
  expected, w, v = [], params, 0.0
  for m in _momenta(gradients):
    o = _polar(m if neurons else np.sign(m))
    v = _B2 * v + (1 - _B2) * (
      np.mean(o**2, 0, keepdims=True) if neurons else o**2
    )
    w = w - _RATE * _sizes(o / (np.sqrt(v) + _EPS))
    expected.append(w)
  with jax.enable_x64(True):
    sign = [] if neurons else [siblings.sign_of_momentum()]
    chain = [
      *sign,
      optax_namo.orthogonalize(optax_namo.polar_svd),
      siblings.scale_by_second_moment(_B2, _EPS, neurons),
      optax_namo.apply_scale(),
      optax.scale_by_learning_rate(_RATE),
    ]
    found = _steps(chain, jnp.asarray(params), jnp.asarray(gradients))
  chex.assert_trees_all_close(found, expected, rtol=1e-10)


def test_muonh():
  params, gradients = _problem()
  expected, w, radius = [], params, np.linalg.norm(params)
  for m in _momenta(gradients):
    o = _polar(m)
    w = w - _RATE * radius * o / np.linalg.norm(o)
    w = radius * w / np.linalg.norm(w)
    expected.append(w)
  with jax.enable_x64(True):
    chain = [
      optax_namo.orthogonalize(optax_namo.polar_svd),
      siblings.hold_norm(lambda count: _RATE),
      optax_namo.apply_scale(),
    ]
    found = _steps(chain, jnp.asarray(params), jnp.asarray(gradients))
  chex.assert_trees_all_close(found, expected, rtol=1e-10)


def test_cautious_decay():
  params, gradients = _problem()
  expected, w = [], params
  for m in _momenta(gradients):
    o = _polar(m)
    w = w - _RATE * (o + 0.3 * np.where(o * w >= 0, w, 0))
    expected.append(w)
  with jax.enable_x64(True):
    chain = [
      optax_namo.orthogonalize(optax_namo.polar_svd),
      siblings.add_cautious_decay(0.3),
      optax_namo.apply_scale(),
      optax.scale_by_learning_rate(_RATE),
    ]
    found = _steps(chain, jnp.asarray(params), jnp.asarray(gradients))
  chex.assert_trees_all_close(found, expected, rtol=1e-10)


def test_compare_finds_them_as_arms(capsys, tmp_path):
  (tmp_path / 'text.txt').write_text('to be or not to be ' * 200)
  path = pathlib.Path(siblings.__file__)
  with mock.patch.dict(OPTIMIZERS), flagsaver.flagsaver():
    compare.main(
      compare.parse(
        ['compare', f'--arms={path}', '--seeds=0', '--dry_run',
         f'--optimizers={",".join(siblings.OPTIMIZERS)}',
         f'--data={tmp_path / "text.txt"}', f'--out={tmp_path / "out"}']
      )
    )  # fmt: skip
  assert '12 of 12 runs are left' in capsys.readouterr().out


@pytest.mark.parametrize('name', siblings.OPTIMIZERS)
def test_an_arm_goes_downhill(name):
  """The distance to the optimum shrinks, that of a bias, too."""
  start = {'kernel': jnp.eye(4, 6), 'bias': jnp.ones(6)}
  with mock.patch.dict(OPTIMIZERS, siblings.OPTIMIZERS):
    config = make_config(optimizer=name, weight_decay=0.1, warmup_steps=0)
    tx = make_optimizer(config)
  state = tx.init(start)
  aim = {'kernel': jnp.eye(4, 6, 1), 'bias': jnp.zeros(6)}
  gap = lambda params: jax.tree.map(lambda p, q: p - q, params, aim)
  updates, state = jax.jit(tx.update)(gap(start), state, start)
  after = optax.apply_updates(start, updates)
  far = lambda params: jax.tree.map(jnp.linalg.norm, gap(params))
  chex.assert_tree_all_finite(after)
  assert all(
    a < b for a, b in zip(*map(jax.tree.leaves, (far(after), far(start))))
  )
