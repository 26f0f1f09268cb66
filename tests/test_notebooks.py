"""Notebooks of docs/ run from the first cell to the last, and show what they speak of."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.page import ROOT

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def outputs(cell: Any) -> str:
    """The text that a cell printed, and the kinds of what it showed."""
    texts = [one.get("text", "") for one in cell.get("outputs", ())]
    kinds = [kind for one in cell.get("outputs", ()) for kind in one.get("data", {})]
    return " ".join([*texts, *kinds])


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Run a notebook in a copy of its folder, so that what it writes is not left in docs/."""
    place = tmp_path_factory.mktemp("clone") / "docs" / "notebooks"
    place.mkdir(parents=True)
    (place.parents[1] / "training").symlink_to(ROOT / "training")

    def run(path: Path) -> dict[str, str]:
        shutil.copy(path, place)
        book = nbformat.read(path, as_version=4)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        client = nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": place}})
        client.execute(env=environment)
        return {cell["id"]: outputs(cell) for cell in book.cells}

    return run


def test_there_are_two_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["first-masks", "heart"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(path):
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell["cell_type"] == "code"]
    assert code
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_masks_are_shown(executed):
    shown = executed(ROOT / "docs" / "notebooks" / "first-masks.ipynb")
    assert "text/html" in shown["cell-1"]
    for cell in ("cell-3", "cell-5", "cell-7"):
        assert "image/png" in shown[cell]
    assert "score 1.0" in shown["cell-5"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_heart_is_measured(executed):
    shown = executed(ROOT / "docs" / "notebooks" / "heart.ipynb")
    assert "image/png" in shown["cell-5"]
    assert "lv_ef_a4c_percent 4" in shown["cell-8"]
    assert "of 2 beats" in shown["cell-8"]
