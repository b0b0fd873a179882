# Copyright 2026 The optax-namo Authors.
# SPDX-License-Identifier: Apache-2.0
"""The pages, ``python -m sphinx -W docs OUT``: nothing is run or fetched."""

import pathlib
import sys

_DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(_DOCS), str(_DOCS.parent)]

import optax_namo  # noqa: E402

project = 'optax-namo'
copyright = 'The optax-namo Authors, Apache License 2.0'
release = version = optax_namo.__version__

extensions = [
  'myst_nb',  # Markdown, and notebooks as they are committed.
  'sphinx.ext.autodoc',
  'sphinx.ext.mathjax',
  'sphinx.ext.napoleon',
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
autodoc_typehints = 'none'  # Args say it in words, with shapes and units.
maximum_signature_line_length = 72
napoleon_numpy_docstring = False

html_theme = 'furo'
html_title = 'optax-namo'
html_static_path = ['static']
html_css_files = ['custom.css']
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
  'source_repository': 'https://github.com/optax-namo/optax-namo/',
  'source_branch': 'main',
  'source_directory': 'docs/',
}
