# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strict settings for every test, and a compiler in a hurry for most."""

import functools
import os

import hypothesis
import jax
from jax._src import compiler
import pytest

# Most of the time of the tests is XLA's. Its older emitters compile a step in a
# third of the time, and one piece of code is enough where every core has a
# worker. XLA reads its flags once a process; those started here inherit them.
_FAST = {'xla_cpu_use_fusion_emitters': False,
         'xla_cpu_parallel_codegen_split_count': 1}  # fmt: skip
_DEFAULT = {'xla_cpu_use_fusion_emitters': True,
            'xla_cpu_parallel_codegen_split_count': 32}  # fmt: skip
if jax.__version_info__ >= (0, 11):  # XLA ends at a flag that it has no more.
  del _FAST['xla_cpu_use_fusion_emitters']
  del _DEFAULT['xla_cpu_use_fusion_emitters']
os.environ['XLA_FLAGS'] = ' '.join([
  os.environ.get('XLA_FLAGS', ''),
  *(f'--{name}={str(value).lower()}' for name, value in _FAST.items()),
])  # fmt: skip

jax.config.update('jax_numpy_rank_promotion', 'raise')
hypothesis.settings.register_profile(
  'default', derandomize=True, deadline=None, print_blob=True
)
hypothesis.settings.load_profile('default')


@pytest.fixture(autouse=True)
def fast_compile(request, monkeypatch):
  """A third of the compile time, but for tests marked ``full_compile``.

  Those compile as a user does, and are where numbers are compared with the
  reference, the oracle and the theory, and where programs are counted. All
  others, and every process that tests start, see neither XLA's optimizations
  nor its newer emitters.
  """
  fast = request.node.get_closest_marker('full_compile') is None
  if not fast:
    monkeypatch.setattr(
      compiler, 'get_compile_options',
      functools.partial(_as_a_user, compiler.get_compile_options),
    )  # fmt: skip
  jax.config.update('jax_disable_most_optimizations', fast)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


def _as_a_user(get_compile_options, *args, env_options_overrides, **kwargs):
  """What jit's ``compiler_options`` would say, for every compilation."""
  return get_compile_options(
    *args, env_options_overrides=_DEFAULT | env_options_overrides, **kwargs
  )
