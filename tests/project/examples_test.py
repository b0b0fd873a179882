# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every program of the gallery runs, learns and has a page."""

import importlib
import importlib.util
import pathlib
import re
import socket
import subprocess
import sys

import jax
import pytest

from tests.helpers import environment

_ROOT = pathlib.Path(__file__).parents[2]
# `siblings` is no program, but arms for a comparison, and has tests of its own.
_EXAMPLES = sorted(
  path.stem
  for path in (_ROOT / 'examples').glob('*.py')
  if path.stem != 'siblings'
)
# So many processes, each with so many devices; the others run in this one.
_OWN = {'eight_devices': (1, 8), 'keras_3': (1, 1), 'pod': (2, 1)}


def _learned(losses):
  assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize('name', sorted(set(_EXAMPLES) - set(_OWN)))
def test_program_learns(name, capsys):
  program = importlib.import_module(f'examples.{name}')
  with jax.numpy_rank_promotion('allow'):  # Its default.
    _learned(program.main(steps=20))
  assert 'step 0: loss' in capsys.readouterr().out


def _start(name, devices, **more):
  code = f'from examples import {name} as x; losses = x.main(steps=20)'
  return subprocess.Popen(
    [sys.executable, '-c', f'{code}; print(losses[0], losses[-1])'],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=_ROOT,
    env=environment(devices) | {'KERAS_BACKEND': 'jax'} | more,
  )


def _together(name, processes, devices):
  """They find each other by the variables that srun sets."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  shared = {
    'JAX_COORDINATOR_PORT': f'{port}',
    'SLURM_JOB_ID': '1',
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': f'{processes}',
  }
  return [
    _start(name, devices, **shared, SLURM_PROCID=f'{i}', SLURM_LOCALID=f'{i}')
    for i in range(processes)
  ]


@pytest.mark.parametrize('name', sorted(_OWN))
def test_program_of_its_own_process_learns(name):
  if name == 'keras_3' and not importlib.util.find_spec('keras'):
    pytest.skip('needs keras, which the extra test brings')
  count, devices = _OWN[name]
  processes = (
    _together(name, count, devices) if count > 1 else [_start(name, devices)]
  )
  printed = [process.communicate() for process in processes]
  for process, (out, err) in zip(processes, printed):
    assert process.returncode == 0, err
    _learned([float(word) for word in out.splitlines()[-1].split()])
  assert 'step 0: loss' in printed[0][0]
  if count * devices > 1:
    assert f', {count * devices} devices' in printed[0][0]


def test_every_program_has_a_page():
  gallery = (_ROOT / 'docs' / 'gallery.md').read_text()
  assert sorted(re.findall(r'\]\(gallery/(\w+)\.md\)', gallery)) == _EXAMPLES
  for name in _EXAMPLES:
    page = (_ROOT / 'docs' / 'gallery' / f'{name}.md').read_text()
    assert f'```{{literalinclude}} ../../examples/{name}.py\n' in page
