# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss curves of a run, as a picture."""

from collections.abc import Sequence
import pathlib
from typing import Any

from matplotlib import figure


def losses(
  rows: Sequence[dict[str, Any]], path: pathlib.Path, *, title: str
) -> None:
  """Draws training and validation loss over steps.

  Args:
    rows: Rows of metrics with ``step``, ``loss`` and sometimes ``val_loss``.
    path: The PNG file to write.
    title: The figure's title.
  """
  fig = figure.Figure(figsize=(7, 4), dpi=150, layout='constrained')
  axes = fig.subplots()
  axes.plot(
    [row['step'] for row in rows],
    [row['loss'] for row in rows],
    linewidth=0.8,
    alpha=0.7,
    label='training (one batch)',
  )
  seen = [row for row in rows if 'val_loss' in row]
  axes.plot(
    [row['step'] for row in seen],
    [row['val_loss'] for row in seen],
    marker='o',
    markersize=4,
    label='validation',
  )
  axes.set(xlabel='step', ylabel='loss (nats a token)', title=title)
  axes.grid(alpha=0.3)
  axes.legend()
  fig.savefig(path)
