# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is to be run: variants of a run, each a grid over any of its knobs."""

from collections.abc import Iterator, Mapping, Sequence
import difflib
import itertools
from typing import Any

from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import KNOBS
from optax_namo.nanogpt.config import make_config

# Around the default learning rate, where no rates are given.
_FACTORS = (1 / 1.4, 1, 1.4)
_KNOWN = [*(name for name in KNOBS if name != 'seed'), 'seeds']


def runs_of(
  variants: Mapping[str, Any], seeds: Sequence[int], **shared: Any
) -> list[Config]:
  """The runs of a comparison, one seed after the other.

  Each of them once, though several variants may ask for it.

  Args:
    variants: By label, a mapping from knobs to a value or a list of values; the
      runs are the product of the lists. ``seeds`` stand in for ``seed``.
    seeds: The seeds of the variants that have none of their own.
    **shared: The knobs that the variants do not name; None means default.

  Raises:
    ValueError: A variant names an unknown knob or a value out of range, or runs
      nothing.

  Examples:
    >>> runs = runs_of(
    ...   {'namo': {'optimizer': 'namo', 'learning_rate': [0.03, 0.05]}},
    ...   seeds=[0, 1],
    ... )
    >>> [(run.learning_rate, run.seed) for run in runs]
    [(0.03, 0), (0.05, 0), (0.03, 1), (0.05, 1)]
  """
  if not variants:
    raise ValueError('there are no variants, and so nothing to run.')
  runs: dict[str, Config] = {}
  for label, knobs in variants.items():
    try:
      for config in _product(knobs, seeds, shared):
        runs.setdefault(identity(config), config)
    except ValueError as error:
      raise ValueError(f'variant {label!r}: {error}') from None
  return sorted(runs.values(), key=lambda config: config.seed)


def _product(
  knobs: Any, seeds: Sequence[int], shared: Mapping[str, Any]
) -> Iterator[Config]:
  if not isinstance(knobs, Mapping):
    raise ValueError(
      f'{knobs!r} does not map knobs to values, as in'
      ' {optimizer: muon, learning_rate: [0.004, 0.006]}.'
    )
  if strange := [name for name in knobs if name not in _KNOWN]:
    near = difflib.get_close_matches(strange[0], _KNOWN, n=1)
    meant = f' Is {strange[0]!r} {near[0]!r}?' if near else ''
    raise ValueError(f'{strange} are no knobs; known are {_KNOWN}.{meant}')
  lists: dict[str, Sequence[Any]] = {'seed': seeds}
  for name, value in knobs.items():
    name = 'seed' if name == 'seeds' else name
    lists[name] = value if isinstance(value, list) else [value]
  if empty := [name for name, several in lists.items() if not several]:
    raise ValueError(f'{empty[0]} is an empty list: give a value or more.')
  for one in itertools.product(*lists.values()):
    yield make_config(**{**shared, **dict(zip(lists, one))})


def around_the_default(
  optimizers: Sequence[str],
  learning_rates: Mapping[str, Sequence[float]],
  adam_learning_rates: Sequence[float],
  **shared: Any,
) -> dict[str, dict[str, Any]]:
  """A variant for each optimizer, over learning rates alone.

  Of an optimizer without any, over three around the default, which the shared
  knobs decide on.
  """
  if strange := sorted(set(learning_rates) - set(optimizers)):
    raise ValueError(
      f'learning_rates names {strange}, and optimizers only {list(optimizers)}.'
    )
  variants: dict[str, dict[str, Any]] = {}
  for name in optimizers:
    default = make_config(**{**shared, 'optimizer': name}).learning_rate
    around = [float(f'{default * factor:.2g}') for factor in _FACTORS]
    rates = learning_rates.get(name) or around
    variants[name] = {'optimizer': name, 'learning_rate': rates}
    if adam_learning_rates:
      variants[name]['adam_learning_rate'] = adam_learning_rates
  return variants
