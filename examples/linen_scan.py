"""Layers scanned by nn.scan in Flax Linen, with a TrainState.

  python examples/linen_scan.py

A scanned leaf is a batch of matrices, one for each layer. Nothing is to be set.
"""

from flax import linen as nn
from flax.training.train_state import TrainState
import jax
import jax.numpy as jnp
import optax

from optax_namo import namo_d, routing_table

WIDTH, LAYERS = 32, 4


class Layer(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    y = nn.Dense(2 * WIDTH, name='up')(nn.LayerNorm()(x))
    return x + nn.Dense(WIDTH, name='down')(nn.gelu(y)), None


class Model(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dense(WIDTH, name='first')(x)
    layers = nn.scan(
      Layer,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      length=LAYERS,
    )
    x, _ = layers(name='layers')(x, None)
    return nn.Dense(1, name='head')(x)


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  model = Model()
  x = jax.random.normal(jax.random.key(0), (256, 8))
  y = jnp.sin(x[:, :1])
  state = TrainState.create(
    apply_fn=model.apply,
    params=model.init(jax.random.key(1), x)['params'],
    tx=namo_d(schedule(0.035), adam_learning_rate=schedule(3e-3)),
  )
  print(routing_table(state.params))

  @jax.jit
  def train_step(state):
    def loss_of(params):
      return jnp.mean((state.apply_fn({'params': params}, x) - y) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss

  losses = []
  for step in range(steps):
    state, loss = train_step(state)
    losses.append(float(loss))
    if step % 20 == 0:
      print(f'step {step}: loss {loss:.3f}')
  return losses


if __name__ == '__main__':
  main()
