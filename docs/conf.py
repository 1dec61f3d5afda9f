"""Settings of the documentation site: `sphinx-build -W -c docs . docs/_build`.

The repository's root is the source folder, so that links between the README, the pages and other
files are those of a browser of the repository. The README is the front page.
"""

from __future__ import annotations

from sphinx.application import Sphinx

import dia_repro

PAGES = {
    "Use": (
        "docs/tutorial",
        "docs/paper",
        "docs/own-data",
        "docs/own-attention",
        "docs/clusters",
        "docs/database",
        "docs/troubleshooting",
    ),
    "Findings": ("docs/results", "docs/controls", "docs/statistics", "docs/performance"),
    "Reference": (
        "Commands <docs/commands>",
        "docs/api",
        "benchmarks/README",
        "CONTRIBUTING",
        "CHANGELOG",
    ),
}

project = "dia-repro"
author = "The dia-repro authors"
release = version = dia_repro.__version__
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "benchmarks/*.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # a README's headings begin where they like

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

default_role = "code"  # docstrings quote names with single backticks, as Markdown does
smartquotes = False

html_theme = "furo"
html_title = f"dia-repro {release}"
html_extra_path = ["site"]  # its index.html leads to the front page
html_copy_source = False


def add_contents(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append the table of contents to the front page; in the repository the README has links."""
    if name == root_doc:
        parts = (
            f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
            for caption, pages in PAGES.items()
        )
        source[0] += "".join(parts)


def setup(app: Sphinx) -> None:
    """Register the above with Sphinx."""
    app.connect("source-read", add_contents)
