# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How far a step of NAMO goes when gradients are noisy: the README's figure.

  python -m benchmarks.scale --plot=benchmarks/results/scale.png

The gradients are a signal that stays and noise that is drawn anew. Dots are the
scales that `adaptive_momentum` gives a matrix, means over the last half of 800
steps; the line is the limit of theory, derived in colabs/inside_namo_d.ipynb.
"""

import functools

from absl import app
from absl import flags
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import optax_namo

B1 = 0.95
# Nesterov's momentum of pure noise has this share of a gradient's variance.
KAPPA = (1 - B1**2) ** 2 + (1 - B1) * B1**4 / (1 + B1)
SIZE, STEPS = 128, 800

_PLOT = flags.DEFINE_string('plot', 'scale.png', 'Where to draw it, a .png.')


@functools.partial(jax.jit, static_argnames='stage')
def measured(stage, noise):
  """The mean scale of the last half of the steps."""
  signal = jnp.ones((SIZE, SIZE))

  def step(state, key):
    gradient = signal + noise * jax.random.normal(key, signal.shape)
    update, state = stage.update(gradient, state)
    return state, update.scale

  keys = jax.random.split(jax.random.key(0), STEPS)
  _, scales = jax.lax.scan(step, stage.init(signal), keys)
  return scales[STEPS // 2 :].mean()


def main(_):
  stage = optax_namo.adaptive_momentum(B1)
  few, many = np.geomspace(0.03, 100, 12), np.geomspace(0.03, 100, 200)
  dots = [measured(stage, noise) for noise in few]
  theory = np.sqrt((1 + KAPPA * many**2) / (1 + many**2))

  fig, axes = plt.subplots(figsize=(6, 2.8), dpi=160, layout='constrained')
  axes.axhline(1, color='C3', linewidth=2)
  axes.semilogx(many, theory, color='C0', linewidth=2)
  axes.semilogx(few, dots, 'o', color='C0')
  axes.text(100, 1.03, 'Muon', color='C3', ha='right', weight='bold')
  axes.text(0.25, 0.75, 'NAMO', color='C0', ha='right', weight='bold')
  axes.text(100, 0.03, f'{theory[-1]:.2f} in pure noise', ha='right')
  axes.set(
    xlabel='noise / signal of the gradients', ylim=(0, 1.18),
    ylabel='length of a step / rate',
    title='Where gradients are noise, steps get shorter',
  )  # fmt: skip
  axes.set_xticks([0.1, 1, 10, 100], ['0.1', '1', '10', '100'])
  axes.spines[['top', 'right']].set_visible(False)
  fig.savefig(_PLOT.value)
  plt.close(fig)


if __name__ == '__main__':
  app.run(main)
