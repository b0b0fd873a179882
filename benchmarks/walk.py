# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long the way of one update through the package's source is.

  python -m benchmarks.walk

Of one ``update`` outside of jit, of a matrix and a vector: the files that it
enters, how often it goes from one file to another, and the calls of functions
that have a name; and the equations of a jitted update of 16 matrices. optax's
Muon beside it, in optax's files.
"""

import pathlib
import sys

import jax
from jax.extend import core
import jax.numpy as jnp
import optax

from benchmarks import steps
import optax_namo


def walk(tx, package):
  """Files, changes of file and calls within a package."""
  root = str(pathlib.Path(package.__file__).parent)
  params = {'w': jnp.ones((4, 6)), 'b': jnp.ones(6)}
  state = tx.init(params)
  tx.update(params, state, params)  # What is cached is not entered again.
  calls, way, within = [], [], []

  def look(frame, event, _):
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if not file.startswith(root) or name.startswith('<'):
      return
    if event == 'call':
      calls.append((file, name))
      within.append(file)
      way.append(file)
    elif event == 'return':
      within.pop()
      way.extend(within[-1:])

  sys.setprofile(look)
  tx.update(params, state, params)
  sys.setprofile(None)
  changes = sum(a != b for a, b in zip(way, way[1:]))
  return len({file for file, _ in calls}), changes, len(calls)


def equations(tx):
  """Of the update of a GPT of four layers, within jit and all that it calls."""
  params = steps.parameters(4, 32, 0, 0)
  state = jax.eval_shape(tx.init, params)
  counted = lambda jaxpr: sum(
    1 + sum(map(counted, core.jaxprs_in_params(e.params))) for e in jaxpr.eqns
  )
  return counted(jax.make_jaxpr(tx.update)(params, state, params).jaxpr)


def main():
  for name, make, package in (
    ('namo_d', optax_namo.namo_d, optax_namo),
    ('optax.contrib.muon', optax.contrib.muon, optax),
  ):
    files, changes, calls = walk(make(0.01), package)
    print(
      f'{name}: {files} files, {changes} changes, {calls} calls,'
      f' {equations(make(0.01))} equations'
    )


if __name__ == '__main__':
  main()
