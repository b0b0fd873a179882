# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.track3 --data=fineweb10B --optimizer=namo_d``.

modded-nanogpt's optimization benchmark (its track 3) with our optimizers: its
model, its shards of FineWeb in their order, 524,288 tokens a step, 10.5M tokens
of validation, and the steps to a loss of 3.28, where its Muon takes 3,800. What
is not a hidden matrix has its AdamW rates. ``python data/cached_fineweb10B.py
40`` there fetches the shards.

Nobody has run it yet but on tiny shards. 3,325 steps are 1.3e18 operations:
about an hour of an H100 at 40% of its peak, for one rate and one seed; rates to
begin with are the example's at a width of 768, in the shape scale there.
"""

import argparse
from collections.abc import Iterator
import dataclasses
import functools
import pathlib
import sys
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_namo

TARGET = 3.28


class Sizes(NamedTuple):
  vocab: int = 50304
  layers: int = 12
  width: int = 768
  head: int = 128
  context: int = 1024
  batch: int = 512  # Sequences; of them so many at a time:
  micro: int = 64
  val_batches: int = 20
  eval_every: int = 125


def shard(path: pathlib.Path) -> np.ndarray:
  """Its tokens, uint16, behind a header of 256 int32."""
  header = np.fromfile(path, '<i4', 256)
  if header[0] != 20240520 or header[1] != 1:
    raise ValueError(f'{path} is no shard of version 1.')
  return np.memmap(path, '<u2', 'r', 1024, (int(header[2]),))


def batches(
  folder: pathlib.Path, split: str, sizes: Sizes
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Inputs and targets, (micro-batches, micro, context), as they come."""
  tokens = sizes.batch * sizes.context
  for path in sorted(folder.glob(f'fineweb_{split}_*.bin')):
    found = shard(path)
    for start in range(0, len(found) - tokens - 1, tokens):
      part = found[start : start + tokens + 1].astype(np.int32)
      shape = -1, sizes.micro, sizes.context
      yield part[:-1].reshape(shape), part[1:].reshape(shape)


def _rotated(x):
  """Half of the frequencies are 0; (batch, time, heads, head)."""
  quarter = x.shape[-1] // 4
  speed = jnp.concatenate(
    [(1 / 1024) ** jnp.linspace(0, 1, quarter), jnp.zeros(quarter)]
  )
  angle = jnp.outer(jnp.arange(x.shape[1]), speed)[None, :, None]
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([a * cos + b * sin, b * cos - a * sin], -1)
  return turned.astype(x.dtype)


def _linear(inputs, outputs, rngs, zero=False):
  std = 0.0 if zero else (3 * inputs) ** -0.5
  return nnx.Linear(
    inputs, outputs, dtype=jnp.bfloat16, rngs=rngs,
    kernel_init=nnx.initializers.normal(std),
  )  # fmt: skip


def _norm(width, rngs, **options):
  return nnx.RMSNorm(width, dtype=jnp.bfloat16, rngs=rngs, **options)


class _Block(nnx.Module):
  def __init__(self, sizes, rngs):
    width, self.head = sizes.width, sizes.head
    self.query, self.key, self.value = (
      _linear(width, width, rngs) for _ in range(3)
    )
    self.out = _linear(width, width, rngs, zero=True)
    self.up = _linear(width, 4 * width, rngs)
    self.down = _linear(4 * width, width, rngs, zero=True)
    self.norm_1, self.norm_2 = (_norm(width, rngs) for _ in range(2))
    self.norm_head = _norm(self.head, rngs, use_scale=False)

  def __call__(self, x):
    h = self.norm_1(x)
    heads = lambda y: y.reshape(*y.shape[:2], -1, self.head)
    q, k, v = (heads(f(h)) for f in (self.query, self.key, self.value))
    q, k = (_rotated(self.norm_head(x)) for x in (q, k))
    y = jax.nn.dot_product_attention(q, k, v, scale=0.12, is_causal=True)
    x += self.out(y.reshape(x.shape))
    return x + self.down(jnp.square(jax.nn.relu(self.up(self.norm_2(x)))))


class GPT(nnx.Module):
  """The benchmark's: rotary, norms of queries and keys, squared ReLU, a cap."""

  def __init__(self, sizes: Sizes, rngs: nnx.Rngs):
    self.embed = nnx.Embed(
      sizes.vocab, sizes.width, dtype=jnp.bfloat16, rngs=rngs,
      embedding_init=nnx.initializers.normal(1.0),
    )  # fmt: skip
    self.blocks = nnx.List([_Block(sizes, rngs) for _ in range(sizes.layers)])
    self.lm_head = _linear(sizes.width, sizes.vocab, rngs, zero=True)
    self.norm_1, self.norm_2 = (_norm(sizes.width, rngs) for _ in range(2))

  def loss(self, inputs, targets):
    x = self.norm_1(self.embed(inputs))
    for block in self.blocks:
      graphdef, state = nnx.split(block)
      x = jax.checkpoint(lambda s, x, g=graphdef: nnx.merge(g, s)(x))(state, x)
    logits = self.lm_head(self.norm_2(x)).astype(jnp.float32)
    logits = 15 * logits * jax.lax.rsqrt(logits**2 + 15**2)
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, targets
    ).mean()


def optimizer(
  name: str, rate: float, decay: float, steps: int
) -> optax.GradientTransformation:
  """Its schedules: linear to 0, of the matrices from the first step on."""
  columns = 'input' if name == 'namo_d' else None
  adaptive = optax_namo.adaptive_momentum(columns=columns)
  stages = [adaptive, optax_namo.orthogonalize()]
  if name == 'muon':
    one = lambda u, _: dataclasses.replace(u, scale=jnp.ones_like(u.scale))
    stages.append(optax_namo.stage(one))
  chain = optax.chain(
    *stages,
    optax_namo.scale_by_shape('width'),
    optax_namo.add_adaptive_decay(decay),
    optax_namo.clamp_scale(0.75 if columns else None),
    optax_namo.apply_scale(),
    optax.scale_by_learning_rate(optax.linear_schedule(rate, 0, steps)),
  )
  last = int(0.4 * steps)
  adamw = lambda rate: optax.adamw(
    optax.linear_schedule(rate, 0, last, steps - last),
    b1=0.8, b2=0.95, eps=1e-10, weight_decay=0.0,
  )  # fmt: skip
  kind = lambda path, _: next(
    (name for name in ('embed', 'lm_head') if name in str(path[0])), 'rest'
  )
  rest = optax.partition(
    {'embed': adamw(0.3), 'lm_head': adamw(1 / 320), 'rest': adamw(0.01)},
    functools.partial(jax.tree_util.tree_map_with_path, kind),
  )
  return optax_namo.routed(chain, rest)


def train(folder, tx, steps, seed, sizes, said=print):
  """The first evaluation at the target, or None; each is said."""
  graphdef, params = nnx.split(GPT(sizes, nnx.Rngs(seed)))
  state = tx.init(params)
  loss = lambda params, *batch: nnx.merge(graphdef, params).loss(*batch)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state, *batch):
    def add(total, micro):
      return jax.tree.map(jnp.add, total, jax.grad(loss)(params, *micro)), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), batch)
    mean = jax.tree.map(lambda x: x / len(batch[0]), total)
    updates, state = tx.update(mean, state, params)
    return optax.apply_updates(params, updates), state

  @jax.jit
  def evaluate(params, *batch):
    return jax.lax.map(lambda micro: loss(params, *micro), batch).mean()

  val = [
    b for b, _ in zip(batches(folder, 'val', sizes), range(sizes.val_batches))
  ]
  if not val:
    sys.exit(f'error: {folder} has no fineweb_val_*.bin of a batch or more.')
  reached, data = None, batches(folder, 'train', sizes)
  for done in range(steps + 1):
    if done % sizes.eval_every == 0 or done == steps:
      now = float(np.mean([evaluate(params, *batch) for batch in val]))
      said(f'step {done}/{steps}, validation loss {now:.5f}')
      reached = done if reached is None and now <= TARGET else reached
    if done < steps:
      params, state = step(params, state, *next(data))
  return reached


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--data', type=pathlib.Path, default='data/fineweb10B')
  names = ['namo_d', 'namo', 'muon']
  parser.add_argument('--optimizer', choices=names, default='namo_d')
  # Muon's there: 0.02.
  parser.add_argument('--learning_rate', type=float, default=0.12)
  parser.add_argument('--weight_decay', type=float, default=0.01)
  parser.add_argument('--steps', type=int, default=3800)
  parser.add_argument('--seed', type=int, default=0)
  given = parser.parse_args()
  tx = optimizer(
    given.optimizer, given.learning_rate, given.weight_decay, given.steps
  )
  reached = train(given.data, tx, given.steps, given.seed, Sizes())
  print(f'{given.optimizer}: {TARGET} first seen at step {reached}.')


if __name__ == '__main__':
  main()
