# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Links that follow from what is written: no page spells an address twice.

A link to a file of the repository goes to its page where it has one, and to
GitHub otherwise, so that pages read the same there and here. The README's have
whole addresses, for PyPI; here they go to the same pages. A name in code markup
goes to its entry in the API reference or in another library's. Those addresses
are written here, and nothing is looked up when the pages are built.
"""

import os
import pathlib
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

import optax_namo

_ROOT = pathlib.Path(__file__).parents[1]
_OPTAX = 'https://optax.readthedocs.io/en/latest/api'
_JAX = 'https://docs.jax.dev/en/latest/_autosummary'
_FLAX = 'https://flax.readthedocs.io/en/latest/api_reference'
_ELSEWHERE = {
  r'optax\.contrib\.(muon|MuonDimensionNumbers)': f'{_OPTAX}/contrib.html#{{}}',
  r'optax\.(chain|partition)': f'{_OPTAX}/combining_optimizers.html#{{}}',
  r'optax\.(apply_if_finite|masked|MultiSteps)': (
    f'{_OPTAX}/optimizer_wrappers.html#{{}}'
  ),
  r'optax\.(add_decayed_weights|clip_by_global_norm|set_to_zero|stateless)': (
    f'{_OPTAX}/transformations.html#{{}}'
  ),
  r'optax\.inject_hyperparams': (
    f'{_OPTAX}/optimizer_schedules.html#optax.schedules.inject_hyperparams'
  ),
  r'optax\.adamw': f'{_OPTAX}/optimizers.html#{{}}',
  r'jax\.(ShapeDtypeStruct|block_until_ready|default_matmul_precision|'
  r'distributed\.initialize|make_mesh|set_mesh)': f'{_JAX}/{{}}.html',
  r'nnx\.Optimizer': (
    f'{_FLAX}/flax.nnx/training/optimizer.html#flax.nnx.optimizer.Optimizer'
  ),
}


class FileLinks(SphinxTransform):
  """Files of the repository: to their pages, or to GitHub."""

  default_priority = 5

  def apply(self, **kwargs: Any) -> None:
    pages = {source(self.env, name): name for name in self.env.found_docs}
    for node in list(self.document.findall(nodes.Element)):
      if not (found := self._file(node)):
        continue
      path, anchor = found
      if page := pages.get(path):
        link = addnodes.pending_xref(
          '',
          refdomain='doc',
          reftype='myst',
          reftarget=page,
          reftargetid=anchor or node.get('reftargetid'),
          refdoc=self.env.docname,
          refexplicit=True,
        )
      else:
        kind = 'tree' if path.is_dir() else 'blob'
        url = f'{_url(self.config)}{kind}/main/{path.relative_to(_ROOT)}'
        link = nodes.reference('', '', refuri=url, internal=False)
      link += nodes.inline('', '', *node.children)
      node.replace_self(link)
    for node in self.document.findall(nodes.reference):
      if 'id_link' in node:  # Jupyter keeps capitals in its anchors.
        node['refuri'] = node['refuri'].lower()
    here = pathlib.Path(self.env.doc2path(self.env.docname)).parent
    raw = _url(self.config).replace('github.com', 'raw.githubusercontent.com')
    for node in self.document.findall(nodes.image):
      _, whole, name = node['uri'].partition(f'{raw}main/')
      if whole:
        node['uri'] = os.path.relpath(_ROOT / name, here)

  def _file(self, node: nodes.Element) -> tuple[pathlib.Path, str] | None:
    """The file that a link goes to, and where in it; None of other nodes."""
    if isinstance(node, nodes.reference):
      _, whole, name = node.get('refuri', '').partition(
        f'{_url(self.config)}blob/main/'
      )
      name, _, anchor = name.partition('#')
      return (_ROOT / name, anchor) if whole else None
    myst = isinstance(node, addnodes.pending_xref) and (
      node['reftype'] == 'myst' and node['reftarget'] not in self.env.found_docs
    )
    if not myst and not isinstance(node, addnodes.download_reference):
      return None
    name, _, anchor = node['reftarget'].partition('#')
    # Relative to the file that has the link, which may be an included one.
    path = (pathlib.Path(node.source).parent / name).resolve()
    if node.get('refdomain') == 'doc':  # MyST took the suffix off.
      path = next(path.parent.glob(f'{path.name}.*'), path)
    return (path, anchor) if path.exists() else None  # MyST warns of it.


def _url(config: Any) -> str:
  return config.html_theme_options['source_repository']


def source(env: Any, name: str) -> pathlib.Path:
  """The file of a page: that which it includes, if it does nothing else."""
  path = pathlib.Path(env.doc2path(name)).resolve()
  if path.suffix == '.md':
    text = path.read_text(encoding='utf-8')
    if text.startswith('```{include} '):
      included = text.removeprefix('```{include} ').split('\n')[0]
      return (path.parent / included).resolve()
  return path


def edit_link(
  app: Any, pagename: str, template: str, context: dict, doctree: Any
) -> None:
  if doctree:
    path = source(app.env, pagename).relative_to(_ROOT)
    context['theme_source_edit_link'] = f'{_url(app.config)}edit/main/{path}'


class NameLinks(SphinxTransform):
  """Names in code markup: to the API reference, or another library's."""

  default_priority = 6

  def apply(self, **kwargs: Any) -> None:
    public = set(optax_namo.__all__)
    for node in list(self.document.findall(nodes.literal)):
      name = re.sub(r'\(.*\)$', '', node.astext())
      linked = nodes.title, nodes.reference, addnodes.pending_xref
      if isinstance(node.parent, linked):
        continue
      if name in public:
        link = addnodes.pending_xref(
          '', refdomain='py', reftype='obj', reftarget=f'optax_namo.{name}'
        )
      elif url := _elsewhere(name):
        link = nodes.reference('', '', refuri=url, internal=False)
      else:
        continue
      node.replace_self(link)
      link += node


def _elsewhere(name: str) -> str | None:
  """The address of another library's name, if it is one of the table."""
  for pattern, url in _ELSEWHERE.items():
    if re.fullmatch(pattern, name):
      return url.format(name)
  return None


class FigureLinks(SphinxTransform):
  """Figures: to themselves in full size, which Sphinx does if they are scaled.

  Here to the width of the text.
  """

  default_priority = 7

  def apply(self, **kwargs: Any) -> None:
    for node in self.document.findall(nodes.image):
      if not isinstance(node.parent, nodes.reference):  # A badge.
        node.setdefault('width', '46em')


def plain_types(app, what, name, obj, options, signature, returns) -> Any:
  """Types by their names in unions too, where autodoc shows its own class."""
  plain = lambda s: s and re.sub(r"TypeAliasForwardRef\('(.*?)'\)", r'\1', s)
  return plain(signature), plain(returns)


def setup(app: Any) -> dict[str, Any]:
  app.add_transform(FileLinks)
  app.add_transform(NameLinks)
  app.add_transform(FigureLinks)
  app.connect('html-page-context', edit_link)
  app.connect('autodoc-process-signature', plain_types)
  return {'parallel_read_safe': True}
