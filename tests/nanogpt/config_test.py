# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run's knobs: defaults, checks, flags, and files of earlier versions."""

import dataclasses
import json
import math
import pathlib

import pytest

from optax_namo.nanogpt.config import ADAM_LEARNING_RATE
from optax_namo.nanogpt.config import asked_for
from optax_namo.nanogpt.config import changes
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import make_config
from optax_namo.nanogpt.config import OPTIMIZERS
from tests.nanogpt import helpers


def test_default_learning_rates():
  for preset, scale in (
    ('char', 1.0),
    ('gpt2', 1 / 7),
    ('gpt2-medium', 1 / 14),
  ):
    for optimizer in OPTIMIZERS:
      config = helpers.config(preset=preset, optimizer=optimizer)
      rate = OPTIMIZERS[optimizer].learning_rate
      assert config.learning_rate == rate * scale
      assert config.adam_learning_rate == ADAM_LEARNING_RATE * scale


@pytest.mark.parametrize(
  'fields',
  [
    {'optimizer': 'sgd'},
    {'preset': 'gpt5'},
    {'steps': 0},
    {'clamp': 1.5},
    {'learning_rate': -0.1},
    {'weight_decay': math.inf},
    {'batch_size': 0},
    {'seed': -1},
    {'warmup_steps': -1},
    {'steps': 10, 'warmup_steps': 6, 'decay_steps': 5},
  ],
)
def test_errors_name_the_field(fields):
  name, value = list(fields.items())[-1]
  with pytest.raises(ValueError, match=f'{name}.*{value}'):
    helpers.config(**fields)


def test_an_unknown_knob_is_an_error():
  with pytest.raises(ValueError, match="'learning_rat'.*known.*learning_rate"):
    make_config(learning_rat=0.1)


@pytest.mark.parametrize(
  ('fields', 'asked'),
  [
    ({}, {}),
    ({'preset': 'gpt2', 'seed': 3}, {'preset': 'gpt2', 'seed': 3}),
    ({'steps': 90, 'nesterov': False}, {'steps': 90, 'nesterov': False}),
    # The default itself, and one that follows from another knob.
    ({'learning_rate': OPTIMIZERS['namo_d'].learning_rate}, {}),
    ({'steps': 90, 'decay_steps': 30}, {'steps': 90}),
  ],
)
def test_asked_for_is_what_is_not_the_default(fields, asked):
  config = make_config(**fields)
  assert asked_for(config) == asked
  assert make_config(**asked) == config


def _rows():
  path = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'results'
  lines = (path / 'char_losses' / 'results.jsonl').read_text().splitlines()
  return [json.loads(line)['config'] for line in lines]


@pytest.mark.parametrize('fields', _rows()[::8])
def test_a_file_of_before_has_the_defaults_of_what_it_lacks(fields):
  assert 'mesh' not in fields
  config = from_file(fields)
  assert config == make_config(**fields)
  assert changes(fields, config) == {}
  other = dataclasses.replace(config, mesh='fsdp:2')
  assert changes(fields, other) == {'mesh': "--mesh was '' and is now 'fsdp:2'"}
  # Every knob can stand in a file but is not asked for there.
  assert dataclasses.asdict(config).keys() > fields.keys()


def test_no_clamp_was_null():
  fields = dataclasses.asdict(helpers.config()) | {'clamp': None}
  assert from_file(fields) == helpers.config(clamp=0.0)
  assert changes(fields, helpers.config(clamp=0.0)) == {}
  assert list(changes(fields, helpers.config())) == ['clamp']


def test_what_a_file_has_and_nothing_knows_is_told():
  fields = dataclasses.asdict(helpers.config()) | {'dropout': 0.1}
  assert changes(fields, helpers.config()) == {
    'dropout': '--dropout was 0.1 and is now None'
  }
  with pytest.raises(ValueError, match='dropout'):
    from_file(fields)
