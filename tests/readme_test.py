# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the README shows works as it stands."""

import pathlib
import re

import chex
import jax.numpy as jnp
import pytest

_README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text()
_BLOCKS = re.findall(
  r'^```python\n(.*?)^```', _README, re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize('block', range(len(_BLOCKS)))
def test_python_block_runs(block):
  names = {}
  exec(_BLOCKS[block], names)
  if 'loss' in names:  # The training loop learned something.
    assert names['loss'] < 0.1
  else:
    tx, params = names['tx'], names.get('params', jnp.ones((4, 6)))
    updates, _ = tx.update(params, tx.init(params), params)
    chex.assert_tree_all_finite(updates)


def test_the_blocks_are_found():
  assert len(_BLOCKS) == 5


def test_linked_files_exist():
  root = pathlib.Path(__file__).parents[1]
  links = re.findall(r'\]\((?!http)([^)#]+)\)', _README)
  code = re.findall(r'`((?:tests|benchmarks)/[\w/.]+)`', _README)
  assert links + code
  for name in links + code:
    assert (root / name).exists(), name
