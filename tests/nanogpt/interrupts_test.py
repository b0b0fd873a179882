# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""A first signal is noted, a second ends the process at once."""

import os
import queue
import signal

import pytest
import tqdm

from optax_namo.nanogpt import interrupts


@pytest.mark.parametrize(
  ('first', 'second'),
  [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)],
)
def test_first_and_second_signal(monkeypatch, first, second):
  happened = queue.Queue()  # Another thread tells.
  monkeypatch.setattr(tqdm.tqdm, 'write', lambda text, file: happened.put(text))
  monkeypatch.setattr(os, '_exit', happened.put)
  before = {one: signal.getsignal(one) for one in (first, second)}
  with interrupts.noted() as seen:
    assert seen == []
    os.kill(os.getpid(), first)
    assert 'Stopping after this step' in happened.get(timeout=60)
    assert seen == [first]
    os.kill(os.getpid(), second)
    assert happened.get(timeout=60) == 128 + second
  assert {one: signal.getsignal(one) for one in before} == before


def test_without_a_signal():
  handler = signal.getsignal(signal.SIGINT)
  with interrupts.noted() as seen:
    assert signal.getsignal(signal.SIGINT) is not handler
  assert seen == []
  assert signal.getsignal(signal.SIGINT) is handler
