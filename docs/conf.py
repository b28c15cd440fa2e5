"""Settings of Sphinx, which builds the pages into a site: ``make site``.

The sources are the Markdown files of the repository. The README is the first page. Its navigation is added here, so
that the file itself stays as GitHub shows it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

project = "tutelage"
copyright = "the authors of tutelage, Apache-2.0"
extensions = ["myst_parser"]
html_theme = "furo"
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md", "contrib/*/README.md"]
myst_heading_anchors = 4
html_show_sourcelink = False
html_copy_source = False
NAVIGATION = {
    "Start": ["docs/install", "docs/tutorial", "docs/one-round", "docs/embedded", "docs/study", "docs/real"],
    "Runs": ["docs/runs", "docs/report", "docs/summary", "docs/evaluation"],
    "Data and models": [
        "docs/data",
        "docs/write-a-plugin",
        "docs/plugins",
        "docs/pipelines",
        "docs/services",
        "docs/judging",
        "docs/models",
        "docs/engines",
        "docs/training",
        "docs/checkpoints",
    ],
    "Reference": [
        "docs/reference/cli",
        "docs/reference/recipe",
        "docs/reference/hooks",
        "docs/reference/plugins",
        "docs/reference/python",
    ],
    "Project": [
        "docs/architecture",
        "docs/speed",
        "CHANGELOG",
        *sorted(f"contrib/{path.parent.name}/README" for path in Path(__file__).parents[1].glob("contrib/*/README.md")),
    ],
}
"""The pages of the site by the heading of the navigation."""


def setup(app: Any) -> None:
    """Add the navigation to the first page."""
    app.connect("source-read", _add_navigation)


def _add_navigation(app: Any, name: str, source: list[str]) -> None:
    if name == root_doc:
        for caption, pages in NAVIGATION.items():
            source[0] += (
                inspect.cleandoc(
                    """
                ```{{toctree}}
                :hidden:
                :caption: {caption}

                {pages}
                ```
                """
                )
                .format(caption=caption, pages="\n".join(pages))
                .join(["\n\n", "\n"])
            )
