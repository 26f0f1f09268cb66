"""Hooks of MkDocs: pages from outside docs/, the page of the Python names, and links between them.

The pages are written for a reader of the repository: their links lead to files. A link to a file
that is a page of the site becomes a link to that page; any other keeps its text alone.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import fastseg

ROOT = Path(__file__).parents[2]

MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "training/echo/README.md": "training/echo.md",
    "training/sam_nano/README.md": "training/sam_nano.md",
}
"""Pages outside docs/, by path in the repository, with their places in the site."""

MODULES = (
    "imaging", "echo", "measure", "evaluation", "cohort", "client", "compat.segment_anything",
    "dicom", "testing", "errors",
)  # fmt: skip
"""Public modules beside the names of `fastseg` itself."""

LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:|mailto:|#)[^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    texts = {place: (ROOT / source).read_text("utf-8") for source, place in MOVED.items()}
    for place, text in {**texts, "python.md": python_page()}.items():
        file = File(place, None, config.site_dir, config.use_directory_urls)
        file.content_string = text
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Make the links of a page lead to pages of the site."""
    place = page.file.src_uri
    source = next((one for one, moved in MOVED.items() if moved == place), f"docs/{place}")
    return LINK.sub(lambda link: _link(link, source, place, files), markdown)


def _link(link: re.Match[str], source: str, place: str, files: Files) -> str:
    path, mark, anchor = link["target"].partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    target = MOVED.get(target, target.removeprefix("docs/"))
    if files.get_file_from_path(target) is None:
        return link["text"]
    relative = posixpath.relpath(target, posixpath.dirname(place) or ".")
    return f"{link['mark']}[{link['text']}]({relative}{mark}{anchor})"


def python_page() -> str:
    """Write the page of every public name, by the module that defines it.

    Returns:
        Markdown with one directive of mkdocstrings for each name.
    """
    values = {name: getattr(fastseg, name) for name in fastseg.__all__ if name != "__version__"}
    homes = {
        name: value.__module__
        for name, value in values.items()
        if not isinstance(value, ModuleType)
    }
    errors = {name for name, home in homes.items() if home == "fastseg.errors"}
    lines = ["# Python", "", "Research use only; not a medical device.", ""]
    lines += [f"::: {homes[name]}.{name}\n" for name in sorted(set(homes) - errors, key=_order)]
    for module in MODULES:
        lines += [f"## `fastseg.{module}`", "", f"::: fastseg.{module}"]
        lines += ["    options:", "      heading_level: 3", "      show_root_heading: false", ""]
    return "\n".join(lines)


def _order(name: str) -> tuple[int, str]:
    first = ("load", "Sam", "Unet", "Masks", "Embedding")
    return (first.index(name) if name in first else len(first), name)
