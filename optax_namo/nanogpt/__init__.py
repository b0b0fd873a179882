# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""nanoGPT in Flax NNX, trained with NAMO, NAMO-D, Muon or AdamW."""
