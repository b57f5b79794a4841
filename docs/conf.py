"""How Sphinx builds the documentation: ``make docs`` does it, and every warning is an error there.

Nothing is fetched while it builds. So names of other packages are shown, and lead nowhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from bandwidth_async import __version__

project = "bandwidth_async"
author = "The bandwidth_async maintainers"
copyright = author  # noqa: A001  # Sphinx's own name
release = __version__
version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "from_the_code", "public_names"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"bandwidth_async {__version__}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_copyright = False

# A name between single backticks in a docstring is a link to that name.
default_role = "py:obj"
nitpicky = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = False
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
