# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The commands as people run them: --help, mistakes, and a signal."""

import importlib.util
import re
import shlex
import sys

import pytest

from optax_namo import nanogpt
from optax_namo.nanogpt import command
from optax_namo.nanogpt import files
from optax_namo.nanogpt.config import KNOBS
from tests.nanogpt import helpers

_RUN = 'optax_namo.nanogpt'
_MODULES = {
  '': (
    'Trains a nanoGPT',
    ['model', 'data', 'optimizer', 'Newton-Schulz', 'schedule', 'run',
     'devices'],
    [*KNOBS, 'out', 'resume', 'tensorboard', 'show_routing', 'distributed'],
  ),
  '.sample': ('Writes on', ['text'], ['prompt', 'temperature', 'seed']),
  '.plot': ('Draws runs', [], []),
  '.compare': (
    'Compares optimizers',
    ['comparison', 'model', 'data', 'optimizer', 'Newton-Schulz', 'schedule',
     'run', 'devices'],
    [*(knob for knob in KNOBS if knob != 'seed'), 'variants', 'dry_run'],
  ),
}  # fmt: skip
# What is wrong: the exit code, what is said of it, and the command.
_WRONG = [
  (2, "'stpes'. Did you mean: steps", '', '--stpes=3'),
  (2, "'lr'. Did you mean: learning_rate ?", '', '--lr=3'),
  (2, 'mean: learning_rate, adam_learning_rate ?', '', '--rate', '3'),
  (2, "'batch'. Did you mean: batch_size ?", '', '--batch=3'),
  (2, '--columns=diagonal: value should be one of', '', '--columns=diagonal'),
  (2, 'mean namo_d', '', '--optimizer=namod'),
  (2, 'flag --steps=ten: invalid literal', '', '--steps=ten'),
  (2, "unknown argument 'extra'; flags begin with --", '', 'extra'),
  (2, '--steps=-5: -5 is not a positive integer', '', '--steps=-5'),
  (2, '--learning_rate=nan: nan is not finite', '', '--learning_rate=nan'),
  (2, '--learning_rate=1e39: 1e+39 is not finite', '', '--learning_rate=1e39'),
  (2, f'{2**63} is above {2**63 - 1}', '', f'--seed={2**63}'),
  (1, f'{2**63} is above {2**63 - 1}', '.compare', f'--seeds={2**63}'),
  (2, f'{2**31} is above {2**31 - 1}', '', f'--eval_sequences={2**31}'),
  (1, 'make a step of 2147483648 tokens', '', f'--batch_size={2**20}',
   '--accumulate=16'),
  (2, '-1.0 is not a non-negative number', '', '--learning_rate=-1'),
  (1, 'clamp must be in (0, 1], or 0', '', '--data=ok.txt', '--clamp=1.5'),
  (1, 'embed_dim=9 is not a multiple', '', '--data=ok.txt', '--embed_dim=9'),
  (1, 'missing.txt does not exist', '', '--data=missing.txt'),
  (1, '--data is empty; data is', '', '--data='),
  (1, 'empty.txt is empty', '', '--data=empty.txt'),
  (1, 'short.txt: train has', '', '--data=short.txt'),
  (1, 'not UTF-8 text (byte 0): convert', '', '--data=latin.txt'),
  (1, 'train.bin does not exist', '', '--data=other'),
  (1, 'needs tiktoken: pip install', '', '--data=ok.txt', '--tokenizer=gpt2'),
  (1, '--out=ok.txt is a file. Name', '', '--data=ok.txt', '--out=ok.txt'),
  (1, 'other is not empty. --resume', '', '--data=ok.txt', '--out=other'),
  (1, 'no config.json, so no run', '', '--data=ok.txt', '--out=other',
   '--resume'),
  (1, 'another process is training in busy: ', '', '--data=ok.txt',
   '--out=busy'),
  (1, 'another process is training in busy: ', '', '--data=ok.txt',
   '--out=busy', '--resume'),
  (1, 'is not a multiple of the 3 devices', '', '--mesh=data:3'),
  (1, '9999 devices, but there', '', '--data=ok.txt', '--mesh=fsdp:9999',
   '--batch_size=9999'),
  (1, '--distributed: ', '', '--distributed'),
  (2, 'name the folder of one run', '.sample'),
  (1, 'other holds no run', '.sample', 'other'),
  (2, 'name the folders of one or more runs', '.plot'),
  (1, 'other has no rows', '.plot', 'other'),
  (2, "unknown argument 'extra'", '.compare', 'extra'),
  (2, "'stpes'. Did you mean: steps", '.compare', '--stpes=3'),
  (2, "'tokens'. Did you mean: num_tokens ?", '.sample', '--tokens=3'),
  (1, '--out=ok.txt cannot be written: ', '.compare', '--data=ok.txt',
   '--out=ok.txt', '--preset=tiny'),
  (1, '/other is not empty. --resume', '', '--data=ok.txt', '--out=~'),
  (1, '/other holds no run', '.sample', '~'),
  (1, '/other has no rows', '.plot', '~'),
  (1, '/ok.txt cannot be written: ', '.compare', '--data=ok.txt',
   '--out=~/../ok.txt', '--preset=tiny'),
  (1, 'takes OPTIMIZER=RATE,RATE', '.compare', '--learning_rates=namo'),
]  # fmt: skip
# tiktoken is not there, wherever the tests run.
_NO_TIKTOKEN = "sys.modules['tiktoken'] = None"
_AT_HOME = "os.environ['HOME'] = os.path.abspath('other')"
# A scheduler ends the run while step 12 is prepared.
_SIGTERM = """
import os, signal
from optax_namo.nanogpt import data

make_batch = data.batch

def batch(*args, step, **kwargs):
  if step == 12:
    os.kill(os.getpid(), signal.SIGTERM)
  return make_batch(*args, step=step, **kwargs)

data.batch = batch
"""
# What a training may raise: the exit code, and the end of what is said of it.
_NO_CHECKPOINT = 'There is no whole checkpoint in raised.'
_RAISED = {
  # As on accelerators; what else XLA raises has a traceback.
  "jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 9 bytes\\nwhere')": (
    1,
    'error: RESOURCE_EXHAUSTED: 9 bytes\nThe device has too little memory: a'
    ' smaller --batch_size with a larger --accumulate is the same run.\n',
  ),
  "MemoryError('9 bytes')": (
    1,
    'error: 9 bytes\nThis machine has too little memory: a smaller'
    ' --batch_size, --accumulate, --eval_sequences or --num_tokens takes less.'
    '\n',
  ),
  "jax.errors.JaxRuntimeError('INTERNAL: what')": (
    1, 'jax.errors.JaxRuntimeError: INTERNAL: what\n'
  ),
  "train.Diverged('the loss is not finite since step 3')": (
    1,
    f'error: the loss is not finite since step 3. {_NO_CHECKPOINT} A smaller'
    ' --learning_rate or a longer --warmup_steps, into another --out, likely'
    ' mends it.\n',
  ),
  "OSError(28, 'No space left on device')": (
    1,
    'error: [Errno 28] No space left on device\n'
    f'{_NO_CHECKPOINT} Make room: --resume goes on.\n',
  ),
  "OSError(5, 'Input/output error')": (
    1,
    'error: [Errno 5] Input/output error\n'
    f'{_NO_CHECKPOINT} --resume goes on.\n',
  ),
  'BrokenPipeError()': (128 + 13, ''),
}  # fmt: skip
_RAISE = """
import jax
from optax_namo.nanogpt import train

def fail(*args):
  raise {error}

train.run = fail
"""
# It says what it will do, and does nothing.
_NO_TRAINING = """
from optax_namo.nanogpt import train

train.run = lambda *args: None
"""
# Nobody reads: `... | true`.
_NO_READER = """
import os

reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
"""
_FLAGS = ['--preset=tiny', '--data=ok.txt', '--steps=25', '--out=a run']


@pytest.fixture(scope='module')
def told(tmp_path_factory):
  """What each command says, and the folder in which all ran."""
  folder = tmp_path_factory.mktemp('commands')
  (folder / 'ok.txt').write_text(helpers.TEXT)
  (folder / 'empty.txt').write_text('')
  (folder / 'short.txt').write_text('hello')
  (folder / 'latin.txt').write_bytes(b'\xe9t\xe9')
  (folder / 'other').mkdir()
  (folder / 'other' / 'notes').write_text('mine')
  commands = [
    *((f'{_RUN}{name}', '--help') for name in _MODULES),
    *((f'{_RUN}{name}', *rest) for _, _, name, *rest in _WRONG),
    (_RUN, *_FLAGS[:2], '--out=new', '--resume'),
    (_RUN, '--help'),
    *((_RUN, *_FLAGS[:2], '--out=raised', '--resume') for _ in _RAISED),
    (_RUN, *_FLAGS),
  ]
  wrong = [_NO_TRAINING, _NO_READER]
  wrong += [*(_RAISE.format(error=error) for error in _RAISED), _SIGTERM]
  sabotage = dict(enumerate(wrong, start=len(commands) - len(wrong)))
  for number, (_, message, *_) in enumerate(_WRONG, start=len(_MODULES)):
    if 'tiktoken' in message:
      sabotage[number] = _NO_TIKTOKEN
    elif message.startswith('/'):
      sabotage[number] = _AT_HOME
  (folder / 'busy').mkdir()
  with files.lock(folder / 'busy') as mine:
    assert mine
    return folder, helpers.children(folder, commands, sabotage)


def test_help_is_grouped(told):
  _, ends = told
  for (code, text), (first, groups, names) in zip(ends, _MODULES.values()):
    assert code == 0 and text.startswith(first)
    assert re.findall(r'^(\S+):$', text, re.MULTILINE) == groups
    for name in names:
      assert re.search(rf'^  --(\[no\])?{name}\b', text, re.MULTILINE), name
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r'absl|helpfull|__main__', text)


def test_mistakes_are_told_in_a_line(told):
  folder, ends = told
  for (code, text), wrong in zip(ends[len(_MODULES) :], _WRONG):
    expected, message, *typed = wrong
    assert code == expected, (typed, text)
    assert text.startswith('error: ') and message in text, (typed, text)
    # And where it is one of usage, a line that names --help.
    assert len(text.splitlines()) == expected, (typed, text)
  made = {path.name for path in folder.iterdir()}
  assert made == {
    'ok.txt', 'empty.txt', 'short.txt', 'latin.txt', 'other', 'a run', 'told',
    'raised', 'new', 'busy',
  }  # fmt: skip


def test_what_ends_a_training_is_told(told):
  _, ends = told
  ends = ends[-1 - len(_RAISED) : -1]
  for (code, text), (error, expected) in zip(ends, _RAISED.items()):
    begins, _, text = text.partition('\n')
    assert re.fullmatch(
      r'NAMO-D on ok, preset tiny: \d+ steps on .*, into raised, .*\.', begins
    )
    assert code == expected[0], (error, text)
    if 'INTERNAL' in error:
      assert text.startswith('Traceback') and text.endswith(expected[1])
    else:
      assert text == expected[1]


def test_resume_of_nothing_is_told_beside_the_folder(told):
  (code, text) = told[1][-3 - len(_RAISED)]
  assert code == 0
  assert text.endswith(
    ', into new, from step 0: --resume found no checkpoint there.\n'
  )


def test_without_a_reader_it_ends_quietly(told):
  assert told[1][-2 - len(_RAISED)] == (128 + 13, '')


def test_a_reader_that_leaves_is_no_mistake_of_flags():
  with pytest.raises(BrokenPipeError), command.told():
    raise BrokenPipeError
  with pytest.raises(SystemExit, match='^error: full'), command.told():
    raise OSError('full')


def test_sigterm_leaves_a_checkpoint_and_says_how_to_go_on(told):
  folder, ends = told
  code, text = ends[-1]
  assert code == 128 + 15, text
  assert 'Stopping after this step' in text and 'Traceback' not in text
  step = int(re.search(r'^Stopped after step (\d+) of 25', text, re.M)[1])
  assert 13 <= step < 25
  assert (folder / 'a run' / 'checkpoints' / f'{step}').is_dir()
  assert f'step {step} of 25' in (folder / 'a run' / 'run.md').read_text()
  again = shlex.split(text.splitlines()[-1])
  assert again == ['python', '-m', _RUN, *_FLAGS, '--resume']


def test_without_its_extra_the_example_names_it(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    'importlib.util.find_spec',
    lambda name: None if name in ('flax', 'yaml') else find(name),
  )
  mend = r"the example needs flax, yaml, .*pip install 'optax-namo\[nanogpt\]'"
  spec = nanogpt.__spec__
  monkeypatch.setattr(sys, 'argv', ['pytest'])
  with pytest.raises(ModuleNotFoundError, match=f'^{mend}'):
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
  monkeypatch.setattr(sys, 'argv', ['-m'])  # As while `python -m` looks.
  with pytest.raises(SystemExit, match=f'^error: {mend}'):
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
