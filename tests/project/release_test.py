# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a release is made of agrees: versions, addresses, workflows, forms."""

import configparser
import os
import pathlib
import re

import pytest
import yaml

import optax_namo

_ROOT = pathlib.Path(__file__).parents[2]
_GITHUB = _ROOT / '.github'
_SETUP = configparser.ConfigParser()
_SETUP.read(_ROOT / 'setup.cfg')
_METADATA = _SETUP['metadata']


def _read(name):
  return yaml.safe_load((_GITHUB / name).read_text())


def _steps(workflow):
  return [step for job in workflow['jobs'].values() for step in job['steps']]


def _lines(key):
  return _METADATA[key].strip().splitlines()


def test_the_version_stands_in_one_place():
  assert _METADATA['version'] == 'attr: optax_namo.__version__'
  changelog = (_ROOT / 'CHANGELOG.md').read_text()
  newest = re.search(r'^## (\S+)', changelog, re.MULTILINE)[1]
  assert newest == optax_namo.__version__


def test_pythons_are_those_that_ci_runs():
  prefix = 'Programming Language :: Python :: '
  claimed = [
    line.removeprefix(prefix)
    for line in _lines('classifiers')
    if re.fullmatch(rf'{prefix}\d\.\d+', line)
  ]
  job = _read('workflows/ci.yml')['jobs']['check']
  assert job['strategy']['matrix']['python'] == claimed
  assert _SETUP['options']['python_requires'] == f'>={claimed[0]}'


def test_ci_is_the_script_that_developers_run():
  steps = _read('workflows/ci.yml')['jobs']['check']['steps']
  assert [step['run'] for step in steps if 'run' in step] == ['.ci/run']
  assert os.access(_ROOT / '.ci' / 'run', os.X_OK)


def test_ci_tries_other_versions_with_the_command_of_the_readme():
  workflow = _read('workflows/ci.yml')
  job = workflow['jobs']['versions']
  rows = {row['versions']: row for row in job['strategy']['matrix']['include']}
  assert rows['lowest']['pip'] == '-c .github/lowest.txt'
  assert rows['newest']['pip'] == '--upgrade'
  pythons = workflow['jobs']['check']['strategy']['matrix']['python']
  assert rows['lowest']['python'] == pythons[0]
  assert rows['newest']['python'] == pythons[-1]
  test = job['steps'][-1]['run']
  assert f' && .venv/bin/{test}\n' in (_ROOT / 'README.md').read_text()


def test_the_site_is_built_as_ci_builds_it():
  build, publish = _read('workflows/pages.yml')['jobs'].values()
  commands = [step['run'] for step in build['steps'] if 'run' in step]
  assert f'.venv/bin/{commands[-1]}\n' in (_ROOT / '.ci' / 'run').read_text()
  assert publish['permissions'] == {'pages': 'write', 'id-token': 'write'}


@pytest.mark.parametrize('name', ['ci.yml', 'pages.yml', 'release.yml'])
def test_actions_have_a_major_version_and_few_rights(name):
  workflow = _read(f'workflows/{name}')
  used = [step['uses'] for step in _steps(workflow) if 'uses' in step]
  assert used
  for action in used:
    assert re.fullmatch(r'[\w-]+/[\w-]+@(release/)?v\d+', action)
  assert workflow['permissions'] == {'contents': 'read'}


def test_a_tag_is_built_checked_and_published():
  workflow = _read('workflows/release.yml')
  assert workflow[True] == {'push': {'tags': ['v*']}}  # YAML's `on`.
  build, publish = workflow['jobs'].values()
  commands = [step['run'] for step in build['steps'] if 'run' in step]
  assert 'python -m build' in commands
  checked = 'twine check --strict dist/*'
  assert checked in commands
  assert checked.replace('dist/', '"$work"/dist/') in (
    (_ROOT / '.ci' / 'run').read_text()
  )
  # Trusted publishing: a token of the job's own, and no secret.
  assert publish['needs'] == 'build'
  assert publish['permissions'] == {'id-token': 'write'}
  assert publish['environment'] == 'pypi'
  assert 'permissions' not in build
  assert 'secrets' not in (_GITHUB / 'workflows' / 'release.yml').read_text()


def test_addresses_are_of_the_project():
  urls = dict(line.split(' = ') for line in _lines('project_urls'))
  assert urls.pop('Paper') == 'https://arxiv.org/abs/2602.17080'
  assert 'Source' in urls and 'Documentation' in urls
  for url in urls.values():
    assert url.startswith(_METADATA['url'])
    path = re.search(r'/(?:blob|tree)/main/(.*)', url)
    assert path is None or (_ROOT / path[1]).exists()


def test_the_license_is_an_expression_alone():
  assert _METADATA['license_expression'] == 'Apache-2.0'
  assert not [x for x in _lines('classifiers') if x.startswith('License')]
  assert 'Typing :: Typed' in _lines('classifiers')
  assert (_ROOT / 'optax_namo' / 'py.typed').exists()


@pytest.mark.parametrize('name', ['bug', 'feature'])
def test_forms_are_whole(name):
  form = _read(f'ISSUE_TEMPLATE/{name}.yml')
  assert form['name'] and form['description']
  ids = [field['id'] for field in form['body']]
  assert len(set(ids)) == len(ids)
  for field in form['body']:
    assert field['type'] == 'textarea' and field['attributes']['label']


def test_the_bug_form_asks_for_what_there_is(capsys):
  form = _read('ISSUE_TEMPLATE/bug.yml')
  told = {f['id']: f['attributes'].get('description') for f in form['body']}
  assert 'run.md' in told['run']
  exec(re.search(r'python -c "(.*)"', told['versions'])[1])
  printed = capsys.readouterr().out
  assert printed.startswith(optax_namo.__version__) and 'jax:' in printed
