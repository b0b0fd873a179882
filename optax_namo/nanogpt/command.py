# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How a command speaks to who runs it: --help, errors in a line, exit codes.

A flag has its group, a heading of --help, in the place of the module's name
that absl files it under: ``flags.DEFINE_string(..., module_name='run')``.
"""

from collections.abc import Callable, Iterator
import contextlib
import itertools
import os
import signal
import sys
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
import jax

_HELP = {'-h', '-help', '--help'}


def parse(arguments: list[str]) -> list[str]:
  """What is left of a command line without its flags; a bad one ends it."""
  try:
    return flags.FLAGS(arguments)
  except flags.UnrecognizedFlagError as error:
    _refuse(_meant(error))
  except flags.Error as error:
    _refuse(error)


def run(
  main: Callable[[list[str]], None],
  doc: str,
  parse: Callable[[list[str]], list[str]] = parse,
) -> None:
  """Runs a command, and ends the process with its exit code.

  Args:
    main: Given the program's name and what is left of the command line. It
      raises ``app.UsageError`` for what it cannot take: exit code 2.
    doc: What the command does, above the flags in --help.
    parse: Parses the flags of a command line.
  """
  # Until a loop takes over (see interrupts), Ctrl-C just ends it: no traceback.
  signal.signal(signal.SIGINT, signal.SIG_DFL)

  def tidy(argv):
    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.WARNING)  # Orbax narrates at INFO.
    try:
      main(argv)
      sys.stdout.flush()
    except app.UsageError as error:
      _refuse(error)
    except MemoryError as error:  # NumPy's.
      sys.exit(
        f'error: {error}\nThis machine has too little memory: a smaller'
        ' --batch_size, --accumulate, --eval_sequences or --num_tokens takes'
        ' less.'
      )
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      sys.exit(
        f'error: {str(error).splitlines()[0]}\nThe device has too little'
        ' memory: a smaller --batch_size with a larger --accumulate is the same'
        ' run.'
      )

  try:
    if _HELP & set(sys.argv[1:]):
      groups = map(flags.FLAGS.module_help, _groups())
      print(doc, *groups, sep='\n', flush=True)
      return
    app.run(tidy, flags_parser=parse)
  except BrokenPipeError:  # As in `... | head`.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)  # As a shell counts an end by SIGPIPE.


@contextlib.contextmanager
def told() -> Iterator[None]:
  """Ends the process with a line for what is wrong with flags or files."""
  try:
    yield
  except BrokenPipeError:
    raise
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')


def _groups() -> dict[str, list[flags.Flag]]:
  """The flags by their group, without those of absl and other libraries."""
  modules = flags.FLAGS.flags_by_module_dict()
  return {name: modules[name] for name in modules if name not in sys.modules}


def _meant(error: flags.UnrecognizedFlagError) -> flags.Error:
  """Suggests flags by a word (rate) or initials (lr), if not as absl does."""
  meant = []
  for flag in itertools.chain(*_groups().values()):
    words = flag.name.split('_')
    if error.flagname in (*words, ''.join(word[0] for word in words)):
      meant.append(flag.name)
  if not meant:
    return error
  return flags.UnrecognizedFlagError(error.flagname, suggestions=meant)


def _refuse(error: Exception) -> NoReturn:
  print(f'error: {error}\n--help lists the flags.', file=sys.stderr)
  sys.exit(2)
