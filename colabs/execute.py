# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs notebooks in place, ``python colabs/execute.py NOTEBOOK...``."""

from collections.abc import Mapping
import os
import pathlib
import sys
from typing import Any

import nbclient
import nbformat


def execute(
  path: pathlib.Path,
  parameters: Mapping[str, Any] | None = None,
  env: Mapping[str, str] | None = None,
) -> nbformat.NotebookNode:
  """The notebook after a run from top to bottom in a fresh kernel.

  Args:
    path: The .ipynb file.
    parameters: New values for names that the cell tagged 'parameters' sets.
    env: Variables to add to the kernel's environment.

  Returns:
    The notebook with its outputs and without timestamps and versions.

  Raises:
    ValueError: The cell tagged 'parameters' sets no such name.
    nbclient.exceptions.CellExecutionError: A cell raised.
  """
  notebook = nbformat.read(path, as_version=4)
  _inject(notebook, parameters or {})
  nbclient.NotebookClient(
    notebook, timeout=900, kernel_name='python3', record_timing=False
  ).execute(env={**os.environ, **(env or {})})
  notebook.metadata.language_info = {'name': 'python'}
  return notebook


def _inject(
  notebook: nbformat.NotebookNode, parameters: Mapping[str, Any]
) -> None:
  (cell,) = (
    cell
    for cell in notebook.cells
    if 'parameters' in cell.metadata.get('tags', ())
  )
  for name, value in parameters.items():
    if f'\n{name} = ' not in f'\n{cell.source}':
      raise ValueError(f'the parameters cell does not set {name}.')
    cell.source += f'\n{name} = {value!r}'


def main(paths: list[str]) -> None:
  for path in map(pathlib.Path, paths):
    nbformat.write(execute(path), path)


if __name__ == '__main__':
  main(sys.argv[1:])
