# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Another revision's code, for a benchmark to compare with."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import subprocess
import tempfile

_ROOT = pathlib.Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def environment(revision: str) -> Iterator[dict[str, str]]:
  """Environment variables with which a program imports a revision's package.

  Args:
    revision: Whatever git knows by that name.

  Yields:
    The variables, true until the block ends.
  """
  with tempfile.TemporaryDirectory() as scratch:
    archive = subprocess.run(
      ['git', '-C', str(_ROOT), 'archive', revision, 'optax_namo'],
      stdout=subprocess.PIPE,
      check=True,
    )
    subprocess.run(
      ['tar', '-x', '-C', scratch], input=archive.stdout, check=True
    )
    # The package is that revision's, the benchmarks are today's.
    yield os.environ | {'PYTHONPATH': os.pathsep.join([scratch, str(_ROOT)])}
