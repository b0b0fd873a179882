# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs that differ in a few knobs, and what their rows say.

``__main__`` is the command, ``variants`` says what is to be run, ``sweep``
trains it and keeps a row a run. Of the rows ``arms`` says what was run,
``tuning`` chooses each arm's best setting, ``robustness`` tells how much hangs
on its rate, ``judge`` compares arms by the tests of ``significance``, and
``report`` and ``figures`` show it.
"""
