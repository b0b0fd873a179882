"""Parameters, optimizer and batch spread over the devices of one host.

  python examples/eight_devices.py

Without such devices, eight virtual ones of a CPU:

  XLA_FLAGS=--xla_force_host_platform_device_count=8 PJRT_NPROC=16 \\
    python examples/eight_devices.py

shard_over makes each device orthogonalize matrices of its own.
"""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import optax

from optax_namo import namo_d

WIDTH, LAYERS = 64, 4


def init(key: jax.Array) -> dict:
  keys = jax.random.split(key, LAYERS)
  hidden = {
    f'layer_{i}': {'kernel': jax.random.normal(k, (WIDTH, WIDTH)) / WIDTH**0.5}
    for i, k in enumerate(keys)
  }
  return hidden | {'head': {'kernel': jnp.zeros((WIDTH, 1))}}


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  mesh = jax.make_mesh(
    (jax.device_count(),), ('fsdp',), axis_types=(AxisType.Auto,)
  )
  split = NamedSharding(mesh, P('fsdp', None))
  params = jax.device_put(init(jax.random.key(0)), split)
  x = jax.random.normal(jax.random.key(1), (256, WIDTH))
  x, y = jax.device_put((x, jnp.sin(x[:, :1])), split)
  tx = namo_d(
    schedule(0.035), adam_learning_rate=schedule(3e-3), shard_over='fsdp'
  )

  @jax.jit
  def train_step(params, state):
    def loss_of(params):
      hidden = x
      for i in range(LAYERS):
        hidden = jnp.tanh(hidden @ params[f'layer_{i}']['kernel'])
      return jnp.mean((hidden @ params['head']['kernel'] - y) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  losses = []
  with jax.set_mesh(mesh):
    state = jax.jit(tx.init)(params)
    for step in range(steps):
      params, state, loss = train_step(params, state)
      losses.append(float(loss))
      if step % 20 == 0:
        print(f'step {step}: loss {loss:.3f}, {jax.device_count()} devices')
  return losses


if __name__ == '__main__':
  main()
