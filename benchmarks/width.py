# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.width``: does one rate serve every width?

A coordinate check: an embedding, a residual layer, four times as wide in
between, and a head, trained for a few steps at rates that do not know the
width. Where the change of features grows with the width, the rate must fall.
With ``shape_scale='spectral'`` that of matrices need not; of what AdamW trains
the head's falls with 1 / width, embeddings and biases keep theirs: ``recipe``.
Writes results/width.png beside this file and prints the slopes; 0 is flat.
"""

import pathlib

import jax
import jax.numpy as jnp
from matplotlib import figure
import numpy as np
import optax

from benchmarks import harness
import optax_namo

WIDTHS = (64, 128, 256, 512, 1024)
SCALES = ('rms', 'width', 'spectral')
STEPS = 4
_RATES = {'rms': 0.02, 'width': 0.03, 'spectral': 0.03}  # Alike at 64 wide.
_ADAM_RATE = 0.01
_IDS = 64
_PNG = pathlib.Path(__file__).parent / 'results' / 'width.png'


def init(width, seed=0):
  """Entries of features are of size 1, logits at most."""
  rng = np.random.default_rng(seed)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'embed': {'embedding': normal(_IDS, width)},
    'up': {'kernel': normal(width, 4 * width) / width**0.5},
    'down': {'kernel': normal(4 * width, width) / (4 * width) ** 0.5},
    'head': {
      'kernel': normal(width, _IDS) / width,
      'bias': jnp.zeros(_IDS),
    },
  }


def features(params, ids):
  """By the layer that makes them, (batch, features) each."""
  embed = params['embed']['embedding'][ids]
  up = jax.nn.relu(embed @ params['up']['kernel'])
  down = embed + up @ params['down']['kernel']
  head = down @ params['head']['kernel'] + params['head']['bias'][None]
  return {'embed': embed, 'up': up, 'down': down, 'head': head}


def recipe(matrices, adam_rate, width, base=64):
  """Matrices as they are; AdamW's rate, tuned at ``base``, of the rest.

  Adam moves every entry as far. A feature is one entry of an embedding or bias,
  but a logit is a sum over the width of the head's.
  """
  rest = optax.partition(
    {
      'head': optax.adamw(adam_rate * base / width, weight_decay=0.0),
      'other': optax.adamw(adam_rate, weight_decay=0.0),
    },
    # Of the matrices, which it does not see, only the structure is left.
    lambda params: {
      name: jax.tree.map(lambda _: 'other', layer)
      if name != 'head'
      else {'kernel': 'head', 'bias': 'other'}
      for name, layer in params.items()
    },
  )
  return optax_namo.routed(matrices, rest)


def matrices(shape_scale, rate):
  """NAMO-D's chain at a rate."""
  return optax.chain(
    optax_namo.adaptive_momentum(columns='input'),
    optax_namo.orthogonalize(),
    optax_namo.scale_by_shape(shape_scale),
    optax_namo.clamp_scale(),
    optax_namo.apply_scale(),
    optax.scale_by_learning_rate(rate),
  )


def changes(tx, width, seed=0):
  """By layer, the root mean square change of its features after the steps."""
  ids = jnp.arange(_IDS)  # All of them: each is to be followed by another one.
  targets = jnp.asarray(np.random.default_rng(1).permutation(_IDS))

  def loss(params):
    logits = features(params, ids)['head']
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, targets
    ).mean()

  @jax.jit
  def run(params):
    def step(carry, _):
      params, state = carry
      updates, state = tx.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    start = params, tx.init(params)
    (after, _), _ = jax.lax.scan(step, start, length=STEPS)
    rms = lambda a, b: jnp.sqrt(jnp.mean(jnp.square(a - b)))
    return jax.tree.map(rms, features(after, ids), features(params, ids))

  return {name: float(x) for name, x in run(init(width, seed)).items()}


def slope(by_width):
  """Of the logarithm of a change over that of the width: 0 is flat."""
  widths, sizes = zip(*by_width.items())
  return float(np.polyfit(np.log2(widths), np.log2(sizes), 1)[0])


def check(shape_scale, widths=WIDTHS, base=64):
  """By layer, the change at each width; base None: one AdamW rate for all."""
  found = {}
  for width in widths:
    chain = matrices(shape_scale, _RATES[shape_scale])
    tx = recipe(chain, _ADAM_RATE, width, base or width)
    for layer, change in changes(tx, width).items():
      found.setdefault(layer, {})[width] = change
  return found


def draw(found):
  """Changes by width: a panel a layer, a line a shape scale."""
  fig = figure.Figure(figsize=(10, 3), dpi=150, layout='constrained')
  layers = 'embed', 'up', 'down', 'head'
  for ax, layer in zip(fig.subplots(1, 4, sharey=True), layers):
    for name, by_layer in found.items():
      ax.plot(*zip(*by_layer[layer].items()), 'o-', label=name)
    ax.set_xscale('log', base=2)
    ax.set_yscale('log', base=2)
    ax.set(title=layer, xlabel='width')
  fig.axes[0].set_ylabel(f'change of its features in {STEPS} steps')
  fig.axes[0].legend(fontsize=7)
  return fig


def main():
  found = {f"'{scale}'": check(scale) for scale in SCALES}
  found["'spectral', one AdamW rate"] = check('spectral', base=None)
  draw(found).savefig(_PNG)
  slopes = {
    name: {layer: slope(x) for layer, x in by_layer.items()}
    for name, by_layer in found.items()
  }
  harness.show('NAMO-D: octaves of change by octave of width', slopes)


if __name__ == '__main__':
  harness.run(main, None)
