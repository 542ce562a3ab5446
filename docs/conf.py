"""Sphinx's settings: ``make docs``."""

import re

from sphinx.application import Sphinx

import mmbanet

project = 'mmbanet'
author = 'The mmbanet contributors'
release = version = mmbanet.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'mmbanet {release}'
html_static_path = ['_static']
html_css_files = ['width.css']
highlight_language = 'none'  # of blocks that name none

# Links to headings, as GitHub makes them.
myst_heading_anchors = 4

napoleon_use_ivar = True  # attributes of a class, said once
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_default_options = {
    'members': True,
    'special-members': '__call__',
    'show-inheritance': True,
}


def setup(app: Sphinx) -> None:
    """Lets pages link to the Markdown files of the repository that are no pages, as on GitHub."""
    app.connect('source-read', link_as_files)


def link_as_files(_app: Sphinx, _page: str, source: list[str]) -> None:
    """MyST takes a link to Markdown for one to a page, unless it says that it is one to a file."""
    source[0] = re.sub(r'\]\((\.\./[^)#]*\.md)', r'](path:\1', source[0])
