# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""Links that follow from what is written: no page spells an address twice.

A link to a file of the repository goes to its page where it has one, and to
GitHub otherwise, so that pages read the same there and here. A name in code
markup goes to its entry in the API reference or in another library's. Those
addresses are written here, and nothing is looked up when the pages are built.
"""

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
    pages = self._pages()
    for node in list(self.document.findall(self._is_unresolved)):
      name, _, anchor = node['reftarget'].partition('#')
      # Relative to the file that has the link, which may be an included one.
      path = (pathlib.Path(node.source).parent / name).resolve()
      if node.get('refdomain') == 'doc':  # MyST took the suffix off.
        path = next(path.parent.glob(f'{path.name}.*'), path)
      if not path.exists():
        continue  # MyST warns of it.
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
        url = self.config.html_theme_options['source_repository']
        kind = 'tree' if path.is_dir() else 'blob'
        url += f'{kind}/main/{path.relative_to(_ROOT)}'
        link = nodes.reference('', '', refuri=url, internal=False)
      link += node.children
      node.replace_self(link)
    for node in self.document.findall(nodes.reference):
      if 'id_link' in node:  # Jupyter keeps capitals in its anchors.
        node['refuri'] = node['refuri'].lower()

  def _pages(self) -> dict[pathlib.Path, str]:
    """The page of each file: its source, and what that includes."""
    pages = {}
    for name in self.env.found_docs:
      path = pathlib.Path(self.env.doc2path(name)).resolve()
      pages[path] = name
      if path.suffix == '.md':
        for included in re.findall(
          r'^```{include} (.*)', path.read_text(), re.M
        ):
          pages[(path.parent / included).resolve()] = name
    return pages

  def _is_unresolved(self, node: nodes.Node) -> bool:
    if isinstance(node, addnodes.download_reference):
      return True
    return (
      isinstance(node, addnodes.pending_xref)
      and node['reftype'] == 'myst'
      and node['reftarget'] not in self.env.found_docs
    )


class NameLinks(SphinxTransform):
  """Names in code markup: to the API reference, or another library's."""

  default_priority = 6

  def apply(self, **kwargs: Any) -> None:
    public = {name for name in vars(optax_namo) if not name.startswith('_')}
    for node in list(self.document.findall(nodes.literal)):
      name = re.sub(r'\(.*\)$', '', node.astext())
      if isinstance(node.parent, (nodes.title, nodes.reference)):
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


def setup(app: Any) -> dict[str, Any]:
  app.add_transform(FileLinks)
  app.add_transform(NameLinks)
  app.add_transform(FigureLinks)
  return {'parallel_read_safe': True}
