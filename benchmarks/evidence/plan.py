# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The protocol as a function: from the rows there are to the runs to come.

Nobody chooses between two runs: each question asks the rows for mean losses,
and where one is missing its runs are what is left to do.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.evidence.tuning import ADAM_RATES
from benchmarks.evidence.tuning import Arm
from benchmarks.evidence.tuning import AROUND
from benchmarks.evidence.tuning import at_batch
from benchmarks.evidence.tuning import DECAYS
from benchmarks.evidence.tuning import FEW
from benchmarks.evidence.tuning import FINAL
from benchmarks.evidence.tuning import RATES
from benchmarks.evidence.tuning import rates
from benchmarks.evidence.tuning import Rows
from benchmarks.evidence.tuning import tuned
from benchmarks.evidence.tuning import walk
from benchmarks.evidence.tuning import Wanted
from optax_namo.nanogpt.config import Config

RULES = ('namo_d', 'namo', 'muon')
# Of NAMO-D; what is not named is the default.
VARIATIONS: dict[str, Arm] = {
  'columns output': {'columns': 'output'},
  **{f'c = {c}': {'clamp': c} for c in (0.1, 0.4, 0.9, 1.0)},
  'no clamp': {'clamp': 0.0},
  **{f'{n} steps': {'ns_steps': n} for n in (3, 4)},
  **{n: {'ns_coefficients': n} for n in ('polar_express', 'cans', 'dion')},
  'minimax': {
    'ns_coefficients': 'minimax',
    'ns_steps': 3,
    'preconditioning': 'schatten',
  },
}

Question = Callable[[Rows, str], dict[str, Arm]]


def judged(
  rows: Rows, of: dict[str, Arm], seeds: Sequence[int]
) -> dict[str, Arm]:
  """The arms, once there is a row for each of their final runs."""
  rows.need(of.values(), seeds)
  return of


# Each question to one optimizer: its arms by what is varied, '' where nothing
# is. All of their final runs have a row, or it raises Wanted.


def ordering(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """The ordering at the char preset."""
  arm = tuned(rows, optimizer)
  return judged(rows, {'': arm}, FINAL)


def agreement(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """Muon by this package and by optax."""
  arm = tuned(rows, optimizer)
  return judged(
    rows, {'': arm, 'optax': arm | {'optimizer': 'optax_muon'}}, FEW
  )


def noise(batch: int) -> Question:
  """Smaller and larger batches, the same number of steps."""

  def asked(rows, optimizer):
    return judged(rows, {'': at_batch(rows, optimizer, batch)}, FINAL)

  return asked


def horizon(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """Four times the steps, at 4 sequences a batch."""
  arm = at_batch(rows, optimizer, 4) | {'steps': 3200}
  arm = walk(rows, arm, 'learning_rate', rates(optimizer))
  return judged(rows, {'': arm}, FEW)


def constant(**knobs: Any) -> Question:
  """No decay of the rate at the end, the paper's schedule."""

  def asked(rows, optimizer):
    arm = tuned(rows, optimizer) | {'decay_steps': 0, **knobs}
    arm = walk(rows, arm, 'learning_rate', rates(optimizer))
    return judged(rows, {'': arm}, FINAL)

  return asked


def decay(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """Adaptive, decoupled, none; each with its strength."""
  adaptive = decoupled = tuned(rows, optimizer)
  if optimizer != 'muon':  # Whose scale is one: the two are the same.
    decoupled = adaptive | {'decay': 'decoupled'}
    decoupled = walk(rows, decoupled, 'weight_decay', DECAYS)
  none = adaptive | {'weight_decay': 0.0}
  none = walk(rows, none, 'learning_rate', rates(optimizer))
  return judged(
    rows, {'': adaptive, 'decoupled': decoupled, 'none': none}, FINAL
  )


def adamw_group(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """The AdamW group's rate: tuned, the matrices' own, or a tenth of it."""
  arms_ = {'': tuned(rows, optimizer)}
  for label, share in (('shared', 1.0), ('a tenth', 0.1)):
    arms_[label] = walk(
      rows,
      arms_[''],
      'learning_rate',
      rates(optimizer),
      tied=lambda rate, share=share: {
        'adam_learning_rate': float(f'{share * rate:.4g}')
      },
    )
  return judged(rows, arms_, FINAL)


def from_above(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """The AdamW group's rate, once more from the rate that NAMO would share."""
  arm = tuned(rows, optimizer)
  shared = arm | {'adam_learning_rate': RATES['namo']}
  high = walk(rows, shared, 'adam_learning_rate', ADAM_RATES)
  return judged(rows, {'': arm, 'from above': high}, FINAL)


def variations(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """Nesterov, and for NAMO-D columns, clamp and orthogonalizer."""
  arm = tuned(rows, optimizer)
  changes = {'no Nesterov': {'nesterov': False}}
  if optimizer == 'namo_d':
    changes |= VARIATIONS
  varied = {label: arm | change for label, change in changes.items()}
  return judged(rows, {'': arm} | varied, FEW)


def robustness(rows: Rows, optimizer: str) -> dict[str, Arm]:
  """Rates from a quarter to four times the best."""
  arm, ladder = tuned(rows, optimizer), rates(optimizer)
  i = ladder.index(arm['learning_rate'])
  around = ladder[max(i - 4, 0) : i + 5]
  return judged(
    rows,
    {f'{rate:g}': arm | {'learning_rate': rate} for rate in around},
    AROUND,
  )


def width(embed_dim: int, **knobs: Any) -> Question:
  """A narrower or wider model: does the best rate move?"""

  def asked(rows, optimizer):
    arm = tuned(rows, optimizer) | {'embed_dim': embed_dim, **knobs}
    arm = walk(rows, arm, 'learning_rate', rates(optimizer))
    return judged(rows, {'': arm}, FINAL)

  return asked


# By title, the question and the optimizers it is put to, in the order in which
# they are answered.
QUESTIONS: dict[str, tuple[Question, tuple[str, ...]]] = {
  '(a) Ordering': (ordering, (*RULES, 'adamw')),
  "(a) This package's Muon and optax's": (agreement, ('muon',)),
  **{f'(b) Noise: batch {n}': (noise(n), RULES) for n in (1, 2, 4)},
  '(d) Decay': (decay, RULES),
  '(h) Rate of the AdamW group': (adamw_group, RULES),
  '(m) Rate of the AdamW group, from above': (from_above, RULES),
  '(l) A constant rate': (constant(), RULES),
  '(n) A constant rate, no decay': (constant(weight_decay=0.0), RULES),
  '(e, f, g, i) Variations': (variations, RULES),
  '(j) Rates': (robustness, RULES),
  '(c) Four times the steps': (horizon, RULES),
  '(k) Width 64': (width(64), ('namo_d', 'muon')),
  '(b) Noise: batch 64': (noise(64), RULES),
  '(k) Width 256': (width(256), ('namo_d', 'muon')),
  '(o) Width 64, no decay': (width(64, weight_decay=0.0), ('namo_d', 'muon')),
  '(o) Width 256, no decay': (width(256, weight_decay=0.0), ('namo_d', 'muon')),
  '(p) Width 64, NAMO too': (width(64), RULES),
}


def left(rows: Iterable[dict[str, Any]]) -> dict[str, list[Config]]:
  """By title, the runs to be made next; what is answered is left out."""
  known = Rows(rows)
  asked: dict[str, list[Config]] = {}
  for title, (question, optimizers) in QUESTIONS.items():
    for optimizer in optimizers:
      try:
        question(known, optimizer)
      except Wanted as wanted:
        asked.setdefault(title, []).extend(wanted.runs)
  return asked
