# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Short runs, many from one program: their rates and seeds are its inputs.

On a CPU they go through it one after the other, on an accelerator side by side.
There are no checkpoints: what was killed is made again. Rows are those of
``compare.sweep``, and beside them have

  task     what was done to the run's data or rate, of ``TASKS``; not there: '',
           nothing
  signal   [step, signal to noise of the gradient of one of its batches]
  scales   by matrix, its mean scale at the first of every ``EVERY`` steps, or
           of all steps
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
import functools
import json
import time
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import optax_namo
from optax_namo._layout import trees
from optax_namo.nanogpt import data
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import train
from optax_namo.nanogpt.compare import sweep
from optax_namo.nanogpt.compare.arms import Row
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.mesh import device
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer

TASKS = (
  '',
  'measured',  # Nothing, of a run that has a row without signal and scales.
  'ramp',  # From 16 sequences, doubled to 1,024 in seven parts of the run.
  'labels',  # From half of the run on, half of the targets are random.
  'follows the model',  # NAMO's scale, mean over seeds and matrices.
  'follows each matrix',  # The same by matrix.
  'each step',  # Nothing; the scales of all steps are kept.
  'follows the model, each step',  # Which these follow.
  'follows each matrix, each step',
)
EVERY = 5
INPUTS = ('learning_rate', 'adam_learning_rate')  # And the seed.
_PROBE = 256  # Sequences of each of two gradients that tell signal from noise.

Curves = dict[str, np.ndarray]  # By matrix, a factor on the rate of every step.


class Run(NamedTuple):
  config: Config
  task: str = ''

  @property
  def key(self) -> str:
    return _key(self)


@functools.cache  # A walk asks for the same again and again.
def _key(run: Run) -> str:
  return f'{run.task}{identity(run.config)}'


def run_of(row: Row) -> Run:
  return _run_of(json.dumps(row['config']), row.get('task', ''))


@functools.cache
def _run_of(config: str, task: str) -> Run:
  return Run(from_file(json.loads(config)), task)


def batch(run: Run, corpus: data.Corpus, step: int) -> list[np.ndarray]:
  """Inputs and targets of a step, (accumulate, batch, time) each."""
  config = run.config
  ramp = 16 * 2 ** (7 * step // config.steps)
  size = config.accumulate * config.batch_size
  inputs, targets = data.batch(
    corpus.train,
    seed=config.seed,
    step=step,
    batch_size=ramp if run.task == 'ramp' else size,
    block_size=config.sizes.block_size,
  )
  if run.task == 'labels' and 2 * step >= config.steps:
    rng = np.random.default_rng((config.seed, step, 1))
    drawn = rng.integers(
      corpus.vocab_size, size=targets.shape, dtype=targets.dtype
    )
    targets = np.where(rng.random(targets.shape) < 0.5, drawn, targets)
  shape = config.accumulate, -1, config.sizes.block_size
  return [inputs.reshape(shape), targets.reshape(shape)]


def _probe(
  run: Run, corpus: data.Corpus, step: int, i: int
) -> list[np.ndarray]:
  """One of two batches that no step has, (1, batch, time)."""
  found = data.batch(
    corpus.train,
    seed=run.config.seed,
    step=10**6 + 2 * step + i,
    batch_size=_PROBE,
    block_size=run.config.sizes.block_size,
  )
  return [x[None] for x in found]


def _every(task: str) -> int:
  return 1 if task.endswith('each step') else EVERY


def curves(run: Run, rows: Iterable[Row]) -> Curves:
  """What the run's rate follows: scales of NAMO's runs in its setting."""
  alike = lambda c: (c.preset, c.batch_size, c.steps, c.decay_steps)
  every = _every(run.task)
  found = [
    row['scales']
    for row in rows
    if run_of(row).task == ('each step' if every == 1 else '')
    and row['config']['optimizer'] == 'namo'
    and row['config']['seed'] < 100  # Not of tuning.
    and alike(from_file(row['config'])) == alike(run.config)
  ]
  steps = range(run.config.steps)
  mean = {path: np.mean([s[path] for s in found], axis=0) for path in found[0]}
  if run.task.startswith('follows the model'):
    mean = dict.fromkeys(mean, np.mean(list(mean.values()), axis=0))
  return {path: np.interp(steps, steps[::every], x) for path, x in mean.items()}


def _follow(curves: dict[str, jax.Array]) -> optax.GradientTransformation:
  """Multiplies a matrix's update by its curve, if there is one.

  Raises:
    KeyError: There is no matrix at the path of a curve.
  """

  def update(updates, count, params=None):
    del params
    leaves, treedef = jax.tree.flatten(updates)
    places = {path: i for i, path in enumerate(trees.paths(updates))}
    for path, curve in curves.items():
      leaves[places[path]] *= curve[count]
    return treedef.unflatten(leaves), count + 1

  return optax.GradientTransformation(
    lambda _: jnp.zeros([], jnp.int32), update
  )


def _over_runs(function):
  """Side by side; on a CPU in turn, where nothing is won by it."""

  def mapped(*args):
    if jax.default_backend() == 'cpu':
      return jax.lax.map(lambda one: function(*one), args)
    return jax.vmap(function)(*args)

  return jax.jit(mapped)


class _Model(NamedTuple):
  """What runs share whatever the optimizer; arguments lead with runs."""

  init: Callable[..., Any]  # (seeds,)
  gradient: Callable[..., Any]  # (params, inputs, targets)
  evaluate: Callable[[Any], float]  # Of the parameters of one run.


_held: list[data.Corpus] = []  # Arrays have no hash for a cache.


@functools.lru_cache(maxsize=2)
def _model(config: Config) -> _Model:
  mesh, (corpus,) = make_mesh(''), _held
  sizes = train.model_config(config, corpus.vocab_size)
  new = lambda seed: nnx.split(
    gpt.GPT(sizes, rngs=nnx.Rngs(jax.random.key(seed)))
  )
  graphdef, _ = nnx.eval_shape(lambda: new(0))
  # Its state is the gradient.
  kept = optax.GradientTransformation(
    lambda p: p, lambda g, *_: (optax.tree.zeros_like(g), g)
  )

  def gradient(params, *tokens):
    state = train.TrainState(jnp.zeros([], jnp.int32), params, params)
    return train.make_step(graphdef, kept, mesh)(state, *tokens)[0].opt_state

  evaluate = train.make_evaluate(graphdef, config, corpus.val, mesh)
  return _Model(_over_runs(lambda s: new(s)[1]), _over_runs(gradient), evaluate)


class _Rule(NamedTuple):
  """An optimizer with its schedule; arguments lead with runs."""

  init: Callable[..., Any]  # (knobs, curves, params)
  update: Callable[..., Any]  # (knobs, curves, gradients, state, params)


@functools.lru_cache(maxsize=2)
def _rule(config: Config) -> _Rule:
  def optimizer(knobs, curves):
    tx = make_optimizer(dataclasses.replace(config, **knobs))
    return optax.chain(tx, _follow(curves)) if curves else tx

  def init(knobs, curves, params):
    return optimizer(knobs, curves).init(params)

  def update(knobs, curves, gradients, state, params):
    updates, state = optimizer(knobs, curves).update(gradients, state, params)
    try:
      told = optax_namo.diagnostics(state)
    except ValueError:  # It records nothing.
      told = {}
    scales = {path: one.scale_mean for path, one in told.items()}
    return optax.apply_updates(params, updates), state, scales

  return _Rule(_over_runs(init), _over_runs(update))


def _signal_to_noise(gradients: Sequence[Any], size: int) -> np.ndarray:
  """Of the matrices, of batches of a size, without bias; one number a run.

  From the gradients of two batches of ``_PROBE`` sequences.
  """

  def matrices(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    kernels = [
      x for path, x in leaves if 'kernel' in jax.tree_util.keystr(path)
    ]
    return np.concatenate([np.reshape(x, (len(x), -1)) for x in kernels], 1)

  one, other = map(matrices, gradients)
  noise = np.mean((one - other) ** 2, axis=1) * _PROBE / 2 / size
  return np.mean(one * other, axis=1) / noise


def train_runs(
  runs: Sequence[Run], corpus: data.Corpus, rows: Sequence[Row] = ()
) -> list[Row]:
  """A row for each of some runs that differ in seed and ``INPUTS`` alone.

  Args:
    runs: The runs.
    corpus: Their data, the same in every call of a process.
    rows: Those there are, among them what the runs follow.
  """
  _held[:] = [corpus]
  first, task = runs[0]
  # What does not bear on it is alike for all.
  model = _model(
    make_config(
      preset=first.preset,
      embed_dim=first.embed_dim,
      dtype=first.dtype,
      eval_sequences=first.eval_sequences,
    )
  )
  rule = _rule(
    dataclasses.replace(
      first,
      **dict.fromkeys(INPUTS, 1.0),
      seed=0,
      batch_size=1,
      accumulate=1,
    )
  )
  at = lambda name: np.array([getattr(run.config, name) for run in runs])
  knobs = {name: at(name).astype(np.float32) for name in INPUTS}
  followed = curves(runs[0], rows) if task.startswith('follows') else {}
  followed = {k: np.stack([x] * len(runs)) for k, x in followed.items()}
  stacked = lambda parts: [np.stack(x) for x in zip(*parts)]
  began = time.perf_counter()
  params = model.init(at('seed'))
  state = rule.init(knobs, followed, params)
  losses: list[list] = [[] for _ in runs]
  signal: list[list] = [[] for _ in runs]
  told = []
  for step in range(first.steps):
    tokens = stacked(batch(run, corpus, step) for run in runs)
    gradients = model.gradient(params, *tokens)
    params, state, scales = rule.update(
      knobs, followed, gradients, state, params
    )
    if step % _every(task) == 0:
      told.append(scales)
    if (step + 1) % first.eval_every == 0 or step + 1 == first.steps:
      probes = [
        model.gradient(
          params, *stacked(_probe(run, corpus, step, i) for run in runs)
        )
        for i in range(2)
      ]
      ratios = _signal_to_noise(probes, tokens[0][0, ..., 0].size)
      for i, ratio in enumerate(ratios):
        losses[i].append([step + 1, model.evaluate(_one(params, i))])
        signal[i].append([step + 1, _digits(ratio)])
  spent = 1000 * (time.perf_counter() - began) / first.steps / len(runs)
  made = []
  for i, run in enumerate(runs):
    row = {
      'config': dataclasses.asdict(run.config),
      'val_losses': losses[i],
      'ms_per_step': spent,
      'device': device(),
      'task': task,
      'signal': signal[i],
      'scales': {
        path: [_digits(scales[path][i]) for scales in told]
        for path in told[0]
        if 'muon' not in first.optimizer  # Whose scale is one.
      },
    }
    if sweep.diverged([loss for _, loss in losses[i]], corpus.vocab_size):
      row['diverged'] = True
    made.append(json.loads(json.dumps(row), parse_constant=lambda _: None))
  return made


def _one(stacked: Any, i: int) -> Any:
  return jax.tree.map(lambda x: x[i], stacked)


def _digits(value) -> float:
  return float(f'{float(value):.4g}')
