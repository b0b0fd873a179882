# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The protocol as a function: from the rows there are to the runs to come.

PROTOCOL.md says why. Nobody chooses between two runs: each question asks the
rows for mean losses, and where one is missing its runs are what is left to do.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import statistics
from typing import Any

from optax_namo.nanogpt.compare import arms
from optax_namo.nanogpt.config import Config
from optax_namo.nanogpt.config import from_file
from optax_namo.nanogpt.config import identity
from optax_namo.nanogpt.config import make_config

Arm = dict[str, Any]

TUNING = (100, 101)  # Seeds that the final comparisons do not use.
FINAL = tuple(range(8))
FEW = FINAL[:3]  # Of what is called exploratory.
COMMON = {'preset': 'char', 'eval_every': 200, 'checkpoint_every': 200}

# A factor of sqrt 2 between rates, around those of the example.
RATES = {
  'namo_d': 0.035,
  'namo': 0.035,
  'muon': 0.006,
  'adamw': 0.0042,
}
_STEPS = range(-8, 7)
DECAYS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
ADAM_RATES = tuple(float(f'{0.003 * 2**k:.2g}') for k in range(-4, 4))
BATCHES = (1, 2, 4, 64)  # And the preset's 16.
RULES = ('namo_d', 'namo', 'muon')
CLAMPS = (0.1, 0.4, 0.9, 1.0, 0.0)  # And the default .75; 0 is none.
ORTHOGONALIZERS = (
  *({'ns_steps': steps} for steps in (3, 4)),
  *({'ns_coefficients': name} for name in ('polar_express', 'cans', 'dion')),
  {'ns_coefficients': 'minimax', 'ns_steps': 3, 'preconditioning': 'schatten'},
)
WIDTHS = (64, 256)


class Wanted(Exception):
  """There are no rows yet for these runs."""

  def __init__(self, runs: Iterable[Config]):
    super().__init__()
    self.runs = list(runs)


class Rows:
  """Final losses of the runs that have a row."""

  def __init__(self, rows: Iterable[dict[str, Any]]):
    self._losses = {
      identity(from_file(row['config'])): arms.final_loss(row) for row in rows
    }

  def need(self, wanted: Iterable[Arm], seeds: Sequence[int]) -> None:
    """Raises Wanted unless all of these runs have a row."""
    runs = (run(arm, seed) for arm in wanted for seed in seeds)
    left = [one for one in runs if identity(one) not in self._losses]
    if left:
      raise Wanted(left)

  def mean(self, arm: Arm, seeds: Sequence[int]) -> float:
    """The mean final loss, in nats a token; infinite if one diverged."""
    self.need([arm], seeds)
    return statistics.fmean(
      self._losses[identity(run(arm, seed))] for seed in seeds
    )


def run(arm: Arm, seed: int) -> Config:
  return make_config(**COMMON | arm, seed=seed)


def rates(optimizer: str) -> tuple[float, ...]:
  return tuple(float(f'{RATES[optimizer] * 2 ** (k / 2):.2g}') for k in _STEPS)


def walk(
  rows: Rows,
  arm: Arm,
  knob: str,
  ladder: Sequence[float],
  *,
  tied: Callable[[float], Arm] = lambda value: {},
) -> Arm:
  """The arm at a rung that is better than both of its neighbours.

  Args:
    rows: What there is.
    arm: The other knobs; its own value of ``knob`` is where the walk begins.
    knob: What is tuned.
    ladder: Its values, in order.
    tied: Knobs that follow from the value.

  Returns:
    The arm with the best value, on the seeds of tuning.
  """
  at = lambda i: arm | {knob: ladder[i]} | tied(ladder[i])
  i = min(range(len(ladder)), key=lambda i: abs(ladder[i] - arm[knob]))
  while True:
    around = [j for j in (i - 1, i, i + 1) if 0 <= j < len(ladder)]
    rows.need(map(at, around), TUNING)
    best = min(around, key=lambda j: (rows.mean(at(j), TUNING), abs(j - i)))
    if best == i:
      return at(i)
    i = best


def tuned(rows: Rows, optimizer: str, **knobs: Any) -> Arm:
  """Decay first, then the rate, the AdamW group's, and the rate once more."""
  arm = {
    'optimizer': optimizer,
    'learning_rate': RATES[optimizer],
    'adam_learning_rate': 0.003,
    'weight_decay': 0.03,
    **knobs,
  }
  arm = walk(rows, arm, 'weight_decay', DECAYS)
  arm = walk(rows, arm, 'learning_rate', rates(optimizer))
  arm = walk(rows, arm, 'adam_learning_rate', ADAM_RATES)
  return walk(rows, arm, 'learning_rate', rates(optimizer))


def at_batch(rows: Rows, optimizer: str, batch: int) -> Arm:
  """Both rates anew at another batch size, from those of 16 sequences on."""
  arm = tuned(rows, optimizer) | {'batch_size': batch}
  arm = walk(rows, arm, 'learning_rate', rates(optimizer))
  return walk(rows, arm, 'adam_learning_rate', ADAM_RATES)


def ordering(rows: Rows, optimizer: str) -> None:
  """(a) The ordering at the char preset."""
  arm = tuned(rows, optimizer)
  rows.need([arm], FINAL)
  if optimizer == 'muon':
    rows.need([arm | {'optimizer': 'optax_muon'}], FEW)


def noise(rows: Rows, optimizer: str, batch: int) -> None:
  """(b) Smaller and larger batches, the same number of steps."""
  rows.need([at_batch(rows, optimizer, batch)], FINAL)


def horizon(rows: Rows, optimizer: str) -> None:
  """(c) Four times the steps, at 4 sequences a batch."""
  arm = at_batch(rows, optimizer, 4) | {'steps': 3200}
  rows.need([walk(rows, arm, 'learning_rate', rates(optimizer))], FEW)


def decay(rows: Rows, optimizer: str) -> None:
  """(d) Adaptive (which is (a)), decoupled, none; each with its strength."""
  arm = tuned(rows, optimizer)
  if optimizer != 'muon':  # Whose scale is one: the two are the same.
    decoupled = arm | {'decay': 'decoupled'}
    rows.need([walk(rows, decoupled, 'weight_decay', DECAYS)], FINAL)
  none = arm | {'weight_decay': 0.0}
  rows.need([walk(rows, none, 'learning_rate', rates(optimizer))], FINAL)


def adamw_group(rows: Rows, optimizer: str) -> None:
  """(h) Its rate: the matrices' own, a tenth of it, or tuned (which is (a))."""
  for share in (1.0, 0.1):
    arm = walk(
      rows,
      tuned(rows, optimizer),
      'learning_rate',
      rates(optimizer),
      tied=lambda rate, share=share: {
        'adam_learning_rate': float(f'{share * rate:.4g}')
      },
    )
    rows.need([arm], FINAL)


def variations(rows: Rows, optimizer: str) -> None:
  """(e) columns, (f) the clamp, (g) Nesterov, (i) the orthogonalizer."""
  arm = tuned(rows, optimizer)
  changes = [{'nesterov': False}]
  if optimizer == 'namo_d':
    changes += [{'columns': 'output'}, *({'clamp': c} for c in CLAMPS)]
    changes += ORTHOGONALIZERS
  rows.need([arm | change for change in changes], FEW)


def robustness(rows: Rows, optimizer: str) -> None:
  """(j) Rates from a quarter to four times the best."""
  arm = tuned(rows, optimizer)
  ladder = rates(optimizer)
  i = ladder.index(arm['learning_rate'])
  around = ladder[max(i - 4, 0) : i + 5]
  rows.need([arm | {'learning_rate': rate} for rate in around], TUNING)


def width(rows: Rows, optimizer: str, embed_dim: int) -> None:
  """(k) Narrower and wider models: does the best rate move?"""
  arm = tuned(rows, optimizer) | {'embed_dim': embed_dim}
  walk(rows, arm, 'learning_rate', rates(optimizer))


def questions() -> Iterator[tuple[str, Callable[[Rows], None]]]:
  """Each question to one optimizer, in the order in which they are answered."""
  for optimizer in (*RULES, 'adamw'):
    yield f'a, {optimizer}', lambda rows, o=optimizer: ordering(rows, o)
  for batch in BATCHES:
    for rule in RULES:
      yield (
        f'b at {batch}, {rule}',
        lambda rows, o=rule, b=batch: noise(rows, o, b),
      )
  for letter, question in (
    ('d', decay),
    ('h', adamw_group),
    ('e f g i', variations),
    ('j', robustness),
    ('c', horizon),
  ):
    for rule in RULES:
      yield f'{letter}, {rule}', lambda rows, q=question, o=rule: q(rows, o)
  for embed_dim in WIDTHS:
    for rule in ('namo_d', 'muon'):
      yield (
        f'k at {embed_dim}, {rule}',
        lambda rows, o=rule, e=embed_dim: width(rows, o, e),
      )


def left(rows: Iterable[dict[str, Any]]) -> dict[str, list[Config]]:
  """By question, the runs it asks for next; those answered are left out."""
  known = Rows(rows)
  asked = {}
  for name, question in questions():
    try:
      question(known)
    except Wanted as wanted:
      asked[name] = wanted.runs
  return asked
