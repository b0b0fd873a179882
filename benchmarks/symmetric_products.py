# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What computing only half of each symmetric product would bring.

  python -m benchmarks.symmetric_products

Every product of the Gram form but the last is symmetric. Of two halves of its
rows the upper one is computed whole, of the lower one only what is right of the
diagonal block: 3/4 of the FLOPs. Prints the ratio of every figure to the Gram
form's as it is; times are of steps in turn in one process.
"""

import os
import statistics
import time
from unittest import mock

from absl import app
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo import _coefficients
from optax_namo import _norms
from optax_namo import _orthogonalize

_SHAPES = ((24, 128, 512), (12, 384, 1536), (4, 768, 3072), (2, 1024, 4096))
_ROUNDS = 9
_product = _orthogonalize._product


def _half(x, y, dtype):
  """``_product`` by blocks where the result is square, hence symmetric here."""
  m = x.shape[-2]
  if m != y.shape[-1]:
    return _product(x, y, dtype)
  half = m // 2
  top = _product(x[..., :half, :], y, dtype)
  corner = _product(x[..., half:, :], y[..., half:], dtype)
  bottom = jnp.concatenate([top[..., half:].mT, corner], -1)
  return jnp.concatenate([top, bottom], -2)


def _compiled(x, product):
  """The iteration with a product, and the seconds that compiling it took."""
  rows = _coefficients.triplets('muon', 5)
  with mock.patch.object(_orthogonalize, '_product', product):
    start = time.perf_counter()
    form = jax.jit(lambda x: _orthogonalize.gram_form(x, rows))
    program = form.lower(x).compile()
    return program, time.perf_counter() - start


def main(argv):
  del argv
  print(f'{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} cores')
  print(
    '| stack | FLOPs | time | compile time | HLO lines | temporary memory |'
  )
  print('|---|---|---|---|---|---|')
  for shape in _SHAPES:
    rng = np.random.default_rng(0)
    x = _norms.normalize(jnp.asarray(rng.normal(size=shape), jnp.float32))
    programs, compiling = zip(*(_compiled(x, p) for p in (_half, _product)))
    half, whole = (program(x) for program in programs)
    np.testing.assert_allclose(half, whole, atol=1e-5)
    times = []
    for _ in range(_ROUNDS):
      pair = []
      for program in programs:
        start = time.perf_counter()
        jax.block_until_ready(program(x))
        pair.append(time.perf_counter() - start)
      times.append(pair[0] / pair[1])
    ratio = lambda read, of=programs: read(of[0]) / read(of[1])
    figures = (
      ratio(lambda p: p.cost_analysis()['flops']),
      statistics.median(times),
      compiling[0] / compiling[1],
      ratio(lambda p: len(p.as_text().splitlines())),
      ratio(lambda p: p.memory_analysis().temp_size_in_bytes),
    )
    print(f'| {shape} |' + ''.join(f' {f:.2f} |' for f in figures), flush=True)


if __name__ == '__main__':
  app.run(main)
