# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training: a pure, jitted step, the validation loss, the loop around both."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
import pathlib
import time
from typing import Any, NamedTuple

from flax import nnx
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import Mesh
import numpy as np
import optax
import tqdm

import optax_namo
from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import generate
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import plot
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import summary
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.mesh import constrain
from optax_namo.nanogpt.mesh import gather
from optax_namo.nanogpt.mesh import local_rows
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.mesh import place_batch
from optax_namo.nanogpt.mesh import shardings
from optax_namo.nanogpt.optimizers import make_optimizer
from optax_namo.nanogpt.optimizers import schedule

_FLUSH_EVERY = 10  # Steps whose losses are fetched and written together.
# Tokens whose gradient one CPU takes at a time. XLA's CPU backend asks for a
# program's temporary memory anew at every call, and above 32 MB malloc gives
# pages that are mapped and zeroed each time, which is a good part of a step of
# the `char` preset taken whole (benchmarks/train_step.py).
_CPU_TOKENS = 256
_SAMPLE_TOKENS = 400
# Runs that differ in these alone share what is compiled, as those of a sweep do
# at several seeds, or a run and its resumption: so many programs are kept.
_IN_NO_PROGRAM: dict[str, Any] = {
  'data': '', 'seed': 0, 'eval_every': 1, 'checkpoint_every': 1
}  # fmt: skip
_shared = functools.lru_cache(maxsize=8)


class TrainState(NamedTuple):
  """All that changes from step to step."""

  step: jax.Array  # shape=(), dtype=int32; the steps done.
  params: nnx.State
  opt_state: optax.OptState


def model_config(config: Config, vocab_size: int) -> gpt.GPTConfig:
  """The model of a preset, for a vocabulary."""
  sizes = config.sizes
  return gpt.GPTConfig(
    vocab_size=vocab_size,
    block_size=sizes.block_size,
    num_layers=sizes.num_layers,
    num_heads=sizes.num_heads,
    embed_dim=config.embed_dim,
    dtype=config.dtype,
  )


def init(
  config: Config,
  model: gpt.GPTConfig,
  tx: optax.GradientTransformation,
  mesh: Mesh,
) -> tuple[Any, TrainState]:
  """The model's definition and the state before the first step."""
  graphdef, first = _first(model, tx, mesh)
  return graphdef, first(jax.random.key(config.seed))


@_shared
def _first(
  model: gpt.GPTConfig, tx: optax.GradientTransformation, mesh: Mesh
) -> tuple[Any, Callable[[jax.Array], TrainState]]:
  """The model's definition, and the state before the first step, of a key."""
  graphdef, _ = _abstract(model)

  def first(key):
    _, params = nnx.split(gpt.GPT(model, rngs=nnx.Rngs(key)))
    return TrainState(jnp.zeros([], jnp.int32), params, tx.init(params))

  # No device ever holds the whole: each makes its own part.
  where = shardings(mesh, jax.eval_shape(first, jax.random.key(0)))
  return graphdef, jax.jit(first, out_shardings=where)


@_shared
def _abstract(model: gpt.GPTConfig) -> tuple[Any, nnx.State]:
  """The model's definition and the shapes of its parameters."""
  return nnx.split(nnx.eval_shape(lambda: gpt.GPT(model, rngs=nnx.Rngs(0))))


def _use(model: gpt.GPTConfig) -> tuple[Any, ...]:
  """The loss, and the shapes of its parameters and of a batch."""
  graphdef, params = _abstract(model)
  tokens = jax.ShapeDtypeStruct((1, model.block_size), jnp.int32)
  loss = lambda params, *batch: gpt.loss(nnx.merge(graphdef, params), *batch)
  return loss, params, tokens, tokens


def optimizer(
  config: Config, model: gpt.GPTConfig
) -> optax.GradientTransformationExtraArgs:
  """The config's optimizer, which knows how the loss uses each parameter."""
  return _optimizer(dataclasses.replace(config, **_IN_NO_PROGRAM), model)


@_shared
def _optimizer(
  config: Config, model: gpt.GPTConfig
) -> optax.GradientTransformationExtraArgs:
  numbers = optax_namo.dimension_numbers_by_use(*_use(model))
  return make_optimizer(config, numbers)


def routing(config: Config, model: gpt.GPTConfig) -> optax_namo.RoutingTable:
  """Where the model's parameters go, without making any."""
  loss, params, *batch = _use(model)
  return optax_namo.routing_table(
    params, use=(loss, *batch), columns=config.columns
  )


@_shared
def make_step(
  graphdef: Any, tx: optax.GradientTransformation, mesh: Mesh
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """The jitted train step; it donates the state it is given.

  Args:
    graphdef: The model's definition.
    tx: The optimizer.
    mesh: The mesh over which state and batches are spread.

  Returns:
    A function from the state and the step's inputs and targets, int32
    (accumulate, batch, time) each, to the next state and scalar float32
    metrics: the mean loss in nats per token and the gradient's global norm.
  """

  def loss_fn(params, inputs, targets):
    return gpt.loss(nnx.merge(graphdef, params), inputs, targets)

  def in_slices(tokens):
    """(accumulate, batch, time), or on one CPU more and smaller batches."""
    if mesh.size > 1 or mesh.devices.flat[0].platform != 'cpu':
      return tokens
    _, batch, time = tokens.shape
    rows = math.gcd(batch, max(1, _CPU_TOKENS // time))
    return tokens.reshape(-1, rows, time)

  # What record kept of the last step is unused, and donated all the same.
  @functools.partial(jax.jit, donate_argnums=0, keep_unused=True)
  def step(state, inputs, targets):
    inputs, targets = in_slices(inputs), in_slices(targets)

    def add(total, micro_batch):
      loss, gradients = jax.value_and_grad(loss_fn)(state.params, *micro_batch)
      one = loss, constrain(mesh, gradients)
      return jax.tree.map(jnp.add, total, one), None

    zeros = (jnp.zeros([]), jax.tree.map(jnp.zeros_like, state.params))
    total, _ = jax.lax.scan(add, zeros, (inputs, targets))
    loss, gradients = jax.tree.map(lambda x: x / len(inputs), total)
    updates, opt_state = tx.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    scalars = {'loss': loss, 'grad_norm': optax.tree.norm(gradients)}
    state = TrainState(state.step + 1, params, opt_state)
    return constrain(mesh, state), scalars

  return step


def batches(
  config: Config, corpus: data.Corpus, step: int, mesh: Mesh
) -> tuple[jax.Array, ...]:
  """Inputs and targets of a step, (accumulate, batch, time) each."""
  shape = (config.accumulate, config.batch_size, config.sizes.block_size)
  crops = data.batch(
    corpus.train,
    seed=config.seed,
    step=step,
    batch_size=config.accumulate * config.batch_size,
    block_size=config.sizes.block_size,
    vocab_size=corpus.vocab_size,
    rows=local_rows(mesh, shape),
  )
  return tuple(place_batch(mesh, part, shape) for part in crops)


def make_evaluate(
  graphdef: Any, config: Config, tokens: np.ndarray, mesh: Mesh
) -> Callable[[nnx.State], float]:
  """The mean loss, in nats per token, over fixed crops of ``tokens``."""
  count = config.eval_sequences
  # The sample is the same on every mesh and for every batch size of a step.
  size = mesh.size * -(-config.sizes.batch_size // mesh.size)
  shape = (size, config.sizes.block_size)
  counted = np.arange(count + -count % size).reshape(-1, size) < count

  def evaluate(params):
    crops = data.eval_batches(
      tokens,
      num_sequences=count,
      batch_size=size,
      block_size=config.sizes.block_size,
      rows=local_rows(mesh, shape),
    )
    losses = [
      _sum_of_losses(
        graphdef,
        params,
        rows,
        *(place_batch(mesh, part, shape) for part in crop),
      )
      for rows, crop in zip(counted, crops)
    ]
    return float(np.sum(losses)) / count

  return evaluate


@functools.partial(jax.jit, static_argnums=0)
def _sum_of_losses(graphdef, params, counted, *batch):
  losses = gpt.token_losses(nnx.merge(graphdef, params), *batch)
  return jnp.sum(jnp.mean(losses, axis=-1), where=counted)


class Stopped(Exception):
  """A run was asked to stop, and did after a ``step`` whose state is kept."""

  def __init__(self, step: int):
    super().__init__(f'stopped after step {step}')
    self.step = step


class Diverged(Exception):
  """A run ended since its loss, or a parameter, was not finite any more."""


def never(step: int) -> bool:
  """Does not ask a run to stop."""
  del step
  return False


def fit(
  config: Config,
  corpus: data.Corpus,
  out: pathlib.Path,
  resume: bool,
  tensorboard: bool = False,
  *,
  stop: Callable[[int], bool] = never,
  saved: Callable[[int, Sequence[dict[str, Any]]], None] | None = None,
) -> tuple[dict[str, float], gpt.GPT]:
  """Trains, and leaves metrics and checkpoints in ``out``.

  Of several processes each calls it, and the first one writes and prints.

  Args:
    config: The run; it and the corpus determine the result to the last bit.
    corpus: The data.
    out: The run's folder, claimed before (``run_folder.claim``).
    resume: Whether to go on from the newest whole checkpoint.
    tensorboard: Whether to write the metrics for TensorBoard as well.
    stop: Given a step that is done, whether to stop there; of several processes
      each must say the same.
    saved: What the first process does after each checkpoint, given its step and
      the rows of metrics up to it that have a validation loss.

  It ends before its last step where a validation loss, or a parameter that is
  to be saved, is not finite. Of those it saves none in the place of good ones.

  Returns:
    The last ``step``, its ``loss`` and ``val_loss`` in nats per token; and the
    model, on one device.

  Raises:
    ValueError: The mesh does not fit the devices there are, the checkpoint not
      the model, or the data are not those that the run began with.
    OSError: ``out`` cannot be written any more; what it holds is whole.
    Stopped: ``stop`` asked for it, before the last step.
  """
  mesh = make_mesh(config.mesh)
  first = jax.process_index() == 0
  model = model_config(config, corpus.vocab_size)
  tx = optimizer(config, model)
  graphdef, state = init(config, model, tx, mesh)
  step_fn = make_step(graphdef, tx, mesh)
  evaluate = make_evaluate(graphdef, config, corpus.val, mesh)
  rate = jax.jit(schedule(config, config.learning_rate))
  manager, digest = run_folder.checkpoints(out), data.digest(corpus)
  if resume:
    run_folder.check_data(out, digest)
    restored = run_folder.restore(manager, state)
    if restored is not None:
      state = restored
      if first:
        print(f'Going on from step {int(state.step)} of {out}.')
  if first:  # Not before there is a state that the config fits.
    run_folder.write_config(out, config, digest)
  start = int(state.step)
  log = metrics.Log(out, start, tensorboard) if first else None
  tokens = config.accumulate * config.batch_size * config.sizes.block_size
  pending: list[tuple[int, dict[str, jax.Array]]] = []
  began = time.perf_counter()
  bar = tqdm.tqdm(
    total=config.steps,
    initial=start,
    # Without the rate, which is in tokens: it fits into 80 columns.
    bar_format='{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left'
    '{postfix}]',
    dynamic_ncols=True,
    postfix='compiling' if start < config.steps else None,
    leave=None,  # Stays, unless it is inside the bar of a sweep.
    disable=not first,
  )
  stopping, sound = False, True
  for step in range(start, config.steps):
    state, scalars = step_fn(state, *batches(config, corpus, step, mesh))
    if step == start:
      jax.block_until_ready(scalars)
      bar.unpause()  # The time left is that of steps, not of compilation.
    done = step + 1
    pending.append((done, scalars))
    last = done == config.steps
    stopping = stop(done) and not last
    look = done % config.eval_every == 0 or last
    save = done % config.checkpoint_every == 0 or last or stopping
    if not (look or save or done % _FLUSH_EVERY == 0):
      continue
    rows = [metrics.row(done, scalars, rate) for done, scalars in pending]
    seconds = time.perf_counter() - began
    speed = tokens * len(pending) / seconds
    for row in rows:
      row['tokens_per_second'] = speed
    sound = not save or bool(_finite(state.params))
    if look or not sound:
      rows[-1]['val_loss'] = evaluate(state.params)
      sound = sound and math.isfinite(rows[-1]['val_loss'])
      if told := metrics.diagnostics(state.opt_state):
        rows[-1]['diagnostics'] = told
    if log:
      log.write(rows)
    bar.update(len(rows))
    pending.clear()
    if save and sound:
      # After the metrics: rows past a checkpoint are cut, none is missing.
      run_folder.save(manager, done, state)
      if log and saved:
        saved(done, log.evaluated)
    bar.set_postfix_str(f'loss {rows[-1]["loss"]:.3f}, {speed:,.0f} tokens/s')
    if first and not sound:
      print(f'The loss of step {done} is not finite: there it ends.')
    if stopping or not sound:
      break
    began = time.perf_counter()
  bar.close()
  if log:
    log.close()
  manager.close()
  multihost_utils.sync_global_devices('metrics')  # Written before any reads.
  if stopping and sound:
    raise Stopped(int(state.step))
  done = int(state.step)
  newest = {row['step']: row for row in metrics.read(out)}.get(done, {})
  # A finished run may be resumed without its metrics, or with another
  # --eval_every.
  loss = newest.get('loss') or make_evaluate(
    graphdef, config, corpus.train, mesh
  )(state.params)
  val_loss = newest.get('val_loss') or evaluate(state.params)
  final = {'step': done, 'loss': loss, 'val_loss': val_loss}
  return final, nnx.merge(graphdef, gather(mesh, state.params))


@jax.jit
def _finite(params: nnx.State) -> jax.Array:
  finite = jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), params)
  return jax.tree.reduce(jnp.logical_and, finite)


def run(
  config: Config,
  corpus: data.Corpus,
  out: pathlib.Path,
  resume: bool,
  tensorboard: bool = False,
  stop: Callable[[int], bool] = never,
) -> dict[str, float]:
  """Does what ``fit`` does, and leaves a plot, a sample and run.md beside.

  Raises:
    Diverged: It ended since its loss was not finite; and what ``fit`` raises.
  """
  summarize = functools.partial(summary.write, out, config)
  try:
    final, model = fit(
      config, corpus, out, resume, tensorboard, stop=stop, saved=summarize
    )
  except Stopped as stopped:
    if not jax.process_index():
      summarize(stopped.step, _draw(config, out))
    raise
  evaluated = [] if jax.process_index() else _draw(config, out)
  if not math.isfinite(final['val_loss']):
    rows = metrics.read(out)
    bad = [row['step'] for row in rows if not math.isfinite(row['loss'])]
    since = min(bad, default=final['step'])
    if evaluated:
      summarize(int(final['step']), evaluated)
    raise Diverged(f'the loss is not finite since step {since}')
  if jax.process_index():
    return final
  sample = _sample(config, corpus, model)
  files.write_whole(out / 'sample.txt', sample)
  summarize(int(final['step']), evaluated, sample)
  print(f'\n{sample}\n')
  print(
    f'Step {final["step"]}: training loss {final["loss"]:.4f}, validation loss'
    f' {final["val_loss"]:.4f} nats per token. Everything is in {out}. Next:\n'
  )
  for line in summary.next_commands(out, config, int(final['step'])):
    print(f'  {line}')
  return final


def _draw(config: Config, out: pathlib.Path) -> list[dict[str, Any]]:
  """Draws losses and scales; the rows of metrics with a validation loss."""
  rows = metrics.read(out)
  plot.losses(rows, out / 'loss.png', title=plot.title_of(config))
  return [row for row in rows if 'val_loss' in row]


def _sample(config: Config, corpus: data.Corpus, model: gpt.GPT) -> str:
  """Text that the model continues the validation text's first token with."""
  prompt = jnp.asarray(corpus.val[None, :1], jnp.int32)
  key = jax.random.fold_in(jax.random.key(config.seed), config.steps)
  (ids,) = generate.generate(model, prompt, _SAMPLE_TOKENS, key=key)
  return corpus.decode(np.asarray(ids).tolist())
