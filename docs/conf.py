"""Configures Sphinx: `make docs` builds the site from the Markdown pages of this folder into docs/_build."""

import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "glasscell"
version = release = metadata.version("glasscell")
html_title = f"glasscell {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "docstrings", "drawing", "live_cell"]
exclude_patterns = ["_build"]
nitpicky = True
smartquotes = False  # c' is c'
myst_heading_anchors = 4  # the anchors that GitHub gives to headings

autodoc_typehints = "none"  # the docstrings say shapes and dtypes
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"  # light and dark, and nothing from another host
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sphinx = html_show_copyright = False
copybutton_selector = "div.highlight-python pre, div.highlight-console pre"
