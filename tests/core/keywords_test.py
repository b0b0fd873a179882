# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keywords from elsewhere: the error names ours, no signature does."""

import inspect
import re

import jax.numpy as jnp
import optax
import pytest

import optax_namo
from optax_namo import _keywords

_RULES = (
  optax_namo.namo_d,
  optax_namo.namo,
  optax_namo.scale_by_namo_d,
  optax_namo.scale_by_namo,
)


def _arguments(function):
  return set(inspect.signature(function).parameters)


def test_every_keyword_of_muon_is_ours_or_told():
  theirs = _arguments(optax.contrib.muon)
  ours = _arguments(optax_namo.namo_d)
  assert theirs - ours == theirs & set(_keywords._OURS)
  assert not ours & set(_keywords._OURS)


@pytest.mark.parametrize('rule', _RULES)
@pytest.mark.parametrize('keyword', _keywords._OURS)
def test_error_names_ours(rule, keyword):
  with pytest.raises(TypeError) as error:
    rule(**{keyword: 0.95})
  told = str(error.value)
  assert told.startswith(f'{rule.__name__}() has no argument {keyword!r}')
  # Each name that it gives is one.
  (ours,) = re.findall('here it is (.*)', told)
  names = set(re.findall(r'\w+', ours))
  known = _arguments(optax_namo.namo_d) | _arguments(optax_namo.newton_schulz)
  assert names & known or ours.startswith('nothing')


def test_one_error_names_all():
  with pytest.raises(
    TypeError, match=r"'beta': here it is b1; no argument 'lr'"
  ):
    optax_namo.namo_d(beta=0.95, lr=0.1)


@pytest.mark.parametrize('rule', _RULES)
def test_other_words_get_pythons_own_error(rule):
  with pytest.raises(TypeError, match="unexpected keyword argument 'gamma'"):
    rule(gamma=0.95)
  assert 'kwargs' not in _arguments(rule)


def test_under_inject_hyperparams():
  with pytest.raises(TypeError, match="unexpected keyword argument 'beta'"):
    optax.inject_hyperparams(optax_namo.namo_d)(0.1, beta=0.95)
  params = {'w': jnp.ones((4, 6))}
  tx = optax.inject_hyperparams(optax_namo.namo_d)(learning_rate=0.1)
  assert tx.init(params).hyperparams['learning_rate'] == jnp.float32(0.1)
