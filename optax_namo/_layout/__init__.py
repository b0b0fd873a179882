# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""How arrays lie: in trees, in stacks, on meshes."""
