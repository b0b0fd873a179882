# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The validation loss."""

from collections.abc import Callable
from typing import Any

from flax import nnx
import jax
from jax.sharding import Mesh
import numpy as np

from optax_namo.nanogpt import data
from optax_namo.nanogpt import mesh as meshes
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt.config import Config

_BATCHES = 20


def make(
  graphdef: Any, config: Config, tokens: np.ndarray, mesh: Mesh | None = None
) -> Callable[[nnx.State], float]:
  """The mean loss, in nats a token, over fixed crops spread over ``tokens``."""
  loss = jax.jit(
    lambda params, *batch: gpt.loss(nnx.merge(graphdef, params), *batch)
  )

  shape = (config.batch_size, config.sizes.block_size)

  def evaluate(params):
    crops = data.eval_batches(
      tokens,
      num_batches=_BATCHES,
      batch_size=config.batch_size,
      block_size=config.sizes.block_size,
      rows=meshes.rows(mesh, shape),
    )
    losses = [
      loss(params, *(meshes.place(mesh, part, shape) for part in crop))
      for crop in crops
    ]
    return float(np.mean(losses))

  return evaluate
