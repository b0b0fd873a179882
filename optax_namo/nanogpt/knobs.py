# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A knob: a field of a config, which tells its flag, default and range."""

from collections.abc import Collection
import dataclasses
import difflib
from typing import Any, get_args

from absl import flags
import numpy as np

_OWN = ('optimizer', 'Newton-Schulz')  # Groups, see ``own``.


def knob(
  group: str,
  default: Any,
  help: str,
  *,
  choices: Collection[str] | None = None,
  least: int | None = None,
  may_change: bool = False,
  neutral: bool = False,
  own: bool | None = None,
) -> Any:
  """A field of ``Config``.

  Args:
    group: Its heading in --help.
    default: A value, or a function from the knobs above this one to it.
    help: The flag's help; --help adds the default to it.
    choices: The values it may have, where they are few and its type does not
      say so.
    least: Its least value, where it has one that the optimizer does not check.
    may_change: Whether a resumed run may: a longer run of the same beginning
      goes on from a shorter one's checkpoint.
    neutral: Whether the result is the same, but for rounding, whatever it is.
    own: Whether optimizers that are compared may differ in it; None means if
      it is in a group of the optimizer's. All else is the task, and equal.

  Returns:
    The field.
  """
  return dataclasses.field(
    metadata={
      'group': group,
      'default': default,
      'help': help,
      'choices': choices,
      'least': least,
      'may_change': may_change,
      'neutral': neutral,
      'own': group in _OWN if own is None else own,
    }
  )


def parser(field: dataclasses.Field) -> flags.ArgumentParser:
  """Reads a knob's value: a flag's text, or what a file holds.

  There 1 is a float, and so is '1e-3', as YAML reads it.
  """
  of = field.metadata
  choices = list(of['choices'] or get_args(field.type))
  if choices:
    return _ChoiceParser(choices)
  if field.type is bool:
    return flags.BooleanParser()
  if field.type is int:
    # JAX has sizes and steps in 32 bits, and a seed in 64.
    return _IntegerParser(of['least'], 63 if field.name == 'seed' else 31)
  if field.type is float:
    return _FiniteParser(lower_bound=of['least'])
  return flags.ArgumentParser()


class _ChoiceParser(flags.EnumParser):
  def parse(self, argument):
    try:
      return super().parse(argument)
    except ValueError as error:
      near = difflib.get_close_matches(str(argument), self.enum_values, n=1)
      meant = f'. Did you mean {near[0]}' if near else ''
      raise ValueError(f'{error}{meant}') from None


class _IntegerParser(flags.IntegerParser):
  def __init__(self, least: int | None, bits: int):
    super().__init__(lower_bound=least)
    self._most = 2**bits - 1

  def parse(self, argument):
    value = super().parse(argument)
    if value > self._most:
      raise ValueError(f'{value} is above {self._most}')
    return value


class _FiniteParser(flags.FloatParser):
  def parse(self, argument):
    value = super().parse(argument)
    if not abs(value) <= float(np.finfo(np.float32).max):
      raise ValueError(f'{value} is not finite in float32')
    return value
