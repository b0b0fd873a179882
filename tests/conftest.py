# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strict settings for every test, and little to compile for most.

Processes that tests start inherit what is set in the environment.
"""

import functools
import os

import hypothesis
import jax
from jax._src import compiler
import pytest

# Bounds and counts are those of CPUs, but for tests marked `accelerator`: on a
# GPU JAX_PLATFORMS=cuda and -m accelerator run those alone.
platforms = os.environ.setdefault('JAX_PLATFORMS', 'cpu')
jax.config.update('jax_platforms', platforms)
# XLA's older emitters compile a step in a third of the time (jax 0.11 has them
# no more, and ends at the flag), and code in one piece is best where every core
# has a worker. XLA reads this once in a process.
_OLDER = jax.__version_info__ < (0, 11)
os.environ['XLA_FLAGS'] = (
  f'{os.environ.get("XLA_FLAGS", "")} --xla_cpu_parallel_codegen_split_count=1'
  + _OLDER * ' --xla_cpu_use_fusion_emitters=false'
)
# Workers have it before they load NumPy, whose threads wait for each other in a
# loop: with a worker on every core, most of the time.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

jax.config.update('jax_numpy_rank_promotion', 'raise')
hypothesis.settings.register_profile(
  'default', derandomize=True, deadline=None, print_blob=True
)
hypothesis.settings.load_profile('default')


def pytest_collection_modifyitems(items):
  """The core's tests last: of the shortest, workers end at the same time."""
  items.sort(key=lambda item: 'core' in item.path.parts)


def pytest_make_parametrize_id(val):
  """Tuples, lists and dictionaries by their values, where those are short."""
  if isinstance(val, (tuple, list, dict)):
    text = str(val)
    # No addresses of functions: they differ between workers.
    if len(text) <= 70 and text.isprintable() and '<' not in text:
      return text
  return None


@pytest.fixture(autouse=True, scope='session')
def compiled_once(tmp_path_factory):
  """What is alike is compiled once, over tests, workers and processes."""
  root = tmp_path_factory.getbasetemp()
  root = root.parent if 'PYTEST_XDIST_WORKER' in os.environ else root
  settings = {
    'jax_compilation_cache_dir': str(root / 'compiled'),
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    'jax_persistent_cache_min_entry_size_bytes': -1,
  }
  with pytest.MonkeyPatch.context() as patch:
    for name, value in settings.items():
      jax.config.update(name, value)
      patch.setitem(os.environ, name.upper(), str(value))
    yield


@pytest.fixture(autouse=True)
def fast_compile(request, monkeypatch):
  """A quarter of the compile time, but for tests marked ``full_compile``.

  Those compile as a user does: there numbers meet the reference, the oracle
  and the theory, and programs are counted. In all others, and in the processes
  that tests start, XLA's optimizations and its default emitters are not tested.
  """
  full = request.node.get_closest_marker('full_compile') is not None
  if full and _OLDER:
    monkeypatch.setattr(
      compiler,
      'get_compile_options',
      functools.partial(_default_emitters, compiler.get_compile_options),
    )
  jax.config.update('jax_disable_most_optimizations', not full)
  yield
  jax.config.update('jax_disable_most_optimizations', False)


def _default_emitters(get, *args, env_options_overrides, **options):
  """What ``compiler_options`` of jax.jit are, for all that is compiled."""
  overrides = {'xla_cpu_use_fusion_emitters': True, **env_options_overrides}
  return get(*args, env_options_overrides=overrides, **options)
