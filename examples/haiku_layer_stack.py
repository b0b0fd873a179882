"""A Haiku model whose layers are stacked by hk.experimental.layer_stack.

  python examples/haiku_layer_stack.py

The router knows the axis of the stack: each layer is a matrix of its own.
"""

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from optax_namo import namo_d, routing_table


def model(x):
  def block(x):
    return x + hk.nets.MLP([64, 32])(hk.LayerNorm(-1, True, True)(x))

  x = hk.Linear(32, name='first')(x)
  x = hk.experimental.layer_stack(4)(block)(x)
  return hk.Linear(1, name='head')(x)


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  net = hk.transform(model)
  x = jax.random.normal(jax.random.key(0), (256, 8))
  y = jnp.sin(x[:, :1])
  params = net.init(jax.random.key(1), x)
  print(routing_table(params))
  tx = namo_d(schedule(0.035), adam_learning_rate=schedule(3e-3))
  state = tx.init(params)

  @jax.jit
  def train_step(params, state):
    loss, gradients = jax.value_and_grad(
      lambda params: jnp.mean((net.apply(params, None, x) - y) ** 2)
    )(params)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  losses = []
  for step in range(steps):
    params, state, loss = train_step(params, state)
    losses.append(float(loss))
    if step % 20 == 0:
      print(f'step {step}: loss {loss:.3f}')
  return losses


if __name__ == '__main__':
  main()
