"""An Equinox model, whose layers tell the router their axes.

  python examples/equinox_model.py

The optimizer takes what eqx.filter leaves of the model.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from optax_namo import namo_d, routing_table


class Model(eqx.Module):
  body: eqx.nn.MLP
  head: eqx.nn.Linear

  def __init__(self, key: jax.Array):
    keys = jax.random.split(key)
    self.body = eqx.nn.MLP(8, 64, 64, depth=2, key=keys[0])
    self.head = eqx.nn.Linear(64, 1, key=keys[1])

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(jax.nn.gelu(self.body(x)))


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  model = Model(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (256, 8))
  y = jnp.sin(x[:, :1])
  tx = namo_d(schedule(0.035), adam_learning_rate=schedule(3e-3))
  state = tx.init(eqx.filter(model, eqx.is_inexact_array))
  print(routing_table(eqx.filter(model, eqx.is_inexact_array)))

  @eqx.filter_jit
  def train_step(model, state):
    def loss_of(model):
      return jnp.mean((jax.vmap(model)(x) - y) ** 2)

    loss, gradients = eqx.filter_value_and_grad(loss_of)(model)
    params = eqx.filter(model, eqx.is_inexact_array)
    updates, state = tx.update(gradients, state, params)
    return eqx.apply_updates(model, updates), state, loss

  losses = []
  for step in range(steps):
    model, state, loss = train_step(model, state)
    losses.append(float(loss))
    if step % 20 == 0:
      print(f'step {step}: loss {loss:.3f}')
  return losses


if __name__ == '__main__':
  main()
