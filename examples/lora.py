"""LoRA adapters on a frozen model, in Flax NNX.

  python examples/lora.py

The optimizer takes the adapters alone, and routes them by their names. Each
lora_a and lora_b is a matrix, as the table shows. Adapters on the head would go
to AdamW, with a warning.
"""

from flax import nnx
import jax
import jax.numpy as jnp
import optax

from optax_namo import namo_d, routing_table


class Model(nnx.Module):
  def __init__(self, rngs: nnx.Rngs):
    self.up = nnx.LoRALinear(8, 64, lora_rank=4, rngs=rngs)
    self.mid = nnx.LoRALinear(64, 64, lora_rank=4, rngs=rngs)
    self.head = nnx.Linear(64, 1, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.head(nnx.gelu(self.mid(nnx.gelu(self.up(x)))))


def main(steps: int = 100) -> list[float]:
  # In a real run, restore a pretrained model, and take a tenth of this rate.
  model = Model(nnx.Rngs(0))
  schedule = optax.warmup_cosine_decay_schedule(0.0, 0.035, steps // 10, steps)
  optimizer = nnx.Optimizer(model, namo_d(schedule), wrt=nnx.LoRAParam)
  print(routing_table(nnx.state(model, nnx.LoRAParam)))
  x = jax.random.normal(jax.random.key(0), (256, 8))
  y = jnp.sin(x[:, :1])

  @nnx.jit
  def train_step(model, optimizer):
    loss, gradients = nnx.value_and_grad(
      lambda model: jnp.mean((model(x) - y) ** 2),
      argnums=nnx.DiffState(0, nnx.LoRAParam),
    )(model)
    optimizer.update(model, gradients)
    return loss

  losses = []
  for step in range(steps):
    losses.append(float(train_step(model, optimizer)))
    if step % 20 == 0:
      print(f'step {step}: loss {losses[-1]:.3f}')
  return losses


if __name__ == '__main__':
  main()
