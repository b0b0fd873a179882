# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run is made of: presets, the optimizers, and every knob once.

A field of ``Config`` is all there is to say of a knob: the command-line flags
of a run, the checks, the defaults, what tells runs apart and what a resumed run
may change are read off the fields' metadata.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import json
import math
from typing import Any, Literal

from absl import flags

import optax_namo
from optax_namo.nanogpt import knobs
from optax_namo.nanogpt import text
from optax_namo.nanogpt import tokenizers
from optax_namo.nanogpt.mesh import mesh_axes
from optax_namo.nanogpt.optimizers import OPTIMIZERS as OPTIMIZERS

# Embeddings and vectors, which AdamW trains whatever the optimizer is.
ADAM_LEARNING_RATE = 0.003


@dataclasses.dataclass(frozen=True)
class Preset:
  """Sizes of the model and of a run.

  Attributes:
    num_layers: Transformer blocks.
    num_heads: Attention heads a block.
    embed_dim: Width of the residual stream.
    block_size: Tokens in a sequence.
    batch_size: Sequences in a micro-batch.
    accumulate: Micro-batches in a step.
    steps: Optimizer steps.
    learning_rate_scale: Factor on all default learning rates.
    eval_sequences: Sequences of a validation loss.
    eval_every: Steps between two estimates of the validation loss.
    checkpoint_every: Steps between two checkpoints.
  """

  num_layers: int
  num_heads: int
  embed_dim: int
  block_size: int
  batch_size: int
  accumulate: int
  steps: int
  learning_rate_scale: float
  eval_sequences: int
  eval_every: int
  checkpoint_every: int


PRESETS = {
  # About three minutes on two CPU cores.
  'char': Preset(4, 4, 128, 128, 16, 1, 800, 1.0, 1024, 100, 100),
  # For benchmarks: seconds a run.
  'small': Preset(2, 2, 32, 64, 16, 1, 100, 1.0, 512, 50, 100),
  # nanoGPT's config/train_gpt2.py: 12 sequences of 1024 tokens, 40 times a
  # step. Its AdamW rate, 6e-4, is a seventh of ours for `char`; the other
  # optimizers' rates are scaled alike and not tuned.
  'gpt2': Preset(12, 12, 768, 1024, 12, 40, 600_000, 1 / 7, 240, 1000, 1000),
  # GPT-3's table 2.1 halves the rate from 125M to 350M parameters.
  'gpt2-medium': Preset(
    24, 16, 1024, 1024, 12, 40, 600_000, 1 / 14, 240, 1000, 1000
  ),
}


def _of_preset(name: str) -> Any:
  return lambda above: getattr(PRESETS[above['preset']], name)


def _scaled(rate: float, above: Mapping[str, Any]) -> float:
  return rate * PRESETS[above['preset']].learning_rate_scale


@dataclasses.dataclass(frozen=True)
class Config:
  """One run of training; it determines every parameter of the result."""

  preset: str = knobs.knob(
    'model', 'char', 'Sizes of model and run.', choices=PRESETS
  )
  data: str = knobs.knob('data', 'sotu', f'{text.WHAT_DATA_IS}.')
  tokenizer: str = knobs.knob(
    'data', 'char', 'Tokens of the text.', choices=tokenizers.NAMES
  )
  optimizer: str = knobs.knob(
    'optimizer',
    'namo_d',
    'Optimizer of the matrices; AdamW trains the rest.',
    choices=OPTIMIZERS,
    own=False,
  )
  learning_rate: float = knobs.knob(
    'optimizer',
    lambda above: _scaled(OPTIMIZERS[above['optimizer']].learning_rate, above),
    "Peak rate of the matrices; default: the optimizer's.",
    least=0,
  )
  adam_learning_rate: float = knobs.knob(
    'optimizer',
    lambda above: _scaled(ADAM_LEARNING_RATE, above),
    'Peak rate of embeddings and vectors; default: of the preset.',
    least=0,
  )
  weight_decay: float = knobs.knob('optimizer', 0.01, 'Decay of the matrices.')
  decay: optax_namo.Decay = knobs.knob(
    'optimizer', 'adaptive', "Whether NAMO's scale multiplies the decay."
  )
  nesterov: bool = knobs.knob('optimizer', True, 'Look-ahead of the momentum.')
  shape_scale: optax_namo.ShapeScale = knobs.knob(
    'optimizer', 'rms', "Factor of a matrix's shape; optax's Muon has 'rms'."
  )
  b1: float = knobs.knob('optimizer', 0.95, 'Decay rate of the momentum.')
  b2: float = knobs.knob(
    'optimizer', 0.99, "Decay rate of NAMO's second moment."
  )
  ns_coefficients: optax_namo.CoefficientSet = knobs.knob(
    'Newton-Schulz',
    'muon',
    "Its polynomials; optax's Muon has its own.",
  )
  preconditioning: optax_namo.Preconditioning = knobs.knob(
    'Newton-Schulz',
    'frobenius',
    "What it divides by at first; optax's Muon: 'frobenius'.",
  )
  ns_steps: int = knobs.knob('Newton-Schulz', 5, 'Its steps.', least=1)
  clamp: float = knobs.knob(
    'optimizer', 0.75, "NAMO-D's c, in (0, 1]; 0 means no clamp."
  )
  columns: optax_namo.Columns = knobs.knob(
    'optimizer', 'input', 'What a NAMO-D scale belongs to.'
  )
  clip: float = knobs.knob(
    'optimizer',
    1.0,
    'Largest gradient norm; 0 means no clipping.',
    least=0,
    own=False,
  )
  steps: int = knobs.knob(
    'schedule',
    _of_preset('steps'),
    'Optimizer steps; default: of the preset.',
    least=1,
    may_change=True,
  )
  warmup_steps: int = knobs.knob(
    'schedule',
    lambda above: min(above['steps'] // 20, 2000),  # At most the paper's.
    'Steps of warm-up; default: a twentieth, at most 2000.',
    least=0,
    may_change=True,
  )
  decay_steps: int = knobs.knob(
    'schedule',
    lambda above: above['steps'] // 3,
    'Last steps, of decay to 0; default: a third.',
    least=0,
    may_change=True,
  )
  embed_dim: int = knobs.knob(
    'model',
    _of_preset('embed_dim'),
    'Width of the model; default: of the preset.',
    least=1,
  )
  batch_size: int = knobs.knob(
    'data',
    _of_preset('batch_size'),
    'Sequences at a time; default: of the preset.',
    least=1,
  )
  accumulate: int = knobs.knob(
    'data',
    _of_preset('accumulate'),
    'Batches whose gradients make a step; default: of the preset.',
    least=1,
  )
  dtype: Literal['float32', 'bfloat16'] = knobs.knob(
    'model', 'float32', "The model's computation."
  )
  seed: int = knobs.knob(
    'run', 0, 'Of initialization, batches and sample.', least=0
  )
  eval_sequences: int = knobs.knob(
    'run',
    _of_preset('eval_sequences'),
    'Sequences of a validation loss, whatever the batch; default: of the'
    ' preset.',
    least=1,
    may_change=True,
  )
  eval_every: int = knobs.knob(
    'run',
    _of_preset('eval_every'),
    'Steps between validation losses; default: of the preset.',
    least=1,
    may_change=True,
    neutral=True,
  )
  checkpoint_every: int = knobs.knob(
    'run',
    _of_preset('checkpoint_every'),
    'Steps between checkpoints; default: of the preset.',
    least=1,
    may_change=True,
    neutral=True,
  )
  mesh: str = knobs.knob(
    'devices',
    '',
    "Devices to share the work, as in 'fsdp:8' or 'data:2,fsdp:4': both split"
    ' the batch, fsdp the parameters and the optimizer as well; default: one'
    ' device.',
    may_change=True,
    neutral=True,
  )

  @property
  def sizes(self) -> Preset:
    return PRESETS[self.preset]


_FIELDS = {field.name: field for field in dataclasses.fields(Config)}
KNOBS = tuple(_FIELDS)


def make_config(**given: Any) -> Config:
  """Fills what was not asked for with the defaults of preset and optimizer.

  Args:
    **given: Fields of ``Config``; None means the default.

  Returns:
    The checked config.

  Raises:
    ValueError: A field is out of range or unknown.
  """
  strange = given.keys() - _FIELDS.keys()
  if strange:
    raise ValueError(f'{sorted(strange)} are no knobs; known are {KNOBS}.')
  config = Config(**_filled(given))
  if config.warmup_steps + config.decay_steps > config.steps:
    raise ValueError(
      f'warmup_steps={config.warmup_steps} and decay_steps='
      f'{config.decay_steps} do not fit into steps={config.steps}.'
    )
  if not 0 <= config.clamp <= 1:
    raise ValueError(
      f'clamp must be in (0, 1], or 0 for no clamp, got {config.clamp}.'
    )
  tokens = config.accumulate * config.batch_size * config.sizes.block_size
  if tokens >= 2**31:  # More than NumPy can be asked for, at the worst.
    raise ValueError(
      f'batch_size={config.batch_size} and accumulate={config.accumulate} make'
      f' a step of {tokens} tokens: it must have fewer than {2**31}.'
    )
  devices = math.prod(mesh_axes(config.mesh).values())
  if config.batch_size % devices:
    raise ValueError(
      f'batch_size={config.batch_size} is not a multiple of the {devices}'
      f' devices of mesh={config.mesh!r}, which share it: make it one.'
    )
  return config


def _filled(given: Mapping[str, Any]) -> dict[str, Any]:
  """The fields of a config, each checked on its own."""
  values: dict[str, Any] = {}
  for name, field in _FIELDS.items():
    value, default = given.get(name), field.metadata['default']
    if value is None:
      value = default(values) if callable(default) else default
    try:
      values[name] = knobs.parser(field).parse(value)
    except (ValueError, TypeError) as error:
      raise ValueError(f'{name}={value!r}: {error.args[0]}.') from None
  return values


def _of_file(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Fields as they are written today, from a file that may be older."""
  if fields.get('clamp', 0) is None:  # As no clamp was once written.
    fields = {**fields, 'clamp': 0.0}
  # A knob that the file does not know yet had its default.
  return {**fields, **_filled(fields)}


def from_file(fields: Mapping[str, Any]) -> Config:
  """The config whose fields a config.json or a row of results holds."""
  return make_config(**_of_file(fields))


def asked_for(config: Config) -> dict[str, Any]:
  """The knobs that are not at their defaults, from which it can be made."""
  values = dataclasses.asdict(config)
  defaults = {name: f.metadata['default'] for name, f in _FIELDS.items()}
  return {
    name: values[name]
    for name, default in defaults.items()
    if values[name] != (default(values) if callable(default) else default)
  }


def changes(before: Mapping[str, Any], config: Config) -> dict[str, str]:
  """What differs between the fields that a file holds and a config.

  Args:
    before: The fields.
    config: The config now.

  Returns:
    A line for the user by the name of each field that differs.
  """
  old, new = _of_file(before), dataclasses.asdict(config)
  return {
    name: f'--{name} was {old.get(name)!r} and is now {new.get(name)!r}'
    for name in sorted(new.keys() | old.keys())
    if new.get(name) != old.get(name)
  }


def identity(config: Config) -> str:
  """What tells a run from others: the knobs that its result depends on."""
  return json.dumps(
    {
      name: getattr(config, name)
      for name, field in _FIELDS.items()
      if not field.metadata['neutral']
    }
  )


def may_change(name: str) -> bool:
  """Whether a run that differs in a field goes on from a checkpoint."""
  return name in _FIELDS and _FIELDS[name].metadata['may_change']


def define_flags(names: Iterable[str] = KNOBS) -> None:
  """Defines a command-line flag for each of some knobs."""
  first = make_config()
  for name in names:
    field = _FIELDS[name]
    knob, parser = field.metadata, knobs.parser(field)
    # In the place of a module's name: --help has a heading for each.
    group = {'module_name': knob['group']}
    default, help = knob['default'], knob['help']
    if callable(default):
      default = None
      help = f'{help[:-1]} ({first.preset}: {getattr(first, name):g}).'
    if isinstance(parser, flags.BooleanParser):
      flags.DEFINE_bool(name, default, help, **group)
    elif isinstance(parser, flags.EnumParser):
      choices = '|'.join(parser.enum_values)
      flags.DEFINE(parser, name, default, f'<{choices}>: {help}', **group)
    else:
      flags.DEFINE(parser, name, default, help, **group)


def flag_values(names: Iterable[str] = KNOBS) -> dict[str, Any]:
  """What the flags say, None where a default depends on other knobs."""
  return {name: flags.FLAGS[name].value for name in names}
