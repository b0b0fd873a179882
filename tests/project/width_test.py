# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a rate does at another width, by the shape scale and AdamW's recipe."""

import pytest

from benchmarks import width

_WIDTHS = (16, 128)


def _slopes(shape_scale, base):
  found = width.check(shape_scale, _WIDTHS, base)
  return {layer: width.slope(by_width) for layer, by_width in found.items()}


def test_one_rate_serves_with_spectral_and_the_recipe():
  slopes = _slopes('spectral', base=16)
  # Logits have some of the way to go to their limit.
  assert abs(slopes.pop('head')) < 0.35
  assert all(abs(slope) < 0.15 for slope in slopes.values()), slopes


def test_it_does_not_with_rms_nor_with_one_adamw_rate():
  """Octaves of change by octave of width: a root in rms, nearly one in Adam."""
  assert _slopes('rms', base=16)['up'] == pytest.approx(0.5, abs=0.15)
  assert _slopes('spectral', base=None)['head'] > 0.5
