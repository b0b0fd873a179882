# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The notebooks run, use the library, and are committed clean."""

import ast
import base64
import configparser
import importlib
import inspect
import pathlib
import pkgutil
import re

import nbformat
import pytest

from colabs import execute
import optax_namo
from optax_namo import nanogpt
from tests.helpers import environment
from tests.nanogpt import helpers

_ROOT = pathlib.Path(__file__).parents[2]
_COLABS = _ROOT / 'colabs'
_NAMES = ('quickstart', 'nanogpt_tpu', 'inside_namo_d', 'noise')
_SMOKE = {
  'quickstart': {'STEPS': 3, 'STARTS': 1, 'WIDTH': 8},
  'nanogpt_tpu': {
    'LAYERS': 1, 'EMBED': 16, 'BLOCK': 16, 'BATCH': 8, 'STEPS': 4,
    'LOOK_EVERY': 2, 'TIMED_STEPS': 1,
  },
  'inside_namo_d': {'STEPS': 3, 'NOISE_STEPS': 20, 'SIZE': 16},
  'noise': {
    'STEPS': 5, 'SEEDS': 4, 'RATES': 3, 'INPUTS': 8, 'OUTPUTS': 4, 'BATCH': 4,
  },
}  # fmt: skip
# The kernel looks nothing up beyond this machine.
_OFFLINE = """
import sys
def refuse(event, args):
  here = 'localhost', '127.0.0.1'
  if event == 'socket.getaddrinfo' and args[0] not in here:
    raise OSError(f'the notebook looked up {args[0]}')
sys.addaudithook(refuse)
"""


def _read(name):
  return nbformat.read(_COLABS / f'{name}.ipynb', as_version=4)


def _pictures(notebook):
  return [
    output.data['image/png']
    for cell in notebook.cells
    for output in cell.get('outputs', ())
    if 'image/png' in output.get('data', {})
  ]


def _printed(notebook):
  return [
    output.text
    for cell in notebook.cells
    for output in cell.get('outputs', ())
    if output.output_type == 'stream'
  ]


def _headings(notebook):
  """By cell, the words of the first line that it prints: no number, no row.

  What jax 0.8 prints as PartitionSpec is P in later ones.
  """
  printed = [
    ''.join(
      output.text
      for output in cell.get('outputs', ())
      if output.output_type == 'stream'
    )
    for cell in notebook.cells
  ]
  first = [text.partition('\n')[0] for text in printed]
  first = [text.replace('PartitionSpec', 'P') for text in first]
  return [re.findall('[A-Za-z_]+', text) for text in first]


@pytest.mark.parametrize('name', _NAMES)
def test_runs(name, tmp_path):
  (tmp_path / 'text.txt').write_text(helpers.TEXT)
  (tmp_path / 'sitecustomize.py').write_text(_OFFLINE)
  parameters = dict(_SMOKE[name])
  if name in ('nanogpt_tpu', 'inside_namo_d'):
    parameters['DATA'] = str(tmp_path / 'text.txt')
  env = environment(8 if name == 'nanogpt_tpu' else 1) | {
    'IPYTHONDIR': str(tmp_path),
    'PYTHONPATH': f'{tmp_path}:{_ROOT}',
  }
  found = execute.execute(_COLABS / f'{name}.ipynb', parameters, env)
  assert len(_pictures(found)) == len(_pictures(_read(name))) > 0
  # Else the committed outputs are older than the code: run it anew.
  assert _headings(found) == _headings(_read(name))
  if name == 'nanogpt_tpu':
    assert any('on 8 × ' in text for text in _printed(found))


def test_noise_is_as_predicted():
  table = _printed(_read('noise'))[-1]
  assert 'not tuned' not in table
  (gap,) = re.findall(r'differ from predicted ones by at most (\S+)\.\n', table)
  assert float(gap) < 0.05


def test_unknown_parameter():
  with pytest.raises(ValueError, match='does not set STEP'):
    execute.execute(_COLABS / 'quickstart.ipynb', {'STEP': 3})


@pytest.mark.parametrize('name', _NAMES)
def test_first_cells_have_the_projects_url(name):
  setup = configparser.ConfigParser()
  setup.read(_ROOT / 'setup.cfg')
  url = setup['metadata']['url']
  badge, install = _read(name).cells[:2]
  repository = url.removeprefix('https://github.com/')
  assert (
    f'https://colab.research.google.com/github/{repository}/blob/main/colabs'
    f'/{name}.ipynb)'
  ) in badge.source
  assert f'"optax-namo[nanogpt] @ git+{url}"' in install.source
  assert 'except ImportError' in install.source


@pytest.mark.parametrize('name', _NAMES)
def test_committed_clean(name):
  path = _COLABS / f'{name}.ipynb'
  assert path.stat().st_size < 500_000
  notebook = _read(name)
  assert set(notebook.metadata) <= {
    'kernelspec',
    'language_info',
    'accelerator',
  }
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert [cell.execution_count for cell in code] == list(
    range(1, len(code) + 1)
  )
  for cell in code:
    assert set(cell.metadata) <= {'tags'}
    for output in cell.outputs:
      assert output.output_type != 'error'
      assert output.get('name') != 'stderr', output.text


@pytest.mark.parametrize('name', _NAMES)
def test_redefines_nothing(name):
  modules = [optax_namo] + [
    importlib.import_module(f'{nanogpt.__name__}.{module.name}')
    for module in pkgutil.iter_modules(nanogpt.__path__)
    if module.name != '__main__'  # Flags.
  ]
  library = {
    name
    for module in modules
    for name, value in vars(module).items()
    if inspect.isclass(value) or inspect.isfunction(value)
  }
  source = '\n'.join(
    cell.source.replace('%pip', 'pass  #')
    for cell in _read(name).cells
    if cell.cell_type == 'code'
  )
  tree = ast.parse(source)
  defined = {
    node.name
    for node in ast.walk(tree)
    if isinstance(node, (ast.FunctionDef, ast.ClassDef))
  }
  assert defined
  assert not defined & library


def test_picture_of_the_pages_is_the_notebooks():
  picture = base64.b64encode((_COLABS / 'scales.png').read_bytes()).decode()
  found = [p.replace('\n', '') for p in _pictures(_read('inside_namo_d'))]
  assert picture in found
