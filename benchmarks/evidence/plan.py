# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The protocol as a function: from the rows there are to the runs to come.

PROTOCOL.md says why. Nobody chooses between two runs: each question asks the
rows for mean losses, and where one is missing its runs are what is left to do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.evidence.batched import Run
from benchmarks.evidence.ladders import AROUND
from benchmarks.evidence.ladders import FEW
from benchmarks.evidence.ladders import FINAL
from benchmarks.evidence.ladders import Knobs
from benchmarks.evidence.ladders import ladder
from benchmarks.evidence.ladders import RATES
from benchmarks.evidence.ladders import rates
from benchmarks.evidence.ladders import Rows
from benchmarks.evidence.ladders import tuned
from benchmarks.evidence.ladders import walk
from benchmarks.evidence.ladders import Wanted
from examples import siblings
from optax_namo.nanogpt.compare.arms import Arm
from optax_namo.nanogpt.compare.arms import Row

RULES = ('namo_d', 'namo', 'muon')
# Of NAMO-D; what is not named is the default.
VARIATIONS: dict[str, Knobs] = {
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


# Each question to one optimizer: its arms, labelled by what is varied, if
# anything is. All of their final runs have a row, or it raises Wanted.
Question = Callable[[Rows, str], list[Arm]]


def retuned(
  *changes: tuple[Knobs, tuple[str, ...]], seeds: Sequence[int] = FINAL
) -> Question:
  """What is tuned, after changes, each with the knobs that are walked again."""

  def asked(rows, optimizer):
    knobs = tuned(rows, optimizer)
    for change, walked in changes:
      knobs = walk(rows, knobs | change, *walked)
    return rows.arms({'': knobs}, seeds)

  return asked


def elsewhere(**change: Any) -> Question:
  """At other knobs, the rate walked again."""
  return retuned((change, ('learning_rate',)))


def at_batch(size: int, *then: Any, **options: Any) -> Question:
  """At equal steps, both rates anew; and further changes."""
  both = 'learning_rate', 'adam_learning_rate'
  return retuned(({'batch_size': size}, both), *then, **options)


def agreement(rows: Rows, optimizer: str) -> list[Arm]:
  """Muon by this package and by optax."""
  ours = tuned(rows, optimizer)
  theirs = ours | {'optimizer': 'optax_muon'}
  return [*rows.arms({'': theirs}, FEW), *rows.arms({'': ours}, FEW)]


def decay(rows: Rows, optimizer: str) -> list[Arm]:
  """Adaptive, decoupled, none; each with its strength."""
  adaptive = decoupled = tuned(rows, optimizer)
  if optimizer != 'muon':  # Whose scale is one: the two are the same.
    decoupled = walk(rows, adaptive | {'decay': 'decoupled'}, 'weight_decay')
  none = walk(rows, adaptive | {'weight_decay': 0.0}, 'learning_rate')
  of = {'': adaptive, 'decoupled': decoupled, 'none': none}
  return rows.arms(of, FINAL)


def adamw_group(rows: Rows, optimizer: str) -> list[Arm]:
  """The AdamW group's rate: tuned, the matrices' own, or a tenth of it."""
  base = tuned(rows, optimizer)
  at_share = lambda share: walk(
    rows,
    base,
    'learning_rate',
    tied=lambda rate: {'adam_learning_rate': float(f'{share * rate:.4g}')},
  )
  of = {'': base, 'shared': at_share(1.0), 'a tenth': at_share(0.1)}
  return rows.arms(of, FINAL)


def from_above(rows: Rows, optimizer: str) -> list[Arm]:
  """The AdamW group's rate, once more from the rate that NAMO would share."""
  base = tuned(rows, optimizer)
  shared = base | {'adam_learning_rate': RATES['namo']}
  high = walk(rows, shared, 'adam_learning_rate')
  return rows.arms({'': base, 'from above': high}, FINAL)


def variations(rows: Rows, optimizer: str) -> list[Arm]:
  """Nesterov, and for NAMO-D columns, clamp and orthogonalizer."""
  base = tuned(rows, optimizer)
  changes: dict[str, Knobs] = {'': {}, 'no Nesterov': {'nesterov': False}}
  if optimizer == 'namo_d':
    changes |= VARIATIONS
  of = {label: base | change for label, change in changes.items()}
  return rows.arms(of, FEW)


def robustness(rows: Rows, optimizer: str) -> list[Arm]:
  """Rates from a quarter to four times the best."""
  base, rungs = tuned(rows, optimizer), rates(optimizer)
  i = rungs.index(base['learning_rate'])
  around = rungs[max(i - 4, 0) : i + 5]
  of = {f'{rate:g}': base | {'learning_rate': rate} for rate in around}
  return rows.arms(of, AROUND, among=AROUND)


def small(rows: Rows, optimizer: str, **change: Any) -> Knobs:
  """The preset `small`: the rate, the AdamW group's, and the rate once more."""
  knobs = {
    'preset': 'small',
    'optimizer': optimizer,
    'learning_rate': ladder('learning_rate', optimizer)[10],
    'adam_learning_rate': 0.003,
    'weight_decay': 0.0,
  }
  both = 'learning_rate', 'adam_learning_rate', 'learning_rate'
  return walk(rows, knobs | change, *both)


def in_small(seeds: Sequence[int] = FINAL, **change: Any) -> Question:
  """At these knobs of the preset `small`, all rates anew."""
  return lambda rows, optimizer: rows.arms(
    {'': small(rows, optimizer, **change)}, seeds
  )


def following(each_step: bool, **change: Any) -> Question:
  """NAMO, Muon, and Muon at a rate that follows NAMO's scales."""

  def asked(rows, optimizer):
    namo = small(rows, 'namo', **change)
    found = rows.arms({'': namo}, FINAL)
    if each_step:
      rows.need([namo | {'task': 'each step'}], FINAL)
    of = {'': small(rows, optimizer, **change)}
    for task in ('follows the model', 'follows each matrix'):
      made = task + ', each step' * each_step
      knobs = namo | {'optimizer': optimizer, 'task': made}
      of[task] = walk(rows, knobs, 'learning_rate')
    return [*rows.arms(of, FINAL), *found]

  return asked


def at_width(width: int, shape_scale: str) -> Question:
  """Its own rates, and those of 64; the AdamW group's are tuned with `rms`."""

  def best(rows, optimizer, width):
    knobs = small(rows, optimizer, embed_dim=width)
    if shape_scale == 'rms':
      return knobs
    moves = 0.2 * width**0.5 * knobs['learning_rate']  # A square matrix.
    knobs |= {'shape_scale': shape_scale, 'learning_rate': moves}
    return walk(rows, knobs, 'learning_rate')

  def asked(rows, optimizer):
    of = {'': best(rows, optimizer, width)}
    if width != 64:
      of['rates of 64'] = best(rows, optimizer, 64) | {'embed_dim': width}
    return rows.arms(of, FEW)

  return asked


def beside(batch: int, *starts: Knobs) -> Question:
  """A sibling, at the best of walks from several places.

  Cautious decay has its strength tuned as well.
  """

  def asked(rows, optimizer):
    walks = [
      small(rows, optimizer, batch_size=batch, **start)
      for start in ({}, *starts)
    ]
    knobs = min(walks, key=rows.mean)
    if optimizer == 'cautious_muon':
      knobs = walk(rows, knobs | {'weight_decay': 0.1}, 'weight_decay')
    return rows.arms({'': knobs}, FINAL)

  return asked


def measured(rows: Rows, optimizer: str) -> list[Arm]:
  """(a) again, with its signal and its scales over the run."""
  return rows.arms({'': tuned(rows, optimizer) | {'task': 'measured'}}, (0, 1))


def _at_a_constant_rate(batch: int):
  title = f'(q) Signal: batch {batch}, a constant rate'
  return title, (in_small(batch_size=batch, decay_steps=0), RULES)


# By title, the question and the optimizers it is put to, in the order in which
# they are answered.
QUESTIONS: dict[str, tuple[Question, tuple[str, ...]]] = {
  '(a) Ordering': (retuned(), (*RULES, 'adamw')),
  "(a) This package's Muon and optax's": (agreement, ('muon',)),
  **{f'(b) Noise: batch {n}': (at_batch(n), RULES) for n in (1, 2, 4)},
  '(d) Decay': (decay, RULES),
  '(h) Rate of the AdamW group': (adamw_group, RULES),
  '(m) Rate of the AdamW group, from above': (from_above, RULES),
  '(l) A constant rate': (elsewhere(decay_steps=0), RULES),
  '(n) A constant rate, no decay': (
    elsewhere(decay_steps=0, weight_decay=0.0),
    RULES,
  ),
  '(e, f, g, i) Variations': (variations, RULES),
  '(j) Rates': (robustness, RULES),
  '(c) Four times the steps': (
    at_batch(4, ({'steps': 3200}, ('learning_rate',)), seeds=FEW),
    RULES,
  ),
  '(k) Width 64': (elsewhere(embed_dim=64), ('namo_d', 'muon')),
  '(b) Noise: batch 64': (at_batch(64), RULES),
  '(k) Width 256': (elsewhere(embed_dim=256), ('namo_d', 'muon')),
  **{
    f'(o) Width {n}, no decay': (
      elsewhere(embed_dim=n, weight_decay=0.0),
      ('namo_d', 'muon'),
    )
    for n in (64, 256)
  },
  '(p) Width 64, NAMO too': (elsewhere(embed_dim=64), RULES),
  **{
    f'(q) Signal: batch {n}': (in_small(batch_size=n), RULES)
    for n in (16, 64, 4)
  },
  **{
    title: asked
    for n in (16, 64)
    for title, asked in (
      _at_a_constant_rate(n),
      (
        f'(r) Following NAMO: batch {n}',
        (following(False, batch_size=n, decay_steps=0), ('muon',)),
      ),
    )
  },
  '(q) Signal: batch 64, 300 steps': (
    in_small(batch_size=64, steps=300),
    RULES,
  ),
  '(q) Signal of the preset char': (measured, ('namo', 'muon')),
  **{
    f'(s) {title}{at}': (
      in_small(FINAL[:4], task=task, batch_size=batch, **change),
      RULES,
    )
    for title, task, batch in (
      ('Noisy labels', 'labels', 64),
      ('Growing batches', 'ramp', 16),
    )
    for at, change in (('', {}), (', a constant rate', {'decay_steps': 0}))
  },
  **{
    f'(u) Width {n}, {scale}': (at_width(n, scale), RULES)
    for n in (64, 128, 256)
    for scale in ('rms', 'width', 'spectral')
  },
  **{
    f'(v) Siblings: batch {n}': (
      beside(n),
      (*RULES, *siblings.OPTIMIZERS, 'optax_muon', 'adamw'),
    )
    for n in (16, 64)
  },
  '(q) Signal: batch 256': (in_small(batch_size=256), RULES),
  **dict([_at_a_constant_rate(256)]),
  '(q) Signal: batch 1024': (in_small(batch_size=1024), RULES),
  **{
    f'(r) Following NAMO, each step: batch {n}': (
      following(True, batch_size=n, decay_steps=0),
      ('muon',),
    )
    for n in (16, 64)
  },
  **{
    f'(v) Siblings, from above too: batch {n}': (
      beside(n, {'adam_learning_rate': 0.19}),
      (*RULES, *siblings.OPTIMIZERS, 'optax_muon', 'adamw'),
    )
    for n in (16, 64)
  },
}


def _in_char(**change: Any) -> tuple[Question, tuple[str, ...]]:
  """Of the preset `char`, 300 steps, all rates anew."""
  shared = {'preset': 'char', 'steps': 300, 'eval_every': 100}
  return in_small(**shared, **change), RULES


# What takes an accelerator; --accelerator asks it.
ACCELERATED: dict[str, tuple[Question, tuple[str, ...]]] = {
  **{
    f'(q) Signal of char: batch {n}': _in_char(
      batch_size=256, accumulate=n // 256
    )
    for n in (256, 1024, 4096)
  },
  **{
    f'(u) Width {n} of char, {scale}': _in_char(
      batch_size=64, embed_dim=n, shape_scale=scale
    )
    for n in (256, 512, 1024)
    for scale in ('rms', 'spectral')
  },
}
ALL = QUESTIONS | ACCELERATED


def left(
  rows: Iterable[Row],
  questions: Mapping[str, tuple[Question, tuple[str, ...]]] = QUESTIONS,
) -> dict[str, list[Run]]:
  """By title, the runs to be made next; what is answered is left out."""
  known = Rows(rows)
  asked: dict[str, list[Run]] = {}
  for title, (question, optimizers) in questions.items():
    for optimizer in optimizers:
      try:
        question(known, optimizer)
      except Wanted as wanted:
        asked.setdefault(title, []).extend(wanted.args[0])
  return asked
