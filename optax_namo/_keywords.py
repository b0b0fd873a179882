# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keywords from elsewhere: an error names those of this package."""

from collections.abc import Callable
import functools
from typing import Any, TypeVar

_Rule = TypeVar('_Rule', bound=Callable[..., Any])
_NEWTON_SCHULZ = 'orthogonalizer=functools.partial(newton_schulz, {}=...)'
_ROUTER = 'weight_dimension_numbers={}'
_OURS = {
  # Of optax.contrib.muon.
  'beta': 'b1',
  'ns_coeffs': _NEWTON_SCHULZ.format('coefficients'),
  'ns_steps': _NEWTON_SCHULZ.format('steps'),
  'preconditioning': _NEWTON_SCHULZ.format('preconditioning'),
  'consistent_rms': "shape_scale='rms' with rms=..., or 'width' for None",
  'muon_weight_dimension_numbers': 'weight_dimension_numbers',
  'adaptive': 'nothing, since the scale takes its place',
  'adam_eps_root': 'nothing',
  # Of optax.adamw, and of torch's Muons.
  'mask': 'weight_decay_mask',
  'eps_root': 'nothing',
  'lr': 'learning_rate',
  'adam_lr': 'adam_learning_rate',
  'momentum': 'b1',
  'betas': 'b1 and b2',
  'beta1': 'b1',
  'beta2': 'b2',
  'wd': 'weight_decay',
  # Of this package's routers.
  'rules': _ROUTER.format(
    'functools.partial(matrix_dimension_numbers, rules=...)'
  ),
  'use': _ROUTER.format('dimension_numbers_by_use(loss, params, ...)'),
}


def named(rule: _Rule) -> _Rule:
  """The rule; keywords of other optimizers raise a TypeError that names ours.

  ``inspect.signature``, help() and type checkers see the rule's own signature.
  """

  @functools.wraps(rule)
  def checked(*args: Any, **kwargs: Any) -> Any:
    if others := [name for name in kwargs if name in _OURS]:
      told = [f'no argument {x!r}: here it is {_OURS[x]}' for x in others]
      raise TypeError(f'{rule.__name__}() has {"; ".join(told)}.')
    return rule(*args, **kwargs)

  return checked  # type: ignore[return-value]
