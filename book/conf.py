"""Sphinx's settings of the book. `make book` gathers the sources and calls Sphinx; see tools/make_book.py."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

# Of MathJax one file: it draws formulas as SVG and asks for nothing else, fonts included.
MATHJAX = Path(
    metadata.distribution("sphinx-mathjax-offline").locate_file(
        "sphinx-mathjax-offline/static/mathjax/tex-svg.js"
    )
)

project = "SketchFusion-Lite"
author = "the SketchFusion-Lite authors"
about = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
version = release = about["version"]
copyright = (
    "the SketchFusion-Lite authors, Apache-2.0"  # Sphinx's name for the line at the foot of a page
)

extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "book_extension",
]

# Notebooks: as committed, never executed.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # no scripts of widgets: the next cell shows the same as a picture
nb_render_markdown_format = "myst"  # formulas in outputs, too
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

# The library's text: a page for each module, in what is found there by apidoc; commands have a page of their own.
apidoc_modules = [
    {"path": f"../{name}", "destination": f"api/{name}", "exclude_patterns": [f"../{name}/cli*"]}
    for name in ("sketchfusion_lite", "sketchfusion_workbook")
]
apidoc_separate_modules = apidoc_module_first = True
# What a module hands on from another one is described there only.
autodoc_default_options = {"member-order": "bysource", "ignore-module-all": True}
autodoc_inherit_docstrings = False  # torch's remarks on `forward` are not ours
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_numpy_docstring = False
add_module_names = False
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

# The pages.
exclude_patterns = ["README.md", "api/*/modules.rst"]  # of README only parts are included
suppress_warnings = ["ref.python"]  # packages may have a module of their own name
html_theme = "furo"
html_title = "SketchFusion-Lite"
html_static_path = ["_static", str(MATHJAX)]
mathjax_path = MATHJAX.name
html_css_files = ["book.css"]
html_js_files = [("before_after.js", {"defer": "defer"})]
html_show_search_summary = False  # summaries are fetched, which a page opened from disk may not do
html_copy_source = False
html_domain_indices = False  # the reference is in order already
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"
