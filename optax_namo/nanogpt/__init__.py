# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""nanoGPT in Flax NNX, trained with NAMO, NAMO-D, Muon or AdamW."""

import importlib.util
import sys

_LIBRARIES = ('absl', 'flax', 'matplotlib', 'orbax', 'tqdm', 'yaml')

if missing := [one for one in _LIBRARIES if not importlib.util.find_spec(one)]:
  mend = (
    f'the example needs {", ".join(missing)}, which its extra brings: pip'
    " install 'optax-namo[nanogpt]'"
  )
  if sys.argv[:1] == ['-m']:  # While Python looks for what it is to run.
    sys.exit(f'error: {mend}')
  raise ModuleNotFoundError(mend, name=missing[0])
