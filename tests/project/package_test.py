# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What importing the package costs and offers."""

import configparser
from importlib import metadata
import inspect
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

import optax_namo

_ROOT = pathlib.Path(__file__).parents[2]


def test_core_import_is_light():
  heavy = (
    'flax', 'matplotlib', 'orbax.checkpoint', 'tqdm', 'tiktoken',
    'tensorboardX', 'yaml', 'equinox', 'haiku', 'haliax',
  )  # fmt: skip
  found = subprocess.run(
    [
      sys.executable,
      '-c',
      f'import sys, optax_namo;print([m for m in {heavy} if m in sys.modules])',
    ],
    check=True,
    capture_output=True,
    text=True,
  )
  assert found.stdout.strip() == '[]'


def test_version():
  assert optax_namo.__version__ == metadata.version('optax-namo')


def test_signatures():
  """The names and defaults that other programs rely on."""
  expected = {
    'learning_rate': inspect.Parameter.empty, 'b1': 0.95, 'b2': 0.99,
    'eps': 1e-8, 'weight_decay': 0.01, 'weight_decay_mask': None,
    'mu_dtype': None, 'nesterov': True, 'decay': 'adaptive',
    'shape_scale': 'rms', 'rms': 0.2, 'orthogonalizer': None,
    'weight_dimension_numbers': None, 'adam_learning_rate': None,
    'adam_b1': 0.9, 'adam_b2': 0.95, 'adam_eps': 1e-8,
    'adam_weight_decay': 0.0, 'shard_over': None, 'record': False,
  }  # fmt: skip
  positional = list(expected)[:7]
  for optimizer, more in (
    (optax_namo.namo, {}),
    (optax_namo.namo_d, {'clamp': 0.75, 'columns': 'input'}),
  ):
    parameters = inspect.signature(optimizer).parameters
    found = {name: p.default for name, p in parameters.items()}
    assert found == expected | more
    assert [
      n for n, p in parameters.items() if p.kind != p.KEYWORD_ONLY
    ] == positional


@pytest.mark.parametrize(
  'name', [k for k, v in vars(optax_namo).items() if inspect.isfunction(v)]
)
def test_docstrings_tell_all_and_show_an_example(name):
  """What ruff cannot see: it takes names of private modules for private."""
  function = getattr(optax_namo, name)
  text = inspect.getdoc(function)
  has_arguments = bool(inspect.signature(function).parameters)
  for section in ['Args', 'Returns', 'Raises', 'Examples'][not has_arguments :]:
    assert f'\n\n{section}:\n' in text
  assert '>>> ' in text


def test_citation():
  text = (_ROOT / 'CITATION.cff').read_text()
  citation = yaml.safe_load(text)
  assert citation['version'] == optax_namo.__version__
  paper = citation['preferred-citation']
  readme = (_ROOT / 'README.md').read_text()
  assert f'title   = {{{paper["title"]}}}' in readme
  authors = (
    f'{author["family-names"]}, {author["given-names"]}'
    for author in paper['authors']
  )
  assert f'author  = {{{" and ".join(authors)}}}' in readme


def _claimed():
  """Lists of what setup.cfg requires: the package's own, and each extra's."""
  config = configparser.ConfigParser()
  config.read(_ROOT / 'setup.cfg')
  return {
    'core': config['options']['install_requires'].split(),
    **{k: v.split() for k, v in config['options.extras_require'].items()},
  }


def test_pre_commit_checks_what_ci_checks():
  """The same commands, which mend here, of the versions of the dev extra."""
  text = (_ROOT / '.pre-commit-config.yaml').read_text()
  (repo,) = yaml.safe_load(text)['repos']
  commands = [hook['entry'].split(' --')[0] for hook in repo['hooks']]
  ci = (_ROOT / '.ci' / 'run').read_text()
  checks = re.findall(r'^ *\.venv/bin/(ruff \w+|mypy)', ci, re.MULTILINE)
  assert commands == checks
  pins = {hook['additional_dependencies'][0] for hook in repo['hooks']}
  assert pins <= set(_claimed()['dev'])


def test_ci_tries_the_lowest_versions_that_are_claimed():
  claimed = _claimed()
  wanted = [
    re.sub('>=', '==', one)
    for extra in ('core', 'nanogpt', 'bpe', 'test')
    for one in claimed[extra]
    if not one.startswith('optax-namo')
  ]
  lines = (_ROOT / '.github' / 'lowest.txt').read_text().splitlines()
  assert sorted(wanted) == sorted(x for x in lines if x[0] != '#')


def test_readme_names_what_the_core_needs():
  config = configparser.ConfigParser()
  config.read(_ROOT / 'setup.cfg')
  needs = {
    'Python': config['options']['python_requires'].removeprefix('>='),
    **dict(one.split('>=') for one in _claimed()['core']),
  }
  sentence = re.search(
    r'It needs (.*?), or newer', (_ROOT / 'README.md').read_text(), re.DOTALL
  )
  assert sentence
  found = re.findall(r'(\w+) (\d[\d.]*\d)', sentence[1])
  assert dict(found) == needs
