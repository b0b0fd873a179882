"""One model trained from several seeds at once, by jax.vmap.

  python examples/vmap_seeds.py

vmap goes around the whole training step. So the optimizer sees one model, and
every seed has scales of its own.
"""

import jax
import jax.numpy as jnp
import optax

from optax_namo import diagnostics, namo_d, routing_table

SEEDS = 4


def init(key: jax.Array) -> dict:
  keys = jax.random.split(key)
  return {
    'hidden': {'kernel': jax.random.normal(keys[0], (8, 64)) / 8**0.5},
    'head': {'kernel': jax.random.normal(keys[1], (64, 1)) / 8},
  }


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  tx = namo_d(schedule(0.035), adam_learning_rate=schedule(3e-3), record=True)
  keys = jax.random.split(jax.random.key(0), SEEDS)
  print(routing_table(jax.eval_shape(init, keys[0])))  # Of one seed.
  params = jax.vmap(init)(keys)
  state = jax.vmap(tx.init)(params)
  x = jax.random.normal(jax.random.key(1), (256, 8))
  y = jnp.sin(x[:, :1])

  @jax.jit
  @jax.vmap
  def train_step(params, state):
    def loss_of(params):
      hidden = jnp.tanh(x @ params['hidden']['kernel'])
      return jnp.mean((hidden @ params['head']['kernel'] - y) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  losses = []
  for step in range(steps):
    params, state, loss = train_step(params, state)
    losses.append(float(loss.mean()))
    if step % 20 == 0:
      print(f'step {step}: loss {loss.mean():.3f} ± {loss.std():.3f}')
  scales = jax.vmap(diagnostics)(state)['hidden/kernel'].scale_mean
  print('mean scales of the seeds:', *(f'{scale:.2f}' for scale in scales))
  return losses


if __name__ == '__main__':
  main()
