# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The polar factor of a stack of matrices, and what leads to it."""
