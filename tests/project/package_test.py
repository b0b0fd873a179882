# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What importing the package costs and offers."""

from importlib import metadata
import inspect
import pathlib
import re
import subprocess
import sys

from absl.testing import absltest
import yaml

import optax_namo

_ROOT = pathlib.Path(__file__).parents[2]


class PackageTest(absltest.TestCase):
  def test_core_import_is_light(self):
    heavy = (
      'flax', 'matplotlib', 'orbax.checkpoint', 'tqdm', 'tiktoken',
      'tensorboardX', 'yaml', 'equinox', 'haiku', 'haliax',
    )  # fmt: skip
    found = subprocess.run(
      [
        sys.executable,
        '-c',
        'import sys, optax_namo;'
        f'print([m for m in {heavy} if m in sys.modules])',
      ],
      check=True,
      capture_output=True,
      text=True,
    )
    self.assertEqual(found.stdout.strip(), '[]')

  def test_version(self):
    self.assertEqual(optax_namo.__version__, metadata.version('optax-namo'))

  def test_signatures(self):
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
      self.assertEqual(found, expected | more)
      self.assertEqual(
        [n for n, p in parameters.items() if p.kind != p.KEYWORD_ONLY],
        positional,
      )

  def test_citation(self):
    text = (_ROOT / 'CITATION.cff').read_text()
    citation = yaml.safe_load(text)
    self.assertEqual(citation['version'], optax_namo.__version__)
    paper = citation['preferred-citation']
    readme = (_ROOT / 'README.md').read_text()
    self.assertIn(f'title   = {{{paper["title"]}}}', readme)
    authors = (
      f'{author["family-names"]}, {author["given-names"]}'
      for author in paper['authors']
    )
    self.assertIn(f'author  = {{{" and ".join(authors)}}}', readme)

  def test_pre_commit_checks_what_ci_checks(self):
    text = (_ROOT / '.pre-commit-config.yaml').read_text()
    (repo,) = yaml.safe_load(text)['repos']
    hooks = [hook['entry'] for hook in repo['hooks']]
    ci = (_ROOT / '.ci' / 'run').read_text()
    checks = re.findall(r'^\.venv/bin/(?:ruff|mypy).*$', ci, re.MULTILINE)
    self.assertEqual(hooks, checks)


if __name__ == '__main__':
  absltest.main()
