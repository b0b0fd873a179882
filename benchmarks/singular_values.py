# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where singular values end, for each set of coefficients: docs/cost.md has it.

  python -m benchmarks.singular_values

Newton-Schulz applies one scalar polynomial to every singular value, so that the
polynomial on a fine grid tells all about it. In float64, nothing is random.
"""

import numpy as np

from optax_namo._polar import coefficients as polynomials
from optax_namo.nanogpt.compare.report import markdown

STEPS = (3, 4, 5, 6, 8)
# Of a matrix divided by its Frobenius norm.
SMALLEST = (1e-2, 1e-3)


def spread(
  coefficients: str, steps: int, smallest: float
) -> tuple[float, float]:
  """Least and greatest result for singular values from ``smallest`` to 1."""
  s = np.geomspace(smallest, 1, 100_001)
  for row in polynomials.schedule(coefficients, steps, bits=23)[0]:
    s = sum(c * s ** (2 * k + 1) for k, c in enumerate(row))
  return s.min(), s.max()


def table() -> str:
  """Markdown, a line for each set and range."""
  cell = lambda *case: '{:.3f} – {:.3f}'.format(*spread(*case))
  return markdown(
    {
      'coefficients': f"`'{name}'`",
      'singular values': f'{smallest:g} – 1',
      **{f'{n} steps': cell(name, n, smallest) for n in STEPS},
    }
    for name in polynomials.COEFFICIENTS
    for smallest in SMALLEST
  )


if __name__ == '__main__':
  print(table())
