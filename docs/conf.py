# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pages, ``python -m sphinx -W docs OUT``: nothing is run or fetched."""

import configparser
import pathlib
import sys

_DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(_DOCS), str(_DOCS.parent)]

import optax_namo  # noqa: E402

_setup = configparser.ConfigParser()
_setup.read(_DOCS.parent / 'setup.cfg')
_url = _setup['metadata']['url']

project = 'optax-namo'
copyright = 'The optax-namo Authors, Apache License 2.0'
release = version = optax_namo.__version__

extensions = [
  'myst_nb',  # Markdown, and notebooks as they are committed.
  'sphinx.ext.autodoc',
  'sphinx.ext.autosummary',
  'sphinx.ext.mathjax',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
  'links',
]
# `notebooks` is a link to colabs/, whose outputs are committed.
exclude_patterns = ['notebooks/*.py']
nb_execution_mode = 'off'
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

add_module_names = False
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autosummary_generate = False  # It makes tables alone; api/ has the entries.
# By the names that a user writes, and not what they stand for.
autodoc_type_aliases = {
  'jax.typing.ArrayLike': 'ArrayLike',
  'optax.ScalarOrSchedule': 'ScalarOrSchedule',
  'axes.Columns': 'optax_namo.Columns',
  'stacking.Orthogonalizer': 'optax_namo.Orthogonalizer',
  'polynomials.Coefficients': 'optax_namo.Coefficients',
  'preconditionings.Preconditioning': 'optax_namo.Preconditioning',
  'dims.WeightDimensionNumbers': 'Any',
  'WeightDimensionNumbers': 'Any',
  **{name: f'optax_namo.{name}' for name in optax_namo.__all__},
}
autodoc_typehints_format = 'short'
python_use_unqualified_type_names = True
maximum_signature_line_length = 72
napoleon_attr_annotations = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True

pygments_dark_style = 'github-dark'  # Furo's underlines modules.
html_theme = 'furo'
html_title = f'optax-namo {version}'
html_favicon = 'static/favicon.svg'
html_static_path = ['static']
html_css_files = ['custom.css']
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
  'source_repository': f'{_url}/',  # links.py uses it, too.
  'source_branch': 'main',
  'source_edit_link': 'of links.py, which knows what a page includes',
  'top_of_page_buttons': ['edit'],
  'footer_icons': [
    {'name': 'GitHub', 'url': _url, 'html': 'GitHub', 'class': ''}
  ],
}
