# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a compiled program exchanges between its devices, read from its text."""

import math
import re

KINDS = (
  'all-gather',
  'all-reduce',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
_BYTES = {
  'f64': 8, 's64': 8, 'u64': 8, 'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2,
  'f16': 2, 's16': 2, 'u16': 2, 's8': 1, 'u8': 1, 'pred': 1,
}  # fmt: skip
_CALLEES = re.compile(
  r'(?:body|calls|to_apply|condition|branch_computations)='
  r'(\{[^}]*\}|%?[\w.\-]+)'
)


def _size(types: str) -> list[int]:
  """Bytes of each array in a type of HLO."""
  return [
    _BYTES.get(dtype, 0) * math.prod(int(n) for n in shape.split(',') if n)
    for dtype, shape in re.findall(r'(\w+)\[([\d,]*)\]', types)
  ]


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
  """The lines of each computation, and the name of the entry."""
  found: dict[str, list[str]] = {}
  entry = current = ''
  for line in hlo.splitlines():
    opens = re.match(r'(ENTRY )?%?([\w.\-]+) .*\{$', line)
    if opens and not line.startswith(' '):
      current = opens[2]
      found[current] = []
      entry = current if opens[1] else entry
    elif current:
      found[current].append(line)
  return found, entry


def _trips(line: str, computations: dict[str, list[str]]) -> int:
  """How often an instruction runs what it calls: loops count from 0.

  CPUs say it of a loop; of a TPU the one constant of its condition does.
  """
  if ' while(' not in line:
    return 1
  if known := re.search(r'known_trip_count\D*(\d+)', line):
    return int(known[1])
  condition = re.search(r'condition=%?([\w.\-]+)', line)
  lines = computations.get(condition[1], []) if condition else []
  ends = re.findall(r'= [su]32\[\]\S* constant\((\d+)\)', '\n'.join(lines))
  return int(ends[0]) if len(ends) == 1 else 1


def collectives(hlo: str) -> dict[str, list[int]]:
  """Bytes of the results of every collective on one device, by kind.

  A collective in a loop counts as often as the loop runs, one that a TPU does
  in pieces of one channel, each in a fusion, once.
  """
  computations, entry = _computations(hlo)
  found: dict[str, list[int]] = {}
  pattern = re.compile(rf'= (.*?) ({"|".join(KINDS)})(-start)?\(')

  pieces: set[str] = set()

  def visit(name, times):
    nonlocal pieces
    for line in computations.get(name, ()):
      match = pattern.search(line)
      channel = re.search(r'channel_id=(\d+)', line)
      fused = name.startswith(('fused', 'async_collective_fusion'))
      piece = channel and fused and channel[1]
      if match and piece not in pieces:
        pieces |= {piece} if piece else set()
        results, kind, starts = match.groups()
        sizes = _size(results)
        # What starts has its operands in its type, before the results; those
        # of a permutation are followed by two counters.
        if starts and kind != 'all-reduce':
          sizes = [size for size in sizes if size > 4]
          sizes = sizes[len(sizes) // 2 :]
        found.setdefault(kind, []).extend([sum(sizes)] * times)
      count = _trips(line, computations)
      for callees in _CALLEES.findall(line):
        for callee in re.findall(r'[\w.\-]+', callees):
          visit(callee, times * count)

  visit(entry, 1)
  return found


def total(found: dict[str, list[int]]) -> int:
  """Bytes of all of them."""
  return sum(map(sum, found.values()))
