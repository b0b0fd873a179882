# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The optimizers that are compared; public names alone, so of any revision."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import optax

import optax_namo

# The baselines: what optax released, which unrolls the steps of Newton-Schulz,
# and what its main has since its change 1650, a loop over them.
BASELINE = 'optax.contrib.muon'
MAIN = "optax main's Muon"
RECORD = ', record=True'
FAST = functools.partial(
  optax_namo.newton_schulz,
  steps=3,
  coefficients='minimax',
  preconditioning='schatten',
)


def looped(tx):
  """An optimizer whose ``jax.lax.fori_loop`` are loops, unrolled or not.

  Of the released `optax.contrib.muon` this makes the one of optax's main.
  """

  def update(updates, state, params=None):
    fori_loop = jax.lax.fori_loop
    loop = lambda *args, unroll=None: fori_loop(*args, unroll=False)
    with mock.patch.object(jax.lax, 'fori_loop', loop):
      return tx.update(updates, state, params)

  return optax.GradientTransformation(tx.init, update)


def contenders(params):
  """All of them, by name; the same leaves are matrices for all."""
  rates = {'learning_rate': 0.01, 'adam_learning_rate': 0.001}
  namo_d = functools.partial(optax_namo.namo_d, **rates)
  namo = functools.partial(optax_namo.namo, **rates)
  few_bits = lambda rule: functools.partial(rule, dtype=jnp.bfloat16)
  muon = optax.contrib.muon(
    **rates,
    consistent_rms=0.2,
    muon_weight_dimension_numbers=optax_namo.matrix_dimension_numbers(params),
  )
  return {
    'namo_d': namo_d(),
    'namo_d' + RECORD: namo_d(record=True),
    'namo_d, bfloat16': namo_d(
      orthogonalizer=few_bits(optax_namo.newton_schulz)
    ),
    'namo_d, minimax': namo_d(orthogonalizer=FAST),
    'namo_d, minimax, bfloat16': namo_d(orthogonalizer=few_bits(FAST)),
    'namo': namo(),
    'namo' + RECORD: namo(record=True),
    BASELINE: muon,
    MAIN: looped(muon),
    'optax.adamw': optax.adamw(0.001),
  }
