"""A Keras 3 model on its JAX backend, with a training loop of one's own.

  KERAS_BACKEND=jax python examples/keras_3.py

stateless_call takes variables as lists of arrays, which have no names. So they
are routed once, by the paths of the variables.
"""

import jax
import jax.numpy as jnp
import keras
import optax

from optax_namo import matrix_dimension_numbers, namo_d, routing_table


def main(steps: int = 100) -> list[float]:
  def schedule(peak: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 10, steps)

  keras.utils.set_random_seed(0)
  model = keras.Sequential(
    [
      keras.Input((8,)),
      keras.layers.Dense(64, activation='gelu'),
      keras.layers.Dense(64, activation='gelu'),
      keras.layers.Dense(1, name='head'),
    ]
  )
  variables = model.trainable_variables
  named = {variable.path: variable.value for variable in variables}
  print(routing_table(named))
  numbers = matrix_dimension_numbers(named)
  tx = namo_d(
    schedule(0.035),
    adam_learning_rate=schedule(3e-3),
    weight_dimension_numbers=[numbers[v.path] for v in variables],
  )
  params = [variable.value for variable in variables]
  others = [variable.value for variable in model.non_trainable_variables]
  state = tx.init(params)
  x = jax.random.normal(jax.random.key(0), (256, 8))
  y = jnp.sin(x[:, :1])

  @jax.jit
  def train_step(params, state):
    def loss_of(params):
      predicted, _ = model.stateless_call(params, others, x)
      return jnp.mean((predicted - y) ** 2)

    loss, gradients = jax.value_and_grad(loss_of)(params)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  losses = []
  for step in range(steps):
    params, state, loss = train_step(params, state)
    losses.append(float(loss))
    if step % 20 == 0:
      print(f'step {step}: loss {loss:.3f}')
  for variable, value in zip(variables, params):
    variable.assign(value)  # Back into the model.
  return losses


if __name__ == '__main__':
  main()
