# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The example on many devices: eight in one process, and two processes."""

import json
import math
import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from optax_namo.nanogpt import data
from optax_namo.nanogpt import metrics
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.mesh import mesh_axes
from tests.helpers import environment
from tests.nanogpt import helpers

# Sums of another order, over 20 steps; measured are 8e-7.
_RTOL = 1e-5


# Twenty steps on every mesh, with a checkpoint in the middle; then the second
# half again, on eight devices from the checkpoints of fewer, and the other way
# round.
_EIGHT_DEVICES = """
import dataclasses, json, pathlib, sys

import jax
from optax_namo.nanogpt import config as module
from optax_namo.nanogpt import data
from optax_namo.nanogpt import run_folder
from optax_namo.nanogpt import train
from optax_namo.nanogpt.mesh import make_mesh
from optax_namo.nanogpt.optimizers import make_optimizer
from tests.nanogpt import helpers

module.PRESETS['tiny'] = helpers.TINY
fields = json.loads(sys.argv[1])
folder = pathlib.Path(sys.argv[2])
corpus = data.load(fields['data'], block_size=helpers.TINY.block_size)
MESHES = ('', 'fsdp:2', 'fsdp:4', 'data:2,fsdp:4')

def prepare(axes):
  config = dataclasses.replace(module.Config(**fields), mesh=axes)
  mesh = make_mesh(axes)
  tx = make_optimizer(config)
  model = train.model_config(config, corpus.vocab_size)
  graphdef, state = train.init(config, model, tx, mesh)
  step = train.make_step(graphdef, tx, mesh)

  def go_on(state, start, stop):
    losses = []
    for i in range(start, stop):
      state, scalars = step(state, *train.batches(config, corpus, i, mesh))
      losses.append(float(scalars['loss']))
    return state, losses

  return state, step, go_on

runs, losses = {}, {}
for axes in MESHES:
  state, step, go_on = prepare(axes)
  fresh = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )
  runs[axes] = fresh, go_on
  state, first = go_on(state, 0, 10)
  with run_folder.checkpoints(folder / axes) as manager:
    run_folder.save(manager, 10, state)
  state, second = go_on(state, 10, 20)
  losses[axes] = first + second
  assert step._cache_size() == 1

leaves = [
  {
    'path': jax.tree_util.keystr(path),
    'shape': leaf.shape,
    'spec': str(leaf.sharding.spec),
    'shard': leaf.addressable_shards[0].data.shape,
  }
  for path, leaf in jax.tree.leaves_with_path(state)
]
resumed = {}
pairs = [(few, MESHES[3]) for few in MESHES[:3]]
for saved, used in pairs + [pair[::-1] for pair in pairs]:
  fresh, go_on = runs[used]
  with run_folder.checkpoints(folder / saved) as manager:
    state = run_folder.restore(manager, fresh)
  assert int(state.step) == 10
  for x, like in zip(jax.tree.leaves(state), jax.tree.leaves(fresh)):
    assert x.sharding == like.sharding
  _, resumed[f'{saved} on {used}'] = go_on(state, 10, 20)
print(json.dumps({'losses': losses, 'resumed': resumed, 'leaves': leaves}))
"""


def test_eight_devices(text, tmp_path):
  config = helpers.config(data=str(text), steps=20, batch_size=16)
  ended = subprocess.run(
    [
      sys.executable,
      '-c',
      _EIGHT_DEVICES,
      json.dumps(vars(config)),
      str(tmp_path),
    ],
    capture_output=True,
    text=True,
    env=environment(8),
  )
  assert ended.returncode == 0, ended.stderr
  told = json.loads(ended.stdout.splitlines()[-1])

  losses = told['losses']
  for one in losses.values():
    np.testing.assert_allclose(one, losses[''], rtol=_RTOL)
  assert losses[''][-1] < losses[''][0] - 0.2  # It learns something.
  assert len(told['resumed']) == 6
  for one in told['resumed'].values():
    np.testing.assert_allclose(one, losses[''][10:], rtol=_RTOL)

  _check_layout(told['leaves'])


def _check_layout(leaves):
  """Of a mesh with 'fsdp:4'."""
  parameters = {
    leaf['path'].removeprefix('.params'): leaf
    for leaf in leaves
    if leaf['path'].startswith('.params')
  }
  followers = []
  for leaf in leaves:
    share = math.prod(leaf['shard']) / math.prod(leaf['shape'])
    if 'fsdp' in leaf['spec']:
      assert share == 1 / 4, leaf
    else:  # Scalars, vectors and the norms of columns.
      assert sum(n > 1 for n in leaf['shape']) <= 1, leaf
      assert share == 1, leaf
    for path, parameter in parameters.items():
      if leaf['path'].endswith(path) and leaf['shape'] == parameter['shape']:
        assert leaf['spec'] == parameter['spec'], leaf
        followers.append(path)
  # Every parameter has itself and one or two moments.
  assert all(followers.count(path) >= 2 for path in parameters)


# One of two processes, which find each other by the variables that srun sets.
# It counts the rows that it cuts of a training batch, and none but the first
# may write.
_ONE_OF_TWO = """
import os
from optax_namo.nanogpt import data, files, plot

os.environ.update(
  JAX_COORDINATOR_PORT='{port}',
  PJRT_NPROC='2',  # docs/devices.md: twice its one device.
  SLURM_JOB_ID='1',
  SLURM_STEP_NODELIST='localhost',
  SLURM_NTASKS='2',
  SLURM_PROCID='{process}',
  SLURM_LOCALID='{process}',
)
make_batch = data.batch

def batch(*args, **kwargs):
  inputs, targets = make_batch(*args, **kwargs)
  print('rows', len(inputs))
  return inputs, targets

data.batch = batch
if {process}:
  files.write_whole = files.append_rows = plot.losses = None
"""


def _two_processes(folder, config) -> list[str]:
  """What each says of a run into a folder's 'together'."""
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  ends = helpers.children(
    folder,
    [helpers.command(config, 'together', '--distributed')] * 2,
    {i: _ONE_OF_TWO.format(port=port, process=i) for i in range(2)},
    together=True,
  )
  assert [code for code, _ in ends] == [0, 0], ends
  return [text for _, text in ends]


def test_two_processes_and_back_to_one(text, corpus, tmp_path, capsys):
  alone, together = tmp_path / 'alone', tmp_path / 'together'
  # Without decay, 8 steps are the first 8 of 12. Processes that wait for each
  # other are busy: a step is dear.
  shared = {
    'data': str(text), 'warmup_steps': 2, 'decay_steps': 0, 'accumulate': 2,
    'eval_every': 4, 'checkpoint_every': 4,
  }  # fmt: skip
  config = helpers.config(mesh='fsdp:2', steps=8, **shared)
  first, second = _two_processes(tmp_path, config)
  for told in (first, second):
    # Half of 2 x 8; the progress bar writes on the same lines.
    assert re.findall(r'rows (\d+)', told) == ['8'] * 8
  assert 'Everything is in' in first
  assert 'Everything is in' not in second
  assert json.loads((together / 'config.json').read_text())['mesh'] == 'fsdp:2'
  assert len((together / 'sample.txt').read_text()) > 100
  assert (together / 'loss.png').exists()

  rows = metrics.read(together)
  assert [row['step'] for row in rows] == list(range(1, 9))

  # One process alone goes on from there, and does it all.
  config = helpers.config(steps=12, **shared)
  notes = run_folder.claim(together, config, resume=True)
  assert "--mesh was 'fsdp:2' and is now ''" in notes
  train.fit(config, corpus, together, resume=True)
  assert 'Going on from step 8' in capsys.readouterr().out
  run_folder.claim(alone, config, resume=False)
  train.fit(config, corpus, alone, resume=False)
  rows, expected = (metrics.read(out) for out in (together, alone))
  assert len(rows) == 12
  for row, other in zip(rows, expected, strict=True):
    for name in ('step', 'loss', 'grad_norm', 'val_loss'):
      np.testing.assert_allclose(row.get(name, 0), other.get(name, 0), _RTOL)


def test_rows_are_those_of_the_whole_batch():
  tokens = np.arange(500, dtype=np.uint16)
  options = {'seed': 3, 'step': 5, 'batch_size': 6, 'block_size': 4}
  rows = np.array([1, 4, 5])
  whole = data.batch(tokens, **options)
  part = data.batch(tokens, rows=rows, **options)
  for x, y in zip(whole, part):
    np.testing.assert_array_equal(x[rows], y)


@pytest.mark.parametrize(
  ('text', 'entry'),
  [
    ('8', '8'),
    ('fsdp', 'fsdp'),
    ('fsdp:0', 'fsdp:0'),
    ('fsdp:-1', 'fsdp:-1'),
    ('model:2', 'model:2'),
    ('data:2,', ''),
    ('fsdp:2,fsdp:4', 'fsdp:4'),
  ],
)
def test_strange_meshes(text, entry):
  with pytest.raises(ValueError, match=f"'{entry}' is no axis.*'data:2,fsdp:4"):
    mesh_axes(text)


def test_one_device_is_a_mesh_of_one():
  assert make_mesh('').size == 1


def test_mesh_and_devices_and_batch_must_fit(monkeypatch):
  with pytest.raises(ValueError, match='9999 devices, but there are'):
    make_mesh('fsdp:9999')
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(jax, 'device_count', lambda: 8)
  for text in ('', 'fsdp:4'):
    with pytest.raises(ValueError, match='2 processes have 8, and must use'):
      make_mesh(text)
  with pytest.raises(ValueError, match='batch_size=8.*the 6 devices'):
    helpers.config(mesh='data:2,fsdp:3')


def test_two_threads_for_each_virtual_device(monkeypatch):
  """Or as many as there are cores; what a user has set stays."""
  flags = '--xla_a=b --xla_force_host_platform_device_count=8'
  monkeypatch.setattr(os, 'cpu_count', lambda: 2)
  for given, expected in (
    ({}, None),
    ({'XLA_FLAGS': flags}, '16'),
    ({'XLA_FLAGS': flags, 'PJRT_NPROC': '3'}, '3'),
  ):
    monkeypatch.setattr(os, 'environ', given)
    make_mesh('')
    assert given.get('PJRT_NPROC') == expected
