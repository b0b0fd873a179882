# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keywords of ``optax.contrib.muon``: an error names those of this package."""

from collections.abc import Callable
import functools
from typing import Any, TypeVar

_Rule = TypeVar('_Rule', bound=Callable[..., Any])
_NEWTON_SCHULZ = 'orthogonalizer=functools.partial(newton_schulz, {}=...)'
_OURS = {
  'beta': 'b1',
  'ns_coeffs': _NEWTON_SCHULZ.format('coefficients'),
  'ns_steps': _NEWTON_SCHULZ.format('steps'),
  'preconditioning': _NEWTON_SCHULZ.format('preconditioning'),
  'consistent_rms': "shape_scale='rms' with rms=..., or 'width' for None",
  'muon_weight_dimension_numbers': 'weight_dimension_numbers',
  'adaptive': 'nothing, since the scale takes its place',
  'adam_eps_root': 'nothing',
}


def named(rule: _Rule) -> _Rule:
  """The rule; a keyword of Muon's raises a TypeError that names ours.

  ``inspect.signature``, help() and type checkers see the rule's own signature.
  """

  @functools.wraps(rule)
  def checked(*args: Any, **kwargs: Any) -> Any:
    for name in kwargs:
      if name in _OURS:
        raise TypeError(
          f'{rule.__name__}() has no argument {name!r} of optax.contrib.muon;'
          f' here it is {_OURS[name]}.'
        )
    return rule(*args, **kwargs)

  return checked  # type: ignore[return-value]
