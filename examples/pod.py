"""Several hosts, each with devices of its own: a TPU pod, or nodes of GPUs.

Every host runs the same command. On a TPU pod, or under SLURM:

  python examples/pod.py
  srun --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 python examples/pod.py

Each process reads its own part of the batch, and the first one prints. It has
run on two processes of CPUs so far.
"""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import jax.numpy as jnp
import numpy as np
import optax

from optax_namo import namo_d

WIDTH, LAYERS, BATCH = 64, 4, 256


def init(key: jax.Array) -> dict:
  keys = jax.random.split(key, LAYERS)
  hidden = {
    f'layer_{i}': {'kernel': jax.random.normal(k, (WIDTH, WIDTH)) / WIDTH**0.5}
    for i, k in enumerate(keys)
  }
  return hidden | {'head': {'kernel': jnp.zeros((WIDTH, 1))}}


def rows_of_this_process(step: int) -> np.ndarray:
  rng = np.random.default_rng([step, jax.process_index()])
  rows = BATCH // jax.process_count()
  return rng.normal(size=(rows, WIDTH)).astype(np.float32)


def main(steps: int = 100) -> list[float]:
  jax.distributed.initialize()  # Before any array is made.

  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  mesh = jax.make_mesh(
    (jax.device_count(),), ('fsdp',), axis_types=(AxisType.Auto,)
  )
  split = NamedSharding(mesh, P('fsdp', None))
  tx = namo_d(
    schedule(0.035), adam_learning_rate=schedule(3e-3), shard_over='fsdp'
  )

  @jax.jit
  def train_step(params, state, x):
    def loss_of(params):
      hidden = x
      for i in range(LAYERS):
        hidden = jnp.tanh(hidden @ params[f'layer_{i}']['kernel'])
      predicted = hidden @ params['head']['kernel']
      return jnp.mean((predicted - jnp.sin(x[:, :1])) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  losses = []
  with jax.set_mesh(mesh):
    # No host ever holds the whole model.
    params = jax.jit(init, out_shardings=split)(jax.random.key(0))
    state = jax.jit(tx.init)(params)
    for step in range(steps):
      x = jax.make_array_from_process_local_data(
        split, rows_of_this_process(step)
      )
      params, state, loss = train_step(params, state, x)
      losses.append(float(loss))
      if step % 20 == 0 and jax.process_index() == 0:
        print(f'step {step}: loss {loss:.3f}, {jax.device_count()} devices')
  return losses


if __name__ == '__main__':
  main()
