# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What several tests share."""

import jax.numpy as jnp
import numpy as np


def normal(seed, *shape, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), dtype)


def run(tx, gradients, params=None):
  """The last updates of a run at parameters that stay."""
  state = tx.init(gradients[0] if params is None else params)
  for gradient in gradients:
    updates, state = tx.update(gradient, state, params)
  return updates
