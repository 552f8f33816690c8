"""How Sphinx builds these pages: Markdown by MyST, the reference from the docstrings, furo's looks.

A warning is an error (`nox -s docs`).
"""

from importlib.metadata import version as installed
from typing import Any

project = "aiofluence"
author = "The aiofluence contributors"
project_copyright = "The aiofluence contributors"
version = release = installed("aiofluence")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"aiofluence {version}"
html_static_path = ["_static"]
html_extra_path = ["llms.txt"]  # for programs that read documentation: https://llmstxt.org

myst_heading_anchors = 3  # so that pages can link to each other's sections

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
# The simulator and the client may use one name for two things, each in its own section.
suppress_warnings = ["ref.python"]

# Our docstrings are read in editors first, so they use two habits of Markdown: single backquotes and fences.
default_role = "code"


def fences_to_code_blocks(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn ``` fences into what reStructuredText calls a code block."""
    inside, out = False, []
    for line in lines:
        text = line.strip()
        if text.startswith("```"):
            if not inside:
                out += [line.replace(text, f".. code-block:: {text[3:] or 'text'}"), ""]
            else:
                out.append("")
            inside = not inside
        else:
            out.append(f"    {line}" if inside and text else line)
    lines[:] = out


def setup(app: Any) -> None:
    """Sphinx calls this. 400: before napoleon, which stands at 500."""
    app.connect("autodoc-process-docstring", fences_to_code_blocks, priority=400)
