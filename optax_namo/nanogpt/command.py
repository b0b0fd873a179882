# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How a command speaks to who runs it: --help, errors in a line, exit codes.

A flag has its group, a heading of --help, in the place of the module's name
that absl files it under: ``flags.DEFINE_string(..., module_name='run')``.
"""

import argparse
from collections.abc import Callable
import os
import signal
import sys
from typing import Any, NoReturn

from absl import app
from absl import flags
from absl import logging
import jax

_HELP = {'-h', '-help', '--help'}
_METAVARS = {'int': 'N', 'float': 'X'}


def parse(arguments: list[str]) -> list[str]:
  """What is left of a command line without its flags; a bad one ends it."""
  try:
    return flags.FLAGS(arguments)
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
      print(help_text(doc), end='', flush=True)
      return
    app.run(tidy, flags_parser=parse)
  except BrokenPipeError:  # As in `... | head`.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)  # As a shell counts an end by SIGPIPE.


def help_text(doc: str) -> str:
  """A docstring and the flags, in their groups, as wide as the terminal."""
  parser = argparse.ArgumentParser(
    usage=argparse.SUPPRESS,
    description=doc,
    add_help=False,
    formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
      prog, max_help_position=26
    ),
  )
  for name, members in flags.FLAGS.flags_by_module_dict().items():
    if name not in sys.modules:  # Those of absl and other libraries are.
      group = parser.add_argument_group(name)
      for flag in members:
        group.add_argument(f'--{_spelled(flag)}', **_described(flag))
  return parser.format_help()


def _spelled(flag: flags.Flag) -> str:
  return f'[no]{flag.name}' if flag.boolean else flag.name


def _described(flag: flags.Flag) -> dict[str, Any]:
  """The rest of what argparse is to say of a flag."""
  choices = getattr(flag.parser, 'enum_values', None)
  # What absl adds, argparse says beside the name, and our help itself.
  text = flag.help.partition(';\n')[0]
  text = text.partition('>: ')[2] if choices else text
  if flag.default is not False and flag.default not in (None, '', []):
    default = flag.default
    default = ','.join(default) if isinstance(default, list) else default
    text = f'{text.removesuffix(".")}; default: {default}.'
  text = text.replace('%', '%%')  # argparse formats it.
  if flag.boolean:
    return {'action': 'store_true', 'help': text}
  if choices:
    return {'metavar': f'{{{",".join(choices)}}}', 'help': text}
  metavar = _METAVARS.get(flag.flag_type(), flag.name.upper())
  return {'metavar': metavar, 'help': text}


def _refuse(error: Exception) -> NoReturn:
  print(f'error: {error}\n--help lists the flags.', file=sys.stderr)
  sys.exit(2)
