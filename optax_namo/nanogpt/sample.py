# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes on from a prompt, with a run's newest checkpoint.

  python -m optax_namo.nanogpt.sample RUN --prompt='The people'

The run may be finished or not.
"""

import pathlib

from absl import app
from absl import flags
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from optax_namo.nanogpt import command
from optax_namo.nanogpt import data
from optax_namo.nanogpt import files
from optax_namo.nanogpt import generate
from optax_namo.nanogpt import model as gpt
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.mesh import shardings


def _define_flags() -> None:
  flags.DEFINE_string(
    'prompt',
    None,
    "What the text begins with; default: the validation text's first token.",
    module_name='text',
  )
  flags.DEFINE_integer(
    'num_tokens', 400, 'How many tokens to add.', module_name='text'
  )
  flags.DEFINE_float(
    'temperature',
    0.8,
    'Divides the logits: lower is more predictable.',
    module_name='text',
  )
  flags.DEFINE_integer(
    'top_k',
    None,
    'Draw from so many likeliest tokens; default: from all.',
    module_name='text',
  )
  flags.DEFINE_integer('seed', 0, 'Of the text.', module_name='text')


def sample(
  folder: pathlib.Path,
  prompt: str | None = None,
  *,
  num_tokens: int = 400,
  temperature: float = 0.8,
  top_k: int | None = None,
  seed: int = 0,
) -> str:
  """Returns a prompt and what a run's newest checkpoint makes of it.

  Args:
    folder: The run's folder; it is only read.
    prompt: The beginning of the text, or None for the first token of the
      validation text.
    num_tokens: How many tokens to add.
    temperature: See ``generate.generate``.
    top_k: See ``generate.generate``.
    seed: Seed of the text.

  Raises:
    OSError: There is no such run, or its data are gone.
    ValueError: The run has no checkpoint yet, its data have changed, the prompt
      is empty or is not made of the run's tokens, or a number is out of range.
  """
  if not (folder / 'config.json').is_file():
    raise FileNotFoundError(
      f'{folder} holds no run: it has no config.json. Name the --out of one.'
    )
  config = run_folder.read_config(folder)
  try:
    corpus = data.load(
      config.data,
      tokenizer=config.tokenizer,
      block_size=config.sizes.block_size,
    )
  except FileNotFoundError as error:
    raise FileNotFoundError(
      f'the data {config.data!r} of the run in {folder} are gone, or relative'
      f' to where it began: {error}'
    ) from error
  run_folder.check_data(folder, data.digest(corpus))
  ids = corpus.val[:1] if prompt is None else corpus.encode(prompt)
  if not len(ids):
    raise ValueError('--prompt is empty: give at least one token.')
  try:
    key = jax.random.key(seed)
  except OverflowError:
    raise ValueError(f'seed={seed} has more than 64 bits.') from None
  model = _restore(folder, config, corpus.vocab_size)
  (text,) = generate.generate(
    model,
    jnp.asarray(ids, jnp.int32)[None],
    num_tokens,
    key=key,
    temperature=temperature,
    top_k=top_k,
  )
  return corpus.decode(np.asarray(text).tolist())


def _restore(folder: pathlib.Path, config: Config, vocab_size: int) -> gpt.GPT:
  """The model in the newest checkpoint, on one device."""
  if run_folder.newest_step(folder) is None:
    raise ValueError(
      f'{folder} has no whole checkpoint yet: the run writes one every'
      f' {config.checkpoint_every} steps.'
    )
  mesh, model = make_mesh(''), train.model_config(config, vocab_size)
  tx = train.optimizer(config, model)
  graphdef, fresh = nnx.eval_shape(lambda: train.init(config, model, tx, mesh))
  fresh = jax.tree.map(
    lambda leaf, where: leaf.update(sharding=where),
    fresh,
    shardings(mesh, fresh),
  )
  with run_folder.checkpoints(folder) as manager:
    return nnx.merge(graphdef, run_folder.restore(manager, fresh).params)


def main(argv: list[str]) -> None:
  if len(argv) != 2:
    raise app.UsageError('name the folder of one run')
  values = flags.FLAGS
  with command.told():
    text = sample(
      files.typed(argv[1]),
      values.prompt,
      num_tokens=values.num_tokens,
      temperature=values.temperature,
      top_k=values.top_k,
      seed=values.seed,
    )
  print(text)


if __name__ == '__main__':
  _define_flags()
  command.run(main, __doc__)
