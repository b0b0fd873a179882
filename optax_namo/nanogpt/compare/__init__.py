# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs that differ in a few knobs, and what their rows say.

``__main__`` is the command, ``sweep`` trains and keeps a row a run, ``judge``
chooses between rows, ``report`` shows what it chose.
"""
