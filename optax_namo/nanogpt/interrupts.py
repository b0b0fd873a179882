# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, and SIGTERM as schedulers send it, noted and not obeyed at once."""

from collections.abc import Iterator
import contextlib
import os
import signal
import socket
import sys
import threading

import tqdm

_NOTICE = 'Stopping after this step. A second signal ends the run at once.'
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
  """Notes a first SIGINT or SIGTERM, and says so; a second ends the process.

  Python calls a handler between two bytecodes, for which a call into XLA may
  make it wait minutes. The part of it in C writes the signal's number to a
  socket at once: there a thread waits.

  Yields:
    A list, to which the number of the first signal will be added.
  """
  seen: list[int] = []
  reader, writer = socket.socketpair()
  writer.setblocking(False)  # Python insists.

  def wait():
    while number := reader.recv(1):
      if seen:
        os._exit(128 + number[0])  # As a shell counts it.
      seen.append(number[0])
      tqdm.tqdm.write(_NOTICE, file=sys.stderr)

  thread = threading.Thread(target=wait, daemon=True)
  thread.start()
  before = {one: signal.signal(one, lambda *_: None) for one in _SIGNALS}
  wakeup = signal.set_wakeup_fd(writer.fileno())
  try:
    yield seen
  finally:
    signal.set_wakeup_fd(wakeup)
    for one, handler in before.items():
      signal.signal(one, handler)
    writer.close()
    thread.join()
    reader.close()
