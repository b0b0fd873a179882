# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.evidence.beyond``: (t), images and a pole.

A small ViT and a small ResNet on scikit-learn's digits (``pip install
scikit-learn``), 16 images a batch or all, and policy gradient on a cart with a
pole, whose noise is large and changes. 100 steps, warm-up and decay as in
(q). Goes on where it was; rows are in beyond.jsonl beside this file, and it
prints the table. A score is the test loss in nats, or the share of the time in
which the pole was down in the last ten batches of episodes.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import functools
import json
import pathlib
import statistics
from typing import Any, NamedTuple

from absl import app
from absl import flags
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.evidence import ladders
from benchmarks.evidence import plan
from benchmarks.evidence.ladders import Knobs
from optax_namo.nanogpt import files
from optax_namo.nanogpt.compare import judge
from optax_namo.nanogpt.compare import report
from optax_namo.nanogpt.compare.significance import paired
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS
from optax_namo.nanogpt.optimizers import make_optimizer

STEPS = 100
RULES = (*plan.RULES, 'adamw')
SEEDS = tuple(range(5))
_KNOBS = 'learning_rate', 'adam_learning_rate'
_KEY = 'task', 'optimizer', *_KNOBS, 'seed'
_HERE = pathlib.Path(__file__).parent
_OUT = flags.DEFINE_string('beyond_out', str(_HERE), 'Folder of the rows.')


class _Block(nnx.Module):
  def __init__(self, width, rngs):
    self.ln_1, self.ln_2 = (nnx.LayerNorm(width, rngs=rngs) for _ in range(2))
    self.attn = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
    self.up = nnx.Linear(width, 4 * width, rngs=rngs)
    self.down = nnx.Linear(4 * width, width, rngs=rngs)

  def __call__(self, x):
    x += self.attn(self.ln_1(x))
    return x + self.down(jax.nn.gelu(self.up(self.ln_2(x))))


class ViT(nnx.Module):
  """Of patches of 2 × 2 pixels."""

  def __init__(self, rngs, width=32):
    self.embed = nnx.Conv(1, width, (2, 2), (2, 2), rngs=rngs)
    self.wpe = nnx.Embed(16, width, rngs=rngs)
    self.blocks = nnx.List([_Block(width, rngs) for _ in range(2)])
    self.head = nnx.Linear(width, 10, rngs=rngs)

  def __call__(self, images):
    x = self.embed(images)
    x = x.reshape(len(x), 16, -1) + self.wpe(jnp.arange(16))[None]
    for block in self.blocks:
      x = block(x)
    return self.head(x.mean(1))


class ResNet(nnx.Module):
  def __init__(self, rngs, width=8):
    conv = functools.partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
    self.embed = conv(1, width)
    self.convs = nnx.List([conv(width, width) for _ in range(3)])
    self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(3)])
    self.head = nnx.Linear(width, 10, rngs=rngs)

  def __call__(self, images):
    x = self.embed(images)
    for norm, conv in zip(self.norms, self.convs):
      x += conv(jax.nn.relu(norm(x)))
    return self.head(x.mean((1, 2)))


class Policy(nnx.Module):
  def __init__(self, rngs, width=32):
    self.embed = nnx.Linear(4, width, rngs=rngs)
    self.hidden = nnx.Linear(width, width, rngs=rngs)
    self.head = nnx.Linear(width, 2, rngs=rngs)

  def __call__(self, x):
    x = jnp.tanh(self.embed(x))
    return self.head(jnp.tanh(self.hidden(x)))


class Task(NamedTuple):
  """A model, the loss of a step, and the score of a run (less is better)."""

  model: Callable[[nnx.Rngs], nnx.Module]
  loss: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]]  # And a score.
  score: Callable[[Any, jax.Array], jax.Array]  # Of the model and all scores.


@functools.cache
def _digits():
  from sklearn import datasets  # The study's alone.

  found = datasets.load_digits()
  order = np.random.default_rng(0).permutation(len(found.target))
  images = found.images[order, :, :, None].astype(np.float32) / 8 - 1
  return images, found.target[order]


def images(model, batch_size):
  """The first 256 digits are for training; None: all at each step."""

  def loss_of(net, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(
      net(jnp.asarray(images)), jnp.asarray(labels)
    ).mean()

  def loss(net, key):
    images, labels = (x[:256] for x in _digits())
    if batch_size:
      some = jax.random.choice(key, 256, (batch_size,), replace=False)
      images, labels = jnp.asarray(images)[some], jnp.asarray(labels)[some]
    return loss_of(net, images, labels), jnp.zeros([])

  def score(net, _):
    return loss_of(net, *(x[1000:] for x in _digits()))

  return Task(model, loss, score)


def pole(episodes=16, length=200):
  """REINFORCE on a cart and pole, Barto, Sutton and Anderson's of 1983."""

  def move(state, push):
    x, dx, angle, turn = state
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    force = (push * 20 - 10 + 0.05 * turn**2 * sin) / 1.1
    bend = (9.8 * sin - cos * force) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
    pull = force - 0.05 * bend * cos / 1.1
    return state + 0.02 * jnp.array([dx, pull, turn, bend])

  def loss(net, key):
    starts = jax.random.uniform(key, (episodes, 4), minval=-0.05, maxval=0.05)

    def step(carry, key):
      states, alive = carry
      logits = jax.nn.log_softmax(net(states))
      push = jax.random.categorical(key, jax.lax.stop_gradient(logits))
      chosen = jnp.take_along_axis(logits, push[:, None], 1)[:, 0]
      states = jax.vmap(move)(states, push)
      up = (jnp.abs(states[:, 0]) < 2.4) & (jnp.abs(states[:, 2]) < 0.2095)
      return (states, alive & up), (chosen, alive.astype(jnp.float32))

    first = starts, jnp.ones(episodes, bool)
    _, (chosen, reward) = jax.lax.scan(
      step, first, jax.random.split(key, length)
    )
    after = jnp.cumsum(reward[::-1], axis=0)[::-1]
    better = after - after.mean(1, keepdims=True)
    return -jnp.mean(
      jnp.sum(chosen * better * reward, 0)
    ) / length, reward.mean()

  return Task(Policy, loss, lambda _, alive: 1 - alive[-10:].mean())


TASKS = {
  'ViT, 16 images': images(ViT, 16),
  'ViT, all images': images(ViT, None),
  'ResNet, 16 images': images(ResNet, 16),
  'ResNet, all images': images(ResNet, None),
  'cart and pole': pole(),
}


@functools.cache
def _program(task: str, optimizer: str):
  """Scores by seed, at rates."""
  model, loss, score = TASKS[task]
  config = make_config(optimizer=optimizer, steps=STEPS, weight_decay=0.0)

  def run(rates, seed):
    tx = make_optimizer(dataclasses.replace(config, **rates))
    graphdef, params = nnx.split(model(nnx.Rngs(jax.random.key(seed))))
    params = jax.tree.map(jnp.asarray, params)
    key = jax.random.fold_in(jax.random.key(1), seed)

    def step(carry, key):
      params, state = carry
      of = lambda params: loss(nnx.merge(graphdef, params), key)
      gradients, told = jax.grad(of, has_aux=True)(params)
      updates, state = tx.update(gradients, state, params)
      return (optax.apply_updates(params, updates), state), told

    keys = jax.random.split(key, STEPS)
    (params, _), told = jax.lax.scan(step, (params, tx.init(params)), keys)
    return score(nnx.merge(graphdef, params), told)

  return jax.jit(
    lambda rates, seeds: jax.lax.map(functools.partial(run, rates), seeds)
  )


class Rows:
  """Scores by what makes them; those that are missing are made."""

  def __init__(self, path: pathlib.Path, task: str):
    self._path, self._task = path, task
    self._scores = {
      self._key(row): row['score'] for row in files.read_rows(path)
    }

  def _key(self, row: Knobs) -> str:
    return json.dumps({name: row[name] for name in _KEY})

  def scores(self, knobs: Knobs, seeds: Sequence[int]) -> list[float]:
    """Of each seed."""
    runs = [{'task': self._task, **knobs, 'seed': seed} for seed in seeds]
    if left := [run for run in runs if self._key(run) not in self._scores]:
      program = _program(self._task, knobs['optimizer'])
      rates = {name: knobs[name] for name in _KNOBS}
      found = program(rates, np.array([run['seed'] for run in left]))
      for run, score in zip(left, found.tolist()):
        run |= {'score': score if np.isfinite(score) else 1e9}  # Diverged.
        self._scores[self._key(run)] = run['score']
        files.append_rows(self._path, [run])
    return [self._scores[self._key(run)] for run in runs]

  def need(self, wanted: Iterable[Knobs], seeds: Sequence[int]) -> None:
    """For ``ladders.walk``."""
    for knobs in wanted:
      self.scores(knobs, seeds)

  def mean(self, knobs: Knobs) -> float:
    return statistics.fmean(self.scores(knobs, ladders.TUNING))


def tuned(rows: Rows, optimizer: str) -> Knobs:
  """The rates: that of the matrices, the AdamW group's, and the first anew."""
  knobs = {
    'optimizer': optimizer,
    'learning_rate': ladders.RATES[optimizer],
    'adam_learning_rate': 0.003,
  }
  return ladders.walk(rows, knobs, *_KNOBS, 'learning_rate')


def scores(
  path: pathlib.Path, task: str
) -> dict[str, tuple[Knobs, list[float]]]:
  """By optimizer its best knobs, and the score of each seed."""
  rows = Rows(path, task)
  best = {optimizer: tuned(rows, optimizer) for optimizer in RULES}
  return {
    name: (knobs, rows.scores(knobs, SEEDS)) for name, knobs in best.items()
  }


def table(path: pathlib.Path) -> str:
  """Markdown: a line a task and an optimizer, with differences to Muon."""
  lines = []
  for task in TASKS:
    found = scores(path, task)
    for name, (knobs, of) in found.items():
      test = paired(of, found['muon'][1])
      lines.append(
        {
          '': f'{task}: {OPTIMIZERS[name].label}',
          'rates': ', '.join(f'{knobs[knob]:g}' for knob in _KNOBS),
          'score': f'{statistics.fmean(of):.4f} ± {statistics.stdev(of):.4f}',
          'difference to Muon': (
            f'{test.mean:+.4f} {judge.interval(test, 4)}'
            if name != 'muon'
            else ''
          ),
        }
      )
  return report.markdown(lines)


def main(argv):
  del argv
  print(table(pathlib.Path(_OUT.value) / 'beyond.jsonl'))


if __name__ == '__main__':
  app.run(main)
