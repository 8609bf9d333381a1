"""The documentation site: built offline, without running anything, and strictly (`make docs`).

Pages are Markdown, tutorials are the notebooks with the outputs that are stored in them, and the reference is made from
docstrings by `typeset.py` beside this file, whose formulas become MathML, so that pages need no script and no network.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

from quenched.sim.drawing.captions import read
from quenched.sim.figures import about, figures, picture

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "quenched"
author = copyright = "The quenched developers"
version = release = metadata.version("quenched")
extensions = ["myst_nb", "sphinx.ext.autodoc", "typeset"]
exclude_patterns = ["_build"]
nitpicky = True  # a reference that leads nowhere is a warning, and a warning is an error
nitpick_ignore_regex = [("py:.*", r".*")]  # but for the types of signatures, whose documents are not at hand offline

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]  # of the interactive form of a dataset, which also has a text
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
add_module_names = False

html_theme = "furo"
html_title = f"quenched {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def with_figures(app, page, source):
    """In place of the comment on figures of a page: all of them, those with a small copy as it shows them.

    The copy holds the caption.  A figure is one file: its copy may come later.
    """
    parts = []
    for name in figures():
        parts += [f"### {name}", about(name)]
        if (copy := picture(HERE / "figures", name)).exists():
            parts += [f"![{name}](figures/{copy.name})", str(read(copy))]
    source[0] = re.sub(r"<!-- figures: .* -->", lambda _: "\n\n".join(parts), source[0])


def setup(app):
    """Connect the figures with the reading of pages."""
    app.connect("source-read", with_figures)
