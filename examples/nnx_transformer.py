"""A small transformer in Flax NNX, trained with NAMO-D.

python examples/nnx_transformer.py
"""

from flax import nnx
import jax
import jax.numpy as jnp
import optax

from optax_namo import namo_d, routing_table

VOCABULARY, WIDTH, LAYERS, LENGTH = 64, 64, 2, 32


class Block(nnx.Module):
  def __init__(self, rngs: nnx.Rngs):
    self.norm_1 = nnx.LayerNorm(WIDTH, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(
      num_heads=4, in_features=WIDTH, decode=False, rngs=rngs
    )
    self.norm_2 = nnx.LayerNorm(WIDTH, rngs=rngs)
    self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
    self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    mask = nnx.make_causal_mask(x[..., 0])
    x = x + self.attention(self.norm_1(x), mask=mask)
    return x + self.down(nnx.gelu(self.up(self.norm_2(x))))


class Transformer(nnx.Module):
  def __init__(self, rngs: nnx.Rngs):
    self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
    self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
    self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    x = self.embed(tokens)
    for block in self.blocks:
      x = block(x)
    return self.head(x)


def text(step: int) -> jax.Array:
  """Sequences that count up from a random token."""
  first = jax.random.randint(jax.random.key(step), (16, 1), 0, VOCABULARY)
  return (first + jnp.arange(LENGTH + 1)) % VOCABULARY


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  model = Transformer(nnx.Rngs(0))
  print(routing_table(nnx.state(model, nnx.Param)))
  tx = optax.chain(
    optax.clip_by_global_norm(1.0),
    namo_d(schedule(0.035), adam_learning_rate=schedule(3e-3)),
  )
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

  @nnx.jit
  def train_step(model, optimizer, tokens):
    def loss_of(model):
      logits = model(tokens[:, :-1])
      return optax.softmax_cross_entropy_with_integer_labels(
        logits, tokens[:, 1:]
      ).mean()

    loss, gradients = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, gradients)
    return loss

  losses = []
  for step in range(steps):
    losses.append(float(train_step(model, optimizer, text(step))))
    if step % 20 == 0:
      print(f'step {step}: loss {losses[-1]:.3f}')
  return losses


if __name__ == '__main__':
  main()
