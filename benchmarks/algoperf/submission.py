# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""NAMO-D as a submission to AlgoPerf's external tuning track, for JAX.

With github.com/mlcommons/algorithmic-efficiency installed, there:

  python submission_runner.py --framework=jax --workload=mnist \
    --submission_path=PATH/benchmarks/algoperf/submission.py \
    --tuning_search_space=PATH/benchmarks/algoperf/tuning_search_space.json

Warm-up, then a cosine to 0 over the workload's hint of steps. Nobody has run it
on AlgoPerf's own workloads yet; a test runs it on one of the same interface.
"""

from algoperf import jax_sharding_utils
from algoperf import spec
import jax
import jax.numpy as jnp
import optax

import optax_namo

_BATCH_SIZES = {  # Of AlgoPerf's own baselines.
  'criteo1tb': 262_144,
  'fastmri': 32,
  'imagenet_resnet': 1024,
  'imagenet_vit': 1024,
  'librispeech_conformer': 256,
  'librispeech_deepspeech': 256,
  'ogbg': 512,
  'wmt': 128,
  'finewebedu_lm': 64,
  'mnist': 16,
}


def get_batch_size(workload_name):
  return _BATCH_SIZES[workload_name]


def _optimizer(hyperparameters, steps):
  warmup = int(hyperparameters.warmup_factor * steps)
  rate = lambda peak: optax.warmup_cosine_decay_schedule(0, peak, warmup, steps)
  tx = optax_namo.namo_d(
    rate(hyperparameters.learning_rate),
    weight_decay=hyperparameters.weight_decay,
    adam_learning_rate=rate(hyperparameters.adam_learning_rate),
  )
  return optax.chain(optax.clip_by_global_norm(hyperparameters.grad_clip), tx)


def init_optimizer_state(
  workload, model_params, model_state, hyperparameters, rng
):
  """The state of zeros of the parameters' shapes, and the update."""
  del model_params, model_state, rng
  tx = _optimizer(hyperparameters, workload.step_hint)
  zeros = jax.tree.map(
    lambda shape: jnp.zeros(shape.shape_tuple), workload.param_shapes
  )
  return tx.init(zeros), tx.update


def _train_step(
  workload, update, model_state, state, params, batch, rng, dropout_rate
):
  def loss_of(params):
    logits, new_model_state = workload.model_fn(
      params, batch, model_state, spec.ForwardPassMode.TRAIN, rng,
      update_batch_norm=True, dropout_rate=dropout_rate,
    )  # fmt: skip
    loss = workload.loss_fn(
      label_batch=batch['targets'],
      logits_batch=logits,
      mask_batch=batch.get('weights'),
    )
    return loss['summed'] / loss['n_valid_examples'], new_model_state

  gradients, model_state = jax.grad(loss_of, has_aux=True)(params)
  updates, state = update(gradients, state, params)
  return state, optax.apply_updates(params, updates), model_state


def update_params(
  workload, current_param_container, current_params_types, model_state,
  hyperparameters, batch, loss_type, optimizer_state, eval_results, global_step,
  rng, train_state=None,
):  # fmt: skip
  """The state with the update, parameters, and what the model keeps."""
  del current_params_types, loss_type, eval_results, global_step, train_state
  state, update = optimizer_state
  whole = jax_sharding_utils.get_replicate_sharding()
  split = jax_sharding_utils.get_batch_dim_sharding()
  step = jax.jit(
    _train_step,
    static_argnums=(0, 1),
    donate_argnums=(2, 3, 4),
    in_shardings=(whole, whole, whole, split, whole, whole),
    out_shardings=whole,
  )
  state, params, model_state = step(
    workload, update, model_state, state, current_param_container, batch, rng,
    hyperparameters.dropout_rate,
  )  # fmt: skip
  return (state, update), params, model_state


def prepare_for_eval(
  workload, current_param_container, current_params_types, model_state,
  hyperparameters, loss_type, optimizer_state, eval_results, global_step, rng,
):  # fmt: skip
  """As they are: nothing is averaged."""
  del workload, current_params_types, hyperparameters, loss_type
  del eval_results, global_step, rng
  return optimizer_state, current_param_container, model_state


def data_selection(
  workload, input_queue, optimizer_state, current_param_container, model_state,
  hyperparameters, global_step, rng,
):  # fmt: skip
  """The next batch."""
  del workload, optimizer_state, current_param_container, model_state
  del hyperparameters, global_step, rng
  return next(input_queue)
