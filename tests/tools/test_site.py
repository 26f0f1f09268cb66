"""The links of the site lead to its pages, and every page is in its navigation."""

from __future__ import annotations

import importlib.util
import re

import pytest

pytest.importorskip("mkdocs", reason="needs the extra docs")

from mkdocs.config import load_config
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tests.helpers.page import ROOT

SPEC = importlib.util.spec_from_file_location("hooks", ROOT / "tools" / "site" / "hooks.py")
assert SPEC
assert SPEC.loader
hooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hooks)


@pytest.fixture(scope="module")
def config():
    return load_config(str(ROOT / "mkdocs.yml"))


@pytest.fixture(scope="module")
def files(config):
    docs = [
        File(path.relative_to(ROOT / "docs").as_posix(), config.docs_dir, config.site_dir, False)
        for path in (ROOT / "docs").rglob("*.*")
    ]
    return hooks.on_files(Files(docs), config)


def rewritten(text: str, place: str, files: Files, config) -> str:
    page = Page(None, files.get_file_from_path(place), config)
    return hooks.on_page_markdown(text, page=page, config=config, files=files)


@pytest.mark.parametrize(
    ("place", "link", "expected"),
    [
        ("index.md", "[a](docs/cli.md#demo)", "[a](cli.md#demo)"),
        ("index.md", "![a](docs/demo.png)", "![a](demo.png)"),
        ("models.md", "[a](../training/echo/README.md)", "[a](training/echo.md)"),
        ("training/echo.md", "[a](../../docs/echo.md)", "[a](../echo.md)"),
        ("notes/kernels.md", "[a](../gpu.md)", "[a](../gpu.md)"),
        ("index.md", "[a](examples/)", "a"),
        ("index.md", "[a](#runtimes)", "[a](#runtimes)"),
    ],
)
def test_a_link_to_a_file_becomes_one_to_its_page(place, link, expected, files, config) -> None:
    assert rewritten(link, place, files, config) == expected


def test_every_page_is_in_the_navigation(config, files) -> None:
    named = set(re.findall(r"[\w./-]+\.md", str(config.nav)))
    assert named == {file.src_uri for file in files if file.src_uri.endswith(".md")}


def test_every_public_name_has_its_place_on_the_python_page() -> None:
    import fastseg

    text = hooks.python_page()
    errors = {name for name in fastseg.__all__ if name.endswith("Error")}
    assert "::: fastseg.errors\n" in text
    for name in set(fastseg.__all__) - {"__version__"} - errors:
        assert re.search(rf"^(## `fastseg\.{name}`|::: [\w.]+\.{name})$", text, re.MULTILINE), name
