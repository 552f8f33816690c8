"""Configuration of Sphinx: pages in Markdown by MyST, the reference from the docstrings, the theme furo.

A warning is an error (`nox -s docs`).
"""

import os
import re
import shutil
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from sphinx.util import logging

project = "aiofluence"
author = "The aiofluence contributors"
project_copyright = "The aiofluence contributors"
version = release = installed("aiofluence")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")  # of each version: docs/releasing.md
html_theme = "furo"
html_title = f"aiofluence {version}"
html_static_path = ["_static"]
html_css_files = ["words.css"]
html_extra_path = ["llms.txt"]  # for programs that read documentation: https://llmstxt.org

HERE = Path(__file__).parent
PUBLIC = ("aiofluence", "aiofluence.inventory", "aiofluence.simulator", "aiofluence.sync")

myst_heading_anchors = 3  # so that pages can link to each other's sections

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as one list
# The simulator and the client use some names for different objects, each in its own section.
suppress_warnings = ["ref.python"]

# Docstrings are written for editors, so they use Markdown's single backquotes and fences.
default_role = "code"


def fences_to_code_blocks(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn ``` fences into code blocks of reStructuredText."""
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


def every_public_name_is_there(app: Any, env: Any) -> None:
    """Warn of each public name that the reference lacks."""
    there = {name.rpartition(".")[2] for name, *_ in env.get_domain("py").get_objects()}
    for module in map(import_module, PUBLIC):
        for name in sorted(set(module.__all__) - there):
            logging.getLogger(__name__).warning("docs/reference lacks %s.%s", module.__name__, name)


def add_names(app: Any, page: str, source: list[str]) -> None:
    """Add links to the names of each page to the index of the reference."""
    if page == "reference/index":
        source[0] = re.sub(r"^- .*\((\w+)\.md\).*$", with_names, source[0], flags=re.MULTILINE)


def with_names(entry: re.Match[str]) -> str:
    """Append links to all names of the page to its entry in the index."""
    page = (HERE / "reference" / f"{entry[1]}.md").read_text(encoding="utf-8")
    names, module = [], ""
    for directive, argument in re.findall(r"^\.\. ([\w:]+):: ([\w.]+)", page, re.MULTILINE):
        if directive == "currentmodule":
            module = argument
        elif directive != "automodule":
            names.append(argument if "." in argument else f"{module}.{argument}")
    return " ".join([entry[0], *(f"{{py:obj}}`~{name}`" for name in names)])


def copy_markdown(app: Any, failed: Exception | None) -> None:
    """Put each page's Markdown beside its HTML, where llms.txt points."""
    if failed is None and app.builder.name == "html":
        for page in app.env.found_docs:
            shutil.copyfile(app.env.doc2path(page), Path(app.outdir, f"{page}.md"))


def setup(app: Any) -> None:
    """Register the hooks; priority 400 runs before napoleon's 500."""
    app.connect("autodoc-process-docstring", fences_to_code_blocks, priority=400)
    app.connect("source-read", add_names)
    app.connect("env-check-consistency", every_public_name_is_there)
    app.connect("build-finished", copy_markdown)
