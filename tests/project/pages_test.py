# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the README and the pages of docs/ show works as it stands."""

import collections.abc
import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import io
import json
import pathlib
import re
import shlex
import types
import typing
from typing import Any, NamedTuple

import chex
from flax import nnx
import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
import pytest
import yaml

from benchmarks import pods
import optax_namo
from optax_namo.nanogpt.compare.variants import runs_of
from tests.nanogpt import helpers

_ROOT = pathlib.Path(__file__).parents[2]
_DOCS = _ROOT / 'docs'
_PAGES = {'README': _ROOT / 'README.md'} | {
  path.relative_to(_DOCS).with_suffix('').as_posix(): path
  for path in sorted(_DOCS.rglob('*.md'))
}
_DOCUMENTED = [
  name
  for name in optax_namo.__all__
  if inspect.isroutine(value := getattr(optax_namo, name))
  or inspect.isclass(value)
]


class _Block(NamedTuple):
  language: str
  text: str
  after: str  # What stands between the block and the next one.


def _blocks(page: str) -> list[_Block]:
  fenced = re.findall(
    r'^```(\S+)[^\n]*\n(.*?)^```$(.*?)(?=^```|\Z)',
    _PAGES[page].read_text(),
    re.DOTALL | re.MULTILINE,
  )
  return [_Block(*found) for found in fenced]


class _Step(NamedTuple):
  code: str
  printed: str | None  # A text block right below the code.


def _programs() -> dict[str, list[_Step]]:
  """Code that imports stands alone; code that does not goes on from above."""
  programs: dict[str, list[_Step]] = {}
  for page in _PAGES:
    blocks = _blocks(page)
    for block, below in zip(blocks, [*blocks[1:], _Block('', '', '')]):
      if block.language != 'python':
        continue
      shown = below.language == 'text' and not block.after.strip()
      step = _Step(block.text, below.text if shown else None)
      if re.match(r'import |from ', block.text):
        line = _PAGES[page].read_text().partition(block.text)[0].count('\n') + 1
        programs[f'{page}:{line}'] = [step]
      else:
        programs[list(programs)[-1]].append(step)
  return programs


_PROGRAMS = _programs()


def _commands() -> list[tuple[str, str]]:
  """Modules that blocks and text run by ``python -m``, and their arguments."""
  found = []
  for page, path in _PAGES.items():
    code = re.findall(r'`(python -m [^`]+)`', path.read_text())
    code += [block.text for block in _blocks(page) if block.language == 'sh']
    lines = '\n'.join(code).replace('\\\n', ' ')
    found += re.findall(r'python -m ([\w.]+)((?: [^&\n]+)?)', lines)
  return [(name, rest) for name, rest in found if name != 'sphinx']


_COMMANDS = _commands()


@dataclasses.dataclass
class _Variable:
  """What a page reads of a Keras variable."""

  path: str
  value: jax.Array


def _keras_model() -> Any:
  """In the order of a model's trainable variables."""
  shapes = {
    'net/embedding/embeddings': (11, 6),
    'net/dense/kernel': (6, 8),
    'net/dense/bias': (8,),
  }
  variables = [_Variable(k, jnp.ones(shape)) for k, shape in shapes.items()]

  def stateless_call(trainable, state, tokens):
    embeddings, kernel, bias = trainable
    return jnp.tanh(embeddings[tokens]) @ kernel + bias[None], state

  return types.SimpleNamespace(
    trainable_variables=variables,
    non_trainable_variables=[],
    stateless_call=stateless_call,
  )


@functools.cache
def _run(program: str) -> dict[str, Any]:
  """The names that a program leaves; AssertionError if it prints otherwise."""
  names: dict[str, Any] = {'model': _keras_model()}
  for step in _PROGRAMS[program]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
      exec(step.code, names)
    if step.printed is not None:
      printed = [line.rstrip() for line in out.getvalue().splitlines()]
      assert printed == step.printed.splitlines()
  return names


@pytest.mark.parametrize('program', _PROGRAMS)
def test_python_runs(program):
  names = _run(program)
  if not callable(
    names.get('loss', callable)
  ):  # The training loop learned something.
    assert names['loss'] < 0.1
  elif 'tx' in names:
    tx, params = names['tx'], names.get('params', jnp.ones((4, 6)))
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    chex.assert_tree_all_finite(updates)
  else:
    assert any(step.printed for step in _PROGRAMS[program])


@pytest.mark.parametrize('page', _PAGES)
def test_every_block_has_a_language_that_is_checked(page):
  blocks = _blocks(page)
  assert len(re.findall('^```', _PAGES[page].read_text(), re.M)) == 2 * len(
    blocks
  )
  languages = [block.language for block in blocks]
  assert set(languages) <= {
    *('python', 'sh', 'yaml', 'text', 'bibtex'),
    # Sphinx checks these.
    *('{include}', '{literalinclude}', '{toctree}', '{eval-rst}'),
  }
  shown = [
    step.printed
    for program, steps in _PROGRAMS.items()
    if program.startswith(f'{page}:')
    for step in steps
    if step.printed is not None
  ]
  assert languages.count('text') == len(shown)


@pytest.mark.parametrize('page', [p for p in _PAGES if p != 'README'])
def test_a_page_first_says_whom_it_serves(page):
  text = _PAGES[page].read_text()
  if not text.startswith('```{include} '):  # What it includes is elsewhere.
    assert re.match(r'# .*\n\nThis (page|program) is for ', text)


def test_yaml_block_is_a_comparison():
  (block,) = [b for page in _PAGES for b in _blocks(page) if b[0] == 'yaml']
  asked = yaml.safe_load(block.text)
  del asked['out']
  runs = runs_of(asked.pop('variants'), asked.pop('seeds'), **asked)
  assert len(runs) == 2 * 2 * 3 + 2 * 3 + 2


_FLAGS = {
  module: {
    word.partition('=')[0]
    for name, arguments in _COMMANDS
    if name == module
    for word in shlex.split(arguments)
    if word.startswith('--') and word != '--help'
  }
  for module in {name for name, _ in _COMMANDS}
}


@pytest.mark.parametrize('module', sorted(_FLAGS))
def test_commands_name_modules(module):
  assert importlib.util.find_spec(module), module


def test_commands_name_flags(tmp_path):
  flags = {m: f for m, f in _FLAGS.items() if m.startswith('optax_namo.') and f}
  told = helpers.children(tmp_path, [[m, '--helpfull'] for m in flags])
  for module, (_, text) in zip(flags, told, strict=True):
    for flag in flags[module]:
      assert re.search(rf'^\s+--(\[no\])?{flag[2:]}\b', text, re.M), flag


_OURS = (
  r'https://(?:github\.com/optax-namo/optax-namo/blob/main'
  r'|raw\.githubusercontent\.com/optax-namo/optax-namo/main)/'
)


def test_links_of_the_readme_work_on_pypi():
  assert not re.search(r'\]\((?!https://|#)', _PAGES['README'].read_text())


def test_linked_files_exist():
  links, code = [], []
  for path in _PAGES.values():
    text = path.read_text()
    found = re.findall(r'\]\((?!http|#)([^)#]+)(?:#[^)]*)?\)', text)
    links += [path.parent / name for name in found]
    whole = re.findall(rf'\]\({_OURS}([^)#]+)(?:#[^)]*)?\)', text)
    links += [_ROOT / name for name in whole]
    code += [
      _ROOT / name
      for name in re.findall(r'`((?:tests|benchmarks)/[\w/.]+)`', text)
    ]
  assert links and code
  for name in links + code:
    assert name.exists(), name


def test_api_pages_have_every_public_name():
  pages = {k: v.read_text() for k, v in _PAGES.items() if k[:4] == 'api/'}
  text = '\n'.join(pages.values())
  named = re.findall(r'^\.\. auto(?:function|class):: (\w+)$', text, re.M)
  types = re.findall(r'^\.\. py:type:: (\w+)\n *:canonical: (.*)$', text, re.M)
  assert sorted(named) == sorted(_DOCUMENTED)
  public = sorted([*named, *(name for name, _ in types)])
  assert public == sorted(optax_namo.__all__)
  names = vars(typing) | vars(collections.abc) | {'jax': jax}
  for name, canonical in types:
    assert eval(canonical, names) == getattr(optax_namo, name)
  # The first page names all of them.
  assert not set(public) - set(re.findall(r'\w+', _PAGES['api'].read_text()))


@pytest.mark.parametrize('name', _DOCUMENTED)
def test_public_docstring_is_complete(name):
  value = getattr(optax_namo, name)
  text = inspect.getdoc(value)  # Python 3.13 strips a docstring's indent.
  assert re.match(r'[^\n]+\.\n|[^\n]+\.$', text), 'one line first'
  if isinstance(value, type):
    return
  code = inspect.unwrap(value).__code__
  arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
  assert 'Returns:' in text
  assert ('Args:' in text) == bool(arguments)
  # Arguments are described once; another docstring may say where.
  there = re.search(r'all other arguments are those of ``(\w+)``', text)
  described = text
  if there:
    described += inspect.getdoc(getattr(optax_namo, there[1]))
  for argument in arguments:
    assert re.search(rf'^  {argument}: ', described, re.MULTILINE), argument
  # polar_svd takes whatever jnp.linalg.svd does, and raises nothing itself.
  assert 'Raises:' in text or name == 'polar_svd'
  assert 'Examples:' in text


def _part(name: str, heading: str) -> str:
  """Of a page, what stands under a heading."""
  _, _, after = _PAGES[name].read_text().partition(f'\n## {heading}\n')
  return after.partition('\n## ')[0]


def test_table_of_step_times():
  results = _ROOT / 'benchmarks' / 'results' / 'step_time.json'
  shapes = json.loads(results.read_text())['shapes']
  names = ('namo_d', 'namo_d, minimax', 'namo', 'optax.contrib.muon',
           'optax.adamw')  # fmt: skip
  rows = re.findall(rf'^\| .* \| ({"|".join(names)}) \| ([^a-z]*|not.*) \|$',
                    _part('cost', 'A step'), re.M)  # fmt: skip
  figures = ('step_time', 'flops', 'compile_time', 'hlo_lines',
             'temporary_memory', 'state')  # fmt: skip
  expected = [
    (name, ' | '.join(
      f'{shape[name][figure]["to_main"]:.2f}'
      if figure in shape[name]
      else 'not measured'
      for figure in figures
    ))
    for shape in shapes.values()
    for name in names
  ]  # fmt: skip
  assert rows == expected


def test_tables_of_the_gpu():
  results = _ROOT / 'benchmarks' / 'results' / 'gpu.json'
  measured = json.loads(results.read_text())
  kinds = 'namo_d', 'namo_d, minimax'
  names = [f'{kind}{dtype}' for kind in kinds for dtype in ('', ', bfloat16')]
  names += ['namo', 'optax.adamw']
  page = _part('cost', 'On a GPU')
  cells = [
    f' | {name} | {row["step_time"]:.2f} | {row["temporary_memory"]:.2f} |'
    for shape in measured['shapes'].values()
    for name in names
    for row in [shape[name]]
  ]
  assert (
    re.findall(r'^\| [^|]*( \| [^|]+ \| 0[^|]+ \| 0[^|]+ \|)$', page, re.M)
    == cells
  )
  whole = measured['train']
  for name in (*names, 'optax.contrib.muon'):
    row = whole[name]
    share = f'{row["optimizer_share"]:.1%}'
    assert f'| {name} | {row["step_time"]:.2f} | {share} |' in page
  for product in measured['products'].values():
    assert 0.45 < product['of_large_product'] < 0.55  # 'Half of the rate.'


def test_table_of_pods():
  found = pods.rows()
  assert found
  assert pods.table(found) in _PAGES['devices'].read_text()


def _stages() -> dict[str, Any]:
  (program,) = [
    name
    for name, steps in _PROGRAMS.items()
    if any('def clip_heads' in step.code for step in steps)
  ]
  return dict(_run(program))


def _factored(direction: jax.Array, scale: jax.Array) -> optax_namo.Factored:
  # An attention kernel, (in, heads, head_dim), or a matrix.
  numbers = MuonDimensionNumbers(0, tuple(range(1, direction.ndim)))
  return optax_namo.Factored(direction, scale, numbers, jnp.float32)


def test_cautious_decay():
  tx = _stages()['add_cautious_decay'](0.5)
  params = {'w': jnp.array([[2.0, 2.0, -2.0, -2.0]])}
  direction = jnp.array([[1.0, -1.0, 1.0, -1.0]])
  update = {'w': _factored(direction, jnp.full((1, 1), 3.0))}
  out, _ = tx.update(update, tx.init(params), params)
  chex.assert_trees_all_close(
    out['w'].direction, jnp.array([[2.0, -1.0, 1.0, -2.0]])
  )
  chex.assert_trees_all_equal(out['w'].scale, update['w'].scale)


def test_clip_of_each_head():
  tx = _stages()['clip_heads'](max_norm=1.0)
  # Two heads of norm 6 and 0.6 after the scale, and one without an update.
  direction = jnp.ones((2, 3, 2)) * jnp.array([3.0, 0.3, 0.0])[None, :, None]
  update = _factored(direction, jnp.ones((2, 1, 1)))
  updates = {'attn': {'query': {'kernel': update}}, 'up': {'kernel': update}}
  out, _ = tx.update(updates, tx.init(direction))
  norms = jnp.linalg.norm(out['attn']['query']['kernel'].direction, axis=(0, 2))
  chex.assert_trees_all_close(norms, jnp.array([1.0, 0.6, 0.0]), atol=1e-6)
  chex.assert_trees_all_equal(out['up']['kernel'], update)


def test_written_out_optimizer_is_namo_d():
  """But for the stages of the page, which give way to its own."""
  names = _stages()
  make, params = names['my_optimizer'], names['params']
  own = {
    'add_cautious_decay': optax_namo.add_adaptive_decay,
    'average_direction': lambda decay: optax.identity(),
    'clip_heads': lambda max_norm: optax.identity(),
  }
  function = types.FunctionType(make.__code__, {**make.__globals__, **own})
  txs = (
    function(0.05, 3e-3),
    optax_namo.namo_d(0.05, adam_learning_rate=3e-3),
  )
  found, expected = (
    tx.update(params, tx.init(params), params)[0] for tx in txs
  )
  chex.assert_trees_all_close(found, expected, rtol=1e-6)
  mine = make(0.05, 3e-3)
  other, _ = mine.update(params, mine.init(params), params)
  with pytest.raises(AssertionError):  # The stages do something.
    chex.assert_trees_all_close(other, expected, rtol=1e-6)


def test_written_out_optimizer_in_nnx():
  model = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
  pure = getattr(nnx, 'as_pure', None) or nnx.pure  # Until flax 0.12.6.
  params = pure(nnx.state(model, nnx.Param))
  tx = _stages()['my_optimizer'](0.05, 3e-3)
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
  optimizer.update(model, nnx.state(model, nnx.Param))
  moved = jnp.abs(model.kernel[...] - params['kernel'])
  assert moved.max() > 0 and jnp.isfinite(moved).all()
