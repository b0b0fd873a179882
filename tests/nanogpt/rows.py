# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of results.jsonl that nobody trained for."""

from optax_namo.nanogpt.config import make_config


def row(optimizer, seed, losses, *, ms=None, diverged=False, **knobs):
  """A run of three evaluations; of a number, one that ends with it."""
  if isinstance(losses, float):
    losses = [losses + 1, losses + 0.5, losses]
  config = make_config(
    optimizer=optimizer, seed=seed, **({'steps': 30} | knobs)
  )
  return {
    'config': dict(vars(config)),
    'val_losses': [
      [config.steps * (i + 1) // 3, loss] for i, loss in enumerate(losses)
    ],
    'ms_per_step': ms,
    'device': ms and 'abacus',
  } | ({'diverged': True} if diverged else {})


def rows(optimizer, losses, **knobs):
  """A run for each seed from 0 on."""
  return [row(optimizer, seed, x, **knobs) for seed, x in enumerate(losses)]
