# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the README shows works as it stands."""

import dataclasses
import importlib.util
import inspect
import pathlib
import re
import shlex
import subprocess
import sys
import types

import chex
import jax
import jax.numpy as jnp
import pytest
import yaml

import optax_namo
from optax_namo.nanogpt.compare.variants import runs_of

_ROOT = pathlib.Path(__file__).parents[2]
_README = (_ROOT / 'README.md').read_text()


def _blocks(language):
  return re.findall(
    rf'^```{language}\n(.*?)^```', _README, re.DOTALL | re.MULTILINE
  )


_BLOCKS = _blocks('python')
_COMMANDS = re.findall(
  r'python -m ([\w.]+)((?: [^&\n]+)?)',
  ''.join(_blocks('sh')).replace('\\\n', ' '),
)
_PUBLIC = [
  name
  for name, value in vars(optax_namo).items()
  if not name.startswith('_') and not inspect.ismodule(value)
]


@dataclasses.dataclass
class _Variable:
  """What a recipe reads of a Keras variable."""

  path: str
  value: jax.Array


def _keras_model():
  """In the order of a model's trainable variables."""
  shapes = {
    'net/embedding/embeddings': (11, 6),
    'net/dense/kernel': (6, 8),
    'net/dense/bias': (8,),
  }
  variables = [_Variable(k, jnp.ones(shape)) for k, shape in shapes.items()]
  return types.SimpleNamespace(trainable_variables=variables)


@pytest.mark.parametrize('block', range(len(_BLOCKS)))
def test_python_block_runs(block):
  names = {'model': _keras_model()}
  exec(_BLOCKS[block], names)
  if 'loss' in names:  # The training loop learned something.
    assert names['loss'] < 0.1
  else:
    tx, params = names['tx'], names.get('params', jnp.ones((4, 6)))
    updates, _ = tx.update(params, tx.init(params), params)
    chex.assert_tree_all_finite(updates)


def test_every_block_has_a_language_that_is_checked():
  fences = re.findall(r'^```(.+)$', _README, re.MULTILINE)
  assert _README.count('\n```') == 2 * len(fences)
  assert set(fences) == {'python', 'sh', 'yaml', 'text', 'bibtex'}


def test_yaml_block_is_a_comparison():
  (block,) = _blocks('yaml')
  asked = yaml.safe_load(block)
  del asked['out']
  runs = runs_of(asked.pop('variants'), asked.pop('seeds'), **asked)
  assert len(runs) == 3 * 2 * 3 + 2 * 3 + 2


@pytest.mark.parametrize('module', sorted({name for name, _ in _COMMANDS}))
def test_shell_blocks_name_modules_and_flags(module):
  assert importlib.util.find_spec(module), module
  if not module.startswith('optax_namo.'):
    return
  flags = {
    word.partition('=')[0]
    for name, arguments in _COMMANDS
    if name == module
    for word in shlex.split(arguments)
    if word.startswith('--')
  }
  if flags:
    helped = subprocess.run(
      [sys.executable, '-m', module, '--helpfull'],
      capture_output=True,
      text=True,
    ).stdout
    for flag in flags:
      assert re.search(rf'^\s+--(\[no\])?{flag[2:]}\b', helped, re.M), flag


def test_linked_files_exist():
  links = re.findall(r'\]\((?!http|#)([^)#]+)\)', _README)
  code = re.findall(r'`((?:tests|benchmarks)/[\w/.]+)`', _README)
  assert links and code
  for name in links + code:
    assert (_ROOT / name).exists(), name


def test_api_section_has_every_public_name():
  section = _README.partition('\n## API\n')[2].partition('\n## ')[0]
  first_cells = ''.join(re.findall(r'^\|([^|]+)\|', section, re.MULTILINE))
  assert sorted(re.findall(r'`(\w+)`', first_cells)) == sorted(_PUBLIC)


@pytest.mark.parametrize('name', _PUBLIC)
def test_public_docstring_is_complete(name):
  value = getattr(optax_namo, name)
  text = value.__doc__
  assert re.match(r'[^\n]+\.\n|[^\n]+\.$', text), 'one line first'
  if isinstance(value, type):
    return
  code = value.__code__
  arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
  assert 'Returns:' in text
  assert ('Args:' in text) == bool(arguments)
  # Arguments are described once; another docstring may say where.
  there = re.search(r'all other arguments are those of ``(\w+)``', text)
  described = text + getattr(optax_namo, there[1]).__doc__ if there else text
  for argument in arguments:
    assert re.search(rf'^    {argument}: ', described, re.MULTILINE), argument
  # polar_svd takes whatever jnp.linalg.svd does, and raises nothing itself.
  assert 'Raises:' in text or name == 'polar_svd'
  assert 'Examples:' in text
